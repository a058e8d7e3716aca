"""Kinds of labels: one class of several, any number of them, or numbers; how each is an array, a text, a group.

A kind knows nothing of models: what is trained for it and how it is measured is `train.targets`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vitgraft.errors import ConfigError, DataError
from vitgraft.kinds import shown

if TYPE_CHECKING:
    from vitgraft.data.task import Split

Labels = NDArray[Any]

MARK = "|"
"""Stands between the labels of a picture that has several, where they are written into one cell."""


class Labelling(ABC):
    """What the labels of a task are.

    `label` is what a list says of one picture, understood; rows of `Labels` (n, ...) are what a model learns.
    `fewest` is how many names a task needs. `cut_by` says how splits are cut, `many` what the names are of.
    """

    name: ClassVar[str]
    fewest: ClassVar[int] = 2
    cut_by: ClassVar[str]
    told: ClassVar[str]
    expected: ClassVar[str]

    def array(self, labels: object) -> Labels:
        """Labels (n, ...) on the CPU, in the type of this kind. Raises DataError for what is none of it."""
        try:
            on_cpu: Any = labels
            found = np.asarray(on_cpu.detach().cpu() if hasattr(labels, "detach") else labels)
            made = self._made(found)
        except (TypeError, ValueError, RuntimeError):
            made = None
        if made is None:
            raise DataError(f"labels={shown(labels)}: expected {self.expected}.")
        return made

    @abstractmethod
    def _made(self, found: NDArray[Any]) -> Labels | None:
        """An array as one of this kind, None if it is none."""

    @abstractmethod
    def of(self, labels: Sequence[Any], outputs: int) -> Labels:
        """The array of some pictures' labels, where there are `outputs` names."""

    @abstractmethod
    def label(self, row: Any) -> Any:
        """The label of one row, which `text` makes words of."""

    @abstractmethod
    def text(self, label: Any, names: Sequence[str]) -> str:
        """A label in words: names in alphabetical order, or numbers."""

    def used(self, texts: Iterable[str], names: Sequence[str]) -> tuple[str, ...]:
        """Those of some names that occur in labels' texts."""
        known = {part for text in texts for part in self.parts(text)}
        return tuple(name for name in names if name in known)

    def parts(self, text: str) -> list[str]:
        """The names in a label's text."""
        return [text]

    @abstractmethod
    def wrong(self, labels: Labels, outputs: int) -> NDArray[np.bool_]:
        """Which pictures (n,) have a label that a model with so many outputs cannot learn."""

    @abstractmethod
    def strata(self, labels: Labels) -> NDArray[np.int64]:
        """A group (n,) for each picture; every group gives its share to each split that is cut."""


class OneClass(Labelling):
    """One class a picture: (n,) int64 over 0..C-1."""

    name = "class"
    cut_by = "class by class"
    told = "one class a picture"
    expected = "one whole number an image, counted from 0"

    def _made(self, found: NDArray[Any]) -> Labels | None:
        if found.ndim == 1 and (found.dtype.kind in "iu" or len(found) == 0):
            return found.astype(np.int64, copy=False)
        return None

    def of(self, labels: Sequence[Any], outputs: int) -> Labels:
        return np.array(labels, dtype=np.int64)

    def label(self, row: Any) -> int:
        return int(row)

    def text(self, label: Any, names: Sequence[str]) -> str:
        return str(names[label])

    def wrong(self, labels: Labels, outputs: int) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = (labels < 0) | (labels >= outputs)
        return found

    def strata(self, labels: Labels) -> NDArray[np.int64]:
        found: NDArray[np.int64] = labels
        return found


