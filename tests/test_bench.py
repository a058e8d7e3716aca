"""Suites: what is to be run follows from the file and the records, whoever made them."""

import tomllib
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

import vitgraft
from tests.benchmark_copies import SMALL, noah
from tests.pages import Checked
from tests.test_records import record as make
from tests.toy import in_process, some_digits
from vitgraft import methods
from vitgraft.analyze.bare import bare
from vitgraft.bench import processes
from vitgraft.bench.cell import DIVERGED, Cell, Home, Job, cells, choosers
from vitgraft.bench.runner import HOPELESS, Outcome, fill, work
from vitgraft.bench.suite import Suite, load, shipped
from vitgraft.cli import app
from vitgraft.core.shape import measure
from vitgraft.data import builtin, source
from vitgraft.data.benchmarks.names import TABLES
from vitgraft.data.benchmarks.table import Benchmark
from vitgraft.data.split import retraining
from vitgraft.errors import ConfigError, DataError
from vitgraft.report import patterns
from vitgraft.results import store
from vitgraft.results.record import Scores
from vitgraft.runs.config import RunConfig
from vitgraft.runs.kept_split import load_task

SUITE = """
tasks = ["digits", "flowers"]
seeds = [0, 1]
settings = { epochs = 8 }
grid = { lr_times = [1, 4] }

[methods]
linear = {}
wide = { method = "lora", rank_note = 1 }
"""


ONE = 'tasks = ["digits"]\nmethods = ["linear"]\nsettings = { epochs = 1, device = "cpu" }'


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
    equal: bool = False

    def submit(self, job: Job) -> "Future[Outcome]":
        first, *others = (self.run(config, job.test) for config in (job.config, *job.others))
        done: Future[Outcome] = Future()
        done.set_result(replace(first, others=tuple(others)))
        return done

    def run(self, config: RunConfig, test: bool) -> Outcome:
        self.ran.append(Job(config, test))
        if config.data == self.broken:
            return Outcome(1.0, "no such data")
        values = config.table()
        score = Scores(loss=1.0, top1=1000 * values["lr"] + values["epochs"], top5=None, mean_per_class=0, n=9)
        if self.equal:
            score = replace(score, top1=50.0, loss=1 / values["lr"])
        record = make(config=values, seed=values["seed"], val=score, test=score if test else None)
        store.add(self.home.records, record)
        return Outcome(1.0)

    def fill(self, some: Sequence[Cell]) -> list[str]:
        return fill(some, self.submit, lambda *said: None)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(Home(tmp_path / "bench"))


def suite(folder: Path, text: str = SUITE) -> Suite:
    return load(write(folder, text.replace(", rank_note = 1", "")))


def configs(jobs: Iterable[Job]) -> list[tuple[float, int, bool]]:
    return sorted((config.table()["lr"], config.training.seed, test) for config, test, _ in jobs)


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


def test_fill__a_task_without_data_is_told_once_and_left(tmp_path: Path, lab: Lab) -> None:
    """What waits of it is given up, or this would wait for ever; what runs already is not told again."""
    ran = [Outcome(1.0, "no such folder", no_data=True)] * 2

    def submit(job: Job) -> "Future[Outcome]":
        if job.config.data != "digits":
            return lab.submit(job)
        future: Future[Outcome] = Future()
        if ran:
            future.set_result(ran.pop())
        return future

    told: list[str | None] = []
    found = cells(suite(tmp_path), lab.home)
    assert fill(found, submit, lambda *ended: told.append(ended[2].failed)) == ["digits: no such folder"]
    assert [one for one in told if one is not None] == ["no such folder"]
    assert all(cell.done() == (0 if cell.task == "digits" else cell.size()) for cell in found)


