"""Labels that are likely wrong: what a classifier that never saw an image says of it, against its label.

Confident learning (Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels",
JAIR 2021): an image is surely of class j if its probability of j is at least what images labelled j have on
average (equation 2). How many images labelled i are surely of j, scaled up to all images labelled i (equation 3),
says how many labels i should be j; suspected are so many of those for which j is likelier than i, by the greatest
margin (section 3.2, prune by noise rate). The probabilities are out of fold: of a logistic regression on frozen
features that was fitted without the image.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float64]
Whole = NDArray[np.int64]

FOLDS = 5
STRENGTHS = (0.001, 0.01, 0.1)
"""Inverses of the regularisation (C of scikit-learn's LogisticRegression) on features of unit variance: the one is
taken that has the lowest loss on the first fold. In between, labels that were swapped are found best."""

ITERATIONS = 300
WORK = 4_000_000_000
"""Images x features x classes that a fold's regression may have; more are sampled down to that."""


@dataclass(frozen=True)
class OutOfFold:
    """Probabilities (n, C) of n images, and which could be judged (n,): their class has another image.

    `folds` is how many parts there were, `fitted_on` how many images a fold's regression had at most, `unfinished`
    in how many folds it had not converged, `agreement` the share of judged images whose label is the likeliest.
    """

    probabilities: Real
    judged: NDArray[np.bool_]
    folds: int
    fitted_on: int
    unfinished: int
    agreement: float


@dataclass(frozen=True)
class Suspect:
    """Image `index` is labelled `label`, with probability `own`; `answer` is likelier, with `other`."""

    index: int
    label: int
    answer: int
    own: float
    other: float

    @property
    def margin(self) -> float:
        """By how much the other class is likelier."""
        return self.other - self.own


def out_of_fold(
    features: NDArray[np.floating],
    labels: Whole,
    classes: int,
    *,
    seed: int = 0,
    done: Callable[[], None] = lambda: None,
) -> OutOfFold | None:
    """What a regression says of each image that it was fitted without; `done` is told of each fold.

    None where fewer than two classes have two images: there is nothing to judge by.
    """
    from sklearn.model_selection import StratifiedKFold

    counts = np.bincount(labels, minlength=classes)
    if (counts > 1).sum() < 2:
        return None
    folds = min(FOLDS, int(counts.max()))
    draw = np.random.default_rng(seed)
    found = np.zeros((len(labels), classes))
    most = max(classes, int(WORK / (features.shape[1] * classes)))
    unfinished, fitted_on = 0, 0
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        parts = list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(features, labels))
    parts = [
        (train if len(train) <= most else draw.choice(train, most, replace=False), held) for train, held in parts
    ]
    train, held = parts[0]
    strength = min(STRENGTHS, key=lambda one: _loss(labels[held], _fitted(features, labels, train, held, one)))
    for train, held in parts:
        present, probabilities, converged = _fitted(features, labels, train, held, strength)
        found[np.ix_(held, present)] = probabilities
        unfinished += not converged
        fitted_on = max(fitted_on, len(train))
        done()
    judged = counts[labels] > 1
    agreement = float((found.argmax(axis=1) == labels)[judged].mean())
    return OutOfFold(found, judged, folds, fitted_on, unfinished, agreement)


def _loss(labels: Whole, fitted: tuple[Whole, Real, bool]) -> float:
    """The mean cross-entropy in nats of labels (m,); a class that was not there had a small chance."""
    present, probabilities, _ = fitted
    own = (probabilities * (labels[:, None] == present)).sum(axis=1)
    return float(-np.log(np.maximum(own, 1e-6)).mean())


def _fitted(
    features: NDArray[np.floating], labels: Whole, train: Whole, held: Whole, strength: float
) -> tuple[Whole, Real, bool]:
    """A regression on some images: their classes, what it says of others (m, k), whether it converged."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=ITERATIONS))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.fit(features[train].astype(np.float32), labels[train])
    converged = not any(issubclass(one.category, ConvergenceWarning) for one in told)
    return model.classes_.astype(np.int64), model.predict_proba(features[held].astype(np.float32)), converged


def thresholds(probabilities: Real, labels: Whole, judged: NDArray[np.bool_]) -> Real:
    """By class (C,) the mean probability of it that images have which are labelled so; infinite without images."""
    classes = probabilities.shape[1]
    own = probabilities[np.arange(len(labels)), labels]
    counts = np.bincount(labels[judged], minlength=classes)
    sums = np.bincount(labels[judged], weights=own[judged], minlength=classes)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)


def sure(probabilities: Real, labels: Whole, judged: NDArray[np.bool_]) -> Whole:
    """The class (n,) of which each image surely is, -1 where none or it could not be judged."""
    limits = thresholds(probabilities, labels, judged)
    confident = np.where(probabilities >= limits, probabilities, -1.0)
    return np.where(judged & (confident.max(axis=1) >= 0), confident.argmax(axis=1), -1)


def suspects(found: OutOfFold, labels: Whole) -> list[Suspect]:
    """Images whose label is suspected, those first whose other class is likelier than their own by most."""
    probabilities, classes = found.probabilities, found.probabilities.shape[1]
    answers = sure(probabilities, labels, found.judged)
    every = np.bincount(labels[found.judged], minlength=classes)
    counted = np.bincount(labels[answers >= 0], minlength=classes)
    apart = (answers >= 0) & (answers != labels)
    pairs, counts = np.unique(labels[apart] * classes + answers[apart], return_counts=True)
    suspected: dict[int, Suspect] = {}
    for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
        label, answer = divmod(pair, classes)
        inside = np.flatnonzero(found.judged & (labels == label))
        own, other = probabilities[inside, label], probabilities[inside, answer]
        expected = round(count * every[label] / counted[label])
        for place in np.argsort(own - other, kind="stable")[:expected].tolist():
            one = Suspect(int(inside[place]), label, answer, float(own[place]), float(other[place]))
            if one.margin > 0 and (one.index not in suspected or one.margin > suspected[one.index].margin):
                suspected[one.index] = one
    return sorted(suspected.values(), key=lambda one: (-one.margin, one.index))
