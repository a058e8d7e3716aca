"""Tuned: one task on one backbone. Its state is what it trains, and nothing else."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from vitgraft.core.backbone import Backbone, Edits, Features
from vitgraft.core.merge import merged
from vitgraft.core.plan import Head, Plan
from vitgraft.core.sites import Recompute, Tap
from vitgraft.core.twins import in_type
from vitgraft.errors import ConfigError, unknown

Inputs = Tensor | Mapping[Tap, Tensor]
"""A batch of preprocessed images (B, 3, height, width), or readings of the plain model in their stead."""


@dataclass(frozen=True)
class TrainedValues:
    """How many numbers are trained: the method's own, and the classifier's (counted apart, as papers do)."""

    method: int
    head: int


class Tuned(nn.Module):
    """A backbone with a plan on it: images (B, 3, height, width) -> logits (B, C).

    The backbone is shared, not owned: it is in neither `parameters()` nor `state_dict()`.

    Raises:
        ConfigError: the plan names a site or a parameter that the backbone does not have.
    """

    def __init__(self, backbone: Backbone, plan: Plan) -> None:
        super().__init__()
        self._shared = (backbone,)
        self.plan = plan
        self.frozen_depth = plan.frozen_depth(backbone)
        self.prefix = plan.prefix(backbone)
        self.recompute: Recompute = "none"
        self.head: Head = plan.head
        known = set(backbone.sites())
        for site in plan.grafts:
            if site not in known:
                raise ConfigError(unknown("site", str(site), (str(one) for one in known)))
        self.grafts = nn.ModuleDict(
            {f"{block}:{place}": nn.ModuleList(grafts) for (block, place), grafts in sorted(plan.grafts.items())}
        )
        # The parameter names hold dots, which a parameter's name must not.
        self.values = nn.ParameterDict(
            {
                name.replace(".", "/"): nn.Parameter(backbone.parameter(name).detach().float().clone())
                for name in backbone.parameter_names()
                if name in plan.unfreeze
            }
        )
        self.to(backbone.device, backbone.dtype)

    @property
    def backbone(self) -> Backbone:
        return self._shared[0]

    @property
    def classes(self) -> int:
        """C, the number of classes."""
        return self.head.classifier.out_features

    def edits(self) -> Edits:
        """What this model changes inside its backbone."""
        return Edits(self.plan.grafts, {name.replace("/", "."): value for name, value in self.values.items()})

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits (B, C) of preprocessed images (B, 3, height, width), or of readings of the prefix."""
        return self.classify(self.features(inputs))

    def features(self, inputs: Inputs) -> Features:
        """What the head reads, of images or of the readings that `prefix` names."""
        if isinstance(inputs, Tensor):
            return self._walk(inputs.to(self.backbone.dtype), self.plan.taps)
        assert self.prefix is not None, "readings stand in for images only where a prefix is frozen"
        start, stream = self.prefix.start, self.prefix.stream
        kind = self.backbone.dtype
        if start is None or stream is None:
            pooled = inputs.get(Tap(self.backbone.depth, "pooled"), torch.empty(0))
            return Features(pooled.new_empty(0), pooled.to(kind), inputs)
        late = frozenset(tap for tap in self.plan.taps if tap.block >= start)
        found = self._walk(None, late, (start, inputs[stream].to(kind)))
        return replace(found, taps={**inputs, **found.taps})

    def _walk(
        self, images: Tensor | None, taps: frozenset[Tap], start: tuple[int, Tensor] | None = None
    ) -> Features:
        tokens = self.head.reads == "tokens"
        features: Features = self.backbone(images, self.edits(), taps, start, self.recompute, tokens)
        return features

    def classify(self, features: Features) -> Tensor:
        """Logits (B, C) from features."""
        logits: Tensor = self.head(features, self.backbone)
        return logits

    def trained_values(self) -> TrainedValues:
        """Trained values of the method and, apart from them, of the classifier."""
        head = sum(value.numel() for value in self.head.classifier.parameters())
        return TrainedValues(sum(value.numel() for value in self.parameters()) - head, head)

    def merge(self) -> nn.Module:
        """A new plain library model with the same logits.

        Raises:
            NotFoldable: an edit or the head that no plain weight can express; nothing has been copied then.
        """
        return merged(self.backbone, self.edits(), self.head)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "Tuned":
        """Moving a tuned model moves the backbone that it shares, for all who do.

        A change of dtype (`half()`, `to(torch.float64)`) gives it a twin of the backbone in that type, and leaves
        the shared one as it is: other grafts still compute on what they were trained on.
        """
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        probe = fn(torch.empty(0, device=self.backbone.device, dtype=self.backbone.dtype))
        if probe.device != self.backbone.device:
            self.backbone.to(probe.device)
        self._shared = (in_type(self.backbone, probe.dtype),)
        return self


@contextmanager
def perturbed(model: nn.Module, scale: float = 0.02, seed: int = 0) -> Iterator[None]:
    """Add seeded noise to every trained value for the length of a block.

    Zero-initialised halves hide what does not learn; after a perturbation nothing can hide.
    """
    before = {name: value.detach().clone() for name, value in model.state_dict().items()}
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn(value.shape, generator=generator).to(value) * scale)
    try:
        yield
    finally:
        model.load_state_dict(before)