def test_grid__takes_fields_of_the_method_and_keys_of_a_run(tmp_path: Path, lab: Lab) -> None:
    text = """
    tasks = ["digits"]
    [methods.lora]
    grid = { rank = [2, 4], label_smoothing = [0.0, 0.1] }
    """
    (cell,) = cells(suite(tmp_path, text), lab.home)
    assert {(config.method, config.training.label_smoothing) for config, *_ in cell.missing()} == {
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
    epochs = [(config.training.epochs, round(config.table()["lr"], 3)) for config, test, _ in lab.ran if not test]
    assert sorted(epochs) == [(2, 0.01), (2, 0.02), (2, 0.03), (2, 0.04), (4, 0.03), (4, 0.04)]
    assert configs(job for job in lab.ran if job[1]) == [(0.04, 0, True), (0.04, 1, True)]
    assert cell.done() == cell.size() == len(lab.ran)


RETRAINED = SUITE.replace("seeds", "retrain = true\nseeds")


def kinds(jobs: Iterable[Job]) -> list[tuple[str, float, int, bool]]:
    return sorted((config.train_on, config.table()["lr"], config.training.seed, test) for config, test, _ in jobs)


def test_retrain__trains_the_choice_on_train_and_val_with_every_seed(tmp_path: Path, lab: Lab) -> None:
    (cell,) = cells(suite(tmp_path, RETRAINED), lab.home, ["digits"], ["wide"])
    assert (cell.done(), cell.size()) == (0, 4)
    assert kinds(cell.missing()) == [("train", 0.001, 0, False), ("train", 0.004, 0, False)]
    lab.submit(cell.missing()[0])
    assert (cell.done(), cell.chosen(), len(cell.missing())) == (1, [], 1)
    lab.submit(cell.missing()[0])
    assert (cell.done(), cell.choice()) == (2, {"lr_times": 4})
    assert kinds(cell.missing()) == [("trainval", 0.004, 0, True), ("trainval", 0.004, 1, True)]
    lab.submit(cell.missing()[0])
    assert (cell.done(), len(cell.missing())) == (3, 1)
    assert lab.fill([cell]) == []
    assert cell.done() == cell.size() == len(lab.ran)
    assert [record.config["train_on"] for record in cell.tested()] == ["trainval", "trainval"]
    tried = [config for config, test, _ in lab.ran if not test]
    assert all((record := lab.home.record(config)) is not None and record.test is None for config in tried)


def test_retrain__nothing_to_choose_goes_straight_to_train_and_val(tmp_path: Path, lab: Lab) -> None:
    text = RETRAINED.replace("grid = { lr_times = [1, 4] }", "")
    (cell,) = cells(suite(tmp_path, text), lab.home, ["digits"], ["linear"])
    assert cell.size() == 2
    assert kinds(cell.missing()) == [("trainval", 0.01, 0, True), ("trainval", 0.01, 1, True)]


@pytest.mark.parametrize("count", [2, 3, 4, 5])
@pytest.mark.parametrize("halving", [0, 1, 2, 4])
@pytest.mark.parametrize("extra", ["", "retrain = true\n"])
def test_size__is_what_runs(tmp_path: Path, lab: Lab, count: int, halving: int, extra: str) -> None:
    text = SUITE.replace("[1, 4]", str(list(range(1, count + 1)))).replace(
        "seeds", f"halving = {halving}\n{extra}seeds"
    )
    text = text.replace("epochs = 8", "epochs = 16")
    (cell,) = cells(suite(tmp_path, text), lab.home, ["digits"], ["linear"])
    assert cell.done() == 0
    lab.fill([cell])
    assert cell.done() == cell.size() == len({config.folder for config, *_ in lab.ran})
    assert cell.missing() == []
    assert [record.config["lr"] for record in cell.tested()] == [pytest.approx(0.01 * count)] * 2


def test_retrain__with_anothers_choice(tmp_path: Path, lab: Lab) -> None:
    text = RETRAINED.replace('method = "lora", rank_note = 1', 'method = "lora", chosen_by = "linear"')
    first, second = cells(suite(tmp_path, text), lab.home, ["digits"])
    assert (second.missing(), second.done(), second.size()) == ([], 0, 2)
    lab.fill([first])
    assert kinds(second.missing()) == [("trainval", 0.004, 0, True), ("trainval", 0.004, 1, True)]


def test_retrain__an_entry_may_leave_it(tmp_path: Path, lab: Lab) -> None:
    text = RETRAINED.replace("rank_note = 1", "retrain = false")
    first, second = cells(replace(suite(tmp_path, text), tune=1), lab.home, ["digits"])
    assert {kind for kind, *_ in kinds([*first.missing(), *second.missing()])} == {"train", "trainval"}
    assert (first.size(), second.size()) == (2, 2)


def test_legacy_test__is_left_to_the_runs_that_count(tmp_path: Path, lab: Lab) -> None:
    text = SUITE.replace("epochs = 8", "epochs = 8, legacy_test = true")
    (cell,) = cells(suite(tmp_path, text), lab.home, ["digits"], ["linear"])
    lab.fill([cell])
    assert {test: config.training.legacy_test for config, test, _ in lab.ran} == {False: False, True: True}
    assert cell.done() == cell.size() == len(lab.ran) == 4


PAPER = """
tasks = ["vtab1k:svhn", "vtab1k:dmlab"]
grid = "protocol"
settings = { protocol = "vpt" }
[methods]
deep = { method = "vpt-deep:tokens=10" }
full = {}
mine = { method = "lora", grid = { lr_times = [2] } }
"""


def test_protocol__its_grid_is_what_its_paper_chose_from(tmp_path: Path, lab: Lab) -> None:
    found = suite(tmp_path, PAPER)
    deep = found.entries["deep"]
    assert [len(found.choices(name, "vtab1k:svhn")) for name in ("deep", "full")] == [40, 4]
    choice = {"base_lr": 50.0, "weight_decay": 0.01}
    assert found.choices("deep", "vtab1k:svhn")[0] == choice
    plain, task_of_its_own = (found.run(task, deep, choice, 0) for task in found.tasks)
    assert (plain.training.lr, plain.training.batch_size) == (25.0, 128)
    assert (task_of_its_own.training.lr, task_of_its_own.training.batch_size) == (12.5, 64)
    assert task_of_its_own.method == "vpt-deep:dropout=0.1,tokens=10", "what the suite says is not filled"
    assert plain.training.weight_decay == 0.01


def test_protocol__a_task_may_have_a_grid_of_its_own(tmp_path: Path) -> None:
    """Prompts are tried at larger rates on Stanford Cars (VPT's tune_fgvc.py)."""
    found = suite(tmp_path, PAPER.replace('"vtab1k:svhn", "vtab1k:dmlab"', '"fgvc:CUB", "fgvc:stanford_cars"'))
    assert found.tasks == ("fgvc:cub200", "fgvc:cars")
    birds, cars = ({choice["base_lr"] for choice in found.choices("deep", task)} for task in found.tasks)
    assert (max(birds), max(cars), min(cars)) == (50.0, 1000.0, 0.05)
    assert all(found.choices(name, "fgvc:cub200") == found.choices(name, "fgvc:cars") for name in ("full", "mine"))


def test_protocol__ours_has_a_grid_for_every_method(tmp_path: Path) -> None:
    """Fields, rates and decays to choose from; every value makes a run, and --tune draws of them."""
    for name in methods.names():
        found = suite(tmp_path, f'tasks = ["digits"]\nmethods = ["{name}"]\ngrid = "protocol"')
        some = replace(found, tune=2)
        assert len(found.choices(name, "digits")) > len(some.choices(name, "digits")) == 2
        assert some.fixed([name]) == []
    assert suite(tmp_path, SUITE).fixed(["linear", "wide"]) == []
    assert suite(tmp_path, 'tasks = ["digits"]\nmethods = ["bias"]').fixed(["bias"]) == ["bias"]


@pytest.mark.parametrize(("protocol", "chosen"), [("vpt", 1.0), ("vitgraft", 4.0)])
def test_ties__are_decided_as_the_protocol_says(tmp_path: Path, lab: Lab, protocol: str, chosen: float) -> None:
    """By the smaller rate, or by the smaller loss, which is that of the larger rate here."""
    lab.equal = True
    settings = f'settings = {{ protocol = "{protocol}", epochs = 8, warmup_epochs = 1 }}'
    (cell,) = cells(
        suite(tmp_path, SUITE.replace("settings = { epochs = 8 }", settings)), lab.home, ["digits"], ["linear"]
    )
    lab.fill([cell])
    assert cell.choice() == {"lr_times": chosen}


def test_protocol__rates_are_multiples_of_its_own(tmp_path: Path) -> None:
    found = suite(tmp_path, PAPER)
    assert found.run("vtab1k:svhn", found.entries["mine"], {"lr_times": 2}, 0).training.lr == 1.0


def test_protocol__a_shorter_run_warms_up_for_a_shorter_time(tmp_path: Path) -> None:
    found = suite(tmp_path, PAPER)
    shorter = found.trial("vtab1k:svhn", found.entries["full"], {}, 4).training
    assert (shorter.epochs, shorter.warmup_epochs) == (25, 1.25)


def test_changes__are_keys_of_every_run_and_win(tmp_path: Path) -> None:
    path = write(tmp_path, PAPER.replace("full = {}", "full = { epochs = 7 }"))
    found = load(path, {"epochs": 3, "warmup_epochs": 1, "root": "there", "protocol": "vqt"})
    for name, entry in found.entries.items():
        made = found.run("vtab1k:svhn", entry, found.choices(name, "vtab1k:svhn")[0], 0)
        assert (made.training.epochs, made.root, made.protocol) == (3, "there", "vqt"), name
    assert len(found.choices("deep", "vtab1k:svhn")) == 20, "the grid is the new protocol's"


def test_tuned__draws_some_of_the_grid_the_same_each_time(tmp_path: Path) -> None:
    whole = suite(tmp_path, SUITE.replace("[1, 4]", "[1, 2, 3, 4, 5, 6, 7, 8]"))
    some, again = replace(whole, tune=3), replace(whole, tune=3)
    drawn = some.choices("linear", "digits")
    assert len(drawn) == 3
    assert all(choice in whole.choices("linear", "digits") for choice in drawn)
    assert drawn == again.choices("linear", "digits") != some.choices("wide", "digits")
    assert len(replace(whole, tune=99).choices("linear", "digits")) == 8


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
        ("seeds", "retrain = 1\nseeds", "linear: retrain=1: expected true or false"),
        ('"lora", rank_note = 1', '"noah", retrain = true', "wide: noah chooses on val.*retrain = false"),
        ('"lora", rank_note = 1', '"spt-lora:budget=auto", retrain = true', "wide: .*retrain = false"),
        ("settings = { epochs = 8 }", 'retrain = true\nsettings.select = "best"', "linear: select=best chooses"),
        ("epochs = 8", 'train_on = "trainval"', "linear: train_on is no setting"),
        (
            "epochs = 8 }\ngrid = { lr_times = [1, 4] }",
            'protocol = 3 }\ngrid = "protocol"',
            "protocol=3: expected one of noah",
        ),
        ("[1, 4]", '["a"]', r"lr_times=\['a'\]: expected numbers above 0"),
        ("[1, 4]", "[1, 0]", r"lr_times=\[1, 0\]: expected numbers above 0"),
        ('"lora", rank_note = 1', '"lora", chosen_by = 3', "wide: chosen_by=3: expected the name"),
        ('"digits", "flowers"', '"vtab1k:cifar:trainval"', "linear: vtab1k:cifar100:trainval has no val"),
        (
            '"digits", "flowers"',
            '"vtab1k:cifar", "vtab1k:CIFAR-100"',
            "stands there twice, perhaps in two spellings",
        ),
        ("seeds = [0, 1]", "seeds = [0, 0]", "one stands there twice, and would count as two runs"),
        (
            '= {}\nwide = { method = "lora", rank_note = 1 }',
            '= { method = "lora", grid = { rank = [4] } }\nwide = { method = "vqt", chosen_by = "linear" }',
            "wide: .*'rank'",
        ),
        ("linear = {}", "linear = { weight_decay = 1, grid = { weight_decay = [1] } }", "weight_decay is chosen"),
    ],
)
def test_load__a_mistake_is_told_before_anything_runs(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in SUITE
    with pytest.raises(ConfigError, match=told):
        suite(tmp_path, SUITE.replace(old, new))


def test_load__what_is_no_suite_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"There is no suite 'nothing'.*builtin, fgvc, quick, vtab1k"):
        load("nothing")
    with pytest.raises(ConfigError, match="is no TOML"):
        load(write(tmp_path, "tasks ="))


