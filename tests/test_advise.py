"""`vitgraft advise`: what it counts is what runs cost, its rule is what it says, its command runs as typed."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import toy
from tests.made import kept, made
from tests.runs import done, photos, refused, weights
from vitgraft.advice.looking import Looking
from vitgraft.advice.probe import Speed
from vitgraft.advice.rule import ORDER, Candidate, recommend
from vitgraft.advice.similar import Wanted, evidence
from vitgraft.advice.times import Counts, Machine, Way, run_seconds
from vitgraft.core.tuned import Tuned
from vitgraft.methods import names, parse
from vitgraft.train.settings import Training

# The rule


def candidate(name: str, minutes: float = 1.0, points: float | None = None, *exceeded: str) -> Candidate:
    return Candidate(name, name, minutes, exceeded, points)


@pytest.mark.parametrize(
    ("candidates", "expected", "why"),
    [
        ([candidate("lora", 9, 3.0), candidate("linear", 1, 0.0)], "lora", r"\+3.0 points .* the most\."),
        ([candidate("lora", 9, 3.0), candidate("vqt", 1, 2.1)], "vqt", "the fastest of these 2"),
        ([candidate("lora", 9, 3.0, "minutes: 9.0"), candidate("vqt", 1, 0.0)], "vqt", "of the 1 methods within"),
        ([candidate("linear"), candidate("lora"), candidate("vqt")], "lora", "order that papers' results suggest"),
        ([candidate("lora"), candidate("linear", 1, -4.0)], "linear", "-4.0 points"),
        ([candidate("lora", 9, 3.0, "minutes: 9.0")], None, "lora comes nearest: minutes: 9.0"),
    ],
)
def test_rule__takes_one_and_says_why(candidates: list[Candidate], expected: str | None, why: str) -> None:
    found = recommend(candidates)
    assert found.method == expected
    assert re.search(why, found.reason)


def test_order__knows_every_method() -> None:
    assert sorted(ORDER) == sorted(names())


# Records


def test_records__of_tasks_alike_on_the_same_backbone_count(tmp_path: Path) -> None:
    records = [
        made(method, task, seed, top1)
        for method, task, top1 in (
            *(("lora", "a", 60.0), ("linear", "a", 50.0), ("bias", "a", 52.0)),
            *(("lora", "bb", 80.0), ("linear", "bb", 90.0), ("lora:rank=2", "bb", 99.0)),
        )
        for seed in range(2)
    ]
    folder = kept(tmp_path / "records", records)
    backbone = records[0].backbone.name
    group = {one.task.name: one.task.group for one in records}
    found = evidence(Wanted(group["a"], 10, 8, backbone), ["lora", "linear", "vqt", "lora:rank=4"], [folder])
    assert found.said["lora"].accuracy == 60.0
    assert found.said["lora"].points == 8.0
    assert found.said["linear"].points == -2.0
    assert "vqt" not in found.said
    assert found.said["lora:rank=4"].spec == "lora"
    assert "6 records of this backbone" in found.told
    everything = evidence(Wanted(None, 10, 8, "another"), ["lora"], [folder])
    assert everything.said["lora"].tasks == 2
    assert "of other backbones" in everything.told
    unlike = evidence(Wanted(None, 500, 8, backbone), ["lora"], [folder])
    assert "none of which is like this one" in unlike.told
    assert evidence(Wanted(None, 5, 8, backbone), ["lora"], []).said == {}


# Time


def test_seconds__add_up() -> None:
    counts, here = Counts(100, 20, 50), Machine(start=5.0, read=0.1, walk=0.5)
    settings = Training(epochs=10, batch_size=50)
    speed = Speed(step=0.3, update=1.0)
    cached = run_seconds(speed, counts, settings, Way(True, 1.0, True), here, looking=7.0)
    assert cached.caching == pytest.approx(120 * 0.6)
    assert cached.training == pytest.approx(10 * (30 + 2 + 20 * 0.1))
    assert cached.testing == pytest.approx(50 * (0.1 + 0.5 + 0.1))
    assert cached.total == pytest.approx(5 + 7 + 72 + 340 + 35)
    walked = run_seconds(speed, counts, settings, Way(False, 0.0, True), here)
    assert walked.training == pytest.approx(10 * (30 + 2 + 20 * 0.5) + 120 * 0.1)
    again = run_seconds(speed, counts, settings, Way(False, 0.0, False, slower=2.0), here)
    assert again.training == pytest.approx(10 * (60 + 2 + 10) + 10 * 120 * 0.1)


@pytest.mark.parametrize("name", ["spt-lora:budget=500", "noah:limit=20k,supernet=3,population=4,generations=2"])
def test_looking__prices_what_a_method_does_first(name: str) -> None:
    frozen, method = toy.backbone(), parse(name)
    looking = Looking(frozen, 1000, 10, 2, epoch=lambda model: 100.0, gradient=lambda: 1.0, passed=0.5)
    found = method.find(frozen, 3, looking)
    model = Tuned(frozen, method.plan(frozen, 3, found))
    assert model.trained_values().method > 0
    expected = {"spt-lora": 512.0, "noah": 2 * 3 * 100.0 + 4 * 2 * 10 * 0.5}
    assert looking.seconds == expected[method.name]


# The command


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Photos, and weights of a small backbone."""
    home = tmp_path_factory.mktemp("advice")
    return photos(home / "photos", 8), weights(home / "w.safetensors")


