"""Several backbones on one command line: `figures`, `dinov2-s:checkpoint=FILE,image_size=112`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from vitgraft.errors import ConfigError, unknown

FIELDS = ("checkpoint", "image_size")

Backbones = Annotated[
    list[str] | None,
    typer.Option(
        "--backbone",
        help="A timm name, a short one, or figures; perhaps NAME:checkpoint=FILE,image_size=112. Several stand "
        "side by side.",
        metavar="NAME[:...]",
    ),
]


@dataclass(frozen=True)
class Named:
    """A backbone as a command line names it, and what a figure calls it."""

    name: str
    checkpoint: str | None = None
    image_size: str | None = None
    title: str = ""

    def keys(self) -> dict[str, str]:
        """Keys of a run that mean this backbone."""
        given = {"backbone": self.name, "checkpoint": self.checkpoint, "image_size": self.image_size}
        return {key: value for key, value in given.items() if value is not None}


def parsed(specs: Sequence[str]) -> list[Named]:
    """Backbones with titles that tell them apart. Raises ConfigError."""
    found = [_parsed(spec) for spec in specs]
    titled = []
    for one in found:
        alike = [other for other in found if other.name == one.name]
        told = [Path(one.checkpoint).stem] if one.checkpoint and len(alike) > 1 else []
        told += [f"{one.image_size} px"] if one.image_size and len(alike) > 1 else []
        titled.append(Named(one.name, one.checkpoint, one.image_size, ", ".join([one.name, *told])))
    if len(set(titled)) < len(titled):
        raise ConfigError("A backbone is named twice (--backbone). Name each once.")
    return titled


def _parsed(spec: str) -> Named:
    name, colon, rest = spec.rpartition(":")
    if not colon or "=" not in rest:  # a hub's names have a colon, too
        return Named(spec)
    given: dict[str, str] = {}
    for part in rest.split(","):
        key, equals, value = part.partition("=")
        if not equals or not value:
            raise ConfigError(f"{spec!r}: {part!r} has no value. Write NAME:checkpoint=FILE,image_size=112.")
        if key.strip() not in FIELDS:
            raise ConfigError(unknown("field of a backbone", key.strip(), FIELDS))
        given[key.strip()] = value.strip()
    return Named(name, **given)
