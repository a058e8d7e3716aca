"""Everything that is to be known of one run on one set of images, from one pass over them and cached features."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vitgraft.analyze.errors import duplicates, scores, suspects
from vitgraft.analyze.errors.curves import Curves, curves
from vitgraft.analyze.errors.gathered import Gathered
from vitgraft.analyze.errors.reliability import Reliability, reliability, softmax
from vitgraft.analyze.pooled import pooled
from vitgraft.data.task import Split
from vitgraft.errors import DataError, VitgraftError
from vitgraft.features.caching import Caching
from vitgraft.machine.placement import Placement, place
from vitgraft.machine.progress import Display
from vitgraft.models.calibrating import VAL, temperature_of
from vitgraft.models.model import Model
from vitgraft.results import store
from vitgraft.results.record import Record
from vitgraft.runs.config import KEPT, RunConfig, read_toml
from vitgraft.train import measure
from vitgraft.train.metrics import Metrics, Tally
from vitgraft.train.settings import Training
from vitgraft.train.temperature import Temperature

NEAR = 0.95
"""The cosine of two pictures' features, around the mean of all, from which they are called near-duplicates."""

MANY = 100
"""Classes from which on their scores take so long that progress is shown."""

Real = NDArray[np.float64]


@dataclass(frozen=True)
class Calibrated:
    """How reliable probabilities are with a temperature that is `kept` with the run, or was fitted on its
    validation images to be told of.
    """

    temperature: Temperature
    kept: bool
    after: Reliability


@dataclass(frozen=True)
class Labels:
    """Suspected labels, the likeliest first, and how they were found."""

    found: suspects.OutOfFold
    suspects: Sequence[suspects.Suspect]


@dataclass(frozen=True)
class Copies:
    """Near-duplicates: `pairs` are those that look alike among the `looked` pairs with the highest cosines, of
    `count` with a cosine of at least `threshold`. `seen` (m,) says which of the m measured images have one that
    was trained on; None where the run's training images are not looked at, or are those that are measured.
    """

    pairs: Sequence[duplicates.Pair]
    threshold: float
    count: int
    looked: int
    seen: NDArray[np.bool_] | None


@dataclass(frozen=True)
class Truth:
    """What is known of a run on the first split of `images`: m of n images, C classes.

    `probabilities` (m, C) are what predict gives, `now` is how reliable they are, and `before` how they were
    without a temperature. `labels` and `copies` are of all n images; None where they are not looked for. `notes`
    are sentences for a person.
    """

    run: Path
    data: str
    split: str
    images: Gathered
    metrics: Metrics
    probabilities: Real
    before: Reliability
    calibrated: Calibrated | None
    classes: Sequence[scores.ClassScores]
    confused: Sequence[scores.Confused]
    worst: NDArray[np.int64]
    labels: Labels | None
    copies: Copies | None
    curves: Curves | None
    record: Record | None
    facts: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def measured(self) -> Split:
        """The m images that are measured."""
        return next(iter(self.images.splits.values()))

    @property
    def now(self) -> Reliability:
        """How reliable the probabilities are that predict gives."""
        kept = self.calibrated is not None and self.calibrated.kept
        return self.calibrated.after if kept and self.calibrated else self.before

    @property
    def answers(self) -> NDArray[np.int64]:
        """The likeliest class (m,) of each measured image."""
        found: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return found


def look(
    model: Model,
    run: Path,
    data: str,
    images: Gathered,
    on: Mapping[str, Any],
    near: float = NEAR,
    known: Sequence[str] = (),
) -> Truth:
    """Look at a run. `on` has device, batch_size, precision and workers; `known` are notes on the images.

    Raises:
        DataError, DivergedError: images that cannot be read, answers that are not finite.
    """
    images = images.seen_with(model.preprocessing.pixel_range)
    name, split = next(iter(images.splits.items()))
    notes = [*known, *images.notes]
    with _progress(f"answers of {name}", len(split)) as done:
        logits = measure.answers(model.tuned, split, model.preprocessing, done=done, **on)
    plain = scores.checked(softmax(logits.numpy()), split.labels)
    probabilities = softmax(logits.numpy(), model.divisor)
    temperature, told = (model.temperature, []) if model.temperature else _offered(model, images, name, on)
    notes += told
    features = _features(model, run, images, on, notes)
    return Truth(
        run=run,
        data=data,
        split=name,
        images=images,
        metrics=_metrics(logits / model.divisor, split.labels),
        probabilities=probabilities,
        before=reliability(plain, split.labels),
        calibrated=None if temperature is None else _calibrated(model, temperature, logits, split.labels),
        classes=_by_class(probabilities, split.labels, images.names),
        confused=scores.confused(probabilities.argmax(axis=1), split.labels, len(images.names)),
        worst=scores.worst(probabilities, split.labels),
        labels=None if features is None else _labels(features, images),
        copies=None if features is None else _copies(features, images, near),
        curves=curves(run),
        record=store.find(run / store.FILE),
        facts={"backbone": model.backbone.name},
        notes=tuple(dict.fromkeys(notes)),
    )


