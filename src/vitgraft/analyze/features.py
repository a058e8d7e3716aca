"""What each block's readings are worth for a task: linear probes on them, all from one cached pass.

The cheapest answer to "where should I tune?": what a task needs can be read at some block, or at none.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vitgraft.analyze.readings import Array, readings
from vitgraft.core.backbone import Backbone
from vitgraft.core.sites import Tap
from vitgraft.data.preprocessing import Preprocessing
from vitgraft.data.task import Labels, Task
from vitgraft.errors import ConfigError
from vitgraft.report.figure import Figure
from vitgraft.report.labels import legend_below
from vitgraft.report.style import BLUE, MUTED, VERMILION, WIDE, blank
from vitgraft.train.settings import Training

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Values of C, the inverse of the penalty, among which validation chooses; the smaller of two that do as well."""

ITERATIONS = 400
CLASS, PATCHES = "class token", "mean of patches"
LOOKS = {CLASS: (BLUE, "o"), PATCHES: (VERMILION, "s")}
COLUMNS = ("task", "block", "reading", "validation", "test", "C")
BESIDE = 3


@dataclass(frozen=True)
class Worth:
    """Accuracies of a probe on one reading, in percent, at the `strength` C that validation chose.

    `test` is None where a task has no test; `ended` says that the probe's training came to its end.
    """

    block: int
    reading: str
    val: float
    test: float | None
    strength: float
    ended: bool = True


@dataclass(frozen=True)
class Curve:
    """The worth of all readings of one task; `sizes` counts images by split, `classes` the task's classes."""

    task: str
    worths: Sequence[Worth]
    sizes: Mapping[str, int]
    classes: int

    def of(self, reading: str) -> list[Worth]:
        """One curve's points, by block."""
        return [one for one in self.worths if one.reading == reading]

    @property
    def best(self) -> Worth:
        """The best by validation, the earliest of several."""
        return max(self.worths, key=lambda one: one.val)

    @property
    def error(self) -> float:
        """The standard error of the best reading's validation accuracy."""
        best = self.best.val / 100
        return float(100 * (best * (1 - best) / self.sizes["val"]) ** 0.5)

    @property
    def enough(self) -> Worth:
        """The best of the earliest block that has a reading within one standard error of the best (validation)."""
        near = [one for one in self.worths if one.val >= self.best.val - self.error]
        first = min(one.block for one in near)
        return max((one for one in near if one.block == first), key=lambda one: one.val)

    @property
    def last(self) -> Worth:
        """The best by validation at the last block."""
        depth = max(one.block for one in self.worths)
        return max((one for one in self.worths if one.block == depth), key=lambda one: one.val)


def taps(frozen: Backbone) -> dict[tuple[int, str], Tap]:
    """What is read: of each block's output the class token, if the model has one, and the mean of its patches."""
    prefix = frozen.view.prefix_tokens
    found = {}
    for block in range(frozen.depth):
        if frozen.view.class_token is not None:
            found[block, CLASS] = Tap(block, "out", "cls")
        found[block, PATCHES] = Tap(block, "out", "patches", prefix)
    return found


def curve(
    title: str,
    task: Task,
    frozen: Backbone,
    preprocessing: Preprocessing,
    settings: Training,
    advance: Callable[[int], None] = lambda more: None,
) -> Curve:
    """Probe every reading of a task: trained on train, its penalty chosen on validation, test read once.

    Raises:
        ConfigError: a task without validation images.
        DataError: an image that cannot be read.
    """
    if "val" not in task.splits:
        raise ConfigError(
            f"{title} has no val to choose the probes' penalty on. Cut one, --val-fraction 0.15, or add a split."
        )
    splits = {name: task.splits[name] for name in ("train", "val", "test") if name in task.splits}
    wanted = taps(frozen)
    found = readings(frozen, wanted.values(), splits, preprocessing, settings)
    labels = {name: split.labels for name, split in splits.items()}
    worths = []
    for (block, reading), tap in wanted.items():
        worths.append(probe(block, reading, {name: values[tap] for name, values in found.items()}, labels))
        advance(1)
    return Curve(title, worths, {name: len(split) for name, split in splits.items()}, len(task.classes))


