"""What happens when a command fails: a sentence for the user's mistakes, a traceback for ours."""

import errno
from typing import Any

import typer
from typer.core import TyperGroup

from vitgraft.errors import VitgraftError

MISTAKE = 2
"""The exit code of a user's mistake, as of a wrong option."""

INTERRUPTED = 130
"""The exit code after Ctrl-C: 128 and the number of the signal, as shells count."""

OUTSIDE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EISDIR, errno.ENOTDIR}
"""What the file system refuses through no fault of the program."""


class Commands(TyperGroup):
    """The commands of `vitgraft`. A `VitgraftError` becomes its message on stderr; bugs keep their traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except VitgraftError as error:
            raise failed(str(error)) from None
        except OSError as error:
            if error.errno not in OUTSIDE:
                raise
            raise failed(f"{error.strerror}: '{error.filename}'. Check permissions and free space.") from None
        except KeyboardInterrupt:
            note("Stopped.")
            raise typer.Exit(INTERRUPTED) from None


def failed(message: str) -> typer.Exit:
    """Print an error on stderr; returns what to raise."""
    typer.secho("Error: ", fg=typer.colors.RED, bold=True, nl=False, err=True)
    typer.echo(message, err=True)
    return typer.Exit(MISTAKE)


def note(message: str) -> None:
    """Print a line that is no result, on stderr, so that results can be piped."""
    typer.echo(message, err=True)
