"""A folder of runs and grafts: what it holds, who writes into it, and how one run takes another's place.

A run that is to replace what is there is kept in `.next/` until it is finished, with all that it needs to go on.
Then it is moved, in an order in which a kill leaves nothing mixed: whoever comes next (`complete`) ends the move.
"""

import errno
import os
import shutil
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from vitgraft import methods
from vitgraft.atomic import remove
from vitgraft.data import kept
from vitgraft.errors import ArtefactError, ConfigError, Told
from vitgraft.models import artefact
from vitgraft.results import store
from vitgraft.train import calibrate, journal, state

LOCK = ".lock"
"""Held by the process that is writing a run into the folder; the system lets go of it however that ends."""

START = "start"
"""Where a run keeps the values that it began with, until it is finished."""

TO_GO_ON = (state.FILE, calibrate.STAGES, START)
"""What a run that is finished needs no more."""

NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}


def holds(folder: Path) -> str | None:
    """What a folder holds that is not to be lost, in words."""
    if (folder / store.FILE).exists():
        return "a finished run"
    if (folder / store.SEARCH / store.KEPT).exists():
        return "a search (--method auto) that was stopped"
    if any((folder / name).exists() for name in (state.FILE, calibrate.STAGES)):
        return "a run that was stopped"
    return "a saved graft" if (folder / artefact.CARD).exists() else None


def is_run(folder: Path) -> bool:
    """True if the command line keeps a run in the folder, whatever has become of it."""
    return any((folder / name).exists() for name in (store.KEPT, store.FILE, store.NEXT, store.SEARCH))


def own_files() -> tuple[str, ...]:
    """Names of all that a run may leave in its folder, beside its graft."""
    left = [name for one in methods.names() for name in methods.method_named(one).leaves]
    plain = (store.FILE, store.KEPT, store.SEARCH, journal.LOG, kept.FILE, *TO_GO_ON)
    return (*plain, *dict.fromkeys(left))


def is_moving(folder: Path) -> bool:
    """True if a run that is to replace another is finished, and not all of it was moved."""
    new = folder / store.NEXT
    return new.exists() and ((new / store.FILE).exists() or not (new / store.KEPT).exists())


def check_unused(folder: Path) -> None:
    """Raise ConfigError if another process is writing a run into a folder."""
    if (folder / LOCK).exists() and not is_ours(folder):
        with held(folder):  # it is what a kill has left
            return


def run_files(folder: Path) -> list[Path]:
    """What tells of a run in a folder: its record first, then its configuration, log, images, state."""
    return [folder / name for name in (*own_files(), store.NEXT)]


def check_free_to_save(folder: Path, overwrite: bool) -> None:
    """Raise ArtefactError if a graft that is saved in a folder would lie beside the record of another one."""
    if is_run(folder) and not overwrite:
        what = holds(folder) or "a run that was begun"
        raise ArtefactError(
            f"{folder} holds {what} of `vitgraft fit`, and its record would be of another graft than this one. "
            "Save it in another folder, or in the place of the run and all that tells of it: overwrite=True."
        )


def check_free_to_fit(folder: Path, resume: bool) -> None:
    """Raise ConfigError if a training in a folder would cost something that is not finished, or mix two runs."""
    if is_ours(folder):
        return
    if (folder / store.FILE).exists() or (is_run(folder) and not resume):
        what = holds(folder) or "a run that was begun"
        raise ConfigError(
            f"{folder} holds {what} of `vitgraft fit`. Train in another folder (out=...)"
            + ("." if what == "a finished run" else ", or go on with it (resume=True).")
        )
    reached = None if resume else state.unfinished(folder)
    if reached is not None:
        raise ConfigError(
            f"{folder} holds a training that was stopped after {reached}. Go on with it (resume=True), train in "
            f"another folder (out=...), or remove {state.FILE} there to begin anew."
        )


