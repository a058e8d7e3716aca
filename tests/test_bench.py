"""Suites: what is to be run follows from the file and the records, whoever made them."""

from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from typer.testing import CliRunner

import vitgraft
from tests.test_records import record as make
from vitgraft import methods
from vitgraft.bench.cell import Cell, Home, Job, cells
from vitgraft.bench.runner import Outcome, fill, work
from vitgraft.bench.suite import Suite, load, shipped
from vitgraft.cli import app
from vitgraft.config import RunConfig
from vitgraft.core.shape import measure
from vitgraft.errors import ConfigError
from vitgraft.report import patterns
from vitgraft.results import store
from vitgraft.results.record import Scores

SUITE = """
tasks = ["digits", "flowers"]
seeds = [0, 1]
settings = { epochs = 8 }
grid = { lr_times = [1, 4] }

[methods]
linear = {}
wide = { method = "lora", rank_note = 1 }
"""


def write(folder: Path, text: str) -> str:
    path = folder / "suite.toml"
    path.write_text(text)
    return str(path)


@dataclass
class Lab:
    """Pretends to run: a run's validation accuracy is its learning rate, or what `scores` says of its values."""

    home: Home
    ran: list[Job] = field(default_factory=list)
    broken: str = ""

    def submit(self, job: Job) -> "Future[Outcome]":
        config, test = job
        self.ran.append(job)
        done: Future[Outcome] = Future()
        if config.data == self.broken:
            done.set_result(Outcome(1.0, "no such data"))
            return done
        values = config.table()
        score = Scores(loss=1.0, top1=1000 * values["lr"] + values["epochs"], top5=None, mean_per_class=0, n=9)
        record = make(config=values, seed=values["seed"], val=score, test=score if test else None)
        store.add(self.home.records, record)
        done.set_result(Outcome(1.0))
        return done

    def fill(self, some: Sequence[Cell]) -> list[str]:
        return fill(some, self.submit, lambda *said: None)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(Home(tmp_path / "bench"))


def suite(folder: Path, text: str = SUITE) -> Suite:
    return load(write(folder, text.replace(", rank_note = 1", "")))


def configs(jobs: Iterable[Job]) -> list[tuple[float, int, bool]]:
    return sorted((config.table()["lr"], config.training.seed, test) for config, test in jobs)


def test_fill__tries_the_grid_with_one_seed_and_runs_the_best_with_all(tmp_path: Path, lab: Lab) -> None:
    found = cells(suite(tmp_path), lab.home, ["digits"], ["linear"])
    assert lab.fill(found) == []
    assert configs(lab.ran) == [(0.01, 0, False), (0.04, 0, False), (0.04, 0, True), (0.04, 1, True)]
    (cell,) = found
    assert (cell.done(), cell.size()) == (3, 3)
    assert [record.config["lr"] for record in cell.tested()] == [0.04, 0.04]
    lab.ran.clear()
    assert lab.fill(found) == []
    assert lab.ran == []


def test_fill__runs_each_of_the_rest_although_one_fails(tmp_path: Path, lab: Lab) -> None:
    lab.broken = "digits"
    found = cells(suite(tmp_path), lab.home, None, ["linear"])
    failures = lab.fill(found)
    assert len(failures) == 2
    assert all("digits, linear" in failure and "no such data" in failure for failure in failures)
    assert [cell.done() for cell in found] == [0, 3]
    lab.broken = ""
    assert lab.fill(found) == []
    assert [cell.done() for cell in found] == [3, 3]


def test_grid__takes_fields_of_the_method_and_keys_of_a_run(tmp_path: Path, lab: Lab) -> None:
    text = """
    tasks = ["digits"]
    [methods.lora]
    grid = { rank = [2, 4], label_smoothing = [0.0, 0.1] }
    """
    (cell,) = cells(suite(tmp_path, text), lab.home)
    assert {(config.method, config.training.label_smoothing) for config, _ in cell.missing()} == {
        ("lora:rank=2", 0.0),
        ("lora:rank=2", 0.1),
        ("lora:rank=4", 0.0),
        ("lora:rank=4", 0.1),
    }


