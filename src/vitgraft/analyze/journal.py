"""What a figure's command has measured so far, so that one that was stopped goes on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitgraft.atomic import json_of, named, write_atomically


class Journal:
    """Lines of JSON in a file: first the conditions of all measurements, then a key and a value each.

    A file of other conditions is begun anew. A last line that was cut off by a kill is left out.
    """

    def __init__(self, path: Path, same: Mapping[str, Any]) -> None:
        self.path = path
        self.found: dict[str, Any] = {}
        head = {"same": json.loads(json_of(same))}
        lines = _lines(path)
        if lines[:1] == [head]:
            self.found = {line["key"]: line["value"] for line in lines[1:]}
        self._kept = [head, *({"key": key, "value": value} for key, value in self.found.items())]

    def add(self, key: str, value: Any) -> Any:
        """Keep a measurement; returns it as it is read back."""
        if self._kept:
            write_atomically(self.path, "".join(json_of(line) + "\n" for line in self._kept).encode())
            self._kept = []
        with named(self.path), self.path.open("a") as file:
            file.write(json_of({"key": key, "value": value}) + "\n")
        self.found[key] = value
        return value

    def close(self) -> None:
        """All is measured and written: remove the file."""
        self.path.unlink(missing_ok=True)


def _lines(path: Path) -> list[Any]:
    found: list[Any] = []
    try:
        for line in path.read_text().splitlines():
            found.append(json.loads(line))
    except (OSError, ValueError):
        return found
    return found
