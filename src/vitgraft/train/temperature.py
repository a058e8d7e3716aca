"""Temperature scaling: one number by which logits are divided, so that probabilities mean what they say.

Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks" (ICML 2017), section 4.2. The likeliest
class stays what it is, and so do accuracies.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitgraft.errors import DataError, DivergedError
from vitgraft.kinds import check_fields

SHARPEST = 1e-3
"""A temperature below this is none: no loss was ever lowest there but by the noise of arithmetic."""


@dataclass(frozen=True)
class Temperature:
    """A model's probabilities are softmax(logits / `value`).

    It was fitted on `n` images `of` some data, on which the likeliest class was wrong `wrong` times. Their mean
    cross-entropy in nats was `loss_before`, and is `loss_after`.
    """

    value: float
    n: int
    wrong: int
    of: str
    loss_before: float
    loss_after: float

    def __post_init__(self) -> None:
        check_fields(self, "temperature.")
        if self.value <= 0:
            raise ValueError(f"temperature.value is {self.value}")

    def told(self) -> str:
        """In words, without a full stop."""
        return (
            f"temperature {self.value:.3g}, fitted on {self.n:,} images ({self.of}), "
            f"of which {self.wrong:,} {'is' if self.wrong == 1 else 'are'} answered wrongly"
        )


def fitted(logits: NDArray[np.float32], labels: NDArray[np.int64], of: str) -> Temperature:
    """The temperature at which the mean cross-entropy of logits (n, C) with labels (n,) is lowest.

    The loss is convex in 1/T, so that it is found as the root of its derivative.

    Raises:
        DataError: no temperature is best: every image is answered rightly, or answers are no better than none.
        DivergedError: logits that are not finite.
    """
    from scipy.optimize import brentq

    if not np.isfinite(logits).all():
        raise DivergedError(f"Some answers to these {len(logits):,} images are not finite: nothing can be fitted.")
    scores = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    own = scores[np.arange(len(labels)), labels]
    wrong = int((own < 0).sum())  # the likeliest class has a score of 0

    def slope(inverse: float) -> float:
        """The derivative of the loss by 1/T."""
        weights = np.exp(inverse * scores)
        mean = (weights * scores).sum(axis=1) / weights.sum(axis=1)
        return float((mean - own).mean())

    if slope(1 / SHARPEST) <= 0:
        raise DataError(
            f"All {len(labels):,} images ({of}) are answered rightly, or as good as: the lower the temperature, "
            "the lower their loss, and none is best. Nothing is changed; calibrate on harder or more images."
        )
    if slope(0.0) >= 0:
        raise DataError(
            f"The answers to these {len(labels):,} images ({of}) are no better than saying that all classes are "
            "equally likely: no temperature helps. Are the labels those of the model's classes?"
        )
    value = 1 / brentq(slope, 0.0, 1 / SHARPEST, xtol=1e-9)
    return Temperature(value, len(labels), wrong, of, _loss(scores, own, 1.0), _loss(scores, own, value))


def _loss(scores: NDArray[np.float64], own: NDArray[np.float64], temperature: float) -> float:
    return float((np.log(np.exp(scores / temperature).sum(axis=1)) - own / temperature).mean())
