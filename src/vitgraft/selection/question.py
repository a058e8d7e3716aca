"""What a search is asked for: data, backbone, minutes, and keys that hold for every candidate."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from vitgraft.errors import ConfigError, option
from vitgraft.kinds import finite, shown
from vitgraft.runs.config import AUTO_METHOD, RunConfig, usual_folder
from vitgraft.runs.keys import NONE, to_toml

MINUTES = 10.0
"""The most that a search takes if nothing is said."""

STANDS_FOR = "linear"
"""The method of the configuration that stands for what all candidates have in common."""

ALONE = {"legacy_test": False}
"""Keys that no candidate has but with these values."""


@dataclass(frozen=True)
class Question:
    """`given` are keys of a run, with the data, but for method, minutes and places; `told` what a person is told.

    Raises:
        ConfigError: see `of`.
    """

    given: Mapping[str, Any]
    minutes: float
    out: str | None
    records: str | None
    told: tuple[str, ...] = ()

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """From keys of a run.

        Raises:
            ConfigError: an unknown key, a wrong value, or one that leaves nothing to choose on or from.
        """
        given = {key: value for key, value in values.items() if key != "method"}
        minutes, out, records = (given.pop(key, None) for key in ("minutes", "out", "records"))
        minutes = MINUTES if minutes is None else minutes
        if not finite(minutes) or not minutes > 0:
            raise ConfigError(f"minutes={shown(minutes)}: expected a number above 0.")
        if given.get("start_from") is not None:
            raise ConfigError(
                f"{option('method', AUTO_METHOD)} chooses a method, and a run that begins with another one's "
                "values (--from; in Python, start_from) has that one's. Leave one of the two out."
            )
        told = [
            f"{key.replace('_', '-')} is not used: candidates that are chosen among read no test images."
            for key, value in ALONE.items()
            if given.pop(key, value) != value
        ]
        asked = cls(given, float(minutes), out, records, tuple(told))
        if asked.common.retrains:
            raise ConfigError(
                f"{option('method', AUTO_METHOD)} chooses on validation images, and there are none where train "
                "and val are trained on together (trainval). Choose on train first (train_on = train); then train "
                "what was chosen on both."
            )
        return asked

    @property
    def common(self) -> RunConfig:
        """What all candidates have in common, as a run's configuration. Raises ConfigError."""
        found = RunConfig.of({**self.given, "method": STANDS_FOR})
        return replace(found, out=str(self.out or usual_folder(found.data, AUTO_METHOD, found.backbone)))

    @property
    def folder(self) -> Path:
        """Where the best run is kept."""
        return self.common.folder

    def toml(self) -> str:
        """The question as a file that `runs.config.read_toml` reads."""
        places = {key: getattr(self, key) for key in ("out", "records") if getattr(self, key) is not None}
        keys = {**self.given, "method": AUTO_METHOD, "minutes": self.minutes, **places}
        lines = (f"{key} = {to_toml(NONE if value is None else value)}" for key, value in keys.items())
        return "\n".join(lines) + "\n"
