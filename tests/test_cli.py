"""The command line as a user meets it: help and listings at once, mistakes in a sentence, and the whole path."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from tests.runs import call, refused
from vitgraft.backbones.families import wrap
from vitgraft.cli import app, listings
from vitgraft.core.shape import measure
from vitgraft.data.transforms import evaluation
from vitgraft.methods import names
from vitgraft.results import store
from vitgraft.runs.config import RunConfig, keys

HEAVY = ("torch", "timm", "torchvision", "sklearn", "accelerate", "matplotlib")
SIZE = 32
CLASSES = ("blue", "green", "red")


def picture(path: Path, channel: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 60, (20, 24, 3), dtype=np.uint8)
    pixels[..., channel] += 180
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos in three classes, random weights of a tiny timm model, and a finished run."""
    home = tmp_path_factory.mktemp("home")
    for channel, name in ((2, "blue"), (1, "green"), (0, "red")):
        for number in range(12):
            picture(home / "photos" / name / f"{number}.png", channel, 100 * channel + number)
    torch.manual_seed(0)
    save_file(timm.create_model("test_vit", num_classes=0).state_dict(), home / "weights.safetensors")
    return home


def options(home: Path, **changes: object) -> list[str]:
    """`fit`'s arguments for a run of a second."""
    given = {
        "method": "lora:rank=2",
        "backbone": "test_vit",
        "checkpoint": home / "weights.safetensors",
        "image_size": SIZE,
        "epochs": 2,
        "batch_size": 8,
        "lr": 0.01,
        **changes,
    }
    return [str(home / "photos"), *(f"--{key.replace('_', '-')}={value}" for key, value in given.items())]


@pytest.fixture(scope="module")
def run(home: Path) -> Path:
    result = call("fit", *options(home, out=home / "run", records=home / "records"))
    assert result.exit_code == 0, result.output
    assert "test accuracy" in result.stdout
    return home / "run"


def test_help_and_listings__import_no_torch() -> None:
    code = f"""
import sys, vitgraft.cli
for line in sys.stdin.read().splitlines():
    sys.argv = ["vitgraft", *line.split()]
    try:
        vitgraft.cli.main()
    except SystemExit as done:
        heavy = [name for name in {HEAVY!r} if name in sys.modules]
        print(f"{{line}}: exit {{done.code}}, imported {{heavy}}", file=sys.stderr)
"""
    commands = [
        *("--help", "fit --help", "eval --help", "predict --help", "merge --help", "export --help", "--version"),
        *("methods", "methods lora", "methods --json", "tasks", "tasks --json", "backbones", "backbones --json"),
        "bench status quick",
        *("fit digits --print-config", "fit digits --method lora:rank=2 --epochs 3 --print-config"),
    ]
    done = subprocess.run(
        [sys.executable, "-c", code], input="\n".join(commands), capture_output=True, text=True, timeout=60
    )
    assert done.stderr.splitlines() == [f"{command}: exit 0, imported []" for command in commands]


