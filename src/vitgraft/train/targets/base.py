"""What every target is: a loss, what is measured and decides between two models, what outputs say of a picture."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor

from vitgraft.errors import ConfigError
from vitgraft.train.settings import Training


def need_classes(settings: Training) -> None:
    """Raise ConfigError for settings that are for numbers, where labels are classes."""
    if settings.regression_loss != "huber":
        raise ConfigError(
            f"regression_loss={settings.regression_loss} is for labels that are numbers, and these are classes. "
            "Leave it out."
        )


class Loss(Protocol):
    """A loss as a sum over images; divided by the `mass` of a whole batch it is the batch's mean.

    Parts of a batch (micro-batches, processes) then add up to the same gradient, however uneven they are.
    """

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The summed loss of outputs (B, C) and labels (B, ...)."""

    def mass(self, labels: Tensor) -> float:
        """What the images of `labels` (B, ...) weigh together; without weights their number."""


class Measured(Protocol):
    """What was measured on `n` images; `loss` is the mean loss, `main` what decides, in percent."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def loss(self) -> float: ...

    @property
    def n(self) -> int: ...

    @property
    def main(self) -> float: ...


class Tally(Protocol):
    """Sums from which metrics follow. Sums of several processes add up, so no image counts twice."""

    sums: Tensor

    def add(self, logits: Tensor, labels: Tensor, places: Tensor) -> None:
        """Count outputs (B, C) of the images `places` (B,) of a split, with their labels (B, ...)."""

    def metrics(self) -> Measured:
        """The result. At least one image must have been counted."""


@dataclass(frozen=True)
class Target(ABC):
    """What a model is trained for. `kind` is that of its labels (`data.labelling`).

    A method's plan gives outputs (B, C), whatever the target: these are logits, or numbers without a unit. What
    else is known from data (thresholds, a scale) is in the fields, and the artefact keeps them. `measures` is the
    type of what is measured, `main` its field that decides, the higher the better.
    """

    kind: ClassVar[str]
    measures: ClassVar[type]
    main: ClassVar[str]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """From the fields of `to_json`. Raises TypeError, ValueError."""
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})

    def to_json(self) -> dict[str, Any] | None:
        """The target for an artefact's card; None of one class a picture, as before there were others."""
        return {"kind": self.kind, **vars(self)}

    def check(self, outputs: int) -> None:  # noqa: B027
        """Raise ValueError unless this fits a model with so many outputs."""

    def prepared(self, labels: Tensor, settings: Training) -> "Target":
        """This, with what it must know of training labels (n, ...) before there is training.

        Raises:
            ConfigError: settings that are for other kinds of labels.
        """
        return self

    def decided(self, outputs: Tensor, labels: Tensor) -> "Target":
        """This, with what is chosen once a model is trained, from its outputs (n, C) on validation images."""
        return self

    def found(self, names: Sequence[str]) -> list[str]:
        """Sentences for a person on what was found in data, if anything was."""
        return []

    @property
    def decides(self) -> bool:
        """Whether `decided` chooses anything."""
        return False

    @abstractmethod
    def loss(self, labels: Tensor, outputs: int, settings: Training) -> Loss:
        """What training minimises on images with these labels (n, ...)."""

    @abstractmethod
    def hits(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """What training adds up to see how it goes, of outputs (..., B, C) and labels (B, ...): (...)."""

    @abstractmethod
    def told(self, hits: float, n: int) -> dict[str, float]:
        """What a log says of the sum of `hits` over n images."""

    @abstractmethod
    def tally(self, labels: Tensor, outputs: int, device: torch.device) -> Tally:
        """What measures a model with so many outputs on images with these labels (n, ...)."""

    @abstractmethod
    def answers(self, outputs: Tensor) -> Tensor:
        """What a person is told of pictures, from outputs (n, C): (n, C), on the CPU."""

    def there(self, answers: Tensor) -> Tensor | None:
        """Which labels are said of a picture, from its answers (C,): (C,) bool; None of other kinds."""
        return None

    def main_of(self, entry: Mapping[str, Any]) -> float | None:
        """What decides, in percent, of an epoch's entry in a log; None if nothing was measured."""
        found = {key.removeprefix("val_"): value for key, value in entry.items() if key.startswith("val_")}
        return float(self.measures(**found).main) if self.main in found else None

    def rank(self, metrics: Mapping[str, Any]) -> tuple[float, float]:
        """What was measured, to compare: `main` decides, among equals the loss."""
        return metrics[self.main], -metrics["loss"]