def test_load__a_suite_may_extend_another(tmp_path: Path) -> None:
    base = suite(tmp_path, SUITE)
    (tmp_path / "other.toml").write_text('extends = "suite.toml"\n[settings]\nepochs = 17\n')
    other = load(str(tmp_path / "other.toml"))
    assert (other.name, other.entries, other.tasks) == ("other", base.entries, base.tasks)
    assert other.settings == {**base.settings, "epochs": 17}


@pytest.mark.parametrize("name", shipped())
def test_shipped__are_complete(name: str) -> None:
    found = load(name)
    assert set(shipped()) == {"builtin", "fgvc", "quick", "vtab1k"}
    assert found.about
    if name in TABLES:
        assert found.tasks == tuple(row.name for row in TABLES[name].rows)
        retrained = {entry.retrain for key, entry in found.entries.items() if key not in ("noah", "ssf")}
        assert retrained == {name == "vtab1k"}, "VPT's runs on FGVC are of train alone"
        assert found.entries["ssf"].retrain, "SSF's runs are of the official train"
    if name != "quick":
        used = {methods.parse(entry.method).name for entry in found.entries.values()}
        assert used == set(methods.names())


STUDIES = sorted((Path(__file__).parent.parent / "studies").glob("*.toml"))
BUDGET = 36_864


