"""Numbers: the distance from them in deviations of the training images, and the share of variance explained."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vitgraft.errors import ConfigError, DataError
from vitgraft.train.settings import Training
from vitgraft.train.targets.base import Loss, Tally, Target

LEAST = 1e-12
"""Deviations below this, beside the mean's size, are none: such numbers are only centred."""


@dataclass(frozen=True)
class Distance:
    """The mean over a picture's K numbers of the squared or the Huber distance; a sum over pictures.

    Both are of numbers in deviations, and half the square near zero; Huber's slope stays 1 beyond one deviation.
    """

    shape: str
    target: "Numbers"

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The summed loss of outputs (B, K) and labels (B, K), which are in the user's units."""
        wanted = self.target.scaled(labels).to(logits.device)
        if self.shape == "l2":
            each = F.mse_loss(logits.float(), wanted, reduction="none") / 2
        else:
            each = F.huber_loss(logits.float(), wanted, reduction="none")
        return each.mean(-1).sum()

    def mass(self, labels: Tensor) -> float:
        return float(len(labels))


@dataclass(frozen=True)
class NumberMetrics:
    """Measured on `n` images: `loss` is the mean of training's loss, in deviations of the training images.

    `mae` is the mean absolute error and `rmse` the root of the mean squared one, both in the user's units and, of
    several numbers, their mean. `r2` is the share of variance that is explained, 1 at best, and 0 for saying the
    mean always (of several numbers the mean share). `maes` and `r2s` (K) are those of each number.
    """

    loss: float
    mae: float
    rmse: float
    r2: float
    maes: tuple[float, ...]
    r2s: tuple[float, ...]
    n: int

    @property
    def main(self) -> float:
        return 100 * self.r2


class Errors:
    """Sums over images: loss, images; then absolute and squared errors of each number, in deviations."""

    def __init__(self, labels: Tensor, target: "Numbers", device: torch.device) -> None:
        self.target, self.wanted = target, target.scaled(labels, exact=True)
        real = torch.float32 if device.type == "mps" else torch.float64
        self.sums = torch.zeros(2 + 2 * labels.shape[1], dtype=real, device=device)
        self._loss = Distance(target.shape, target)

    def add(self, logits: Tensor, labels: Tensor, places: Tensor) -> None:
        real = self.sums.dtype
        off = logits.to(real) - self.wanted[places.cpu()].to(self.sums.device, real)
        self.sums[0] += self._loss(logits, labels)
        self.sums[1] += len(off)
        self.sums[2:] += torch.cat([off.abs().sum(0), off.square().sum(0)])

    def metrics(self) -> NumberMetrics:
        """The result; R² as scikit-learn has it: of numbers that are all the same 1 if they are hit, else 0."""
        sums = self.sums.cpu().double()
        loss, n = sums[:2].tolist()
        absolute, squared = (sums[2:].view(2, -1) / n).unbind()
        scale = self.target.units[1]
        spread = self.wanted.var(0, correction=0)
        known = torch.where(spread > 0, 1 - squared / spread.clamp(min=1e-300), (squared == 0).double())
        maes, roots = absolute * scale, squared.sqrt() * scale
        return NumberMetrics(
            loss=loss / n,
            mae=float(maes.mean()),
            rmse=float(roots.mean()),
            r2=float(known.mean()),
            maes=tuple(maes.tolist()),
            r2s=tuple(known.tolist()),
            n=round(n),
        )


@dataclass(frozen=True)
class Numbers(Target):
    """Outputs are K numbers in deviations from the mean of the training images; R² on validation decides.

    `mean` and `scale` (K,) are of the training images, in the user's units; a number that is the same for all of
    them has a scale of 1. `shape` is that of the loss.
    """

    kind: ClassVar[str] = "number"
    measures: ClassVar[type] = NumberMetrics
    main: ClassVar[str] = "r2"

    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    shape: Literal["huber", "l2"] = "huber"

    def check(self, outputs: int) -> None:
        if not self.mean and not self.scale:  # nothing was trained
            return
        right = all(map(math.isfinite, (*self.mean, *self.scale))) and all(one > 0 for one in self.scale)
        if len(self.mean) != outputs or len(self.scale) != outputs or not right:
            raise ValueError(f"target.mean and scale are no {outputs} finite numbers, scales above 0")
        if self.shape not in ("huber", "l2"):
            raise ValueError(f"target.shape is {self.shape!r}")

    def prepared(self, labels: Tensor, settings: Training) -> "Numbers":
        for key, value, default in (
            ("label_smoothing", settings.label_smoothing, 0.0),
            ("class_weights", settings.class_weights, "none"),
        ):
            if value != default:
                raise ConfigError(f"{key}={value} is for classes, and the labels are numbers. Leave it out.")
        if self.mean:  # what its values were learned with holds
            return replace(self, shape=settings.regression_loss)
        values = labels.double()
        mean, scale = values.mean(0), values.std(0, correction=0)
        if not (mean.isfinite() & scale.isfinite()).all():
            largest = float(values.abs().max())
            raise DataError(
                f"Labels go up to {largest:.3g}, and their variance is beyond what can be counted. Look for a "
                "wrong one, or give them in a larger unit."
            )
        scale = torch.where(scale > LEAST * mean.abs(), scale, 1.0)
        return Numbers(tuple(mean.tolist()), tuple(scale.tolist()), settings.regression_loss)

    @property
    def units(self) -> tuple[Tensor, Tensor]:
        """Mean and scale, (K,) float64 each: 0 and 1 while no labels were seen."""
        mean, scale = self.mean or (0.0,), self.scale or (1.0,)
        return torch.tensor(mean, dtype=torch.float64), torch.tensor(scale, dtype=torch.float64)

    def scaled(self, labels: Tensor, exact: bool = False) -> Tensor:
        """Labels (..., K) as outputs are: float32, or float64 if they are to be `exact`."""
        kind = torch.float32 if labels.device.type == "mps" else torch.float64
        mean, scale = (one.to(labels.device, kind) for one in self.units)
        found = (labels.to(kind) - mean) / scale
        return found if exact else found.float()

    def loss(self, labels: Tensor, outputs: int, settings: Training) -> Loss:
        return Distance(self.shape, self)

    def hits(self, outputs: Tensor, labels: Tensor) -> Tensor:
        off = (outputs.float() - self.scaled(labels)).abs()
        return (off * self.units[1].to(off)).mean(-1).sum(-1)

    def told(self, hits: float, n: int) -> dict[str, float]:
        return {"train_mae": hits / n}

    def tally(self, labels: Tensor, outputs: int, device: torch.device) -> Tally:
        return Errors(labels, self, device)

    def answers(self, outputs: Tensor) -> Tensor:
        mean, scale = self.units
        return outputs.cpu().double() * scale + mean
