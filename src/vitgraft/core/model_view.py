"""One library model as stages: what a family must tell about itself, besides its `BlockView`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vitgraft.core.block import BlockView, StageView, Visitor
from vitgraft.core.rows import Rows


class StemView(StageView, ABC):
    """Everything before block 0: images (B, channels, height, width) -> tokens (B, N, D).

    The site `patch` is the patch embedding's output, before positions are added.
    """

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """The patches, (B, n, D), or (B, rows, columns, D) in models of flexible size."""

    @abstractmethod
    def placed(self, patches: Tensor, size: tuple[int, int]) -> Tensor:
        """Patches of images of `size` (height, width) with class tokens, registers and positions, (B, N, D)."""

    def settle(self, x: Tensor) -> Tensor:
        """What a model does with its tokens (B, N, D) before block 0: mostly nothing."""
        return x

    def forward(self, images: Tensor, at: Visitor) -> Tensor:
        patches = self.embed(images)
        patches = at("patch", patches, patches)
        return self.settle(self.placed(patches, (images.shape[2], images.shape[3])))

    def added(self, images: Tensor) -> Tensor:
        """What is added to the patches of an image of that size, (1, N, D)."""
        return self.placed(torch.zeros_like(self.embed(images[:1])), (images.shape[2], images.shape[3]))


class TailView(StageView, ABC):
    """Everything after the last block: tokens (B, N, D) -> (normalised tokens, pooled vector (B, D))."""

    @property
    def reads(self) -> int | None:
        """How many leading tokens the pooled vector depends on; None for all of them."""
        return None

    @abstractmethod
    def forward(self, x: Tensor, at: Visitor) -> tuple[Tensor, Tensor]:
        """The site `norm` is the final normalisation's output, `pooled` the image's vector."""


class ModelView(ABC):
    """One library model as stages. A family is supported by writing one of these and a `BlockView`.

    `width` is D, `prefix_tokens` counts class, register and distillation tokens, `patch_values` the inputs of
    one patch's embedding, `image_size` is (height, width) in pixels, `class_token` the parameter that is the class
    token before block 0, if there is one. `pooling` is timm's word for how the pooled vector is made, and
    `published` says in timm's words how pictures are prepared for the model. `one_sequence` is False where blocks
    see their tokens by windows and merge them on the way: prompts and queries have no place, and widths differ.
    """

    model: nn.Module
    stem: StemView
    blocks: Sequence[BlockView]
    tail: TailView
    width: int
    prefix_tokens: int
    patch_values: int
    image_size: tuple[int, int]
    channels: int
    class_token: str | None = None
    pooling: str = "token"
    one_sequence: bool = True
    published: Mapping[str, Any] = {}

    @abstractmethod
    def library_pass(self, images: Tensor) -> Tensor:
        """The pooled vectors (B, D) by the library's own code: what the walk is checked against."""

    @abstractmethod
    def rows(self, place: str) -> tuple[Rows, ...]:
        """Where the values of a stem or tail place (`patch`, `norm`) stand."""

    @abstractmethod
    def head_names(self) -> frozenset[str]:
        """Names of the library's own classifier parameters; they are no part of the backbone."""

    @abstractmethod
    def with_head(self, model: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Module:
        """`model`, a copy of ours, with a linear classifier: weight (C, D), bias (C,)."""
