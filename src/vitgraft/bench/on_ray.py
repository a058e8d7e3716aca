"""Running a suite on Ray: one task a run, here or on a cluster.

Nodes need vitgraft and the data at the same paths, and nothing else in common; relative paths are meant from the
folder of whoever asked. A run's record comes back as the task's result and lands in that one's store. Features are
cached once a node, where every cache lies.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from vitgraft.atomic import write_atomically
from vitgraft.bench.cell import Job
from vitgraft.bench.runner import Outcome, Submit, record_path, work
from vitgraft.errors import ConfigError
from vitgraft.results import store
from vitgraft.runs.config import RunConfig

RETRIES = 3
"""So often a run is tried again whose process or node was lost."""


PART = 0.25
"""Of an accelerator, where nothing is said: small runs leave most of one idle."""


@dataclass(frozen=True)
class Share:
    """What a run asks of its node: cores, and accelerators or a part of one.

    None: a part of one where there are any, or all runs of a node would take the same.
    """

    cpus: float = 1.0
    gpus: float | None = None

    def on(self, nodes: Sequence[Mapping[str, Any]]) -> "Share":
        """With the number of accelerators settled, for the nodes of a cluster."""
        if self.gpus is not None:
            return self
        there = any(node["Alive"] and node["Resources"].get("GPU", 0) > 0 for node in nodes)
        return replace(self, gpus=PART if there else 0.0)


@dataclass(frozen=True)
class Landed:
    """What comes back from a node: how a run ended, its record as a file, and what lies beside that.

    `others` are those that trained with it.
    """

    outcome: Outcome
    record: bytes | None
    beside: dict[str, bytes]
    others: tuple["Landed", ...] = ()


def remote(
    config: RunConfig, test: bool, threads: int, others: Sequence[RunConfig] = (), folder: str | None = None
) -> Landed:
    """One run on some node, and others that train with it at once; paths are relative to `folder`."""
    if folder is not None:
        os.makedirs(folder, exist_ok=True)
        os.chdir(folder)
    outcome = work(config, test, threads, others)
    landed = [_gathered(*one) for one in zip(others, outcome.others, strict=True)]
    return replace(_gathered(config, outcome), others=tuple(landed))


def _gathered(config: RunConfig, outcome: Outcome) -> Landed:
    """What a run that has ended left behind."""
    path = record_path(config)
    found = {
        file.name.removeprefix(f"{path.stem}."): file.read_bytes()
        for file in store.beside(path, "").parent.glob(f"{path.stem}.*")
    }
    return Landed(outcome, path.read_bytes() if path.exists() else None, found)


@contextmanager
def on_ray(address: str | None, share: Share) -> Iterator[Submit]:
    """Ray's processes: of a cluster at `address`, or of a Ray of this machine that is started for it.

    Raises:
        ConfigError: Ray is not installed, there is no cluster at the address, or none of its nodes has the share.
    """
    ray = _ray()
    before = ray.is_initialized()
    if not before:
        try:
            ray.init(
                address=address or "local", log_to_driver=False, include_dashboard=False, configure_logging=False
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConfigError(f"There is no Ray at {address!r} ({error}). Start one: ray start --head.") from None
    try:
        share = share.on(ray.nodes())
        _check(ray.nodes(), share)
        options = {"num_cpus": share.cpus, "num_gpus": share.gpus, "max_retries": RETRIES, "max_calls": 1}
        task = ray.remote(**options)(remote)
        threads = max(1, int(share.cpus))

        def submit(job: Job) -> "Future[Outcome]":
            done: Future[Outcome] = Future()
            done.set_running_or_notify_cancel()  # what another node cannot read may be there on this one
            future = task.remote(job.config, job.test, threads, job.others, os.getcwd()).future()
            future.add_done_callback(lambda future: _land(future, (job.config, *job.others), done))
            return done

        yield submit
    finally:
        if not before:
            ray.shutdown()


def _land(future: "Future[Landed]", configs: Sequence[RunConfig], done: "Future[Outcome]") -> None:
    """Put what came back into the store; a run whose processes were lost too often has failed, with its others."""
    try:
        found = future.result()
        for config, landed in zip(configs, (found, *found.others), strict=True):
            _keep(config, landed)
        done.set_result(found.outcome)
    except Exception as error:  # of Ray, which has many kinds
        lost = Outcome(0.0, f"{type(error).__name__}: {str(error).splitlines()[0]}")
        done.set_result(replace(lost, others=(lost,) * (len(configs) - 1)))


def _keep(config: RunConfig, landed: Landed) -> None:
    path = record_path(config)
    if landed.record is not None and (not path.exists() or path.read_bytes() != landed.record):
        write_atomically(path, landed.record)
    for name, content in landed.beside.items():
        write_atomically(store.beside(path, name), content)


def _check(nodes: Sequence[Mapping[str, Any]], share: Share) -> None:
    """Raise ConfigError if no node has what a run asks for, which would wait for ever."""
    for node in nodes:
        has = node["Resources"]
        if node["Alive"] and has.get("CPU", 0) >= share.cpus and has.get("GPU", 0) >= (share.gpus or 0):
            return
    raise ConfigError(
        f"No node of this Ray has {share.cpus:g} cores and {share.gpus or 0:g} GPUs, so no run would ever begin. "
        "Ask for less (--cpus, --gpus)."
    )


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise ConfigError("Ray is not installed. Install it: pip install 'ray>=2.40'.") from None
    return ray
