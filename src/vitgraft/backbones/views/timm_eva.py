"""Views of timm's Eva: EVA, EVA-02, DINOv3, Perception Encoder, ROPE-ViT and their like.

Covered: rotary positions of every kind (axial, mixed by trained frequencies, DINOv3's, MRoPE), fused or separate
q, k and v, a bias of q and v alone, class and register tokens, LayerScale on both branches or one, qk-norm,
normalised attention output or mlp hidden layer, plain, GLU and SwiGLU mlps, any pooling, any size.

What stands nowhere in the image (class and register tokens, prompts, queries of VQT and SynQT) is not rotated.
"""

from typing import Any

import torch
from timm.layers import AttentionRope, RotaryEmbeddingMixed, apply_rot_embed_cat
from timm.layers.pos_embed_sincos import get_mixed_freqs, get_mixed_grid
from timm.models.eva import Eva, EvaAttention, EvaBlock
from torch import Tensor, nn

from vitgraft.backbones.views.parts import (
    BiasApart,
    Fused,
    ModelStage,
    Projections,
    Separate,
    by_head,
    together,
    unknown_mlp,
)
from vitgraft.backbones.views.timm_block import TimmBlock
from vitgraft.backbones.views.timm_model import TimmModel, TimmTail
from vitgraft.core.attention import attention
from vitgraft.core.model_view import StemView

SETTLED = "of_one_size"
"""The buffer in which our copy of a model's rotary module keeps what follows from the size of the images alone."""


def _settle(rope: Any, grid: tuple[int, int]) -> None:
    """Compute rotations, or the coordinates of trained ones, for a grid of patches: once, not a block a pass."""
    if isinstance(rope, RotaryEmbeddingMixed):
        found = torch.stack(get_mixed_grid(grid, grid_indexing=rope.grid_indexing, device=rope.freqs.device))
    else:
        found = rope.get_embed(shape=grid)
    rope.register_buffer(SETTLED, found, persistent=False)


def _projections(attn: Any) -> Projections:
    if attn.qkv is None:
        return Separate(attn.q_proj, attn.k_proj, attn.v_proj)
    return Fused(attn.qkv) if getattr(attn, "q_bias", None) is None else BiasApart(attn)


class EvaBlockView(TimmBlock):
    """timm's `EvaBlock` number `index` of a model, with the model's rotary positions, if it has some."""

    rope: Any

    def __init__(self, block: Any, rope: nn.Module | None, index: int) -> None:
        super().__init__(block, _projections(block.attn))
        self.rope = rope
        self.index = index

    def scale1(self, y: Tensor) -> Tensor:
        return y if self.block.gamma_1 is None else self.block.gamma_1 * y

    def scale2(self, y: Tensor) -> Tensor:
        return y if self.block.gamma_2 is None else self.block.gamma_2 * y

    def attend(self, q: Tensor, k: Tensor, v: Tensor, placed: bool = True) -> Tensor:
        attn = self.block.attn
        q, k, v = (by_head(part, attn.num_heads) for part in (q, k, v))
        q, k = attn.q_norm(q), attn.k_norm(k)
        if self.rope is not None:
            turns = self._turns()
            k = self._rotated(k, turns)
            q = self._rotated(q, turns) if placed else q
        return self.after_attention(together(attention(q.type_as(v), k.type_as(v), v)))

    def _turns(self) -> Tensor:
        """Sines and cosines (patches, 2 d), or (heads, patches, 2 d) of trained frequencies, side by side."""
        settled = self.rope.get_buffer(SETTLED)
        if isinstance(self.rope, RotaryEmbeddingMixed):
            return get_mixed_freqs(self.rope.freqs[:, self.index], *settled)
        return settled

    def _rotated(self, x: Tensor, turns: Tensor) -> Tensor:
        """x (B, heads, M, d), its patches rotated: not what stands before them, and not prompts behind them."""
        first = self.block.attn.num_prefix_tokens
        patches = x[:, :, first : first + turns.shape[-2]]
        turned = apply_rot_embed_cat(patches, turns[..., : patches.shape[2], :], half=self.block.attn.rotate_half)
        return torch.cat((x[:, :, :first], turned, x[:, :, first + patches.shape[2] :]), dim=2)

    @property
    def absorbs(self) -> bool:
        attn = self.block.attn
        plain = isinstance(attn.q_norm, nn.Identity) and isinstance(attn.k_norm, nn.Identity)
        return plain and self.rope is None

    def after_attention(self, a: Tensor) -> Tensor:
        return self.block.attn.norm(a)


class _Stem(ModelStage, StemView):
    def __init__(self, model: Eva) -> None:
        super().__init__(
            model, (model.patch_embed, model.cls_token, model.reg_token, model.pos_embed, model.norm_pre)
        )

    def embed(self, images: Tensor) -> Tensor:
        model = self.model
        patches = model.patch_embed(images)
        # A model of flexible size has its rotations for one: another one would be rotated wrongly, without a word.
        fits = model.rope is None or patches.flatten(1, -2).shape[1] == model.patch_embed.num_patches
        torch._assert(fits, f"images must be of {model.patch_embed.img_size} pixels")
        return patches

    def placed(self, patches: Tensor, size: tuple[int, int]) -> Tensor:
        return self.model._pos_embed(patches)[0]

    def settle(self, x: Tensor) -> Tensor:
        return self.model.norm_pre(x)


class TimmEva(TimmModel):
    """A timm Eva as stages, at the image size that it was built for."""

    models = (Eva,)

    def __init__(self, model: Eva) -> None:
        if model.rope is not None:
            _settle(model.rope, model.patch_embed.grid_size)
        blocks = [EvaBlockView(block, model.rope, index) for index, block in enumerate(model.blocks)]
        super().__init__(model, _Stem(model), blocks, TimmTail(model))

    def with_head(self, model: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Module:
        plain: Any = super().with_head(model, weight, bias)
        if plain.rope is not None:
            delattr(plain.rope, SETTLED)
        return plain

    @staticmethod
    def lacks(model: Eva) -> str | None:
        for block in model.blocks:
            if type(block) is not EvaBlock:
                return f"with {type(block).__name__} blocks"
            if type(block.attn) not in (EvaAttention, AttentionRope):
                return f"with {type(block.attn).__name__}"
            if block.attn.gate is not None:
                return "with gated attention"
            if getattr(block.attn, "num_kv_groups", 1) > 1:
                return "with grouped-query attention (fewer keys and values than queries)"
            if wrong := unknown_mlp(block.mlp):
                return wrong
        return None
