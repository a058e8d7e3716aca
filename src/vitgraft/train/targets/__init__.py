"""What is learned: one class of several, any number of them, or numbers. One file a kind, as `Target` says."""

from collections.abc import Mapping
from typing import Any

from vitgraft.errors import ConfigError
from vitgraft.kinds import shown
from vitgraft.train.targets.base import Loss, Measured, Tally, Target
from vitgraft.train.targets.classes import OneClass
from vitgraft.train.targets.numbers import Numbers
from vitgraft.train.targets.several import SeveralClasses

__all__ = ["CLASSES", "Loss", "Measured", "Tally", "Target", "from_json", "target_of"]

KINDS: Mapping[str, type[Target]] = {one.kind: one for one in (OneClass, SeveralClasses, Numbers)}

CLASSES = OneClass()


def target_of(kind: str) -> Target:
    """The target of that kind of labels, before it has seen any."""
    return KINDS[kind]()


def from_json(values: object) -> Target:
    """The inverse of `Target.to_json`.

    Raises:
        ValueError, TypeError: no target, or one with values that cannot be.
        ConfigError: a value of a wrong kind.
    """
    if values is None:
        return CLASSES
    if not isinstance(values, Mapping) or not isinstance(values.get("kind"), str):
        raise TypeError("target is no table with a kind")
    found: dict[str, Any] = {key: value for key, value in values.items() if key != "kind"}
    if values["kind"] not in KINDS:
        raise ConfigError(f"target.kind={shown(values['kind'])} is not known. Known: {', '.join(KINDS)}.")
    return KINDS[values["kind"]].of(found)