def check_free_to_look(folder: Path, resume: bool) -> None:
    """Raise ConfigError if a method that looks at training data would cost an earlier look that has not ended."""
    if is_ours(folder):
        return
    if is_run(folder) and not resume:
        what = holds(folder) or "a run that was begun"
        raise ConfigError(f"{folder} holds {what} of `vitgraft fit`. Name another folder (out=...).")
    stages = folder / calibrate.STAGES
    if stages.exists() and not resume and not (stages / calibrate.FINDINGS).exists():
        raise ConfigError(
            f"{folder} holds stages of a method that was stopped while it looked at training data. Go on with "
            f"them (resume=True), name another folder (out=...), or remove {stages} to begin anew."
        )


def clear(folder: Path, keep: frozenset[str] = frozenset()) -> None:
    """Remove what a run has left beside its graft, but for the names in `keep`; the record first."""
    for name in own_files():
        if name not in keep:
            remove(folder / name)


def complete(folder: Path) -> None:
    """Put a run that is finished in `.next/` in the place of what the folder holds, if there is one.

    It may be called again after a kill at any moment. The old record goes first and the new one comes last, so
    that no record ever lies beside the graft of another run; the graft is replaced in one moment.
    """
    new = folder / store.NEXT
    if not (new / store.FILE).exists():
        if new.exists() and not (new / store.KEPT).exists():  # all but the last step of a move was done
            shutil.rmtree(new)
        return
    if (new / artefact.CARD).exists():  # nothing was moved yet
        clear(folder, frozenset(path.name for path in new.iterdir()) - {store.FILE})
    artefact.adopt(new, folder)
    for path in sorted(new.iterdir()):
        if path.name not in (store.FILE, LOCK, *TO_GO_ON):
            if path.is_dir():
                remove(folder / path.name)
            os.replace(path, folder / path.name)
    os.replace(new / store.FILE, folder / store.FILE)
    shutil.rmtree(new)


_OURS: list[tuple[int, Path]] = []
"""Threads of this process, and folders that they are writing runs into."""


def is_ours(folder: Path) -> bool:
    """True within `held`: what lies in the folder is of the run that is being written."""
    place, me = folder.resolve(), threading.get_ident()
    return (me, place) in _OURS or (place.name == store.NEXT and (me, place.parent) in _OURS)


@contextmanager
def held(folder: Path, main: bool = True, wait: bool = False) -> Iterator[None]:
    """Keep other processes from writing a run into `folder`, which is made. Whoever holds it may do so again.

    Of several processes that train together the `main` one holds it for all.

    Raises:
        ConfigError: another process holds it, and `wait` is not asked for; or the folder cannot be written to.
    """
    with nullcontext() if is_ours(folder) or not main else _locked(folder, wait):
        mine = (threading.get_ident(), folder.resolve())
        _OURS.append(mine)
        try:
            yield
        finally:
            _OURS.remove(mine)


@contextmanager
def _locked(folder: Path, wait: bool) -> Iterator[None]:
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(str(folder.resolve() / LOCK))
        _acquire(lock, folder, wait)
    except OSError as error:
        raise ConfigError(
            f"The folder {folder} cannot be written to ({error.strerror or error}). Check its permissions and the "
            "free space, or use another one (--out; in Python, out=)."
        ) from None
    try:
        yield
    finally:
        _leave_nothing(folder, missing)
        lock.release()


def _acquire(lock: FileLock, folder: Path, wait: bool) -> None:
    try:
        lock.acquire(blocking=wait)
    except Timeout:
        raise ConfigError(
            f"{folder} is in use: {_holder(folder)} is writing a run there. Wait until it has ended or stop it, "
            "or use another folder (--out; in Python, out=)."
        ) from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            raise
        told = f"{folder} lies on a file system without locks: see to it that no second run is written there."
        warnings.warn(Told(told), stacklevel=2)
        return
    with suppress(OSError):  # Windows lets nobody write into it
        (folder / LOCK).write_text(f"process {os.getpid()} on {socket.gethostname()}\n")


def _holder(folder: Path) -> str:
    """Who holds a folder's lock, as far as it says."""
    with suppress(OSError, UnicodeDecodeError):
        return (folder / LOCK).read_text().strip() or "another process"
    return "another process"


def _leave_nothing(folder: Path, missing: list[Path]) -> None:
    """Remove the lock while it is held, and folders that were made if nothing else has come into them."""
    with suppress(OSError):  # Windows removes it with its last holder, or never
        (folder / LOCK).unlink()
        for one in missing:
            one.rmdir()
