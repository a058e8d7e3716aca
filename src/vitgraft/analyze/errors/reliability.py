"""Do probabilities mean what they say? Confidence beside accuracy, in bins.

Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks" (ICML 2017), sections 2 and 3.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 15
"""As many as in the paper's tables."""


@dataclass(frozen=True)
class Bin:
    """Images whose likeliest class has a probability above `low` and up to `high`.

    `confidence` is the mean of these probabilities, `accuracy` the share of right answers; None without images.
    """

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Reliability:
    """`ece` is the expected calibration error, from 0 to 1: the mean over `n` images of the gap between confidence
    and accuracy in their bin. `loss` is the mean cross-entropy in nats, `brier` the mean squared error summed over
    classes, from 0 to 2.
    """

    bins: tuple[Bin, ...]
    ece: float
    confidence: float
    accuracy: float
    loss: float
    brier: float
    n: int


def reliability(probabilities: NDArray[np.float64], labels: NDArray[np.int64], bins: int = BINS) -> Reliability:
    """The reliability of probabilities (n, C) of images with labels (n,), in bins of equal width."""
    n = len(labels)
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.clip(np.digitize(sure, edges, right=True) - 1, 0, bins - 1)
    found, error = [], 0.0
    for number in range(bins):
        inside = place == number
        count = int(inside.sum())
        confidence = float(sure[inside].mean()) if count else None
        accuracy = float(right[inside].mean()) if count else None
        if confidence is not None and accuracy is not None:
            error += count / n * abs(accuracy - confidence)
        found.append(Bin(float(edges[number]), float(edges[number + 1]), count, confidence, accuracy))
    own = probabilities[np.arange(n), labels]
    squares = (probabilities**2).sum(axis=1) - 2 * own + 1
    return Reliability(
        tuple(found),
        error,
        float(sure.mean()),
        float(right.mean()),
        float(-np.log(np.maximum(own, np.finfo(np.float64).tiny)).mean()),
        float(squares.mean()),
        n,
    )


def softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities (n, C) of logits (n, C) that are divided by a temperature."""
    from scipy.special import softmax as of_scipy

    found: NDArray[np.float64] = of_scipy(logits.astype(np.float64) / temperature, axis=1)
    return found
