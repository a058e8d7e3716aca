"""Views of transformers' vision models: ViT, DeiT, MAE, DINOv2 with and without registers, DINOv3, CLIP, SigLIP.

Read is the model itself, or the one inside of a model for classification, pre-training, or images and text. The
pooled vector is the class token after the final norm (of DeiT's two tokens the mean), as timm has it, or with
`avg` the mean of the patches; SigLIP's is that of its attention pool. transformers' own `pooler` of ViT is no part
of it. Needs transformers 5, whose families spell their blocks alike.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vitgraft.backbones.views.hf_block import HfBlock, parts_of
from vitgraft.backbones.views.hf_families import FAMILIES, Family, inner
from vitgraft.backbones.views.parts import ModelStage
from vitgraft.core.block import Visitor
from vitgraft.core.model_view import ModelView, StemView, TailView
from vitgraft.core.rows import Rows, rows_of
from vitgraft.errors import BackboneError, NotFoldable

SETTLED = "of_one_size"
"""The buffer in which our copy of DINOv3's rotary module keeps sines and cosines of one image size."""


class _Stem(ModelStage, StemView):
    """Embeds patches, adds tokens and positions, and registers behind these."""

    def __init__(self, base: Any, family: Family) -> None:
        self.family = family
        rest = [base.get_submodule(family.norm_pre)] if family.norm_pre else []
        added = [base.get_parameter(name) for name in family.tokens]
        added += [base.get_parameter(family.registers)] if family.registers else []
        positions = getattr(base.embeddings, "position_embeddings", None)
        embedded = getattr(base.embeddings, "position_embedding", None)
        positions = embedded.weight if embedded is not None else positions
        super().__init__(base, (base.get_submodule(family.patches), *added, positions, *rest))

    def embed(self, images: Tensor) -> Tensor:
        patches = self.model.get_submodule(self.family.patches)(images)
        return patches.flatten(2).transpose(1, 2) if patches.dim() == 4 else patches

    def settle(self, x: Tensor) -> Tensor:
        return self.model.get_submodule(self.family.norm_pre)(x) if self.family.norm_pre else x

    def placed(self, patches: Tensor, size: tuple[int, int]) -> Tensor:
        base, count, dim = self.model, len(patches), patches.shape[-1]
        tokens = [_value(base, name).view(1, 1, dim).expand(count, -1, -1) for name in self.family.tokens]
        x = torch.cat((*tokens, patches), dim=1)
        positions = self._positions(x, *size)
        x = x if positions is None else x + positions
        if self.family.registers is None:
            return x
        registers = _value(base, self.family.registers).expand(count, -1, -1)
        return torch.cat((x[:, : len(tokens)], registers, x[:, len(tokens) :]), dim=1)

    def _positions(self, x: Tensor, height: int, width: int) -> Tensor | None:
        embeddings = self.model.embeddings
        if not hasattr(embeddings, "interpolate_pos_encoding"):
            return None
        if self.family.resizes or (height, width) != image_size_of(self.model):
            return embeddings.interpolate_pos_encoding(x, height, width)
        if hasattr(embeddings, "position_embedding"):
            return embeddings.position_embedding.weight
        return embeddings.position_embeddings


def _value(base: Any, name: str) -> Tensor:
    """A parameter, or the tensor that it is lent for the length of a call."""
    module, _, leaf = name.rpartition(".")
    return getattr(base.get_submodule(module), leaf)


def image_size_of(base: Any) -> tuple[int, int]:
    """(height, width) that a model's config says."""
    size = base.config.image_size
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


