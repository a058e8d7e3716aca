"""What the tests of the feature cache share: short runs of the toy task that leave every step's logits behind."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from tests import toy
from tests.tiny import backbone
from vitgraft.core.backbone import Backbone
from vitgraft.core.tuned import Tuned
from vitgraft.data.task import Split
from vitgraft.features import entries
from vitgraft.features.entries import Entry
from vitgraft.train import loop
from vitgraft.train.loop import Fitted
from vitgraft.train.settings import Training

SETTINGS = Training(
    epochs=2, batch_size=9, accumulate=2, lr=3e-3, device="cpu", cache="disk", cache_precision="fp32"
)
"""Batches of 9, 9 and 2 images in two parts each, and larger ones in validation: no two in turn are alike."""

TRAIN = toy.split(20)
VAL = toy.split(34, seed=5)
METHODS = ("linear", "mlp", "head2toe:keep=1", "vqt", "synqt", "lst", "partial:k=1", "lora:last=1")
"""Every method with a frozen part of its own kind."""


@dataclass
class Session:
    """One run: the logits of each call of the head, in order, and what came out."""

    logits: list[Tensor] = field(default_factory=list)
    values: dict[str, Tensor] = field(default_factory=dict)
    fitted: Fitted | None = None

    def gap(self, other: "Session") -> float:
        """The largest difference of two runs' logits, over all steps."""
        assert len(self.logits) == len(other.logits) > 0
        return max(float((a - b).abs().max()) for a, b in zip(self.logits, other.logits, strict=True))


def session(
    method: str,
    settings: Training = SETTINGS,
    *,
    train: Split = TRAIN,
    val: Split | None = VAL,
    frozen: Backbone | None = None,
    **keywords: Any,
) -> Session:
    """Train a fresh model on the toy task.

    An mlp's biases before its BatchNorms have gradients of zero but for rounding, and of some of SynQT's values
    rounding decides the sign at first: Adam would scale both up to steps of full size. So these are trained by
    plain gradient descent.
    """
    found = Session()
    model = toy.model(method, frozen or backbone())
    classify = model.classify

    def recorded(features: Any) -> Tensor:
        logits = classify(features)
        found.logits.append(logits.detach().float().clone())
        return logits

    keywords.setdefault("preprocessing", toy.PREPROCESSING)
    optimizer = _descent if method in ("mlp", "synqt") else loop.optimizer_of
    with mock.patch.object(model, "classify", recorded), mock.patch.object(loop, "optimizer_of", optimizer):
        found.fitted = loop.fit(model, train, val, settings, **keywords)
    found.values = {name: value.clone() for name, value in model.state_dict().items()}
    return found


def _descent(model: nn.Module, settings: Training) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)


@contextmanager
def walked() -> Iterator[list[int]]:
    """How many images each reading of a plain backbone was of; the first is of the black one that tells shapes."""
    counts: list[int] = []
    read = Backbone.read

    def counted(self: Backbone, images: Tensor, taps: Any) -> Any:
        counts.append(len(images))
        return read(self, images, taps)

    with mock.patch.object(Backbone, "read", counted):
        yield counts


@contextmanager
def at_logits(number: int, act: Any) -> Iterator[None]:
    """Call `act` before the logits number `number` (from 1) are computed."""
    classify, calls = Tuned.classify, iter(range(1, 10**6))

    def watched(self: Tuned, features: Any) -> Tensor:
        if next(calls) == number:
            act()
        return classify(self, features)

    with mock.patch.object(Tuned, "classify", watched):
        yield


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of each test's own."""
    folder = tmp_path / "own-cache"
    monkeypatch.setenv("VITGRAFT_CACHE", str(folder))
    return folder / "features"


def only() -> Entry:
    """The one entry that there is."""
    (entry,) = entries.entries()
    return entry


def same(first: Session, second: Session) -> bool:
    """True if two runs ended with the same values, bit for bit."""
    return all(torch.equal(value, second.values[name]) for name, value in first.values.items())
