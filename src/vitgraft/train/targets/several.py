"""Any number of classes a picture: yes or no to each, thresholds chosen on validation, mean average precision."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vitgraft.train.settings import Training
from vitgraft.train.targets.base import Loss, Tally, Target, need_classes

HALF = 0.5
"""The threshold of a label that nothing chose one for."""

Rows = NDArray[np.bool_]


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """Binary cross-entropy, the mean over a picture's C labels; a sum over pictures.

    `weights` (C,) is how often a label that is there counts, or None.
    """

    weights: Tensor | None = None
    smoothing: float = 0.0

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The summed loss of logits (B, C) and labels (B, C), 0 or 1."""
        wanted = labels.float() * (1 - self.smoothing) + self.smoothing / 2
        weights = None if self.weights is None else self.weights.to(logits.device)
        each = F.binary_cross_entropy_with_logits(logits.float(), wanted, pos_weight=weights, reduction="none")
        return each.mean(-1).sum()

    def mass(self, labels: Tensor) -> float:
        return float(len(labels))


@dataclass(frozen=True)
class SeveralMetrics:
    """Measured on `n` images: `loss` is the mean binary cross-entropy in nats, all else is of 0 to 100.

    `map` is the mean over labels of average precision, `f1_macro` that of F1; only labels that some image has
    count in them. `f1_micro` is F1 over all labels of all images, `exact` the share of images whose labels are all
    right. These three depend on thresholds.
    """

    loss: float
    map: float
    f1_micro: float
    f1_macro: float
    exact: float
    n: int

    @property
    def main(self) -> float:
        return self.map


class Scores:
    """Every image's logits, which average precision needs together: (n, C), zero until they are there.

    The last entry of `sums` adds up the loss.
    """

    def __init__(self, labels: Rows, thresholds: tuple[float, ...] | None, device: torch.device) -> None:
        self.labels = labels
        self.thresholds = thresholds
        self.sums = torch.zeros(labels.size + 1, dtype=torch.float32, device=device)
        self._loss = BinaryCrossEntropy()

    def add(self, logits: Tensor, labels: Tensor, places: Tensor) -> None:
        self.sums[:-1].view(self.labels.shape)[places.to(self.sums.device)] = logits.float()
        self.sums[-1] += self._loss(logits, labels)

    def metrics(self) -> SeveralMetrics:
        sums = self.sums.cpu().double().numpy()
        logits = sums[:-1].reshape(self.labels.shape)
        there = self.labels.any(axis=0)
        precisions = [average_precision(logits[:, i], self.labels[:, i]) for i in np.flatnonzero(there)]
        said = _sigmoid(logits) >= np.array(self.thresholds or HALF)
        found = f1(said[:, there], self.labels[:, there])
        whole = f1(said.reshape(-1, 1), self.labels.reshape(-1, 1))
        return SeveralMetrics(
            loss=float(sums[-1]) / len(logits),
            map=100 * float(np.mean(precisions)) if precisions else 0.0,
            f1_micro=100 * float(whole[0]),
            f1_macro=100 * float(found.mean()) if there.any() else 0.0,
            exact=100 * float((said == self.labels).all(axis=1).mean()),
            n=len(logits),
        )


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = torch.from_numpy(logits).sigmoid().numpy()
    return found


def average_precision(scores: NDArray[np.float64], labels: Rows) -> float:
    """Σ (R_k - R_k-1) P_k over thresholds k, of scores (n,) and labels (n,); of 0 to 1. Some label must be there.

    Images of equal scores are one threshold, as in scikit-learn.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    right = np.cumsum(labels[order])[ends]
    precision = right / (ends + 1)
    return float(np.sum(np.diff(right, prepend=0) / right[-1] * precision))


def f1(said: Rows, labels: Rows) -> NDArray[np.float64]:
    """2 TP / (2 TP + FP + FN) of each column of (n, C); 0 where nothing is there and nothing said: (C,)."""
    both, either = (said & labels).sum(axis=0), said.sum(axis=0) + labels.sum(axis=0)
    found: NDArray[np.float64] = 2 * both / np.maximum(either, 1)
    return found


def best_threshold(scores: NDArray[np.float64], labels: Rows) -> float:
    """The probability from which a label is said, with the best F1 on scores (n,) of 0 to 1 and labels (n,).

    It lies between two scores; of equals it is the one nearest to 0.5, which it also is where no image has the
    label.
    """
    if not labels.any():
        return HALF
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.flatnonzero(np.append(np.diff(ranked) != 0, True))
    right = np.cumsum(labels[order])[ends]
    reached = 2 * right / (ends + 1 + right[-1])
    below = np.append(ranked[ends[1:]], 0.0)
    places = (ranked[ends] + below) / 2
    places = np.where((ranked[ends] >= HALF) & (below < HALF), HALF, places)
    best = np.flatnonzero(reached >= reached.max() - 1e-12)
    return float(places[best[np.abs(places[best] - HALF).argmin()]])


@dataclass(frozen=True)
class SeveralClasses(Target):
    """Outputs are logits of C labels, each there or not; mean average precision on validation decides.

    `thresholds` (C,) are probabilities from which a label is said to be there, None for 0.5.
    """

    kind: ClassVar[str] = "multi"
    measures: ClassVar[type] = SeveralMetrics
    main: ClassVar[str] = "map"

    thresholds: tuple[float, ...] | None = None

    def check(self, outputs: int) -> None:
        if self.thresholds is None:
            return
        if len(self.thresholds) != outputs or not all(0 <= one <= 1 for one in self.thresholds):
            raise ValueError(f"target.thresholds are {len(self.thresholds)} of 0 to 1 for {outputs} labels")

    def prepared(self, labels: Tensor, settings: Training) -> "SeveralClasses":
        need_classes(settings)
        return SeveralClasses()

    def there(self, answers: Tensor) -> Tensor:
        return answers >= torch.tensor(self.thresholds or [HALF], dtype=answers.dtype)

    @property
    def decides(self) -> bool:
        return True

    def decided(self, outputs: Tensor, labels: Tensor) -> "SeveralClasses":
        scores, wanted = _sigmoid(outputs.double().numpy()), labels.bool().numpy()
        found = (best_threshold(scores[:, column], wanted[:, column]) for column in range(wanted.shape[1]))
        return SeveralClasses(tuple(found))

    def found(self, names: Sequence[str]) -> list[str]:
        if self.thresholds is None:
            return ["There is no validation: a label is said from a probability of 0.5 on."]
        low, high = min(self.thresholds), max(self.thresholds)
        return [f"Thresholds of the {len(names)} labels, chosen on validation for F1: {low:.2f} to {high:.2f}."]

    def loss(self, labels: Tensor, outputs: int, settings: Training) -> Loss:
        there = labels.double().sum(0)
        balanced = torch.where(there > 0, (len(labels) - there) / there.clamp(min=1), 1.0).clamp(min=1e-3).float()
        return BinaryCrossEntropy(
            balanced if settings.class_weights == "balanced" else None, settings.label_smoothing
        )

    def hits(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return ((outputs > 0) == labels).all(-1).sum(-1)

    def told(self, hits: float, n: int) -> dict[str, float]:
        return {"train_exact": 100 * hits / n}

    def tally(self, labels: Tensor, outputs: int, device: torch.device) -> Tally:
        return Scores(labels.bool().numpy(), self.thresholds, device)

    def answers(self, outputs: Tensor) -> Tensor:
        return outputs.sigmoid().cpu()
