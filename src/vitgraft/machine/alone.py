"""Work in a fresh process of its own, whose peak of memory is then its own, too."""

import multiprocessing
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from vitgraft.errors import VitgraftError

T = TypeVar("T")

PRELOADED = ["torch", "timm", "torchvision", "sklearn.datasets", "vitgraft.runs.run"]
"""What processes have loaded before they begin: they are forked from one that did this and computed nothing."""


def alone(work: Callable[..., T], *given: Any) -> T:
    """What `work(*given)` returns in a process of its own, with as many threads as this one has.

    All of it must be what pickle can send. Ctrl-C ends that process, too.

    Raises:
        VitgraftError: what `work` raised, or that its process was killed, as for want of memory.
        RuntimeError: a bug, whose traceback that process has printed.
    """
    import torch

    kinds = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if "forkserver" in kinds else "spawn")
    if "forkserver" in kinds:
        context.set_forkserver_preload(PRELOADED)
    receiving, sending = context.Pipe(duplex=False)
    with receiving:
        with sending:
            process = context.Process(target=_work, args=(sending, torch.get_num_threads(), work, given))
            process.start()
        found: tuple[T, VitgraftError | None] | None = None
        try:
            with suppress(EOFError):
                found = receiving.recv()
        except BaseException:
            process.terminate()
            raise
        finally:
            process.join()
    if found is None and process.exitcode > 0:
        raise RuntimeError(f"{work.__name__} failed in a process of its own, as its traceback above says")
    if found is None:
        raise VitgraftError(
            f"A measurement's process was killed (exit code {process.exitcode}), perhaps for want of memory. "
            "Use a smaller batch, or a machine with more memory."
        )
    value, error = found
    if error is not None:
        raise error
    return value


def _work(sending: Connection, threads: int, work: Callable[..., Any], given: tuple[Any, ...]) -> None:
    """What the process does. A mistake of the user's is sent; a bug prints its traceback here."""
    import torch

    torch.set_num_threads(threads)
    with sending, suppress(KeyboardInterrupt):
        try:
            sending.send((work(*given), None))
        except VitgraftError as error:
            sending.send((None, error))
