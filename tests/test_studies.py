"""Studies: what is run and what is not, which rate is chosen, what the tables say of what is missing."""

import importlib
import json
import sys
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

import vitgraft
from tests.pictures import dataset
from tests.test_records import record
from vitgraft import methods
from vitgraft.config import RunConfig
from vitgraft.core.shape import measure
from vitgraft.errors import ConfigError
from vitgraft.results import store
from vitgraft.results.record import Scores

STUDIES = Path(__file__).parent.parent / "studies"
sys.path.append(str(STUDIES))
grid, tables = importlib.import_module("grid"), importlib.import_module("tables")
DECLARED = ("side_methods", "where_to_tune")

BEST_RATE = {"lora": 4, "bias": 1}
"""What the stand-in's validation likes, as multiples of a recipe's learning rate."""


class Inline(Executor):
    """Everything at once, in this process."""

    def submit(self, work: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(work(*arguments, **named))
        except ConfigError as error:
            done.set_exception(error)
        return done


@dataclass
class Lab:
    """Stands in for training: notes each run, and writes what it would have come to."""

    home: Any
    broken: str = "none"
    runs: list[tuple[str, bool]] = field(default_factory=list)

    def work(self, config: RunConfig, test: bool) -> None:
        self.runs.append((config.folder.name, test))
        if config.folder.name == self.broken:
            raise ConfigError("It broke.")
        method = methods.parse(config.method)
        rate = round((config.training.lr or 0) / method.recipe.lr)
        val = Scores(0.5, 90.0 if BEST_RATE.get(method.name, 1) == rate else 60.0, None, 50.0, 20)
        tested = Scores(0.5, 70.0 + config.training.seed, None, 50.0, 20) if test else None
        made = replace(record(), config=config.table(), seed=config.training.seed, val=val, test=tested)
        assert config.records is not None
        store.add(Path(config.records), made)
        config.folder.mkdir(parents=True, exist_ok=True)
        rows = [{"operation": "q", "trained": 30}, {"operation": "norm1", "trained": 0}]
        rows += [{"operation": "fc1", "trained": 40}, {"operation": "q", "trained": 30}]
        if method.name == "lora":
            (config.folder / grid.PATTERN).write_text(json.dumps({"rows": rows}))

    def study(self, **entries: Any) -> Any:
        common = {"epochs": 2, "device": "cpu"}
        return grid.Study(home=self.home, entries=entries, common=common, tasks=("digits",))

    def fill(self, study: Any) -> list[tuple[str, bool]]:
        """The runs that filling a study takes."""
        self.runs.clear()
        grid.fill(study.cells(study.tasks, list(study.entries)), Inline(), self.work)
        return list(self.runs)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(grid.Home(tmp_path / "results", tmp_path / "runs"))


def printed(study: Any, capsys: pytest.CaptureFixture[str]) -> list[dict[str, list[str]]]:
    """The tables: the cells of each row by its first one."""
    capsys.readouterr()
    grid.show(study.cells(study.tasks, list(study.entries)), len(study.seeds))
    tables = capsys.readouterr().out.strip().split("\n\n")
    rows = [[[cell.strip() for cell in line.split("|")[1:-1]] for line in one.splitlines()] for one in tables]
    return [{cells[0]: cells[1:] for cells in one} for one in rows]


def test_fill__tries_rates_then_takes_the_best_for_every_seed(lab: Lab) -> None:
    study = lab.study(lora=grid.Entry("lora", {}), bias=grid.Entry("bias", {"batch_size": 16}))
    assert lab.fill(study) == [
        *[("digits-lora-lr1-s0", False), ("digits-lora-lr4-s0", False)],
        *[("digits-bias-lr1-s0", False), ("digits-bias-lr4-s0", False)],
        *[(f"digits-lora-lr4-s{seed}", True) for seed in range(3)],
        *[(f"digits-bias-lr1-s{seed}", True) for seed in range(3)],
    ]
    assert lab.fill(study) == []


def test_fill__a_method_may_take_anothers_rate_or_have_but_one(lab: Lab) -> None:
    follower = grid.Entry("lora:rank=2", {}, rate_of="lora")
    study = lab.study(follower=follower, one=grid.Entry("bias", {}, rates=(4,)), lora=grid.Entry("lora", {}))
    runs = lab.fill(study)
    assert runs[:3] == [(f"digits-bias-lr4-s{seed}", True) for seed in range(3)]
    assert sorted(run for run in runs if "rank" in run[0]) == [
        (f"digits-lora-rank-2-lr4-s{seed}", True) for seed in range(3)
    ]


def test_fill__what_fails_is_told_once_and_left_out(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    study = lab.study(lora=grid.Entry("lora", {}), bias=grid.Entry("bias", {}))
    lab.broken = "digits-bias-lr4-s0"
    runs = lab.fill(study)
    assert [run for run in runs if "bias" in run[0]] == [
        ("digits-bias-lr1-s0", False),
        ("digits-bias-lr4-s0", False),
    ]
    assert ("digits-lora-lr4-s2", True) in runs
    assert "digits, bias: It broke." in capsys.readouterr().err
    assert printed(study, capsys)[0]["bias"][0] == "?"


def test_fill__runs_of_another_study_are_not_repeated(lab: Lab, tmp_path: Path) -> None:
    other = lab.study(lora=grid.Entry("lora", {}))
    lab.fill(other)
    home = grid.Home(tmp_path / "own", tmp_path / "own-runs")
    study = replace(other, home=home, entries={"lora": grid.Entry("lora", {}, home=other.home)})
    assert lab.fill(study) == []
    assert len(study.cells(["digits"], ["lora"])[0].tested()) == 3
    assert lab.fill(replace(study, entries={"lora": grid.Entry("lora", {})})) != []


def test_table__has_means_costs_and_shares(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    study = lab.study(lora=grid.Entry("lora", {}), bias=grid.Entry("bias", {}))
    lab.fill(study)
    cells, where = printed(study, capsys)
    assert cells["method"] == ["digits", "mean", "trained", "head", "kept/image", "time"]
    assert cells["bias"] == ["71.0 ± 1.0", "71.0", "1,000", "51", "75.2 KiB", "3 s"]
    assert where["% of the values trained"] == ["tasks", "q", "norm1", "fc1"]
    assert where["lora"] == ["1", "60.0", "0.0", "40.0"]
    assert "bias" not in where


def test_table__incomplete_seeds_are_a_question_mark(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    study = lab.study(lora=grid.Entry("lora", {}), bias=grid.Entry("bias", {}))
    (empty,) = printed(study, capsys)
    assert empty["lora"][:2] == ["?", ""]
    lab.fill(study)
    (cell,) = study.cells(["digits"], ["bias"])
    for config in cell.chosen()[1:]:
        grid.record_path(config).unlink()
        cells = printed(study, capsys)[0]
        assert cells["bias"][:2] == ["?", ""]
        assert cells["lora"][0] == "71.0 ± 1.0"
    assert lab.fill(study) == [("digits-bias-lr1-s1", True), ("digits-bias-lr1-s2", True)]


def test_patterns__lie_where_no_reader_of_records_looks(lab: Lab) -> None:
    study = lab.study(lora=grid.Entry("lora", {}))
    lab.fill(study)
    (cell,) = study.cells(["digits"], ["lora"])
    files = cell.patterns()
    assert [path.name for path in files] == [
        f"{grid.record_path(config).stem}.pattern.json" for config in cell.chosen()
    ]
    reading = store.read_all(lab.home.records)
    assert len(reading.records) == 4
    assert not reading.skipped


def test_work__runs_goes_on_and_reads_the_test_split_later(tmp_path: Path) -> None:
    """The real thing, on a dozen pictures."""
    folders = {f"{split}/{name}": 3 for split in ("train", "val", "test") for name in ("a", "b")}
    data = dataset(tmp_path / "pictures", folders)
    home = grid.Home(tmp_path / "results", tmp_path / "runs")
    common = {"epochs": 1, "batch_size": 4, "device": "cpu", "warmup_epochs": 0.0}
    study = grid.Study(home=home, entries={"linear": grid.Entry("linear", {})}, common=common, seeds=(0,))
    (cell,) = study.cells([str(data)], ["linear"])
    config = cell.config(1, 0)
    config = replace(config, out=str(tmp_path / "runs" / "one"))
    grid.work(config, False)
    first = grid.recorded(config)
    assert first.val is not None
    assert first.test is None
    grid.work(config, True)
    second = grid.recorded(config)
    assert second.test.n == 6
    assert second.ended == first.ended, "it was trained anew"
    grid.record_path(config).unlink()
    grid.work(config, True)
    assert grid.recorded(config) == second, "a finished run's record that was lost is there again"


def test_command__what_is_unknown_is_told(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = lab.study(lora=grid.Entry("lora", {}), typo=grid.Entry("lorra", {}))
    for arguments, told in ((["--methods", "bias"], "no method 'bias'"), ([], "There is no method 'lorra'")):
        monkeypatch.setattr(sys, "argv", ["study", "--table", *arguments])
        with pytest.raises(SystemExit):
            grid.main(study, "A study.")
        assert told in capsys.readouterr().err


@pytest.mark.parametrize("name", DECLARED)
def test_declared__every_run_has_a_configuration_of_its_own(name: str) -> None:
    study = importlib.import_module(name).STUDY
    cells = study.cells(study.tasks, list(study.entries))
    configs = [cell.config(rate, seed) for cell in cells for rate in study.rates for seed in study.seeds]
    assert len({config.folder for config in configs}) == len(configs) == 9 * len(study.entries) * 2 * 3
    assert len({grid.record_path(config) for config in configs}) == len(configs)


def test_declared__the_budget_is_loras_and_nobody_exceeds_it() -> None:
    declared = importlib.import_module("where_to_tune")
    shape = measure(vitgraft.load_backbone("figures"))
    counts = {name: methods.parse(entry.method).formula(shape) for name, entry in declared.STUDY.entries.items()}
    assert counts["lora"] == declared.BUDGET == max(counts.values())
    assert counts["adapter"] == 35_892
    assert all(counts[name] == declared.BUDGET for name in ("spt-lora", "spt-adapter", "random", "magnitude"))


def test_declared__shared_runs_are_those_of_the_other_study() -> None:
    side, where = (importlib.import_module(name).STUDY for name in DECLARED)
    for name in ("lora", "vpt-deep"):
        ours, theirs = (study.cells(["digits"], [name])[0].config(4, 1) for study in (where, side))
        assert ours == theirs
