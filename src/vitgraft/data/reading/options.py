"""How files become a task, as a user says it, and what one of them is."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Self

from vitgraft.data.labelling import KINDS
from vitgraft.data.pictures.ranges import AUTO, MAX_PIXELS, asked
from vitgraft.data.reading.split_names import FRACTION
from vitgraft.errors import ConfigError, unknown
from vitgraft.kinds import check_fields, whole


@dataclass(frozen=True)
class Reading:
    """How files become a task: the keywords of `load`, `load_folder` and `load_list`.

    `seed` and the fractions (in [0, 1), together below 1) cut the splits that were not given: see
    `split.missing_splits`; None is 0, and `FRACTION` of train. One that is given and has nothing to cut is told
    of. `check` decodes every image once up front; `skip_unreadable` then leaves out those that fail, and
    `Task.skipped` names them. `skip_missing` does the same with what a list names and is not there.

    `to_measure` reads images that a finished model is measured on. The classes are the model's, so those that
    occur are enough, named as they are written; no train is needed, and nothing is cut: images without splits of
    their own are one split, "all".

    `pixel_range` says which values are black and white in images of more than 8 bits: auto, dtype or LOW:HIGH, see
    `depth`. Images of more than `max_pixels` pixels are not read.

    `labels` says what a list's labels are: class, multi (several, or none), number, or auto, which finds out.

    Raises:
        ConfigError: a fraction or seed outside its range.
    """

    seed: int | None = None
    val_fraction: float | None = None
    test_fraction: float | None = None
    skip_unreadable: bool = False
    check: bool = True
    skip_missing: bool = False
    to_measure: bool = False
    pixel_range: str = AUTO
    max_pixels: int = MAX_PIXELS
    labels: str = AUTO

    def __post_init__(self) -> None:
        check_fields(self)
        whole("max_pixels", self.max_pixels, least=1)
        asked(self.pixel_range)
        if self.labels not in (AUTO, *KINDS):
            raise ConfigError(unknown("value of labels", self.labels, (AUTO, *KINDS)))
        if self.seed is not None:
            whole("seed", self.seed)
        val, test = self.fractions.values()
        if min(val, test) < 0 or val + test >= 1:
            given = f"val_fraction {val} and test_fraction {test}"
            raise ConfigError(f"{given} leave nothing to train on: each is at least 0, their sum below 1.")
        if self.skip_unreadable and not self.check:
            raise ConfigError("skip_unreadable needs check: unreadable images are found by decoding each once.")

    @classmethod
    def of(cls, options: Mapping[str, object]) -> Self:
        """From keywords.

        Raises:
            ConfigError: an unknown key or a value of the wrong type.
        """
        known = [item.name for item in fields(cls)]
        for key in options:
            if key not in known:
                raise ConfigError(unknown("reading option", key, known))
        return cls(**options)  # type: ignore[arg-type]

    @property
    def fractions(self) -> dict[str, float]:
        """The shares of train that become val and test, where they are cut."""
        given = {"val": self.val_fraction, "test": self.test_fraction}
        return {split: FRACTION if share is None else share for split, share in given.items()}


class Item(NamedTuple):
    """One labelled image: its path below the root, or an absolute one; its label as `labelling` has it."""

    path: str
    label: Any