def test_chosen_by__takes_anothers_choice(tmp_path: Path, lab: Lab) -> None:
    text = SUITE.replace('method = "lora", rank_note = 1', 'method = "lora", chosen_by = "linear"')
    first, second = cells(suite(tmp_path, text), lab.home, ["digits"])
    assert second.missing() == []
    lab.fill([first])
    assert configs(second.missing()) == [(0.004, 0, True), (0.004, 1, True)]
    assert second.size() == 2


def test_halving__trains_the_better_half_for_longer(tmp_path: Path, lab: Lab) -> None:
    text = SUITE.replace("[1, 4]", "[1, 2, 3, 4]").replace("seeds", "halving = 2\nseeds")
    (cell,) = cells(suite(tmp_path, text), lab.home, ["digits"], ["linear"])
    lab.fill([cell])
    epochs = [(config.training.epochs, round(config.table()["lr"], 3)) for config, test in lab.ran if not test]
    assert sorted(epochs) == [(2, 0.01), (2, 0.02), (2, 0.03), (2, 0.04), (4, 0.03), (4, 0.04)]
    assert configs(job for job in lab.ran if job[1]) == [(0.04, 0, True), (0.04, 1, True)]
    assert cell.done() == cell.size() == len(lab.ran)


def test_tuned__draws_some_of_the_grid_the_same_each_time(tmp_path: Path) -> None:
    whole = suite(tmp_path, SUITE.replace("[1, 4]", "[1, 2, 3, 4, 5, 6, 7, 8]"))
    some, again = whole.tuned(3), whole.tuned(3)
    drawn = some.entries["linear"].choices()
    assert len(drawn) == 3
    assert all(choice in whole.entries["linear"].choices() for choice in drawn)
    assert drawn == again.entries["linear"].choices() != some.entries["wide"].choices()
    assert len(whole.tuned(99).entries["linear"].choices()) == 8


def test_suites__share_their_runs(tmp_path: Path, lab: Lab) -> None:
    lab.fill(cells(suite(tmp_path), lab.home))
    lab.ran.clear()
    other = suite(tmp_path, SUITE.replace("wide =", "renamed ="))
    lab.fill(cells(other, lab.home))
    assert lab.ran == []


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("seeds", "sedes", "'sedes'.*'seeds'"),
        ("[0, 1]", "[]", r"seeds=\[\]: expected whole numbers"),
        ('["digits", "flowers"]', '"digits"', "tasks='digits': expected a list"),
        ("epochs = 8", "epohcs = 8", "linear: .*'epohcs'.*'epochs'"),
        ("lr_times = [1, 4]", "lr_tmies = [1, 4]", "linear: .*'lr_tmies'.*'lr_times'"),
        ("lr_times = [1, 4]", "lr_times = 4", r"lr_times=4: expected values to choose from"),
        ('"lora"', '"lroa"', "wide: .*'lora'"),
        ("rank_note = 1", 'chosen_by = "linaer"', "wide: .*'linaer'.*'linear'"),
        ("rank_note = 1", "seed = 4", "wide: seed is no setting"),
        ("seeds", "halving = -1\nseeds", "halving=-1: expected how often"),
    ],
)
def test_load__a_mistake_is_told_before_anything_runs(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in SUITE
    with pytest.raises(ConfigError, match=told):
        suite(tmp_path, SUITE.replace(old, new))


def test_load__what_is_no_suite_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"There is no suite 'nothing'.*builtin, quick"):
        load("nothing")
    with pytest.raises(ConfigError, match="is no TOML file that can be read"):
        load(write(tmp_path, "tasks ="))


@pytest.mark.parametrize("name", ["builtin", "quick"])
def test_shipped__are_complete(name: str) -> None:
    found = load(name)
    assert set(shipped()) == {"builtin", "quick"}
    assert found.about
    if name == "builtin":
        used = {methods.parse(entry.method).name for entry in found.entries.values()}
        assert used == set(methods.names())


STUDIES = sorted((Path(__file__).parent.parent / "studies").glob("*.toml"))
BUDGET = 36_864