def test_help__lists_every_key_of_a_run_and_nothing_else() -> None:
    output = subprocess.run(
        [sys.executable, "-m", "vitgraft.cli", "fit", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        env={"COLUMNS": "200", "PATH": ""},
    ).stdout
    found = {word.strip("-.;") for words in output.split() for word in words.split(",") if word.startswith("--")}
    found -= {word for word in found if word.startswith("no-")}
    actions = {"config", "resume", "force", "print-config", "help", "from", "set"}
    examples = {word for word in found if word in {"method", "backbone", "epochs", "lr", "out"}}
    assert found - actions == {name.replace("_", "-") for name in keys()} - {"data"} | examples


def test_methods__counts_and_claims() -> None:
    rows = {row["name"]: row for row in json.loads(call("methods", "--json").stdout)}
    assert rows.keys() == set(names())
    assert rows["linear"]["values"] == {"backbone": "ViT-B/16", "count": 0}
    assert rows["lora"]["values"]["count"] == 12 * 2 * 8 * (768 + 768)
    assert rows["lora"]["fields"]["rank"] == 8
    assert rows["lora"]["merges"]
    assert not rows["adaptformer"]["merges"]
    table = call("methods").stdout
    assert all(name in table for name in rows)
    assert "294,912" in table


def test_methods__one_with_fields() -> None:
    assert "147,456" in call("methods", "lora:rank=4").stdout
    assert "Did you mean 'rank'" in refused("methods", "lora:rnak=4")


def test_reference__is_a_vit_b16() -> None:
    with torch.device("meta"):
        model = timm.create_model("vit_base_patch16_224", num_classes=0)
    assert listings.reference() == ("ViT-B/16", measure(wrap(model, "ViT-B/16")))


def test_tasks_and_backbones() -> None:
    tasks = {row["name"]: row for row in json.loads(call("tasks", "--json").stdout)}
    assert tasks["digits"]["test"] == 797
    assert len(tasks["digits"]["classes"]) == 10
    assert all(name in call("tasks").stdout for name in tasks)
    backbones = {row["name"] for row in json.loads(call("backbones", "--json").stdout)}
    assert "vit_base_patch16_224.augreg_in21k" in backbones
    assert all(name in call("backbones").stdout for name in backbones)


def test_print_config__can_be_read_back(tmp_path: Path) -> None:
    options = ("--method", "ssf", "--epochs=7", "--skip-unreadable", "--lr", "none")
    first = call("fit", "digits", *options, "--print-config")
    path = tmp_path / "run.toml"
    path.write_text(first.stdout)
    assert tomllib.loads(first.stdout)["epochs"] == 7
    assert "# lr = 0.005" in first.stdout, "what follows from the method is shown"
    assert call("fit", "--config", path, "--print-config").stdout == first.stdout
    changed = call("fit", "--config", path, "--epochs", "3", "--no-skip-unreadable", "--print-config").stdout
    assert tomllib.loads(changed) == {**tomllib.loads(first.stdout), "epochs": 3, "skip_unreadable": False}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fit", "digits", "--methd", "lora"), "--method"),
        (("fti",), "Did you mean 'fit'"),
        (("fit",), "No data were named"),
        (("fit", "digits", "--method", "lroa"), "Did you mean 'lora'"),
        (("fit", "digits", "--method", "lora:rnak=2"), "Did you mean 'rank'"),
        (("fit", "digits", "--epochs", "many"), "epochs = 'many' is not a whole number"),
        (("fit", "digits", "--epochs", "-1"), "at least 1"),
        (("fit", "digitz"), "Did you mean 'digits'"),
        (("fit", "digits", "--backbone", "vit_bse_patch16_224"), "There is no backbone 'vit_bse_patch16_224'"),
        (("fit", "digits", "--config", "nowhere.toml"), "Cannot read configuration 'nowhere.toml'"),
        (("predict", "nowhere", "nothing.png"), "There is no file or folder 'nothing.png'"),
        (("eval", "nowhere"), "no graft.json"),
        (("merge", "nowhere", "--out", "plain.pth"), "must end in .safetensors"),
    ],
)
def test_mistakes__are_sentences(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(*arguments)
    assert not list(tmp_path.iterdir()), "a mistake leaves nothing behind"


def test_bugs__keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listings.registry, "names", lambda: [][0])
    with pytest.raises(IndexError):
        call("methods")


def test_fit__leaves_a_record_that_tells_all(home: Path, run: Path) -> None:
    record = store.read(run / store.FILE)
    assert list(store.read_all(home / "records").records.values()) == [record]
    assert (record.method.spec, record.method.fields["rank"]) == ("lora:rank=2", 2)
    assert record.backbone.name == "test_vit"
    assert record.task.sizes == {"train": 24, "val": 6, "test": 6}
    assert record.test is not None
    assert record.test.n == 6
    assert record.cost.trained_method == 6 * 2 * 2 * (64 + 64)
    assert record.cost.trained_head == 3 * 64 + 3
    assert record.cost.kept_bytes_per_image is not None
    assert record.cost.kept_bytes_per_image > 0
    assert record.cost.peak_memory_mib is not None
    assert record.cost.peak_memory_mib > 100
    assert record.history.epochs == len(record.history.train_loss) == 2
    assert record.versions["torch"] == torch.__version__
    assert record.started <= record.ended
    assert store.shared(RunConfig.of(record.config).table()) == record.config
    assert store.shared(RunConfig.of(tomllib.loads((run / "run.toml").read_text())).table()) == record.config


