"""What a search has tried so far, on disk: a search that was stopped goes on with it."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from vitgraft.atomic import json_of, write_atomically
from vitgraft.errors import ConfigError
from vitgraft.results.record import RecordError, Tried, tried_from_json

FILE = "tried.json"


@dataclass
class Ledger:
    """`tried` by the names of the candidates' folders; `seconds` that were spent before this process."""

    folder: Path
    seconds: float = 0.0
    tried: dict[str, Tried] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What is in a search's folder; empty if there is nothing. Raises ConfigError if it is damaged."""
        path = folder / FILE
        if not path.exists():
            return cls(folder)
        try:
            values: Any = json.loads(path.read_bytes())
            tried = {str(name): tried_from_json(one) for name, one in values["tried"].items()}
            return cls(folder, float(values["seconds"]), tried)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecordError) as error:
            raise ConfigError(f"'{path}' is damaged ({error}). Begin the search anew: --force.") from None

    def done(self, name: str) -> bool:
        """True if a candidate was trained, or diverged: nothing of it is to be done again."""
        one = self.tried.get(name)
        return one is not None and one.seconds is not None

    def put(self, name: str, one: Tried) -> None:
        """Remember a candidate, as the last one."""
        self.tried.pop(name, None)
        self.tried[name] = one

    def save(self, seconds: float) -> None:
        """Write it, with the seconds that were spent in all."""
        values = {"seconds": seconds, "tried": {name: asdict(one) for name, one in self.tried.items()}}
        write_atomically(self.folder / FILE, (json_of(values, indent=1) + "\n").encode())

    def best(self) -> str | None:
        """The candidate with the best accuracy on validation, among equals the smaller loss."""
        scored = [name for name, one in self.tried.items() if one.val_top1 is not None]
        return max(scored, key=lambda name: _rank(self.tried[name]), default=None)

    def best_of(self, methods: set[str]) -> float:
        """The best accuracy on validation of some methods, by their names; below all if there is none."""
        found = (one for one in self.tried.values() if one.method.partition(":")[0] in methods)
        return max((one.val_top1 for one in found if one.val_top1 is not None), default=-1.0)


def _rank(one: Tried) -> tuple[float, float]:
    loss = one.val_loss
    return one.val_top1 or 0.0, -loss if loss is not None and loss == loss else float("-inf")
