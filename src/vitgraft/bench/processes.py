"""Running jobs in processes of this machine: each in one of its own, so that what one breaks is its own."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

from vitgraft.bench.cell import Job
from vitgraft.bench.runner import Outcome, Submit, work
from vitgraft.machine.alone import PRELOADED

TRIES = 2
"""So often a run is begun whose process is killed, as for want of memory; it goes on from its snapshot."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOPPED = Outcome(0.0, "stopped.")


@contextmanager
def local(workers: int) -> Iterator[Submit]:
    """Processes of this machine, so many at a time, which share its cores and its accelerator.

    After Ctrl-C or SIGTERM those that run save their state and end, and no other begins.
    """
    pool, crew = ThreadPoolExecutor(workers), Crew(max(1, (os.cpu_count() or 1) // workers), _work)
    with crew.ended_together():
        try:
            yield lambda job: pool.submit(crew.do, job)
        finally:
            crew.dismiss()
            pool.shutdown(cancel_futures=True)


class Crew:
    """The processes that are at work, for threads that each look after one.

    `does` is what a process does: it sends the outcome of a job, or is killed.
    """

    def __init__(self, threads: int, does: Callable[[Connection, Job, int], None]) -> None:
        self.threads, self.does = threads, does
        self.context: Any = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(PRELOADED)
        self._dismissed = False
        self._starting = threading.RLock()  # a second signal may come while the first holds it

    def do(self, job: Job) -> Outcome:
        """A job, in a process of its own. One that is killed is tried again, then it has failed."""
        code = 0
        for _ in range(TRIES):
            found, code = self._try(job)
            if found is not None:
                return found
        how = f"its process was killed (exit code {code}), perhaps for want of memory"
        lost = Outcome(0.0, f"{how}. Use fewer workers, or a smaller batch.")
        return replace(lost, others=(lost,) * len(job.others))

    def dismiss(self) -> None:
        """Let no other process begin."""
        with self._starting:
            self._dismissed = True

    @contextmanager
    def ended_together(self) -> Iterator[None]:
        """SIGTERM ends this process as Ctrl-C does. A terminal sends that to all, and this is passed on to all."""

        def stop(number: int, frame: FrameType | None) -> None:
            self.dismiss()
            if number == signal.SIGTERM:
                for process in multiprocessing.active_children():
                    process.terminate()
            raise KeyboardInterrupt

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {one: signal.signal(one, stop) for one in SIGNALS}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    def _try(self, job: Job) -> tuple[Outcome | None, int]:
        """How a job ended, or None and the exit code of its process, if that was killed."""
        receiving, sending = self.context.Pipe(duplex=False)
        with receiving:
            with sending, self._starting:
                if self._dismissed:
                    return STOPPED, 0
                process = self.context.Process(target=self.does, args=(sending, job, self.threads))
                process.start()
            found = None
            with suppress(EOFError):
                found = receiving.recv()
        process.join()
        return STOPPED if found is None and self._dismissed else found, process.exitcode


def _work(sending: Connection, job: Job, threads: int) -> None:
    """What a process does; one that is interrupted says nothing."""
    with sending, suppress(KeyboardInterrupt):
        sending.send(work(job.config, job.test, threads, job.others))