def test_fit__a_finished_run_is_safe(home: Path, run: Path) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert "holds a finished run" in refused("fit", *options(home, out=run))
    assert "finished already" in call("fit", "--resume", "--out", run).stderr
    other = options(home, out=run, method="ssf")
    assert "method is 'ssf', was 'lora:rank=2'" in refused("fit", *other, "--resume")
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_fit__force_replaces(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert call("fit", *options(home, out=out, epochs=1)).exit_code == 0
    assert call("fit", *options(home, out=out, epochs=1, method="linear"), "--force").exit_code == 0
    assert store.read(out / store.FILE).method.name == "linear"


def test_fit__interrupt_says_how_to_go_on(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vitgraft.runs import run as runs

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runs.training, "fit", interrupted)
    result = call("fit", *options(home, out=tmp_path / "run"))
    assert result.exit_code == 130
    assert f"vitgraft fit --resume --out {tmp_path / 'run'}" in result.stderr
    monkeypatch.undo()
    resumed = call("fit", "--resume", "--out", tmp_path / "run", "--epochs", "2")
    assert resumed.exit_code == 0, resumed.output
    assert (tmp_path / "run" / store.FILE).exists()


def test_fit__broken_image(home: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for channel, name in ((2, "blue"), (0, "red")):
        for number in range(8):
            picture(photos / name / f"{number}.png", channel, number)
    broken = photos / "red" / "broken.jpg"
    broken.write_bytes(b"not an image")
    arguments = [str(photos), *options(home, out=tmp_path / "run", epochs=1)[1:]]
    assert str(broken) in refused("fit", *arguments)
    result = call("fit", *arguments, "--skip-unreadable")
    assert result.exit_code == 0, result.output
    assert "Left out: red/broken.jpg: it is not an image" in result.stderr
    assert store.read(tmp_path / "run" / store.FILE).task.skipped == 1


def test_eval__own_data(run: Path) -> None:
    record = store.read(run / store.FILE)
    shown = json.loads(call("eval", run, "--json").stdout)
    assert record.test is not None
    assert shown["loss"] == pytest.approx(record.test.loss, rel=1e-5)
    assert shown["n"] == 6
    assert json.loads(call("eval", run, "--split", "all", "--json").stdout)["n"] == 36
    assert "top-1" in call("eval", run).stdout


def test_eval__other_data_is_matched_by_class_name(home: Path, run: Path, tmp_path: Path) -> None:
    for channel, name in ((1, "green"), (0, "red")):  # green is the first class here and the second there
        for number in range(6):
            picture(tmp_path / "new" / name / f"{number}.png", channel, 500 + number)
    shown = json.loads(call("eval", run, tmp_path / "new", "--split", "all", "--json").stdout)
    rows = json.loads(call("predict", run, tmp_path / "new", "--format", "json").stdout)
    right = sum(Path(row["image"]).parent.name == row["label"] for row in rows)
    assert shown["n"] == len(rows) == 12
    assert shown["top1"] == pytest.approx(100 * right / 12)
    picture(tmp_path / "new" / "mauve" / "0.png", 0, 1)
    assert "knows no class 'mauve'" in refused("eval", run, tmp_path / "new", "--split", "all")


def test_predict__formats_agree(home: Path, run: Path) -> None:
    pattern = home / "photos" / "*" / "1*.png"
    rows = json.loads(call("predict", run, pattern, "--format", "json", "--top", 9).stdout)
    assert [len(row["classes"]) for row in rows] == [3] * 9
    assert all(sum(one["probability"] for one in row["classes"]) == pytest.approx(1, abs=1e-4) for row in rows)
    lines = list(csv.DictReader(io.StringIO(call("predict", run, pattern, "--format=csv").stdout)))
    assert [(line["image"], line["label"]) for line in lines] == [(row["image"], row["label"]) for row in rows]
    table = call("predict", run, pattern).stdout
    assert all(f"{100 * row['probability']:.1f} %" in table for row in rows)


def test_predict__hostile_names_and_files(run: Path, tmp_path: Path) -> None:
    odd = tmp_path / 'a, "b"\n[red]c.png'
    picture(odd, 0, 7)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n")
    told = call("predict", run, tmp_path, "--format", "csv")
    good, bad = csv.DictReader(io.StringIO(told.stdout))
    assert (told.exit_code, good["image"], good["error"]) == (3, str(odd), "")
    assert (bad["image"], bad["label"]) == (str(tmp_path / "broken.png"), "")
    assert "broken.png': it is not an image" in bad["error"]
    assert "1 of 2 images could not be read" in told.stderr
    result = call("predict", run, tmp_path, "--format", "csv", "--skip-unreadable")
    assert [line["image"] for line in csv.DictReader(io.StringIO(result.stdout))] == [str(odd)]
    assert "1 of 2 images were left out" in result.stderr
    assert "No image could be read" in refused("predict", run, tmp_path / "broken.png", "--skip-unreadable")
    assert "There is no file" in refused("predict", run, tmp_path / "gone.png")


def test_predict__several_runs_share_the_pictures(home: Path, run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    made = call("fit", *options(home, out=other, epochs=1, method="vqt"))
    assert made.exit_code == 0, made.output
    pictures = home / "photos" / "red"
    alone = [json.loads(call("predict", one, pictures, "--format", "json").stdout) for one in (run, other)]
    for words in (("--with", run, "--with", other, pictures), (run, pictures, "--with", other)):
        result = call("predict", *words, "--format", "json")
        assert result.exit_code == 0, result.output
        rows = json.loads(result.stdout)
        for one, rest in zip((run, other), alone, strict=True):
            mine = [row for row in rows if row["run"] == str(one)]
            assert [row["label"] for row in mine] == [row["label"] for row in rest]
            assert [row["probability"] for row in mine] == pytest.approx(
                [row["probability"] for row in rest], abs=1e-5
            )
    lines = csv.DictReader(io.StringIO(call("predict", run, pictures, "--with", other, "--format", "csv").stdout))
    assert {line["run"] for line in lines} == {str(run), str(other)}
    assert {"image", "run", "class"} <= set(call("predict", run, pictures, "--with", other).stdout.split())
    assert "no images are named" in refused("predict", run)
    assert "holds no graft.json" in refused("predict", "--with", tmp_path, pictures)


def test_merge__is_plain_timm_with_the_same_logits(home: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "plain.safetensors"
    result = call("merge", run, "--out", out)
    assert result.exit_code == 0, result.output
    code = result.stdout[result.stdout.index("import timm") :]
    found: dict[str, Any] = {}
    exec(code, found)
    paths = sorted((home / "photos").glob("*/1.png"))
    rows = json.loads(call("predict", run, *paths, "--format", "json").stdout)
    import vitgraft

    transform: Callable[[Image.Image], torch.Tensor] = evaluation(vitgraft.load(run).preprocessing)
    with torch.no_grad():
        batch = torch.stack([transform(Image.open(path)) for path in paths])
        top = found["model"].eval()(batch).softmax(1).max(1)
    assert [CLASSES[label] for label in top.indices.tolist()] == [row["label"] for row in rows]
    assert top.values.tolist() == pytest.approx([row["probability"] for row in rows], abs=1e-4)
    with safe_open(out, "pt") as file:
        assert json.loads(file.metadata()["class_names"]) == list(CLASSES)


def test_merge__overwrites_only_by_force(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "plain.safetensors"
    out.write_bytes(b"precious")
    assert "is there already" in refused("merge", run, "--out", out)
    assert out.read_bytes() == b"precious"
    assert call("merge", run, "--out", out, "--force").exit_code == 0
    assert "head.weight" in load_file(out)
    assert [path.name for path in tmp_path.iterdir()] == ["plain.safetensors"]


def test_merge__refuses_what_cannot_be_merged(home: Path, tmp_path: Path) -> None:
    assert call("fit", *options(home, out=tmp_path / "run", epochs=1, method="vpt-deep:tokens=1")).exit_code == 0
    assert "cannot be merged" in refused("merge", tmp_path / "run", "--out", tmp_path / "plain.safetensors")
    assert not (tmp_path / "plain.safetensors").exists()


def test_fit__what_cannot_be_is_refused_before_anything_runs(home: Path, run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    photos, out = home / "photos", tmp_path / "out"
    assert "choose one of them" in refused("fit", photos, "--resume", "--force", "--out", run)
    assert "Which run is to go on?" in refused("fit", "--resume")
    assert "is a file. Name a folder with --records" in refused("fit", photos, "--records", tmp_path / "file")
    assert "needs no root" in refused("fit", photos, "--root", "elsewhere", "--out", out)
    assert "digits is built in, and needs no root" in refused("fit", "digits", "--root", "x", "--out", out)
    chooses = ("fit", photos, "--method", "noah", "--val-fraction", "0", "--out", out, "--epochs", "1")
    assert "chooses by validation accuracy" in refused(*chooses)
    assert not list(out.rglob("*.safetensors"))


def test_sensitivity__keeps_what_is_there(tmp_path: Path) -> None:
    other = tmp_path / "s.json"
    other.write_text("{}")
    assert "s.json' is there already" in refused("sensitivity", "digits", "--out", tmp_path / "s.safetensors")
    assert other.read_text() == "{}"
    (tmp_path / "folder.safetensors").mkdir()
    assert "is a folder" in refused("merge", tmp_path, "--out", tmp_path / "folder.safetensors", "--force")


def test_eval__elsewhere_says_what_is_missing(run: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(run, tmp_path / "run")
    kept = moved / "run.toml"
    kept.write_text(re.sub(r"^data = .*$", 'data = "photos/"', kept.read_text(), flags=re.MULTILINE))
    assert "was trained on 'photos/', as it was called where the run began" in refused("eval", moved)


def test_predict__a_long_path_leaves_the_answer(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / ("a-folder-with-a-long-name" * 6)
    picture(folder / "green.png", 1, 0)
    said = call("predict", run, folder).output
    assert "probability" in said
    assert any(f" {name} " in said for name in CLASSES)
    assert "%" in said


def test_help__lines_of_a_paragraph_are_one() -> None:
    said = call("bench", "run", "--help").output
    lines = [line.rstrip() for line in said.splitlines()]
    first = next(number for number, line in enumerate(lines) if "A suite is a TOML file" in line)
    assert min(map(len, lines[first : first + 4])) > 60, "each line is filled"
    assert "vitgraft bench run quick" in said


def on_a_terminal(words: Sequence[str], **environment: str) -> bytes:
    """What a command prints where both streams are a terminal."""
    here, there = os.openpty()
    environment = {"PATH": "", "PYTHONPATH": os.environ.get("PYTHONPATH", ""), **environment}
    with subprocess.Popen(
        [sys.executable, "-m", "vitgraft", *words],
        stdin=subprocess.DEVNULL,
        stdout=there,
        stderr=there,
        env=environment,
    ):
        os.close(there)
        said = b""
        with suppress(OSError):  # how Linux tells that the other end is closed
            while more := os.read(here, 1 << 16):
                said += more
    os.close(here)
    return said


@pytest.mark.parametrize("words", [("fit", "digits", "--method", "lroa"), ("fit", "--bogus")])
def test_colours__are_left_out_where_they_are_not_wanted(words: Sequence[str]) -> None:
    assert b"\x1b[" in on_a_terminal(words, TERM="xterm-256color")
    for unwanted in ({"TERM": "xterm-256color", "NO_COLOR": "1"}, {"TERM": "dumb"}):
        said = on_a_terminal(words, **unwanted)
        assert said
        assert b"\x1b" not in said


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        (("--method", "LoRA"), "lora"),
        (("--method", "SynQT:tokens=2"), "synqt"),
        (("--method", "VPT_deep"), "vpt-deep"),
        (("--method", "spt lora"), "spt-lora"),
        (("--backbone", "Figures"), "figures"),
        (("--backbone", "ViT-Base-Patch16-224.MAE"), "vit_base_patch16_224.mae"),
        (("--select", "BEST"), "best"),
    ],
)
def test_names__in_another_case_are_known(asked: tuple[str, str], meant: str, tmp_path: Path) -> None:
    assert re.search(f"Did you mean '?{meant}'?[? ]", refused("fit", "digits", *asked, "--out", tmp_path / "run"))


def test_tasks__in_another_case_are_known(tmp_path: Path) -> None:
    assert "Did you mean 'digits'" in refused("fit", "Digits", "--out", tmp_path / "run")


def test_fit__tells_that_it_stopped_early(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "with space"
    still = {"lr": 1e-12, "min_lr": 1e-12, "warmup_epochs": 0, "patience": 2, "epochs": 9}
    result = call("fit", *options(home, out=out, **still))
    assert result.exit_code == 0, result.output
    assert (
        "Stopped early after epoch 3 of 9: no better validation for 2 epochs. The best was epoch 1"
        in result.stderr
    )
    assert "3 of 9, stopped early: no better validation for 2 epochs" in result.stdout
    assert "epoch 3, the last; the best on validation was 1" in result.stdout
    assert f"Try: vitgraft predict '{out}' IMAGE..." in result.stdout
    best = call("fit", *options(home, out=tmp_path / "best", select="best", **still))
    assert "kept are its values" in best.stderr
    assert "epoch 1, the best on validation" in best.stdout


def test_fit__goes_on_where_its_weights_have_moved(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A project that was moved as a whole; then its weights to another place, which is named."""
    from vitgraft.runs import run as runs

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    old, new = tmp_path / "old", tmp_path / "new"
    shutil.copytree(home / "photos", old / "photos")
    shutil.copy(home / "weights.safetensors", old)
    monkeypatch.chdir(old)
    monkeypatch.setattr(runs.training, "fit", interrupted)
    words = options(home, out="runs/a", checkpoint=old / "weights.safetensors", epochs=1)
    assert call("fit", "photos", *words[1:]).exit_code == 130
    monkeypatch.undo()
    old.rename(new)
    monkeypatch.chdir(new)
    (tmp_path / "away").mkdir()
    elsewhere = (new / "weights.safetensors").rename(tmp_path / "away" / "weights.safetensors")
    said = refused("fit", "--resume", "--out", "runs/a")
    assert f"'{old}/weights.safetensors', which are neither there any more nor beside the run" in said
    assert "vitgraft fit --resume --out runs/a --checkpoint FILE" in said
    elsewhere.rename(new / "weights.safetensors")
    result = call("fit", "--resume", "--out", "runs/a")
    assert result.exit_code == 0, result.output
    assert f"the weights are taken from '{new}/weights.safetensors'" in result.stderr
    assert str(new / "weights.safetensors") in (new / "runs" / "a" / "run.toml").read_text()


def test_eval__to_a_file_and_of_a_list_from_standard_input(home: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "eval.json"
    result = call("eval", run, "--out", out, "--batch-size", 4, "--workers", 0, "--device", "cpu")
    assert result.exit_code == 0, result.output
    shown = json.loads(call("eval", run, "--json").stdout)
    written = json.loads(out.read_text())
    assert {**written, "loss": 0} == {**shown, "loss": 0}
    assert written["loss"] == pytest.approx(shown["loss"], rel=1e-5)
    assert "top-1" in result.stdout
    before = out.read_bytes()
    assert "replace it with --replace" in refused("eval", run, "--out", out)
    assert "must end in .json" in refused("eval", run, "--out", tmp_path / "eval.csv")
    assert out.read_bytes() == before
    for text, root in (
        ("path,label\nred/1.png,red\nblue/2.png,blue\n", ("--root", home / "photos")),
        (f"{home}/photos/red/1.png\tred\n{home}/photos/blue/2.png\tblue\n", ()),
        (f"{home}/photos/red/1.png red\n{home}/photos/blue/2.png blue\n", ()),
    ):
        given = CliRunner().invoke(app, ["eval", str(run), "-", "--json", *map(str, root)], input=text)
        assert given.exit_code == 0, given.output
        assert json.loads(given.stdout)["n"] == 2
    assert "Standard input (-) is empty" in CliRunner().invoke(app, ["eval", str(run), "-"], input="").stderr


def test_eval__weights_that_moved(run: Path, home: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(run, tmp_path / "run")
    card = json.loads((moved / "graft.json").read_text())
    card["backbone"]["checkpoint"] = "/nowhere/weights.safetensors"
    (moved / "graft.json").write_text(json.dumps(card))
    assert "--checkpoint FILE on the command line" in refused("eval", moved)
    result = call("eval", moved, "--checkpoint", home / "weights.safetensors", "--json")
    assert json.loads(result.stdout)["top1"] == json.loads(call("eval", run, "--json").stdout)["top1"]


def test_fit__goes_on_with_weights_of_another_name_if_they_are_the_same(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vitgraft.train.session import Session

    train = Session._train_epoch

    def stopped(session: Session, images: Any) -> bool:
        if session.state.epoch == 1:
            raise KeyboardInterrupt
        return train(session, images)

    first, renamed, other = (tmp_path / f"{name}.safetensors" for name in ("first", "renamed", "other"))
    shutil.copy(home / "weights.safetensors", first)
    torch.manual_seed(1)
    save_file(timm.create_model("test_vit", num_classes=0).state_dict(), other)
    monkeypatch.setattr(Session, "_train_epoch", stopped)
    out = tmp_path / "run"
    assert call("fit", *options(home, out=out, checkpoint=first)).exit_code == 130
    monkeypatch.undo()
    first.rename(renamed)
    assert "backbone is '" in refused("fit", "--resume", "--out", out, "--checkpoint", other)
    assert call("fit", "--resume", "--out", out, "--checkpoint", renamed).exit_code == 0
    assert store.read(out / store.FILE).history.epochs == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_predict__a_part_of_the_runs_own_images(home: Path, run: Path, tmp_path: Path, workers: int) -> None:
    """What eval measures, row by row; images that came later are no part of it."""
    photos, out = tmp_path / "photos", tmp_path / "run"
    shutil.copytree(home / "photos", photos)
    shutil.copytree(run, out)
    for number, name in enumerate(CLASSES):
        picture(photos / name / "later.png", 2 - number, 900 + number)
    options = ("--format", "json", "--workers", workers)
    shown = json.loads(call("eval", out, photos, "--split", "test", "--json").stdout)
    rows = json.loads(call("predict", out, photos, "--split", "test", *options).stdout)
    listed = {row["path"] for row in csv.DictReader((run / "split.csv").open()) if row["split"] == "test"}
    assert {Path(row["image"]).relative_to(photos).as_posix() for row in rows} == listed
    right = sum(Path(row["image"]).parent.name == row["label"] for row in rows)
    assert shown["top1"] == pytest.approx(100 * right / len(rows))
    new = json.loads(call("predict", out, photos, "--split", "new", *options).stdout)
    assert {Path(row["image"]).name for row in new} == {"later.png"}
    own = json.loads(call("predict", run, "--split", "test", *options).stdout)
    assert [row["probability"] for row in own] == pytest.approx([row["probability"] for row in rows], abs=1e-5)
    assert "is of one data set" in refused("predict", out, photos, photos, "--split", "test")
    assert "--split test" in refused("predict", out)
