"""What a model's answers are worth: by class, and what it takes for what."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitgraft.errors import DivergedError

Real = NDArray[np.float64]
Whole = NDArray[np.int64]


@dataclass(frozen=True)
class ClassScores:
    """One class against all others; shares are of 0 to 1.

    `support` counts its images, `answered` those that are taken for it. None is what nothing can be said of:
    `recall` without images of the class, `precision` without answers of it, `f1` without both, and the ranking's
    `average_precision` and `auroc` unless there are images of it and of others.
    """

    name: str
    support: int
    answered: int
    precision: float | None
    recall: float | None
    f1: float | None
    average_precision: float | None
    auroc: float | None


@dataclass(frozen=True)
class Confused:
    """So many images of a class, by its number, that are taken for another one; `share` is of all its images."""

    label: int
    answer: int
    count: int
    share: float


def checked(probabilities: NDArray[np.floating], labels: Whole) -> Real:
    """Probabilities (n, C) in double precision.

    Raises:
        DivergedError: one is not finite.
        ValueError: there is none, or not one row a label.
    """
    if not len(probabilities) or len(probabilities) != len(labels):
        raise ValueError(f"{len(probabilities)} answers to {len(labels)} labels")
    if not np.isfinite(probabilities).all():
        broken = int((~np.isfinite(probabilities).all(axis=1)).sum())
        raise DivergedError(f"{broken:,} of {len(labels):,} answers are not finite: nothing can be said of them.")
    return probabilities.astype(np.float64)


def by_class(
    probabilities: Real, labels: Whole, names: Sequence[str], done: Callable[[int], None] = lambda classes: None
) -> list[ClassScores]:
    """Each of C classes against all others, from probabilities (n, C) and labels (n,); `done` is told of each."""
    from sklearn.metrics import average_precision_score, precision_recall_fscore_support, roc_auc_score

    answers, count = probabilities.argmax(axis=1), len(names)
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, answers, labels=range(count), zero_division=np.nan
    )
    answered = np.bincount(answers, minlength=count)
    found = []
    for index, name in enumerate(names):
        own, ranked = labels == index, 0 < support[index] < len(labels)
        values = probabilities[:, index]
        found.append(
            ClassScores(
                name,
                int(support[index]),
                int(answered[index]),
                _known(precision[index]),
                _known(recall[index]),
                _known(f1[index]) if support[index] or answered[index] else None,
                float(average_precision_score(own, values)) if ranked else None,
                float(roc_auc_score(own, values)) if ranked else None,
            )
        )
        done(1)
    return found


def mean(values: Sequence[float | None]) -> float | None:
    """The mean of those that are known: a macro average over the classes of which something can be said."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def confused(answers: Whole, labels: Whole, classes: int) -> list[Confused]:
    """Pairs of a class and another one that its images are taken for, the most frequent first."""
    wrong = answers != labels
    pairs, counts = np.unique(labels[wrong] * classes + answers[wrong], return_counts=True)
    support = np.bincount(labels, minlength=classes)
    found = [
        Confused(int(pair // classes), int(pair % classes), int(count), float(count / support[pair // classes]))
        for pair, count in zip(pairs, counts, strict=True)
    ]
    return sorted(found, key=lambda one: (-one.count, -one.share, one.label, one.answer))


def interval(right: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, from 0 to 1."""
    from scipy.stats import binomtest

    found = binomtest(right, n).proportion_ci(0.95, method="wilson")
    return float(found.low), float(found.high)


def worst(probabilities: Real, labels: Whole) -> Whole:
    """Indices of images that are answered wrongly, the greatest loss first."""
    own = probabilities[np.arange(len(labels)), labels]
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return wrong[np.argsort(own[wrong], kind="stable")]


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
