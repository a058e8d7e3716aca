"""What timm's transformer models share outside of their blocks: patch embedding, final norm, pooling, head."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vitgraft.backbones.views.parts import ModelStage
from vitgraft.core.block import BlockView, Visitor
from vitgraft.core.model_view import ModelView, StemView, TailView
from vitgraft.core.rows import Rows, rows_of


class TimmTail(ModelStage, TailView):
    """Final norm and pooling, the norm before or after it; attention pooling is the library's own."""

    def __init__(self, model: Any) -> None:
        super().__init__(model, (model.norm, getattr(model, "attn_pool", None), model.fc_norm))

    @property
    def reads(self) -> int | None:
        return 1 if self.model.global_pool == "token" else None

    def forward(self, x: Tensor, at: Visitor) -> tuple[Tensor, Tensor]:
        model = self.model
        after_pool = not isinstance(model.fc_norm, nn.Identity)
        tokens = model.norm(x) if after_pool else at.through("norm", x, model.norm)
        pooled = self.pool(tokens)
        if after_pool:
            pooled = at.through("norm", pooled, model.fc_norm)
        return tokens, at("pooled", pooled, pooled)

    def pool(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> (B, D)."""
        pooled: Tensor = self.model.pool(tokens)
        return pooled


class TimmModel(ModelView):
    """A timm transformer as stages; `heads` are the names of its classifiers."""

    model: Any
    heads: tuple[str, ...] = ("head",)

    def __init__(self, model: nn.Module, stem: StemView, blocks: Sequence[BlockView], tail: TailView) -> None:
        self.model = model
        self.stem, self.blocks, self.tail = stem, blocks, tail
        self.width = self.model.embed_dim
        self.prefix_tokens = self.model.num_prefix_tokens
        self.channels = self.model.in_chans
        self.class_token = None if self.model.cls_token is None else "cls_token"
        (patch_height, patch_width) = self.model.patch_embed.patch_size
        self.patch_values = self.model.in_chans * patch_height * patch_width
        height, width = self.model.patch_embed.img_size or (224, 224)
        self.image_size = (height, width)
        self.pooling = self.model.global_pool
        self.published = getattr(self.model, "pretrained_cfg", None) or {}

    def library_pass(self, images: Tensor) -> Tensor:
        pooled: Tensor = self.model.forward_head(self.model.forward_features(images), pre_logits=True)
        return pooled

    def rows(self, place: str) -> tuple[Rows, ...]:
        if place == "norm":
            return rows_of(self.model.fc_norm) or rows_of(self.model.norm)
        if place == "patch":
            embed = self.model.patch_embed
            return rows_of(getattr(embed, "norm", None)) or rows_of(embed.proj)
        return ()

    def head_names(self) -> frozenset[str]:
        there = [name for name in self.heads if isinstance(getattr(self.model, name, None), nn.Module)]
        return frozenset(
            f"{head}.{name}" for head in there for name, _ in getattr(self.model, head).named_parameters()
        )

    def with_head(self, model: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Module:
        plain: Any = model
        plain.reset_classifier(weight.shape[0])
        with torch.no_grad():
            for head in (getattr(plain, name) for name in self.heads if hasattr(plain, name)):
                head.to(weight)
                head.weight.copy_(weight)
                head.bias.zero_() if bias is None else head.bias.copy_(bias)
        return model
