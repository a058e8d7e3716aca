"""What happens when a command fails: a sentence for the user's mistakes, a traceback for ours."""

import errno
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from inspect import cleandoc
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from vitgraft.errors import ArtefactError, Told, VitgraftError, command

MISTAKE = 2
"""The exit code of a user's mistake, as of a wrong option."""

INTERRUPTED = 130
"""The exit code after Ctrl-C: 128 and the number of the signal, as shells count."""

NO_READER = 141
"""The exit code when nobody reads standard output any more, as of `| head`: 128 and the number of SIGPIPE."""

FULL = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT}
LOCK, HIDDEN = ".lock", ".locks"
"""Names of files and folders that libraries keep for themselves."""

OUTSIDE = {*FULL, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOENT}
"""What the file system refuses through no fault of the program."""


class Commands(TyperGroup):
    """The commands of `vitgraft`. A `VitgraftError` becomes its message on stderr; bugs keep their traceback.

    Help is as wide as the terminal: lines of a paragraph are one line, but for indented ones.
    """

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        for one in self.commands.values():
            one.help = "\n\n".join(map(_joined, cleandoc(one.help or "").split("\n\n")))

    def invoke(self, ctx: Any) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _shown
                return super().invoke(ctx)
        except VitgraftError as error:
            raise failed(str(error)) from None
        except BrokenPipeError:
            _leave_standard_output()
            raise typer.Exit(NO_READER) from None
        except OSError as error:
            if error.errno not in OUTSIDE:
                raise
            raise failed(told_of(error)) from None
        except KeyboardInterrupt:
            note("Stopped.")
            raise typer.Exit(INTERRUPTED) from None


def _leave_standard_output() -> None:
    """Send what is still to be flushed nowhere, so that the interpreter ends without a complaint."""
    with suppress(OSError, ValueError):  # a stream of a test has no descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _shown(message: Warning | str, *details: Any, **more: Any) -> None:
    """What was chosen or left out is a line of the first process; other warnings are what they always are."""
    if not isinstance(message, Told):
        typer.echo(warnings.formatwarning(message, *details[:3]), err=True, nl=False)
    elif os.environ.get("RANK", "0") == "0":
        note(f"Note: {message}")


def told_of(error: OSError) -> str:
    """What the file system refuses, of a path that a person knows: no lock or temporary file of a library."""
    check = "permissions and free space" if error.errno in FULL else "the path"
    name = error.filename if isinstance(error.filename, str) else os.fsdecode(error.filename or "")
    path = Path(name)
    while path.name.startswith(".") or path.suffix == LOCK or HIDDEN in path.parts:
        path = path.parent
    where = f": '{name}'" if path == Path(name) else f": the folder '{path}'"
    return f"{error.strerror}{where if name else ''}. Check {check}."


def _joined(paragraph: str) -> str:
    lines = paragraph.splitlines()
    return paragraph if any(line.startswith(" ") for line in lines) else " ".join(lines)


def failed(message: str) -> typer.Exit:
    """Print an error on stderr; returns what to raise."""
    typer.secho("Error: ", fg=typer.colors.RED, bold=True, nl=False, err=True)
    typer.echo(message, err=True)
    return typer.Exit(MISTAKE)


def check_free(path: Path, replace: bool, option: str = "--force") -> None:
    """Raise ArtefactError if a file that is to be written is there and not to be replaced, or is a folder.

    `option` is what the command calls the wish to replace it.
    """
    if path.is_dir():
        raise ArtefactError(f"'{path}' is a folder. Name another file.")
    if path.exists() and not replace:
        raise ArtefactError(f"'{path}' is there already. Name another file, or replace it with {option}.")


@contextmanager
def going_on(folder: Path) -> Iterator[None]:
    """Around work that keeps a run in a folder: a stop says how to go on, if there is anything to go on with."""
    from vitgraft.results.store import kept_in

    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stopped:
        begun = kept_in(folder) is not None
        note(f"To go on: {command('fit', '--resume', '--out', folder)}" if begun else "Stopped.")
        raise SystemExit(stopped.code if isinstance(stopped, SystemExit) else INTERRUPTED) from None


def note(message: str) -> None:
    """Print a line that is no result, on stderr, so that results can be piped."""
    typer.echo(message, err=True)