def probe(block: int, reading: str, values: Mapping[str, Array], labels: Mapping[str, Labels]) -> Worth:
    """A logistic regression on standardised values (n, D) of train, chosen on val, and read on test once."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean, deviation = values["train"].mean(axis=0), values["train"].std(axis=0)
    scaled = {name: (value - mean) / np.where(deviation > 0, deviation, 1) for name, value in values.items()}
    best: tuple[float, float, float | None, bool] | None = None
    model = LogisticRegression(max_iter=ITERATIONS, warm_start=True)
    for strength in STRENGTHS:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", ConvergenceWarning)
            model.set_params(C=strength).fit(scaled["train"], labels["train"])
        val = 100 * float(model.score(scaled["val"], labels["val"]))
        if best is None or val > best[1]:
            coefficients = model.coef_.copy(), model.intercept_.copy()
            best = strength, val, None, not told
    assert best is not None
    model.coef_, model.intercept_ = coefficients
    test = 100 * float(model.score(scaled["test"], labels["test"])) if "test" in scaled else None
    return Worth(block, reading, best[1], test, best[0], best[3])


def figure(name: str, command: str, curves: Sequence[Curve], facts: Mapping[str, Any]) -> Figure:
    """What stands around the curves."""
    unended = sum(not one.ended for each in curves for one in each.worths)
    notes = [f"{unended} probes had not come to an end after {ITERATIONS} iterations."] if unended else []
    return Figure(
        name=name,
        title="What each block's readings are worth",
        caption="Accuracy of a logistic regression on the class token and on the mean of the patch tokens after "
        "each block of the frozen model. Its penalty was chosen on validation, and test was read once a point. "
        + " ".join(advice(one) for one in curves)
        + " A linear probe tells what can be read, not what tuning would reach.",
        command=command,
        columns=COLUMNS,
        rows=[
            (each.task, one.block, one.reading, one.val, one.test, one.strength)
            for each in curves
            for one in each.worths
        ],
        units={"validation": "%", "test": "%"},
        notes=notes,
        n=sum(sum(each.sizes.values()) for each in curves),
        found={each.task: {"best block": each.best.block, "enough at": each.enough.block} for each in curves},
        **facts,
    )


def advice(one: Curve) -> str:
    """Where to tune, in words, by validation; test accuracies beside it."""
    best, enough, last = one.best, one.enough, one.last
    told = f"{one.task} ({', '.join(f'{count:,} {name}' for name, count in one.sizes.items())}, {one.classes} "
    told += f"classes): best is the {best.reading} after block {best.block} ({_both(best)})"
    if enough.block < best.block:
        told += f"; block {enough.block} already comes within one standard error ({_both(enough)})"
    if best.block < last.block:
        told += f", and the last block, {last.block}, has {_both(last)}"
    if enough.block == last.block:
        return f"{told}. What it needs builds up to the end: tune the last blocks, or all."
    lose = "lose some of what it needs" if last.val < best.val - one.error else "add little for a linear head"
    return (
        f"{told}. Blocks above {enough.block} {lose}: tune those alone (lora:last={last.block - enough.block}), "
        "or read every block (vqt, synqt, head2toe)."
    )


def _both(one: Worth) -> str:
    return f"{one.val:.1f} % validation" + ("" if one.test is None else f", {one.test:.1f} % test")


def draw(curves: Sequence[Curve]) -> "Drawing":
    """A panel a task: test accuracy by block, validation dashed. Call it within `styled`."""
    deep = -(-len(curves) // BESIDE)
    beside = -(-len(curves) // deep)
    drawn = blank(max(WIDE * beside / BESIDE, 4.4), 2.6 * deep + 0.4)
    panels = drawn.subplots(deep, beside, squeeze=False).ravel()
    for axes in panels[len(curves) :]:
        axes.axis("off")
    for axes, one in zip(panels, curves, strict=False):
        for reading, (colour, marker) in LOOKS.items():
            points = one.of(reading)
            blocks = [point.block for point in points]
            tested = [point.test for point in points if point.test is not None]
            axes.plot(blocks, [point.val for point in points], "--", color=colour, linewidth=1, alpha=0.7)
            if tested:
                axes.plot(blocks, tested, color=colour, marker=marker, markersize=4.5)
        axes.axvline(one.enough.block, color=MUTED, linewidth=0.8, linestyle=":")
        axes.set_title(one.task)
        axes.set_xlabel("block")
        axes.xaxis.get_major_locator().set_params(integer=True)
    for line in range(deep):
        panels[line * beside].set_ylabel("probe's accuracy (%)")
    legend_below(drawn, _entries(curves), 4)
    return drawn  # type: ignore[no-any-return]


def _entries(curves: Sequence[Curve]) -> list[Any]:
    from matplotlib.lines import Line2D

    there = [(reading, look) for reading, look in LOOKS.items() if any(one.of(reading) for one in curves)]
    lines = [Line2D([], [], color=colour, marker=marker, label=name) for name, (colour, marker) in there]
    lines.append(Line2D([], [], color=MUTED, linestyle="--", linewidth=1, label="validation"))
    lines.append(Line2D([], [], color=MUTED, linestyle=":", linewidth=0.8, label="within one standard error"))
    return lines