class SeveralClasses(Labelling):
    """Any number of classes a picture, none too: (n, C) bool. A label is the indices of those that it has."""

    name = "multi"
    cut_by = "each picture by the rarest of its labels"
    told = "several labels a picture, or none"
    expected = "a row an image with a column of 0 and 1 for each label"

    def _made(self, found: NDArray[Any]) -> Labels | None:
        if found.ndim != 2 or not ((found == 0) | (found == 1)).all():
            return None
        return found.astype(np.bool_, copy=False)

    def of(self, labels: Sequence[Any], outputs: int) -> Labels:
        rows = np.zeros((len(labels), outputs), np.bool_)
        for row, own in zip(rows, labels, strict=True):
            row[list(own)] = True
        return rows

    def label(self, row: Any) -> tuple[int, ...]:
        return tuple(np.flatnonzero(row).tolist())

    def text(self, label: Any, names: Sequence[str]) -> str:
        return MARK.join(sorted(names[index] for index in label))

    def parts(self, text: str) -> list[str]:
        return text.split(MARK) if text else []

    def wrong(self, labels: Labels, outputs: int) -> NDArray[np.bool_]:
        return np.full(len(labels), labels.shape[1] != outputs)

    def strata(self, labels: Labels) -> NDArray[np.int64]:
        counts = labels.sum(axis=0)
        rarest = np.where(labels, counts, len(labels) + 1).argmin(axis=1)
        found: NDArray[np.int64] = np.where(labels.any(axis=1), rarest, labels.shape[1]).astype(np.int64)
        return found


class Numbers(Labelling):
    """One or several numbers a picture, in the units in which they are given: (n, K) float64."""

    name = "number"
    fewest = 1
    cut_by = "by chance"
    told = "numbers"
    expected = "a row of finite numbers an image (one number an image will do)"

    def _made(self, found: NDArray[Any]) -> Labels | None:
        if found.ndim not in (1, 2) or found.dtype.kind not in "iuf" or not np.isfinite(found).all():
            return None
        return found.reshape(len(found), -1).astype(np.float64, copy=False)

    def of(self, labels: Sequence[Any], outputs: int) -> Labels:
        return np.array(labels, np.float64).reshape(len(labels), outputs)

    def label(self, row: Any) -> tuple[float, ...]:
        return tuple(row.tolist())

    def text(self, label: Any, names: Sequence[str]) -> str:
        named = [f"{name}={value!r}" for name, value in zip(names, label, strict=True)]
        return MARK.join(named) if len(named) > 1 else repr(label[0])

    def parts(self, text: str) -> list[str]:
        return text.split(MARK)

    def used(self, texts: Iterable[str], names: Sequence[str]) -> tuple[str, ...]:
        return tuple(names)

    def wrong(self, labels: Labels, outputs: int) -> NDArray[np.bool_]:
        return np.full(len(labels), labels.shape[1] != outputs)

    def strata(self, labels: Labels) -> NDArray[np.int64]:
        return np.zeros(len(labels), np.int64)


CLASS, MULTI, NUMBER = OneClass(), SeveralClasses(), Numbers()

KINDS: Mapping[str, Labelling] = {one.name: one for one in (CLASS, MULTI, NUMBER)}


def labelling(kind: str) -> Labelling:
    """The kind of that name. Raises ConfigError."""
    if not isinstance(kind, str) or kind not in KINDS:
        raise ConfigError(f"kind={shown(kind)} is no kind of labels. Known: {', '.join(KINDS)}.")
    return KINDS[kind]


def check_kind(learned: str, split: "Split | None") -> None:
    """Raise DataError if labels are of another kind than a model learns."""
    if split is not None and split.kind != learned:
        raise DataError(
            f"The model is for labels of the kind {learned} ({KINDS[learned].told}), and these are {split.kind} "
            f"({KINDS[split.kind].told}). Build it with kind={split.kind!r}, or give labels that it knows."
        )


def need_classes(kind: str, what: str) -> None:
    """Raise ConfigError where something is for one class a picture alone, and labels are of another kind."""
    if kind != CLASS.name:
        raise ConfigError(
            f"{what} is for models of one class a picture, and the labels of this one are {KINDS[kind].told} "
            f"({kind}). What it reaches: vitgraft eval; its answers: vitgraft predict."
        )