def advised(there: tuple[Path, Path], *more: object) -> dict[str, Any]:
    data, file = there
    options = ("--backbone", "test_vit", "--checkpoint", file, "--image-size", 32, "--set", "epochs=1")
    found: dict[str, Any] = json.loads(done("advise", data, *options, "--json", *more).stdout)
    return found


def test_advise__counts_what_a_run_costs_and_its_command_runs(
    there: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = advised(there, "--method", "lora:rank=2", "--memory", "64GiB")
    assert found["recommended"] == "lora:rank=2"
    (price,) = found["methods"]
    words = shlex.split(found["command"])
    assert words[:2] == ["vitgraft", "fit"]
    done(*words[1:])
    cost = json.loads(next(Path("runs").glob("*/record.json")).read_text())["cost"]
    assert price["values"] == cost["trained_method"]
    assert price["head_values"] == cost["trained_head"]
    assert price["kept_bytes"] == pytest.approx(cost["kept_bytes_per_image"], rel=0.02)
    assert price["micro_batches"] == cost["micro_batches"] == 1
    assert (price["cacheable"], price["merges"]) == (False, True)
    assert price["minutes"] > 0
    assert price["peak_bytes"] / 2**20 == pytest.approx(cost["predicted_peak_mib"], rel=0.15)
    again = advised(there, "--method", "lora:rank=2")  # the folder holds a run now
    assert shlex.split(again["command"])[-1].endswith("-2")


def test_advise__methods_beyond_a_limit_are_out(there: tuple[Path, Path]) -> None:
    few = advised(there, "--method", "lora", "--method", "linear", "--params", "10")
    exceeded = {one["method"]: one["exceeded"] for one in few["methods"]}
    assert exceeded["linear"] == []
    assert exceeded["lora"][0].startswith("values: ")
    assert few["recommended"] == "linear"
    none = advised(there, "--method", "linear", "--memory", "10MiB", "--minutes", "0.0001")
    (price,) = none["methods"]
    assert none["recommended"] is None
    assert none["command"] is None
    assert [one.partition(":")[0] for one in price["exceeded"]] == ["memory", "minutes"]


def test_advise__prints_a_table_and_a_reason(there: tuple[Path, Path], tmp_path: Path) -> None:
    data, file = there
    given = ("--backbone", "test_vit", "--checkpoint", file, "--image-size", 32, "--set", "epochs=1")
    said = done("advise", data, *given, "--method", "linear", "--method", "vqt", "--records", tmp_path).stdout
    assert "What a run of 1 epochs would cost" in said
    assert "random weights: what a run costs does not depend on them" in " ".join(said.split())
    assert "There are no records of accuracy to go by." in said
    assert "Take vqt." in said
    assert "vitgraft fit" in said


def test_advise__says_what_is_wrong(there: tuple[Path, Path]) -> None:
    assert "Write 4GiB" in refused("advise", there[0], "--memory", "much")
    assert "no method 'lroa'" in refused("advise", there[0], "--method", "lroa")
    assert "--set" in refused("advise", there[0], "--set", "epochs")
    assert torch.is_grad_enabled()
