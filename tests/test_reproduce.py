"""docs/reproduce.md is true: every command of it runs on small stand-ins, and its numbers are the published ones.

A stand-in has the guide's own paths. Only sizes are changed: a small backbone, small copies, two epochs, and of a
suite one task, the first method named, one seed and one point of its grid.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import timm
from safetensors.torch import save_file
from typer.testing import CliRunner

from tests.benchmark_copies import CLASSES, SMALL, noah, vpt
from tests.toy import in_process
from vitgraft.backbones.create import create_model
from vitgraft.bench import processes
from vitgraft.bench import suite as suites
from vitgraft.bench.cell import Home, cells
from vitgraft.bench.suite import load
from vitgraft.cli import app
from vitgraft.data.benchmarks.names import TABLES
from vitgraft.data.benchmarks.table import Benchmark
from vitgraft.report import reference
from vitgraft.report.reference import GROUPS
from vitgraft.train.cost import Cost

GUIDE = (Path(__file__).parent.parent / "docs" / "reproduce.md").read_text()
BACKBONE = "test_vit"
CHECKPOINT = "orig_in21k.safetensors"
KEYS = {
    "image_size": 32,
    "epochs": 2,
    "warmup_epochs": 1,
    "batch_size": 8,
    "device": "cpu",
    "workers": 0,
    "legacy_epochs": "every",  # SynQT's are 10, 20, ..
}
"""What makes a run small."""

ONE = {"vtab1k": "vtab1k:cifar100", "fgvc": "fgvc:cub200"}
ABLATIONS = "synqt_ablations.toml"


FENCE = re.compile(r"^```(\w*)\n(.*?)^```\n", flags=re.DOTALL | re.MULTILINE)
BLOCKS = FENCE.findall(GUIDE)
COMMANDS = [
    line
    for language, block in BLOCKS
    if language == ""
    for line in block.replace("\\\n", " ").splitlines()
    if line.strip()
]
"""Every command of the guide, one a line; a block without a language holds nothing else."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the guide expects it."""
    folder = tmp_path_factory.mktemp("home")
    exports: set[str] = set()
    for row in SMALL["vtab1k"].rows:
        assert row.export is not None
        copy = noah(folder / "vtab-1k" / row.folder)
        if row.export.dataset in exports:
            _relabel(copy)
        exports.add(row.export.dataset)
    for row in SMALL["fgvc"].rows:
        vpt(folder / "fgvc" / row.folder, row.images)
    model, _ = create_model(BACKBONE, pretrained=False)
    save_file(model.state_dict(), folder / CHECKPOINT)
    for language, text in BLOCKS:
        if language == "toml":
            (folder / text.splitlines()[0].removeprefix("# ")).write_text(text)
    return folder


def _relabel(copy: Path) -> None:
    """Two tasks of one data set have other labels."""
    for path in copy.glob("*.txt"):
        pairs = [line.split() for line in path.read_text().splitlines()]
        path.write_text("".join(f"{name} {(int(label) + 1) % CLASSES}\n" for name, label in pairs))


