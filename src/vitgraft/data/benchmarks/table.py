"""What is known of a benchmark's task, as data: names, sizes, where copies keep it, what is easily got wrong."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

from vitgraft.errors import DataError

Part = Literal["train", "val", "test", "trainval"]
PARTS: tuple[Part, ...] = ("train", "val", "trainval", "test")
"""Splits of a task. "trainval" is train and val together, for a last training when everything is chosen."""


def plain(text: str) -> str:
    """A spelling without case and punctuation."""
    return re.sub(r"[^a-z0-9]+", "", text.lower())


class Slice(NamedTuple):
    """Records `start` to `stop` of a TFDS split; None is its end."""

    split: str
    start: int = 0
    stop: int | None = None

    def __str__(self) -> str:
        return f"{self.split}[{self.start}:{'' if self.stop is None else self.stop}]"


@dataclass(frozen=True)
class Export:
    """Where TensorFlow Datasets keeps a task: data set, perhaps a config of it, and slices of its splits.

    `version` is the one VPT used. `label` is a feature, whose value is divided by `divisor` and rounded down, or
    one of the rules of `export.RULES`. Pixels are multiplied by `gain`.
    """

    dataset: str
    version: str
    train: Slice
    val: Slice
    test: Slice
    config: str = ""
    label: str = "label"
    divisor: float = 1
    gain: int = 1

    def slices(self) -> dict[Part, Slice]:
        return {"train": self.train, "val": self.val, "test": self.test}

    @property
    def spec(self) -> str:
        """What `tfds.builder` takes."""
        return "/".join(filter(None, (self.dataset, self.config))) + f":{self.version}"


@dataclass(frozen=True)
class TaskRow:
    """A task of a benchmark.

    `key` is its one name here; `folder` is what the usual copy calls it, `aliases` what others do, in any spelling
    that differs by case and punctuation alone. `counts` are images of train, val and test. `pixels` is the size of
    the originals (H, W) where all have the same. `occurring` is the number of classes that are known to occur in
    a split of the official copy. `images` is the folder below the task's that a list's paths are relative to.
    `notes` are sentences on what is easily got wrong.
    """

    benchmark: str
    key: str
    folder: str
    classes: int
    counts: Mapping[Part, int]
    group: str | None = None
    aliases: tuple[str, ...] = ()
    pixels: tuple[int, int] | None = None
    occurring: Mapping[Part, int] = field(default_factory=dict)
    images: str = ""
    notes: tuple[str, ...] = ()
    export: Export | None = None

    @property
    def name(self) -> str:
        """How a user names the task, and what the `Task` is called."""
        return f"{self.benchmark}:{self.key}"

    def expected(self, part: Part) -> int:
        """Images of a split."""
        if part == "trainval":
            return self.counts["train"] + self.counts["val"]
        return self.counts[part]


@dataclass(frozen=True)
class Benchmark:
    """A named set of tasks. `lists` are the names of the files that list a split; `sources` say where copies come
    from, a sentence each; `advice` is on running it."""

    name: str
    title: str
    rows: tuple[TaskRow, ...]
    lists: Mapping[Part, str]
    sources: tuple[str, ...]
    advice: tuple[str, ...] = ()

    @cached_property
    def by_spelling(self) -> dict[str, TaskRow]:
        """Rows by every plain spelling of their names."""
        return {plain(spelling): row for row in self.rows for spelling in (row.key, row.folder, *row.aliases)}

    @property
    def joint(self) -> bool:
        """Whether lists also name train and val together, with labels 0 to C-1 (VTAB-1k); else ids are train's."""
        return "trainval" in self.lists


Kind = Literal["missing", "corrupt", "wrong"]


@dataclass(frozen=True)
class Problem:
    """What is not as it must be: a sentence, and what to fetch or do about it."""

    kind: Kind
    what: str
    fetch: str = ""


class Broken(DataError):
    """A file of a copy that cannot be used, as a problem: raised by readers, collected by `copy.look`."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.what)
        self.problem = problem
