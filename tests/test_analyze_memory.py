"""What training holds: counted by stage, the more the lower the tuned block, and resumed where it was stopped."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import loners, toy
from tests.runs import done, refused
from tests.tiny import backbone
from vitgraft import methods
from vitgraft.analyze import memory
from vitgraft.analyze.journal import Journal
from vitgraft.analyze.memory_figure import rank_correlation
from vitgraft.analyze.one_block import in_one_block
from vitgraft.core.tuned import Tuned
from vitgraft.errors import ConfigError, VitgraftError
from vitgraft.machine.alone import alone
from vitgraft.train.cost import kept_bytes_by_stage, kept_bytes_per_image

SMALL = ("--backbone", "test_vit", "--image-size", 32, "--batch", 2, "--classes", 5)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Measurements in this process, and the list of what was measured."""
    called: list[str] = []

    def run(work: Callable[..., Any], setting: memory.Setting) -> Any:
        called.append(setting.key())
        return work(setting)

    monkeypatch.setattr(memory, "alone", run)
    return called


def in_block(method: str, block: int) -> Tuned:
    frozen = backbone()
    return Tuned(frozen, in_one_block(methods.parse(method), frozen, 3, block))


@pytest.mark.parametrize("method", ["lora", "adapter:position=houlsby", "ssf", "bias", "full", "adaptformer"])
def test_one_block__is_all_that_trains(method: str) -> None:
    frozen = backbone()
    for block in range(frozen.depth):
        model = in_block(method, block)
        assert {site[0] for site in model.plan.grafts} <= {block}
        assert model.plan.unfreeze <= set(frozen.parameter_names(block))
        assert model.frozen_depth == block
        kept = kept_bytes_by_stage(model)
        below = [size for stage, size in kept.items() if stage != "head" and stage < block]
        assert sum(below) == 0 < kept[block]


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("vqt", "trains nothing in block 0 of 3"),
        ("lora:last=1", "trains nothing in block 0"),
        ("vpt-deep", "adds tokens"),
        ("noah", "looks at data"),
    ],
)
def test_one_block__is_refused_to_methods_that_have_none(method: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        in_block(method, 0)


@pytest.mark.parametrize("method", ["linear", "lora", "synqt", "vpt-deep", "full", "partial"])
def test_stages__hold_what_is_kept(method: str) -> None:
    model = toy.model(method)
    kept = kept_bytes_by_stage(model)
    assert round(sum(kept.values())) == kept_bytes_per_image(model)
    in_blocks = sum(size for stage, size in kept.items() if stage != "head")
    assert (in_blocks > 0) == (method not in ("linear", "synqt"))


def test_rank_correlation__counts_blocks_above() -> None:
    assert rank_correlation([4.0, 3.0, 1.0]) == pytest.approx(1)
    assert rank_correlation([1.0, 3.0, 4.0]) == pytest.approx(-1)
    assert rank_correlation([4.0, None, 1.0]) == pytest.approx(1)
    assert rank_correlation([None, None]) is None
    assert rank_correlation([2.0, 2.0]) is None


@pytest.mark.slow
def test_memory__rises_the_lower_the_tuned_block(tmp_path: Path, here: list[str]) -> None:
    done("analyze", "memory", *SMALL, "--out", tmp_path, "--methods", "linear", "--methods", "lora:rank=2")
    card = json.loads((tmp_path / "memory.json").read_text())
    rows = list(csv.DictReader((tmp_path / "memory.csv").open()))
    kept = [float(row["kept"]) for row in rows]
    assert len(rows) == card["n"] == 6
    assert kept == sorted(kept, reverse=True)
    assert kept[0] > 5 * kept[-1] > 0
    assert card["found"]["spearman"]["kept"] >= 0.95
    assert "is 1.00" in card["caption"]
    assert card["units"]["kept in block 3"] == card["units"]["kept"] == "MiB an image"
    assert card["command"].startswith("vitgraft analyze memory --backbone test_vit --image-size 32 --out ")
    assert "random" in card["backbone"]["weights"]
    whole = {row["method"]: row for row in csv.DictReader((tmp_path / "memory-methods.csv").open())}
    assert list(whole) == ["linear", "lora:rank=2"]
    stages = [float(value) for name, value in whole["lora:rank=2"].items() if name.startswith("kept in ")]
    assert sum(stages) == pytest.approx(float(whole["lora:rank=2"]["kept"]))
    assert len(list(tmp_path.iterdir())) == 8  # and no journal


@pytest.mark.slow
def test_measurements__go_on_where_they_were_stopped(
    tmp_path: Path, here: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [memory.Setting("test_vit", "32", "lora", block, 2, 5, "cpu", "fp32", "none") for block in range(4)]
    whole, said = memory.alone, list[str]()

    def stop(work: Callable[..., Any], setting: memory.Setting) -> Any:
        if len(here) == 2:
            raise VitgraftError("killed")
        return whole(work, setting)

    monkeypatch.setattr(memory, "alone", stop)
    path = tmp_path / ".part.jsonl"
    with pytest.raises(VitgraftError, match="killed"):
        memory.measure_all(settings, Journal(path, {}))
    monkeypatch.setattr(memory, "alone", whole)
    found = memory.measure_all(settings, Journal(path, {}), said.append)
    assert here == [f"lora in block {block}" for block in range(4)]
    assert found[3] == memory.measure_all(settings, Journal(path, {}))[3]
    assert len(said) == 2
    assert said[0].startswith("3 of 4: lora in block 2 keeps")


def test_memory__refuses_before_it_measures(tmp_path: Path, here: list[str]) -> None:
    assert "trains nothing in block 0" in refused("analyze", "memory", *SMALL, "--method", "vqt")
    assert "looks at data" in refused("analyze", "memory", *SMALL, "--methods", "noah")
    assert "stands alone" in refused("analyze", "memory", *SMALL, "--methods", "none", "--methods", "lora")
    assert "rank=0 must be" in refused("analyze", "memory", *SMALL, "--methods", "lora:rank=0", "--out", tmp_path)
    (tmp_path / "memory-methods.png").write_bytes(b"mine")
    assert "--force" in refused("analyze", "memory", *SMALL, "--methods", "lora", "--out", tmp_path)
    assert not here


def test_all_methods__leave_out_those_that_need_data() -> None:
    from vitgraft.cli.analyze.memory import _compared

    compared, told = _compared(["all", "lora:rank=2", "lora"])
    assert {"lora", "synqt", "lora:rank=2"} <= set(compared)
    assert compared.count("lora") == 1
    assert not {"noah", "spt-lora"} & set(compared)
    assert "noah" in told[0]


def test_bf16__is_told_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from vitgraft.cli.analyze.asked import placed

    for there, computed in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr("vitgraft.machine.placement.computes_bf16", lambda device, there=there: there)
        assert placed("cpu", "bf16") == ("cpu", computed)
        assert ("no bf16" in capsys.readouterr().err) != there


def test_journal__is_of_one_kind_of_measurement(tmp_path: Path) -> None:
    path = tmp_path / "new" / "part.jsonl"
    Journal(path, {"batch": 2}).add("a", {"x": 1.5})
    again = Journal(path, {"batch": 2})
    again.add("b", None)
    with path.open("a") as file:
        file.write('{"key": "c", "va')
    assert Journal(path, {"batch": 2}).found == {"a": {"x": 1.5}, "b": None}
    assert Journal(path, {"batch": 4}).found == {}
    cut = Journal(path, {"batch": 2})
    cut.add("d", 4)
    assert Journal(path, {"batch": 2}).found.keys() == {"a", "b", "d"}


def test_alone__is_a_process_whose_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitgraft.machine.alone.PRELOADED", ["torch"])
    peak = alone(loners.fills, 64)
    assert peak.growth is None or 60 < peak.growth < 100
    with pytest.raises(ConfigError, match="not to be had"):
        alone(loners.refuses)
    with pytest.raises(VitgraftError, match=r"killed \(exit code -9\)"):
        alone(loners.dies)
    with pytest.raises(RuntimeError, match="fails failed"):
        alone(loners.fails)