@pytest.fixture
def there(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(home)
    monkeypatch.setattr(processes, "local", in_process)
    monkeypatch.setattr(suites, "load", lambda *given: replace(load(*given), seeds=(0,)))
    monkeypatch.setattr(
        "vitgraft.runs.keeping.measure_cost", lambda *_, **__: Cost(0, 0, 0, 0, 0, 0)
    )  # tested elsewhere
    for name, table in SMALL.items():
        monkeypatch.setitem(cast("dict[str, Benchmark]", TABLES), name, table)
    return home


def shrunk(command: str) -> list[str]:
    """A command with small sizes; whatever it names stays as it is."""
    program, *words = shlex.split(command)
    assert program == "vitgraft", f"{command!r} is not run by this test"
    words = [re.sub(r"vit_base_patch16_224\.\w+", BACKBONE, word) for word in words]
    if words[0] == "fit":
        pairs = {key.replace("_", "-"): value for key, value in KEYS.items()}
        return words + [text for key, value in pairs.items() for text in (f"--{key}", str(value))]
    if words[0] == "bench":
        return _suite(words)
    return words


def _suite(words: Sequence[str]) -> list[str]:
    """One task, the first method, and where weights would be fetched the file that is there."""
    suite, given = words[2], list(words)
    if "--methods" in given:
        place = given.index("--methods") + 1
        given[place] = given[place].split(",")[0]
    else:
        given += ["--methods", "scales-one"]
    keys: dict[str, object] = {**KEYS, "backbone": BACKBONE, "checkpoint": CHECKPOINT}
    given += [text for key, value in keys.items() for text in ("--set", f"{key}={value}")]
    given += ["--tasks", ONE.get(suite, ONE["vtab1k"])]
    return [*given, "--tune", "1"]


def call(words: Sequence[str]) -> str:
    done = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert done.exit_code == 0, f"{shlex.join(words)}\n{done.output}"
    return done.output


def test_commands__are_found() -> None:
    """A guard that guards nothing fails; and a command may stand in no other place."""
    assert len(COMMANDS) >= 15
    assert len(COMMANDS) == len(re.findall(r"^vitgraft ", GUIDE, flags=re.MULTILINE))
    used = {tuple(words[:2]) for words in map(str.split, COMMANDS)}
    assert used == {("vitgraft", name) for name in ("data", "fit", "eval", "bench")}


def test_every_command__runs_in_the_guides_order(there: Path) -> None:
    for command in COMMANDS:
        said = call(shrunk(command))
        if "data check" in command:
            count = 19 if "vtab" in command else 5
            assert f"{count} of {count} tasks are complete and right" in said
        if "bench report" in command:
            assert "| method |" in said
            table = re.search(r"--against (\S+)", command)
            assert table is None or f"({table[1]})" in said
            legacy = "legacy_test" in command or ABLATIONS in command
            assert ("best on test (legacy)" in said.split("Published")[0]) == legacy


def test_suites__are_the_guides(there: Path) -> None:
    """Methods that commands name are the suites'; numbers of runs are those of the table of hours."""
    counts = []
    for command in COMMANDS:
        words = shlex.split(command)
        if words[1:3] == ["bench", "run"]:
            found = load(words[3])
            if "--tune" in words:
                found = replace(found, tune=int(words[words.index("--tune") + 1]))
            names = words[words.index("--methods") + 1].split(",") if "--methods" in words else None
            counts.append(sum(cell.size() for cell in cells(found, Home(there / "none"), None, names)))
    table, prompts, synqt, vqt, ablations, in1k, *fgvc = counts
    for runs in (table, prompts, synqt + vqt + in1k, ablations, *fgvc):
        assert f"| {runs:,} |" in GUIDE, f"{runs:,} runs are in no row of the table of hours"
    assert ABLATIONS in GUIDE


def test_backbones__are_timms() -> None:
    known = timm.list_models("vit_base_patch16_224.*", pretrained=True)
    assert set(re.findall(r"vit_base_patch16_224\.\w+", GUIDE)) <= set(known)


def rows(table: str) -> list[str]:
    """A published table's rows as the guide has them: means recomputed from the cells."""
    found: dict[tuple[str, str], list[reference.Row]] = {}
    for row in reference.rows(table=table, kind="cell", unit="%"):
        found.setdefault((row.method, row.variant), []).append(row)
    lines = []
    for key, cells_of in found.items():
        means = reference.means(cells_of)
        values: list[float | None] = [means.groups[group] for group in GROUPS] if means.groups else []
        values += [means.of_groups] if means.groups else [cell.value for cell in cells_of]
        numbers = " | ".join(f"{value:.1f}" for value in [*values, means.of_tasks] if value is not None)
        name = " ".join(filter(None, key))
        lines.append(f"| {name} | `{cells_of[0].ours}` | {numbers} | {cells_of[0].selection} |")
    return lines


@pytest.mark.parametrize("mark", re.findall(r"<!-- (.*?) -->", GUIDE))
def test_expected__are_the_published_numbers(mark: str) -> None:
    _, _, behind = GUIDE.partition(f"<!-- {mark} -->\n")
    printed = behind.split("\n\n")[0].splitlines()[2:]
    assert printed == [line for table in mark.split() for line in rows(table)]


@pytest.mark.parametrize("variant", ["scale fixed to 1", "trainable KEM"])
def test_expected__ablations(variant: str) -> None:
    told = {row.task: row.text for row in reference.rows(variant=variant, kind="mean")}
    assert f"{told['natural']}, {told['specialized']} and\n{told['structured']}" in GUIDE or (
        f"{told['natural']}, {told['specialized']} and {told['structured']}" in GUIDE
    )


SMALLER: Mapping[str, str] = {"noah": "noah:supernet=1,population=4,generations=2,parents=2"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE)
def test_suites__every_method_trains(there: Path, tmp_path: Path, name: str) -> None:
    keys: dict[str, object] = {**KEYS, "backbone": BACKBONE, "checkpoint": CHECKPOINT}
    sets = [text for key, value in keys.items() for text in ("--set", f"{key}={value}")]
    suite = tmp_path / "suite.toml"
    text = (Path(processes.__file__).parent / "suites" / f"{name}.toml").read_text()
    suite.write_text(text.replace("\nnoah = {", f'\nnoah = {{ method = "{SMALLER["noah"]}",'))
    own = ["--tasks", ONE[name], "--tune", "2", "--out", str(tmp_path / "bench"), *sets]
    call(["bench", "run", str(suite), *own])
    rows = json.loads(call(["bench", "status", str(suite), *own, "--json"]))
    assert len(rows) >= 20
    assert all(row["done"] == row["runs"] for row in rows)
    call(["bench", "report", str(suite), "--against", "paper", *own])
