"""One library model as stages: what a family must tell about itself, besides its `BlockView`."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from vitgraft.core.block import BlockView, StageView, Visitor
from vitgraft.core.rows import Rows


class StemView(StageView, ABC):
    """Everything before block 0: images (B, 3, height, width) -> tokens (B, N, D)."""

    @abstractmethod
    def forward(self, images: Tensor, at: Visitor) -> Tensor:
        """The tokens; the site `patch` is the patch embedding's output, before positions are added."""


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
    token before block 0, if there is one.
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
