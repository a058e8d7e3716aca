"""What tests let a process do instead of a run."""

import os
import signal
import time
from multiprocessing.connection import Connection

from vitgraft.bench.cell import Job
from vitgraft.bench.runner import Outcome


def once(sending: Connection, job: Job, threads: int) -> None:
    """Is killed the first time."""
    folder = job.config.folder
    if not folder.exists():
        folder.mkdir(parents=True)
        os.kill(os.getpid(), signal.SIGKILL)
    sending.send(Outcome(1.0))


def always(sending: Connection, job: Job, threads: int) -> None:
    """Is killed each time, as for want of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def never(sending: Connection, job: Job, threads: int) -> None:
    """Takes longer than anyone waits, and says that it has begun."""
    job.config.folder.mkdir(parents=True, exist_ok=True)
    time.sleep(60)
