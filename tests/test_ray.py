"""A real Ray of two workers: runs share features, records come back, what is lost is tried again or told."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests import toy
from vitgraft.bench import on_ray
from vitgraft.bench.cell import Home, Job, cells
from vitgraft.bench.on_ray import Share
from vitgraft.bench.runner import LOG, Outcome, fill
from vitgraft.bench.suite import load
from vitgraft.cli import app
from vitgraft.errors import ConfigError
from vitgraft.features.entries import Entry
from vitgraft.results import store
from vitgraft.runs.config import RunConfig

ray = pytest.importorskip("ray", reason="Ray is an extra")
SUITE = """
tasks = ["TASK"]
settings = { epochs = 1, device = "cpu" }
[methods]
linear = {}
faster = { method = "linear", lr = 0.05 }
"""


@pytest.fixture(scope="module", autouse=True)
def features(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two workers with a cache of their own, which is what they keep of features."""
    cache = tmp_path_factory.mktemp("cache")
    own = {"env_vars": {"VITGRAFT_CACHE": str(cache)}}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=own)
    yield cache / "features"
    ray.shutdown()


def suite_file(folder: Path) -> Path:
    path = folder / "suite.toml"
    path.write_text(SUITE.replace("TASK", str(toy.some_digits(folder / "digits"))))
    return path


def one_run(folder: Path) -> RunConfig:
    suite = load(str(suite_file(folder)))
    return suite.run(suite.tasks[0], suite.entries["linear"], {}, 0)


@pytest.mark.slow
def test_runs__land_in_the_store_and_compute_features_once(tmp_path: Path, features: Path) -> None:
    """Two runs at the same time, with two learning rates: one walks the backbone, the other waits for it."""
    path = suite_file(tmp_path)
    found = cells(load(str(path)), Home(tmp_path / "bench"))
    said: list[Outcome] = []
    with on_ray.on_ray(None, Share()) as submit:
        assert fill(found, submit, lambda cell, config, outcome, left: said.append(outcome)) == []
    assert [outcome.failed for outcome in said] == [None, None]
    records = [record for cell in found for record in cell.tested()]
    assert [record.config["lr"] for record in records] == [0.01, 0.05]
    assert [record.cost.cache_place for record in records] == ["disk", "disk"]
    folders = [config.folder for cell in found for config in cell.chosen()]
    logs = "".join((folder / LOG).read_text() for folder in folders)
    assert sorted(re.findall(r"features of (\w+): \d+ images in", logs)) == ["train", "val"]
    kept = [Entry(folder) for folder in features.iterdir() if folder.is_dir()]
    assert [entry.complete for entry in kept] == [True, True], "an entry each for train and val"
    again = CliRunner().invoke(app, ["bench", "run", str(path), "--out", str(tmp_path / "bench"), "--on", "ray"])
    assert again.exit_code == 0, again.output
    assert "2 of 2 runs are done already" in again.output


@pytest.mark.slow
def test_paths__are_relative_to_the_folder_of_whoever_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's workers live where Ray was started."""
    monkeypatch.chdir(tmp_path)
    path = suite_file(Path())
    (found, *_) = cells(load(str(path)), Home(Path("bench")))
    with on_ray.on_ray(None, Share()) as submit:
        assert fill([found], submit, lambda *said: None) == []
    assert (tmp_path / found.home.path(found.chosen()[0])).exists()
    assert (tmp_path / found.chosen()[0].folder / LOG).exists()


def dies_once(
    config: RunConfig, test: bool, threads: int, others: Sequence[RunConfig], folder: str
) -> on_ray.Landed:
    """A run whose process is lost the first time."""
    tried = config.folder / "tried"
    if not tried.exists():
        tried.parent.mkdir(parents=True)
        tried.touch()
        os._exit(1)
    return on_ray.Landed(Outcome(1.0), b"a record", {})


@pytest.mark.slow
def test_run__whose_process_was_lost_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_ray, "remote", dies_once)
    home = Home(tmp_path)
    run = home.placed(one_run(tmp_path))
    with on_ray.on_ray(None, Share()) as submit:
        assert submit(Job(run, True)).result(timeout=120) == Outcome(1.0)
    assert (home.records / store.file_name(run.table())).read_bytes() == b"a record"


def test_share__is_a_part_of_an_accelerator_where_there_are_any() -> None:
    """Runs that ask for none would all take the same one, as many as a node has cores."""
    cpus = {"Alive": True, "Resources": {"CPU": 2.0}}
    gpu = {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 1.0}}
    assert Share().on([cpus]) == Share(1.0, 0.0)
    assert Share().on([cpus, gpu]) == Share(1.0, on_ray.PART)
    assert Share(gpus=0.0).on([gpu]) == Share(1.0, 0.0)


def test_run__that_failed_comes_back_as_its_sentence(tmp_path: Path) -> None:
    run = Home(tmp_path).placed(replace(one_run(tmp_path), data=str(tmp_path / "nowhere")))
    landed = on_ray.remote(run, True, 1)
    assert "nowhere" in str(landed.outcome.failed)
    assert (landed.record, landed.beside) == (None, {})


@pytest.mark.slow
def test_record__is_written_by_whoever_asked(tmp_path: Path) -> None:
    """As if the node had no file system in common with this one."""
    here, there = Home(tmp_path / "here"), Home(tmp_path / "there")
    run = one_run(tmp_path)
    landed = on_ray.remote(there.placed(run), True, 1)
    beside = on_ray.Landed(landed.outcome, landed.record, {"pattern.json": b"{}"})
    done: on_ray.Future[Outcome] = on_ray.Future()
    future: on_ray.Future[on_ray.Landed] = on_ray.Future()
    future.set_result(beside)
    on_ray._land(future, [here.placed(run)], done)
    assert done.result().failed is None
    record = here.record(here.placed(run))
    assert record == there.record(there.placed(run))
    target = here.records / store.file_name(here.placed(run).table())
    assert store.beside(target, "pattern.json").read_bytes() == b"{}"


def test_run__that_was_lost_is_a_failure_of_its_own(tmp_path: Path) -> None:
    done: on_ray.Future[Outcome] = on_ray.Future()
    future: on_ray.Future[on_ray.Landed] = on_ray.Future()
    future.set_exception(ray.exceptions.WorkerCrashedError())
    run = Home(tmp_path).placed(one_run(tmp_path))
    on_ray._land(future, [run], done)
    assert "WorkerCrashedError" in str(done.result().failed)


def test_share__that_no_node_has_is_told() -> None:
    with (
        pytest.raises(ConfigError, match=r"No node of this Ray has 1 cores and 8 GPUs"),
        on_ray.on_ray(None, Share(gpus=8)),
    ):
        pass
