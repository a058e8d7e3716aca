"""Drawings: what a run takes for what, how reliable it is, how it learnt. Call all within `style.styled`."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from vitgraft.analyze.errors.curves import Curves
from vitgraft.analyze.errors.reliability import Reliability
from vitgraft.analyze.errors.scores import Confused
from vitgraft.report.style import BLUE, FAINT, INK, MUTED, NARROW, ORANGE, SEQUENTIAL, VERMILION, canvas

DRAWN = 30
"""Classes of a matrix at most: more could not be read."""

COUNTED = 16
"""Classes of a matrix up to which each cell has its number."""

LONGEST = 22
"""Characters of a class's name in a drawing."""


def chosen(confused: Sequence[Confused], classes: int) -> list[int]:
    """The classes that a matrix shows, in their order: all, or those that most mistakes are about."""
    if classes <= DRAWN:
        return list(range(classes))
    about: Counter[int] = Counter()
    for one in confused:
        about[one.label] += one.count
        about[one.answer] += one.count
    most = sorted(about, key=lambda label: (-about[label], label))[:DRAWN]
    return sorted(most)


def matrix(labels: Any, answers: Any, shown: Sequence[int]) -> Any:
    """Counts (k, k) of images by label and answer, both among the classes that are `shown`."""
    from sklearn.metrics import confusion_matrix

    inside = np.isin(labels, shown)
    if not inside.any():
        return np.zeros((len(shown), len(shown)), dtype=np.int64)
    return confusion_matrix(labels[inside], answers[inside], labels=list(shown))


def confusion(counts: Any, support: Sequence[int], names: Sequence[str]) -> Any:
    """A matrix of k classes: a row is a class, a column what its images are taken for, a colour the share of its
    images.
    """
    k = len(names)
    side = max(NARROW, 1.6 + 0.26 * k)
    figure, axes = canvas(side + 0.5, side)
    shares = counts / np.maximum(np.asarray(support)[:, None], 1)
    drawn = axes.imshow(100 * shares, cmap=SEQUENTIAL, vmin=0, vmax=100, aspect="equal")
    axes.grid(False)
    short = [_short(name) for name in names]
    axes.set_xticks(range(k), short, rotation=90)
    axes.set_yticks(range(k), short)
    axes.set_xlabel("answer")
    axes.set_ylabel("label")
    if k <= COUNTED:
        for row, column in np.argwhere(counts > 0):
            light = shares[row, column] > 0.6
            text = f"{counts[row, column]:,}"
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=INK if light else "white")
    figure.colorbar(drawn, ax=axes, label="of the label's images (%)", shrink=0.7)
    return figure


def reliable(shown: Sequence[tuple[str, Reliability]]) -> Any:
    """Reliability diagrams side by side, each with its title."""
    width = NARROW * len(shown)
    figure, axes = canvas(width, 3.9, 2, len(shown), height_ratios=(4, 1), sharex=True, squeeze=False)
    for (title, of), upper, lower in zip(shown, *axes, strict=True):
        _diagram(upper, lower, of)
        upper.set_title(title)
    return figure


def _diagram(upper: Any, lower: Any, of: Reliability) -> None:
    """Accuracy beside confidence, bin by bin, with a line where both are equal; below, how many images."""
    width = 0.92 * (of.bins[0].high - of.bins[0].low)
    upper.plot([0, 1], [0, 1], color=MUTED, linewidth=1, zorder=3)
    gaps = {"facecolor": "none", "edgecolor": VERMILION, "hatch": "////", "linewidth": 0.8, "zorder": 4}
    for one in of.bins:
        middle = (one.low + one.high) / 2
        lower.bar(middle, one.n, width, color=MUTED)
        if one.accuracy is not None and one.confidence is not None:
            upper.bar(middle, one.accuracy, width, color=BLUE, zorder=2)
            low, gap = min(one.accuracy, one.confidence), abs(one.accuracy - one.confidence)
            upper.bar(middle, gap, width, bottom=low, **gaps)
    upper.set_xlim(0, 1)
    upper.set_ylim(0, 1)
    upper.set_ylabel("share of right answers")
    lower.set_xlabel("probability of the answer")
    lower.set_ylabel("images")
    told = f"ECE {100 * of.ece:.1f} %\nn = {of.n:,}"
    upper.text(0.04, 0.95, told, va="top", transform=upper.transAxes, zorder=5)


def learnt(of: Curves, best: int | None, panels: Sequence[str] = ("loss", "accuracy")) -> Any:
    """Loss, and validation accuracy where there is some, by epoch."""
    if not any(value is not None for value in of.val_top1):
        panels = ("loss",)
    figure, axes = canvas(NARROW * len(panels), 2.8, 1, len(panels), squeeze=False)
    for panel, one in zip(panels, axes[0], strict=True):
        if panel == "loss":
            _losses(one, of)
        else:
            _accuracies(one, of, best)
    return figure


def _losses(axes: Any, of: Curves) -> None:
    """Loss by epoch."""
    axes.plot(of.epochs, _gaps(of.train_loss), color=BLUE, marker="o", markersize=3, label="training")
    if any(value is not None for value in of.val_loss):
        axes.plot(of.epochs, _gaps(of.val_loss), color=VERMILION, marker="s", markersize=3, label="validation")
    axes.set_ylabel("loss (nats)")
    axes.legend()
    _epochs(axes, of)


def _accuracies(axes: Any, of: Curves, best: int | None) -> None:
    """Validation accuracy by epoch, and which one was kept."""
    axes.plot(of.epochs, _gaps(of.val_top1), color=VERMILION, marker="s", markersize=3)
    if best in of.epochs:
        axes.axvline(best, color=ORANGE, linestyle="--", linewidth=1)
        axes.annotate(f" epoch {best}", (best, 0.02), xycoords=("data", "axes fraction"), fontsize=8, color=INK)
    axes.set_ylabel("validation top-1 (%)")
    _epochs(axes, of)


def _epochs(axes: Any, of: Curves) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="x", color=FAINT)


def _gaps(values: Sequence[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]


def _short(name: str) -> str:
    """A class's name as a drawing has room for; a dollar sign begins no formula."""
    cut = name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
    return cut.replace("$", r"\$")