def test_studies__are_found() -> None:
    assert len(STUDIES) >= 2


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_studies__are_what_they_say(path: Path) -> None:
    found = load(str(path))
    drawn = set(found.tasks) <= set(builtin.DEFAULT_SUITE)
    if drawn:
        assert {builtin.info(task).group for task in found.tasks} == {"natural", "specialized", "structured"}
    else:
        assert {Path(task).parent for task in found.tasks} == {Path("data/photos")}, "where packages.py lays them"
        assert "python demo/packages.py data/photos" in found.about
    assert found.seeds == (0, 1, 2)
    assert "Declared before any run" in found.about
    if path.stem == "where_to_tune":
        shape = measure(vitgraft.load_backbone("figures"))
        assert methods.parse("lora").formula(shape) == BUDGET
        for entry in found.entries.values():
            assert 0.3 * BUDGET < methods.parse(entry.method).formula(shape) <= BUDGET


@pytest.mark.parametrize("name", ["photos", "textiles"])
def test_studies__of_photographs_give_lora_adapters_and_spt_one_budget(name: str) -> None:
    found = load(str(STUDIES[0].parent / f"{name}.toml"))
    shape = measure(bare(str(found.settings["backbone"]), "112"))
    budget = methods.parse("lora").formula(shape)
    for entry in ("lora", "adapter", "spt-lora", "spt-adapter"):
        assert 0.95 * budget < methods.parse(found.entries[entry].method).formula(shape) <= budget