class _Tail(ModelStage, TailView):
    def __init__(self, base: Any, family: Family, pooling: str, prefix: int) -> None:
        pool = [base.get_submodule(family.pool)] if pooling == "map" and family.pool else []
        super().__init__(base, (base.get_submodule(family.norm), *pool))
        self.family, self.pooling, self.prefix = family, pooling, prefix

    @property
    def reads(self) -> int | None:
        return len(self.family.tokens) if self.pooling == "token" else None

    def forward(self, x: Tensor, at: Visitor) -> tuple[Tensor, Tensor]:
        tokens = at.through("norm", x, self.model.get_submodule(self.family.norm))
        pooled = self.pool(tokens)
        return tokens, at("pooled", pooled, pooled)

    def pool(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> (B, D)."""
        if self.pooling == "map":
            assert self.family.pool is not None
            return self.model.get_submodule(self.family.pool)(tokens)
        first = len(self.family.tokens)
        return (tokens[:, :first] if self.pooling == "token" else tokens[:, self.prefix :]).mean(dim=1)


class HfModel(ModelView):
    """A model of transformers as stages, for images of `image_size` (its config's, if None)."""

    model: Any

    def __init__(
        self, model: nn.Module, pooling: str | None = None, image_size: tuple[int, int] | None = None
    ) -> None:
        found = inner(model)
        assert found is not None, "it was looked at before"
        self.model, self.path = model, found[0]
        base: Any = found[1]
        self.base, self.family = base, FAMILIES[type(base).__name__]
        family = self.family
        self.image_size = image_size or image_size_of(base)
        self.pooling = pooling or _own_pooling(base, family)
        known = ("map", "avg") if family.pool else ("token", "avg")
        if self.pooling not in known or (self.pooling == "map" and not hasattr(base, str(family.pool))):
            raise BackboneError(f"A {type(base).__name__} of transformers is pooled by {' or '.join(known)}.")
        registers = base.config.num_register_tokens if family.registers else 0
        self.prefix_tokens = len(family.tokens) + registers
        self.width, self.channels = base.config.hidden_size, base.config.num_channels
        self.class_token = f"{self._below}{family.tokens[0]}" if family.tokens else None
        convolution = self._convolution()
        self.patch_values = convolution.weight[0].numel()
        turn = _turns(base, self.image_size, self.prefix_tokens)
        self.stem = _Stem(base, family)
        self.blocks = [HfBlock(block, turn) for block in base.get_submodule(family.layers)]
        self.tail = self._tail = _Tail(base, family, self.pooling, self.prefix_tokens)
        self.published = {**family.published, "input_size": (self.channels, *self.image_size)}

    @property
    def _below(self) -> str:
        return f"{self.path}." if self.path else ""

    def _convolution(self) -> Any:
        patches = self.base.get_submodule(self.family.patches)
        return getattr(patches, "projection", patches)

    def library_pass(self, images: Tensor) -> Tensor:
        """By the library's own forward; what it does not pool itself is pooled from its last hidden state."""
        wishes: dict[str, Any] = {}
        if not self.family.resizes and self.image_size != image_size_of(self.base):
            wishes["interpolate_pos_encoding"] = True
        if type(self.base).__name__ == "ViTMAEModel":
            return self._tail.pool(self._unmasked(images, wishes))
        found = self.base(images, **wishes)
        if self.family.pool and self.pooling == "map":
            return found.pooler_output
        hidden = found.last_hidden_state
        if self.family.norm_pre:  # CLIP's is before the final norm
            hidden = self.base.get_submodule(self.family.norm)(hidden)
        return self._tail.pool(hidden)

    def _unmasked(self, images: Tensor, wishes: dict[str, Any]) -> Tensor:
        """MAE's forward pass leaves out patches at random; with a ratio of 0, none, in their own order."""
        config = self.base.config
        ratio, config.mask_ratio = config.mask_ratio, 0.0
        count = (self.image_size[0] // config.patch_size) * (self.image_size[1] // config.patch_size)
        try:
            order = torch.arange(count, device=images.device).expand(len(images), -1)
            return self.base(images, noise=order.to(images.dtype), **wishes).last_hidden_state
        finally:
            config.mask_ratio = ratio

    def rows(self, place: str) -> tuple[Rows, ...]:
        if place == "norm":
            return rows_of(self.base.get_submodule(self.family.norm))
        return rows_of(self._convolution()) if place == "patch" else ()

    def head_names(self) -> frozenset[str]:
        """What is not walked through: classifiers, ViT's pooler, mask tokens, decoders, towers of text."""
        walked = {
            id(value)
            for stage in (self.stem, *self.blocks, self.tail)
            for value in stage.own_parameters().values()
        }
        return frozenset(name for name, value in self.model.named_parameters() if id(value) not in walked)

    def with_head(self, model: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Module:
        """transformers' own class for classification, with its base model and a head that reads what ours does."""
        import transformers

        found = inner(model)
        assert found is not None
        base = found[1]
        if self.family.classifier is None or (self.pooling == "avg" and not self.family.both):
            raise NotFoldable(
                f"transformers has no classifier that reads a {type(base).__name__} pooled by {self.pooling}. "
                "Keep the graft as it is: `save` and `load` need no merge; or load it on timm's model of the same "
                "weights."
            )
        kind, holder, heads = self.family.classifier
        config = copy.deepcopy(base.config)
        config.num_labels = len(weight)
        with torch.device("meta"):
            made: Any = getattr(transformers, kind)(config)
        setattr(made, holder, base)
        if hasattr(base, "pooler"):
            base.pooler = None
        for name in heads:
            setattr(made, name, self._head(weight, bias))
        return made.eval()

    def _head(self, weight: Tensor, bias: Tensor | None) -> nn.Linear:
        if self.family.both:
            nothing = torch.zeros_like(weight)
            weight = torch.cat((weight, nothing) if self.pooling == "token" else (nothing, weight), dim=1)
        head = nn.Linear(weight.shape[1], weight.shape[0]).to(weight)
        with torch.no_grad():
            head.weight.copy_(weight)
            head.bias.zero_() if bias is None else head.bias.copy_(bias)
        return head

    @staticmethod
    def lacks(model: nn.Module) -> str | None:
        """What a model's blocks have that is not known, if anything."""
        found = inner(model)
        assert found is not None
        path = FAMILIES[type(found[1]).__name__].layers
        try:
            blocks = found[1].get_submodule(path)
        except AttributeError:
            return "of a transformers before 5.0, whose families spell their blocks otherwise"
        unknown = next((block for block in blocks if parts_of(block) is None), None)
        return None if unknown is None else f"with {type(unknown).__name__} blocks of other parts"


def _own_pooling(base: Any, family: Family) -> str:
    if family.pool is None:
        return "token"
    return "map" if hasattr(base, family.pool) else "avg"


def _turns(base: Any, size: tuple[int, int], prefix: int) -> Callable[[Tensor], Tensor] | None:
    """DINOv3's rotation of (B, heads, M, d), by places in images of one size; None for other models."""
    if not hasattr(base, "rope_embeddings"):
        return None
    rope, some = base.rope_embeddings, next(base.parameters())
    with torch.no_grad():
        blank = torch.zeros(1, base.config.num_channels, *size, device=some.device, dtype=some.dtype)
        rope.register_buffer(SETTLED, torch.stack(rope(blank)), persistent=False)
    return _Turn(rope, prefix)


class _Turn:
    """Rotates patches, and neither what stands before them nor prompts behind them."""

    def __init__(self, rope: nn.Module, prefix: int) -> None:
        self.rope, self.prefix = rope, prefix

    def __call__(self, x: Tensor) -> Tensor:
        cos, sin = self.rope.get_buffer(SETTLED)
        patches = x[:, :, self.prefix : self.prefix + len(cos)]
        size = patches.shape[2]
        first, second = patches.chunk(2, dim=-1)
        turned = patches * cos[:size] + torch.cat((-second, first), dim=-1) * sin[:size]
        return torch.cat((x[:, :, : self.prefix], turned.to(x.dtype), x[:, :, self.prefix + size :]), dim=2)
