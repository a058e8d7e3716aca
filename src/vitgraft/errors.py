"""Every mistake a user can make, as an exception with one readable message.

A message says three things: what was asked, what was found, and what to do. The command line prints the
message alone; only a bug in vitgraft shows a traceback.
"""

import shlex
from collections.abc import Iterable
from difflib import get_close_matches


class VitgraftError(Exception):
    """A mistake in the input, told in a sentence. Base of all others here."""


class Told(UserWarning):
    """Something that was chosen or left out, and is no mistake. The command line prints it as a line."""


class ConfigError(VitgraftError):
    """A method, option or configuration key that does not exist or has a wrong value."""


class DataError(VitgraftError):
    """Images or labels that cannot be used as they are."""


class TaskError(DataError):
    """A task whose data cannot be used, by whatever method."""


class BackboneError(VitgraftError):
    """A backbone without a view, or one whose walk is not the library's own forward pass."""


class CheckpointError(VitgraftError):
    """A weight file that is missing, unreadable, or does not fit the model."""


class ArtefactError(VitgraftError):
    """A saved graft that is incomplete or belongs to another backbone."""


class NotFoldable(VitgraftError):
    """An edit that no plain weight can express, so the model cannot be merged."""


class TrainingError(VitgraftError):
    """Training that cannot start or must not go on."""


class DivergedError(TrainingError):
    """Training whose loss is no longer finite."""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for a name that does not exist: `no method 'lroa'; did you mean 'lora'? Known: ...`."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"There is no {kind} {name!r}.{hint} Known: {', '.join(names)}."


def command(*words: object) -> str:
    """A command of `vitgraft` as one types it: `command("eval", folder)`, with quotes where a shell needs them."""
    return shlex.join(["vitgraft", *map(str, words)])
