"""Every mistake a user can make, as an exception with one readable message.

A message says three things: what was asked, what was found, and what to do. The command line prints the
message alone; only a bug in vitgraft shows a traceback.
"""

import re
import shlex
from collections.abc import Iterable
from difflib import get_close_matches

SHOWN = 200
"""Characters of a name that a message repeats."""


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
    close = near(name, names, 1, 0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    short = name if len(name) <= SHOWN else f"{name[:SHOWN]}..."
    return f"There is no {kind} {short!r}.{hint} Known: {', '.join(names)}."


def near(name: str, known: Iterable[str], count: int, cutoff: float) -> list[str]:
    """The names that come nearest to one, whatever its case, dashes and underscores; the nearest first.

    `cutoff` is how alike they must be at least, from 0 to 1.
    """
    folded = {_folded(one): one for one in known}
    meant = _folded(name)
    close = [meant] if meant in folded else get_close_matches(meant, folded, n=count, cutoff=cutoff)
    return [folded[one] for one in close]


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]+", "-", str(name).strip()).lower()


def option(key: str, value: object = None) -> str:
    """How either kind of user makes a choice: `--cache ram (in Python, cache='ram')`."""
    words, named = f"--{key.replace('_', '-')}", key
    if value is not None:
        words, named = f"{words} {value}", f"{key}={value!r}"
    return f"{words} (in Python, {named})"


def command(*words: object) -> str:
    """A command of `vitgraft` as one types it: `command("eval", folder)`, with quotes where a shell needs them."""
    return shlex.join(["vitgraft", *map(str, words)])
