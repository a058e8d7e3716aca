"""Processes of a sweep: what kills one stops no other, and who stops the sweep stops them all."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import dying
from vitgraft.bench.cell import Job
from vitgraft.bench.processes import STOPPED, Crew
from vitgraft.bench.runner import Outcome
from vitgraft.runs.config import RunConfig


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(RunConfig.of({"data": "digits", "method": "linear", "out": str(tmp_path / "run")}), True)


def crew(does: Callable[..., None]) -> Crew:
    """Without a server that loads what runs need."""
    made = Crew(1, does)
    made.context = multiprocessing.get_context("spawn")
    return made


def test_killed__is_tried_again(job: Job) -> None:
    assert crew(dying.once).do(job) == Outcome(1.0)


def test_killed__twice_is_a_failure_that_others_do_not_share(job: Job) -> None:
    some = crew(dying.always)
    found = some.do(job._replace(others=(job.config,)))
    assert str(found.failed).startswith("its process was killed (exit code -9), perhaps for want of memory")
    assert [one.failed for one in found.others] == [found.failed]
    some.does = dying.once
    assert some.do(job) == Outcome(1.0)


def test_sigterm__ends_what_runs_and_lets_nothing_begin(job: Job) -> None:
    """`kill` of a sweep reaches the one process alone; its runs would go on for hours, unseen."""
    some, before = crew(dying.never), signal.getsignal(signal.SIGTERM)

    def kill() -> None:
        while not job.config.folder.exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    with ThreadPoolExecutor(1) as pool:
        running, waiting = pool.submit(some.do, job), pool.submit(some.do, job)
        threading.Thread(target=kill).start()
        with pytest.raises(KeyboardInterrupt), some.ended_together():
            running.result()
        assert running.result(30) == waiting.result(30) == STOPPED
    assert signal.getsignal(signal.SIGTERM) is before