def _calibrated(
    model: Model, temperature: Temperature, logits: torch.Tensor, labels: NDArray[np.int64]
) -> Calibrated:
    after = reliability(softmax(logits.numpy(), temperature.value), labels)
    return Calibrated(temperature, model.temperature is not None, after)


def _by_class(
    probabilities: Real, labels: NDArray[np.int64], names: Sequence[str]
) -> Sequence[scores.ClassScores]:
    if len(names) < MANY:
        return scores.by_class(probabilities, labels, names)
    with _progress("scores by class", len(names), "classes") as done:
        return scores.by_class(probabilities, labels, names, done)


def _offered(
    model: Model, images: Gathered, measured: str, on: Mapping[str, Any]
) -> tuple[Temperature | None, list[str]]:
    """The temperature that the run's validation images would give it, or why there is none."""
    split = images.splits.get(VAL)
    if split is None:
        return None, ["The run has no validation images here: no temperature is fitted."]
    if measured == VAL:
        return None, [
            "The validation images are measured themselves: no temperature is fitted, which would flatter."
        ]
    try:
        return temperature_of(model, split, VAL, dict(on)), []
    except DataError as error:
        return None, [f"No temperature is fitted. {error}"]


def _metrics(logits: torch.Tensor, labels: NDArray[np.int64]) -> Metrics:
    tally = Tally(logits.shape[1], torch.device("cpu"))
    tally.add(logits, torch.tensor(labels))
    return tally.metrics()


def _features(
    model: Model, run: Path, images: Gathered, on: Mapping[str, Any], notes: list[str]
) -> NDArray[np.float32] | None:
    """Pooled vectors (n, D) of the frozen backbone, computed as the run's own were if it says how."""
    own = _training(run)
    wish = replace(own.caching(), where="auto", views=0) if own else Caching("auto", 10 * 2**30)
    sources = {name: split.images for name, split in images.splits.items()}
    here = Placement(place(on["device"]).device)
    try:
        found = pooled(model.backbone, sources, model.preprocessing, wish, here, on["workers"])
    except VitgraftError as error:
        notes.append(f"Labels and near-duplicates are not looked for: there are no features. {error}")
        return None
    return np.concatenate(list(found.values()))


def _labels(features: NDArray[np.float32], images: Gathered) -> Labels | None:
    with _progress("folds of a regression", suspects.FOLDS, "folds") as done:
        found = suspects.out_of_fold(features, images.labels, len(images.names), done=lambda: done(1))
    return None if found is None else Labels(found, suspects.suspects(found, images.labels))


def _copies(features: NDArray[np.float32], images: Gathered, threshold: float) -> Copies:
    with _progress("pictures compared", len(features)) as done:
        near = duplicates.near(duplicates.directions(features), threshold, done=done)
    wanted = len({number for pair in near.pairs for number in (pair.first, pair.second)})
    with _progress("pictures looked at", wanted) as done:

        @cache
        def shades(number: int) -> NDArray[np.float32] | None:
            done(1)
            _, split, inner = images.place(number)
            try:
                return duplicates.grey(split.images[inner])
            except DataError:
                return None

        pairs = duplicates.confirmed(near.pairs, shades)
    names, groups = list(images.splits), images.groups
    seen = None
    if "train" in names[1:]:
        seen = duplicates.beside(pairs, groups)[groups == 0, names.index("train")]
    return Copies(pairs, threshold, near.count, len(near.pairs), seen)


def _training(run: Path) -> Training | None:
    """How a run was computed, if it says so and this version still knows it."""
    if not (run / KEPT).is_file():
        return None
    try:
        return RunConfig.of(read_toml(run / KEPT)).training
    except VitgraftError:
        return None


@contextmanager
def _progress(title: str, total: int, unit: str = "images") -> Iterator[Callable[[int], None]]:
    """A bar, or a line at the end, for work that takes its time; gives what tells of more done."""
    display = Display(0, 0)
    try:
        with display.work(title, total, unit) as advance:
            yield advance
    finally:
        display.close()