def test_studies__are_found() -> None:
    assert len(STUDIES) >= 2


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_studies__are_what_they_say(path: Path) -> None:
    found = load(str(path))
    assert (len(found.tasks), found.seeds) == (9, (0, 1, 2))
    assert "Declared before any run" in found.about
    if path.stem == "where_to_tune":
        shape = measure(vitgraft.load_backbone("figures"))
        assert methods.parse("lora").formula(shape) == BUDGET
        for entry in found.entries.values():
            assert 0.3 * BUDGET < methods.parse(entry.method).formula(shape) <= BUDGET


def test_found__is_kept_with_the_record_and_summed_up(tmp_path: Path) -> None:
    text = """
    tasks = ["digits"]
    settings = { epochs = 1, device = "cpu" }
    methods = { spt = { method = "spt-lora:budget=5k,images=16,batch=8" } }
    """
    (cell,) = cells(suite(tmp_path, text), Home(tmp_path / "bench"))
    assert cell.found("pattern.json") == []
    ((config, _),) = cell.missing()
    assert work(config, True, 1).failed is None
    (path,) = cell.found("pattern.json")
    assert path.read_bytes() == (config.folder / "pattern.json").read_bytes()
    reading = store.read_all(cell.home.records)
    assert (len(reading.records), reading.skipped) == (1, {})
    shares = patterns.shares({"spt": [[path]], "none": [[]]})
    assert shares.keys() == {"spt"}
    assert sum(shares["spt"].values()) == pytest.approx(100)
    out = str(tmp_path / "bench")
    said = CliRunner().invoke(app, ["bench", "report", write(tmp_path, text), "--out", out]).output
    assert "| % of the trained values | norm1 | q | k | v | proj |" in said


def test_work__runs_and_reads_test_later_and_keeps_what_was_said(tmp_path: Path) -> None:
    text = 'tasks = ["digits"]\nmethods = ["linear"]\nsettings = { epochs = 1, device = "cpu", cache = "off" }'
    home = Home(tmp_path / "bench")
    loaded = suite(tmp_path, text)
    config = home.placed(loaded.run("digits", loaded.entries["linear"], {}, 0))
    assert work(config, False, 1).failed is None
    record = home.record(config)
    assert record is not None
    assert record.test is None
    assert "epoch 1/1" in (config.folder / "output.txt").read_text()
    assert work(config, True, 1).failed is None
    again = home.record(config)
    assert again is not None
    assert again.test is not None
    assert again.val == record.val


def test_work__what_fails_is_a_sentence(tmp_path: Path) -> None:
    home = Home(tmp_path / "bench")
    config = home.placed(RunConfig.of({"data": str(tmp_path / "nothing"), "method": "linear"}))
    assert "There is no task" in str(work(config, True, 1).failed)
    assert home.record(config) is None


def test_commands__run_status_and_report(tmp_path: Path) -> None:
    text = 'tasks = ["digits"]\nmethods = ["linear", "bias"]\nsettings = { epochs = 1, device = "cpu" }'
    path, out = write(tmp_path, text), str(tmp_path / "bench")
    runner = CliRunner()

    def call(*words: str) -> str:
        done = runner.invoke(app, ["bench", *words, "--out", out])
        assert done.exit_code == 0, done.output
        return done.output

    assert "0 of 1" in call("status", path)
    assert "no tested runs" in runner.invoke(app, ["bench", "report", path, "--out", out]).output
    call("run", path, "--methods", "linear", "--workers", "1")
    assert "1 of 2 runs are done" in call("status", path)
    assert "1 of 2 runs are done already" in call("run", path, "--workers", "1")
    said = call("report", path, "--plots", str(tmp_path / "plots"))
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in said.splitlines() if "|" in line}
    assert {"linear", "bias"} <= rows.keys()
    assert "| method | digits | mean of tasks | mean rank |" in said
    assert (tmp_path / "plots" / "ranks.png").stat().st_size > 1_000
    page = tmp_path / "report.html"
    call("report", path, "--format", "html", "--to", str(page))
    assert "<td>bias</td>" in page.read_text()
    wrong = runner.invoke(app, ["bench", "run", path, "--methods", "lienar", "--out", out])
    assert "'lienar'" in wrong.output
    assert "'linear'" in wrong.output
