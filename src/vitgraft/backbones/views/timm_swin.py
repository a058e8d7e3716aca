"""Views of timm's SwinTransformer: attention within windows, every other time shifted, and merged patches.

The walk stays one: a block's tokens are its grid's rows, one after the other, and to cut them into windows is part
of what `attend` does. What a later stage's first block gets is merged before its place `in`. Widths, heads and
numbers of tokens differ by stage; prompts and queries, which see all of an image's tokens, have no place.
"""

from typing import Any

import torch
from timm.models.swin_transformer import SwinTransformer, SwinTransformerBlock
from torch import Tensor, nn

from vitgraft.backbones.views.parts import Fused, ModelStage, unknown_mlp
from vitgraft.backbones.views.timm_block import TimmBlock
from vitgraft.core.attention import attention
from vitgraft.core.block import Visitor
from vitgraft.core.model_view import ModelView, StemView, TailView
from vitgraft.core.rows import Rows, rows_of


class SwinBlock(TimmBlock):
    """timm's `SwinTransformerBlock`, with the patch merging in front of it in a later stage's first."""

    merging: Any

    def __init__(self, block: Any, merging: nn.Module | None, before: tuple[int, int]) -> None:
        super().__init__(block, Fused(block.attn.qkv))
        self.merging, self.before = merging, before
        if block.dynamic_mask:
            weight = block.norm1.weight
            mask = block.get_attn_mask(device=weight.device, dtype=weight.dtype)
            block.register_buffer("attn_mask", mask, persistent=False)

    def enter(self, x: Tensor) -> Tensor:
        return x if self.merging is None else self.merging(x.unflatten(1, self.before)).flatten(1, 2)

    def scale1(self, y: Tensor) -> Tensor:
        return y

    def scale2(self, y: Tensor) -> Tensor:
        return y

    def attend(self, q: Tensor, k: Tensor, v: Tensor, placed: bool = True) -> Tensor:
        (rows, columns), (height, width) = self.block.input_resolution, self.block.window_size
        shift = self.block.shift_size
        x = torch.cat((q, k, v), dim=-1).unflatten(1, (rows, columns))
        x = x.roll((-shift[0], -shift[1]), dims=(1, 2)) if any(shift) else x
        x = x.unflatten(3, (3, self.heads, -1)).unflatten(2, (-1, width)).unflatten(1, (-1, height))
        # (B, down, height, across, width, 3, heads, d): windows and heads side by side, a window's tokens next
        parts = x.permute(5, 0, 1, 3, 6, 2, 4, 7)
        q, k, v = parts.flatten(5, 6).flatten(2, 4).unbind(0)
        mixed = attention(q, k, v, self._bias())
        x = mixed.view(parts.shape[1:]).permute(0, 1, 4, 2, 5, 3, 6).flatten(5).flatten(3, 4).flatten(1, 2)
        x = x.roll(tuple(shift), dims=(1, 2)) if any(shift) else x
        return x.flatten(1, 2)

    def _bias(self) -> Tensor:
        """(windows heads, n, n) of n tokens a window: by relative position, and -100 across a shift's seams."""
        attn, mask = self.block.attn, self.block.attn_mask
        (rows, columns), (height, width) = self.block.input_resolution, self.block.window_size
        found = attn._get_rel_pos_bias().expand(rows // height * (columns // width), -1, -1, -1)
        return (found if mask is None else found + mask.unsqueeze(1)).flatten(0, 1)

    @property
    def absorbs(self) -> bool:
        return False

    def after_attention(self, a: Tensor) -> Tensor:
        return a


class _Stem(ModelStage, StemView):
    def __init__(self, model: SwinTransformer) -> None:
        super().__init__(model, (model.patch_embed,))

    def embed(self, images: Tensor) -> Tensor:
        size = tuple(self.model.patch_embed.img_size)
        torch._assert(tuple(images.shape[2:]) == size, f"images must be of {size} pixels")
        return self.model.patch_embed(images).flatten(1, 2)

    def placed(self, patches: Tensor, size: tuple[int, int]) -> Tensor:
        return patches


class _Tail(ModelStage, TailView):
    def __init__(self, model: SwinTransformer) -> None:
        super().__init__(model, (model.norm,))

    def forward(self, x: Tensor, at: Visitor) -> tuple[Tensor, Tensor]:
        tokens = at.through("norm", x, self.model.norm)
        pooled = tokens.mean(dim=1)
        return tokens, at("pooled", pooled, pooled)


class TimmSwin(ModelView):
    """A timm SwinTransformer as stages, at the image size that it was built for."""

    models = (SwinTransformer,)
    model: Any
    one_sequence = False
    prefix_tokens = 0
    pooling = "avg"

    def __init__(self, model: SwinTransformer) -> None:
        self.model = model
        self.stem, self.tail = _Stem(model), _Tail(model)
        self.blocks = [
            SwinBlock(
                block,
                stage.downsample if not index and not isinstance(stage.downsample, nn.Identity) else None,
                tuple(stage.input_resolution),
            )
            for stage in model.layers
            for index, block in enumerate(stage.blocks)
        ]
        self.width, self.channels = model.num_features, model.in_chans
        height, width = model.patch_embed.patch_size
        self.patch_values = model.in_chans * height * width
        self.image_size = tuple(model.patch_embed.img_size)
        self.published = getattr(model, "pretrained_cfg", None) or {}

    def library_pass(self, images: Tensor) -> Tensor:
        return self.model.forward_head(self.model.forward_features(images), pre_logits=True)

    def rows(self, place: str) -> tuple[Rows, ...]:
        embed = self.model.patch_embed
        found = {"norm": rows_of(self.model.norm), "patch": rows_of(embed.norm) or rows_of(embed.proj)}
        return found.get(place, ())

    def head_names(self) -> frozenset[str]:
        return frozenset(f"head.{name}" for name, _ in self.model.head.named_parameters())

    def with_head(self, model: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Module:
        plain: Any = model
        plain.reset_classifier(weight.shape[0])
        head = plain.head.fc.to(weight)
        with torch.no_grad():
            head.weight.copy_(weight)
            head.bias.zero_() if bias is None else head.bias.copy_(bias)
        return model

    @staticmethod
    def lacks(model: SwinTransformer) -> str | None:
        if model.global_pool != "avg":
            return f"model pooled by {model.global_pool or 'nothing'} (avg is known)"
        for block in (block for stage in model.layers for block in stage.blocks):
            if type(block) is not SwinTransformerBlock:
                return f"with {type(block).__name__} blocks"
            grid, window = tuple(block.input_resolution), tuple(block.window_size)
            if any(side % cut for side, cut in zip(grid, window, strict=True)):
                told = " x ".join(map(str, grid)), " x ".join(map(str, window))
                return f"whose {told[0]} tokens are no whole windows of {told[1]} (choose another image size)"
            if wrong := unknown_mlp(block.mlp):
                return wrong
        return None
