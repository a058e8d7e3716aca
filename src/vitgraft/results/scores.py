"""What a run reached on a split, by the kind of its labels, and which of it decides. It imports no torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

Loss = Annotated[float, "null in a file where it is not finite, and NaN when it is read"]


@dataclass(frozen=True)
class Scores:
    """Measured on one split of `n` images; accuracies are percentages of 0 to 100, `loss` a mean in nats.

    `top5` is None where there are no more than five classes. Of other labels than one class a picture
    (`task.labels`), what is measured has names of its own, and these are None:

    - multi: `map`, the mean of the labels' average precision, `f1_micro`, `f1_macro`, and `exact`, the share of
      images whose labels are all right, in percent; thresholds are those chosen on validation;
    - number: `mae` and `rmse`, in the user's units, and `r2`, the share of variance explained, of 0 to 1 (means
      over several numbers); `maes` and `r2s` are those of each. `loss` is in deviations of the training images.
    """

    loss: Loss
    top1: float | None = None
    top5: float | None = None
    mean_per_class: float | None = None
    n: int = 0
    map: float | None = None
    f1_micro: float | None = None
    f1_macro: float | None = None
    exact: float | None = None
    mae: float | None = None
    rmse: float | None = None
    r2: float | None = None
    maes: list[float] | None = None
    r2s: list[float] | None = None

    @property
    def main(self) -> float:
        """What decides, in percent, the higher the better: top-1, mean average precision, variance explained."""
        explained = None if self.r2 is None else 100 * self.r2
        return next((one for one in (self.top1, self.map, explained) if one is not None), math.nan)


ONE_CLASS = "class"
"""The kind of labels that records had before there were others."""

MAIN: Mapping[str, str] = {
    ONE_CLASS: "accuracy",
    "multi": "mean average precision",
    "number": "variance explained (R²)",
}
"""What `Scores.main` is, by the kind of labels."""