@pytest.mark.slow
def test_found__is_kept_with_the_record_and_summed_up(tmp_path: Path) -> None:
    text = """
    tasks = ["DIGITS"]
    settings = { epochs = 1, device = "cpu" }
    methods = { spt = { method = "spt-lora:budget=5k,images=16,batch=8" } }
    """.replace("DIGITS", str(some_digits(tmp_path / "digits")))
    (cell,) = cells(suite(tmp_path, text), Home(tmp_path / "bench"))
    assert cell.found("pattern.json") == []
    ((config, *_),) = cell.missing()
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
    task = str(some_digits(tmp_path / "digits"))
    text = ONE.replace("digits", task).replace(" }", ', cache = "off" }')
    home = Home(tmp_path / "bench")
    loaded = suite(tmp_path, text)
    config = home.placed(loaded.run(task, loaded.entries["linear"], {}, 0))
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


def only(folder: Path, lab: Lab) -> RunConfig:
    """A run of a few digits, the one of its suite."""
    text = ONE.replace("digits", str(some_digits(folder / "digits")))
    (job,) = (job for cell in cells(load(write(folder, text)), lab.home) for job in cell.missing())
    return job.config


def test_work__whose_record_was_deleted_is_done_anew(tmp_path: Path, lab: Lab) -> None:
    config = only(tmp_path, lab)
    assert work(config, True, 1).failed is None
    own = config.folder / store.FILE
    store.write(own, replace(store.read(own), device="elsewhere"))
    lab.home.path(config).unlink()
    assert work(config, True, 1).failed is None
    assert getattr(lab.home.record(config), "device", None) == store.read(own).device != "elsewhere"


def test_work__stopped_between_the_writes_of_what_test_gave_is_completed(tmp_path: Path, lab: Lab) -> None:
    config = only(tmp_path, lab)
    assert work(config, False, 1).failed is None
    before = lab.home.path(config).read_bytes()
    assert work(config, True, 1).failed is None
    lab.home.path(config).write_bytes(before)
    assert work(config, True, 1).failed is None
    assert getattr(lab.home.record(config), "test", None) is not None


def test_work__what_is_to_be_chosen_needs_val(tmp_path: Path, lab: Lab) -> None:
    """Before anything is trained; all candidates would pass for ones that diverged."""
    text = ONE.replace("epochs = 1", f'epochs = 1, data = "{some_digits(tmp_path / "digits")}", val_fraction = 0')
    config = lab.home.placed(RunConfig.of(tomllib.loads(text)["settings"] | {"method": "linear"}))
    for others in ((), (replace(config, out=str(tmp_path / "other")),)):
        assert "has no val to choose on" in str(work(config, False, 1, others).failed)
    assert lab.home.record(config) is None


