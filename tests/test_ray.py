"""A real Ray of two workers: runs are spread over them, records come back, what fails is told."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from vitgraft.bench import on_ray
from vitgraft.bench.cell import Home, cells
from vitgraft.bench.on_ray import Share
from vitgraft.bench.runner import Outcome, fill
from vitgraft.bench.suite import load
from vitgraft.cli import app
from vitgraft.errors import ConfigError
from vitgraft.results import store

ray = pytest.importorskip("ray", reason="Ray is an extra")
SUITE = """
tasks = ["digits"]
seeds = [0, 1]
methods = ["linear"]
settings = { epochs = 1, device = "cpu" }
"""


@pytest.fixture(scope="module", autouse=True)
def two_workers() -> object:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def test_runs__land_in_the_store(tmp_path: Path) -> None:
    path = tmp_path / "suite.toml"
    path.write_text(SUITE)
    found = cells(load(str(path)), Home(tmp_path / "bench"))
    said: list[Outcome] = []
    with on_ray.on_ray(None, Share()) as submit:
        assert fill(found, submit, lambda cell, config, outcome, left: said.append(outcome)) == []
    assert len(said) == 2
    assert [record.config["seed"] for record in found[0].tested()] == [0, 1]
    again = CliRunner().invoke(app, ["bench", "run", str(path), "--out", str(tmp_path / "bench"), "--on", "ray"])
    assert again.exit_code == 0, again.output
    assert "2 of 2 runs are done already" in again.output


def test_record__is_written_by_whoever_asked(tmp_path: Path) -> None:
    """As if the node had no file system in common with this one."""
    path = tmp_path / "suite.toml"
    path.write_text(SUITE)
    suite, here, there = load(str(path)), Home(tmp_path / "here"), Home(tmp_path / "there")
    run = suite.run("digits", suite.entries["linear"], {}, 0)
    landed = on_ray.remote(there.placed(run), True, 1)
    beside = on_ray.Landed(landed.outcome, landed.record, {"pattern.json": b"{}"})
    done: on_ray.Future[Outcome] = on_ray.Future()
    future: on_ray.Future[on_ray.Landed] = on_ray.Future()
    future.set_result(beside)
    on_ray._land(future, here.placed(run), done)
    assert done.result().failed is None
    record = here.record(here.placed(run))
    assert record == there.record(there.placed(run))
    target = here.records / store.file_name(here.placed(run).table())
    assert store.beside(target, "pattern.json").read_bytes() == b"{}"


def test_run__that_was_lost_is_a_failure_of_its_own(tmp_path: Path) -> None:
    done: on_ray.Future[Outcome] = on_ray.Future()
    future: on_ray.Future[on_ray.Landed] = on_ray.Future()
    future.set_exception(ray.exceptions.WorkerCrashedError())
    path = tmp_path / "suite.toml"
    path.write_text(SUITE)
    suite = load(str(path))
    run = Home(tmp_path).placed(suite.run("digits", suite.entries["linear"], {}, 0))
    on_ray._land(future, run, done)
    assert "WorkerCrashedError" in str(done.result().failed)


def test_share__that_no_node_has_is_told() -> None:
    with (
        pytest.raises(ConfigError, match=r"No node of this Ray has 1 cores and 8 GPUs"),
        on_ray.on_ray(None, Share(gpus=8)),
    ):
        pass