def test_work__without_room_on_the_accelerator_says_what_to_do(
    tmp_path: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **more: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore")

    monkeypatch.setattr("vitgraft.runs.run.run", full)
    config = only(tmp_path, lab)
    failed = str(work(config, True, 1).failed)
    assert failed.startswith(
        "CUDA out of memory. Tried to allocate 2 GiB. Other runs share the device: use --workers 1"
    )


def test_work__a_full_disk_is_not_the_tasks_fault(
    tmp_path: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **more: Any) -> None:
        raise DataError("no space left")

    monkeypatch.setattr("vitgraft.runs.run.run", full)
    config = only(tmp_path, lab)
    outcome = work(config, True, 1)
    assert (outcome.failed, outcome.no_data) == ("no space left", False)


def test_choosers__run_with_those_that_they_choose_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nothing is missing of what waits for a choice, and all would pass for done."""
    text = SUITE.replace("rank_note = 1", 'chosen_by = "linear"')
    assert choosers(suite(tmp_path, text), ["wide"]) == ["linear", "wide"]
    asked: list[str] = []
    monkeypatch.setattr("vitgraft.bench.runner.fill", lambda some, *_: asked.extend(cell.name for cell in some))
    found = CliRunner().invoke(
        app, ["bench", "run", write(tmp_path, text), "--methods", "wide", "--out", str(tmp_path / "bench")]
    )
    assert set(asked) == {"linear", "wide"}
    assert found.exit_code != 0
    assert "0 of 10 runs are done" in found.output


def test_weights__of_another_file_of_the_same_name_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "local", in_process)
    files = [tmp_path / name / "model.safetensors" for name in ("mae", "dino")]
    values = vitgraft.load_backbone("figures").model.state_dict()
    for more, path in enumerate(files):
        path.parent.mkdir()
        save_file({name: value + more for name, value in values.items()}, path)
    text = ONE.replace("digits", str(some_digits(tmp_path / "digits")))
    text = text.replace("epochs = 1", 'epochs = 1, checkpoint = "CHECKPOINT"')
    suite = write(tmp_path, text.replace("CHECKPOINT", str(files[0])))
    command = ["bench", "run", suite, "--workers", "1", "--out", str(tmp_path / "bench")]
    (cell,) = cells(load(suite), Home(tmp_path / "bench"))
    (job,) = cell.missing()
    assert work(job.config, job.test, 1).failed is None
    assert CliRunner().invoke(app, command).exit_code == 0
    write(tmp_path, text.replace("CHECKPOINT", str(files[1])))
    found = CliRunner().invoke(app, command)
    assert found.exit_code != 0
    assert "has other weights than the file of that name" in found.output


def test_places__options_of_the_other_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, ONE)
    for given in (("--gpus", "1"), ("--address", "auto"), ("--on", "ray", "--workers", "2")):
        found = CliRunner().invoke(app, ["bench", "run", path, "--out", str(tmp_path / "bench"), *given])
        assert found.exit_code != 0
        assert "means nothing with --on" in found.output


def test_grid__an_inherited_one_leaves_what_the_entry_sets(tmp_path: Path) -> None:
    text = SUITE.replace("lr_times = [1, 4]", "base_lr = [1, 4], weight_decay = [0.1, 0.2]")
    text = text.replace("rank_note = 1", "lr = 0.5, weight_decay = 0.3")
    found = suite(tmp_path, text).entries
    assert dict(found["wide"].grid) == {}
    assert set(found["linear"].grid) == {"base_lr", "weight_decay"}
    with pytest.raises(ConfigError, match="linear: lr is chosen from a grid, and cannot be set"):
        load(write(tmp_path, text), {"lr": 0.1})


def test_work__what_fails_is_a_sentence(tmp_path: Path) -> None:
    home = Home(tmp_path / "bench")
    config = home.placed(RunConfig.of({"data": str(tmp_path / "nothing"), "method": "linear"}))
    outcome = work(config, True, 1)
    assert "There is no task" in str(outcome.failed)
    assert outcome.no_data
    assert home.record(config) is None


def test_commands__run_status_and_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = some_digits(tmp_path / "digits")
    text = f'tasks = ["{task}"]\nmethods = ["linear", "bias"]\nsettings = {{ epochs = 1, device = "cpu" }}'
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
    monkeypatch.setattr(processes, "local", in_process)  # a process of its own was tried
    assert "1 of 2 runs are done already" in call("run", path, "--workers", "1")
    said = call("report", path, "--plots", str(tmp_path / "plots"))
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in said.splitlines() if "|" in line}
    assert {"linear", "bias"} <= rows.keys()
    assert "| mean of tasks | mean rank |" in said
    assert (tmp_path / "plots" / "ranks.png").stat().st_size > 1_000
    page = tmp_path / "report.html"
    call("report", path, "--format", "html", "--to", str(page))
    assert "| linear - bias | " in call("compare", path, "linear", "bias")
    assert "no task yet" in runner.invoke(app, ["bench", "compare", path, "linear", "bias", "--out", "no"]).output
    made = Checked(page.read_text())
    assert {"bias", "linear"} <= set(made.text)
    assert len(made.of("details")) == 2  # each run's facts
    assert "2 of 2" in call("status", path, "--set", "workers=3", "--set", "cache=off")
    assert "0 of 2" in call("status", path, "--set", "epochs=2", "--set", "legacy_test=true")
    for given, told in (("epochs", "has no value"), ("epohcs=2", "'epochs'"), ("data=x", "data is no setting")):
        assert told in runner.invoke(app, ["bench", "status", path, "--out", out, "--set", given]).output
    wrong = runner.invoke(app, ["bench", "run", path, "--methods", "lienar", "--out", out])
    assert "'lienar'" in wrong.output
    assert "'linear'" in wrong.output


def test_train_on__is_the_same_as_the_benchmarks_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, table in SMALL.items():
        monkeypatch.setitem(cast("dict[str, Benchmark]", TABLES), name, table)
    folder = noah(tmp_path / "cifar")
    root = {"root": tmp_path}
    spelled, plain = source.load("vtab1k:cifar100:trainval", **root), source.load("vtab1k:cifar100", **root)
    for found in (
        source.load("vtab1k:cifar100", train_on="trainval", **root),
        source.load("vtab1k:cifar100:trainval", train_on="trainval", **root),
        source.load(folder, train_on="trainval"),
        retraining(plain),
    ):
        assert found.fingerprint() == spelled.fingerprint() != plain.fingerprint()
        assert {name: len(split) for name, split in found.splits.items()} == {"train": 12, "test": 6}


def test_train_on__joins_the_splits_of_any_task() -> None:
    plain, both = source.load("digits"), source.load("digits", train_on="trainval")
    train, val = plain.splits["train"], plain.splits["val"]
    assert both.splits.keys() == {"train", "test"}
    assert both.splits["train"].labels.tolist() == [*train.labels.tolist(), *val.labels.tolist()]
    assert both.splits["train"].images.name(len(train)) == val.images.name(0)
    assert load_task(RunConfig.of({"data": "digits", "train_on": "trainval"})).fingerprint() == both.fingerprint()
    with pytest.raises(DataError, match="has no val split"):
        retraining(both)
    with pytest.raises(ConfigError, match=r"'trainvla'.*'trainval'"):
        source.load("digits", train_on="trainvla")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"select": "best"}, "select=best chooses"),
        ({"patience": 3}, "patience chooses"),
        ({"method": "spt-lora:budget=auto"}, "spt-lora:budget=auto chooses"),
        ({"method": "spt-adapter:budget=1k+2k"}, r"spt-adapter:budget=1k\+2k chooses"),
        ({"method": "noah"}, "noah chooses"),
        ({"data": "vtab1k:cifar100:trainval", "train_on": "train", "patience": 3}, "patience chooses"),
    ],
)
def test_train_on__what_needs_validation_is_refused_at_once(values: dict[str, Any], told: str) -> None:
    config = RunConfig.of({"data": "digits", "train_on": "trainval", **values})
    with pytest.raises(ConfigError, match=told):
        load_task(config)


def test_train_on__what_needs_none_is_not() -> None:
    for method in ("head2toe", "spt-lora:budget=1k", "spt-lora:budget=auto,mask=m.pth", "noah:architecture=a"):
        config = RunConfig.of({"data": "digits", "train_on": "trainval", "method": method})
        config.check_choosing()
        assert config.retrains


TUNED = """
tasks = ["digits"]
settings = { epochs = 2, device = "cpu" }
grid = { lr_times = [1, 4], weight_decay = [0, 0.1] }
methods = ["linear", "lora"]
"""


def test_missing__candidates_that_can_train_at_once_are_one_job(tmp_path: Path, lab: Lab) -> None:
    linear, lora = cells(load(write(tmp_path, TUNED)), lab.home)
    (job,) = linear.missing()
    rates = [(config.table()["lr"], config.table()["weight_decay"]) for config in (job.config, *job.others)]
    assert rates == [(0.01, 0.0), (0.01, 0.1), (0.04, 0.0), (0.04, 0.1)]
    assert [len(job.others) for job in lora.missing()] == [0, 0, 0, 0]


@pytest.mark.slow
def test_work__on_several_at_once_leaves_what_each_would(tmp_path: Path, lab: Lab) -> None:
    (cell,) = cells(load(write(tmp_path, TUNED)), lab.home, names=["linear"])
    (job,) = cell.missing()
    outcome = work(job.config, job.test, 1, job.others)
    assert [one.failed for one in (outcome, *outcome.others)] == [None] * 4
    records = [lab.home.record(config) for config in (job.config, *job.others)]
    found = [record for record in records if record is not None and record.val is not None]
    assert [(record.cost.together, record.test) for record in found] == [(4, None)] * 4
    assert len({record.history.train_loss[-1] for record in found}) == 4
    assert not {"out", "records"} & found[0].config.keys(), "where a run was kept is nobody else's matter"
    alone = replace(job.others[0], out=str(tmp_path / "alone"), records=str(tmp_path / "records"))
    assert work(alone, False, 1).failed is None
    record = store.read(tmp_path / "alone" / store.FILE)
    assert record.history.train_loss == pytest.approx(found[1].history.train_loss, abs=1e-4)
    (chosen,) = cell.missing()
    assert work(chosen.config, True, 1).failed is None
    tested = lab.home.record(chosen.config)
    assert tested is not None
    assert tested.test is not None


def test_work__one_that_diverges_is_not_chosen(tmp_path: Path, lab: Lab) -> None:
    text = TUNED.replace("lr_times = [1, 4], weight_decay = [0, 0.1]", "lr_times = [1, 1e40]")
    (cell,) = cells(load(write(tmp_path, text)), lab.home, names=["linear"])
    (job,) = cell.missing()
    outcome = work(job.config, job.test, 1, job.others)
    assert outcome.failed is None
    assert lab.home.record(job.config) is not None
    assert lab.home.record(job.others[0]) is None
    assert "no longer finite" in store.beside(lab.home.path(job.others[0]), DIVERGED).read_text()
    assert cell.choice() == {"lr_times": 1}


@pytest.mark.slow
def test_fill__says_when_every_candidate_diverged(tmp_path: Path, lab: Lab) -> None:
    text = TUNED.replace("lr_times = [1, 4], weight_decay = [0, 0.1]", "lr_times = [1e39, 1e40]")
    found = cells(load(write(tmp_path, text)), lab.home, names=["lora"])
    told: list[str | None] = []

    def submit(job: Job) -> "Future[Outcome]":
        done: Future[Outcome] = Future()
        done.set_result(work(job.config, job.test, 1, job.others))
        return done

    assert fill(found, submit, lambda *ended: told.append(ended[2].failed)) == [f"digits, lora: {HOPELESS}"]
    assert told == [None, None]
    assert fill(found, submit, lambda *ended: told.append(ended[2].failed)) == [f"digits, lora: {HOPELESS}"]
    assert told == [None, None], "what diverged is not tried again"


def test_damaged_record__is_told_and_run_anew(tmp_path: Path, lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    text = ONE.replace("digits", str(some_digits(tmp_path / "digits")))
    (cell,) = cells(load(write(tmp_path, text)), lab.home)
    (job,) = cell.missing()
    assert work(job.config, True, 1).failed is None
    for path in (lab.home.path(job.config), job.config.folder / store.FILE):
        path.write_text("{")
    (again,) = cells(load(write(tmp_path, text)), lab.home)
    assert (again.done(), again.missing()) == (0, [job])
    assert "Taken for a run that is not done" in caplog.text
    assert work(job.config, True, 1).failed is None
    assert lab.home.record(job.config) is not None


@pytest.mark.slow
def test_work__on_several_does_what_is_missing_of_them(tmp_path: Path, lab: Lab) -> None:
    """As when another process has done some of them in the meantime."""
    (cell,) = cells(load(write(tmp_path, TUNED)), lab.home, names=["linear"])
    (job,) = cell.missing()
    done = job.others[1]
    assert work(done, False, 1).failed is None
    before = lab.home.path(done).read_bytes()
    outcome = work(job.config, job.test, 1, job.others)
    assert [one.failed for one in (outcome, *outcome.others)] == [None] * 4
    assert lab.home.path(done).read_bytes() == before
    records = [lab.home.record(config) for config in (job.config, *job.others)]
    assert [record.cost.together for record in records if record is not None] == [3, 3, 1, 3]
