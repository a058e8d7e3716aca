"""`vitgraft predict`, and what it shares with other commands: what goes in, what comes out, and when."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

import vitgraft
from vitgraft.cli import app, asking
from vitgraft.cli.asking import Format
from vitgraft.data.pictures.decode import Decoded
from vitgraft.errors import ArtefactError, ConfigError, DataError, VitgraftError, command
from vitgraft.models import stream as models_stream
from vitgraft.models.artefact import CARD


@pytest.mark.parametrize(
    ("given", "paths"),
    [
        (b"a.jpg\nb c.jpg\n", ["a.jpg", "b c.jpg"]),
        (b"a.jpg\r\nb.jpg", ["a.jpg", "b.jpg"]),
        (b"a\nb.jpg\0c.jpg\0", ["a\nb.jpg", "c.jpg"]),
        (b"caf\xe9.jpg\n", ["caf\udce9.jpg"]),
    ],
)
def test_stdin__names_paths(given: bytes, paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    assert asking.standard_input() == paths


def test_stdin__without_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n\n")))
    with pytest.raises(DataError, match="names no images"):
        asking.standard_input()


def test_format__is_asked_for_or_the_suffix_says_it() -> None:
    assert asking.format_of(None, None) == Format.table
    assert asking.format_of(None, Path("x.CSV")) == Format.csv
    assert asking.format_of(None, Path("x.ndjson")) == Format.jsonl
    assert asking.format_of(Format.json, Path("x.csv")) == Format.json
    with pytest.raises(ConfigError, match=r"'x\.txt' ends in none of \.csv.*--format"):
        asking.format_of(None, Path("x.txt"))


def test_results__are_there_when_all_are(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "r.csv"
    with asking.results(out) as file:
        file.write("caf\udce9\n")
        assert not out.exists()
    assert out.read_bytes() == b"caf\xe9\n"
    with pytest.raises(ArtefactError, match="replace it with --replace"), asking.results(out):
        pass
    with asking.results(out, replace=True) as file:
        file.write("new")
    assert [path.name for path in out.parent.iterdir()] == ["r.csv"]
    assert out.read_text() == "new"


def test_results__what_was_written_before_a_failure_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "r.csv"
    out.write_text("old")

    def interrupted() -> None:
        with asking.results(out, replace=True) as file:
            file.write("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"r.csv": "old", "r.csv.part": "half"}
    assert f"'{out}.part'" in capsys.readouterr().err


def test_runs_on__no_device_of_that_name() -> None:
    with pytest.raises(VitgraftError, match="device='gpu' is not known"):
        asking.runs_on(device="gpu")
    assert asking.runs_on(workers=None).workers >= 1


def test_command__is_quoted_for_a_shell() -> None:
    assert command("eval", Path("runs/with space")) == "vitgraft eval 'runs/with space'"


def picture(path: Path, seed: int) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a graft `run` on a file of weights, and seven files in `photos`, of which 3.png is none."""
    home = tmp_path_factory.mktemp("home")
    torch.manual_seed(0)
    save_file(timm.create_model("test_vit", num_classes=0).state_dict(), home / "weights.safetensors")
    frozen = vitgraft.load_backbone("test_vit", checkpoint=home / "weights.safetensors", image_size=32)
    vitgraft.graft(frozen, "linear", classes=["cat", "dog", "owl"]).save(home / "run")
    for number in range(7):
        picture(home / "photos" / f"{number}.png", number)
    (home / "photos" / "3.png").write_bytes(b"no image")
    return home


def call(*arguments: object, given: bytes | None = None) -> Result:
    """The command line, in this process; a bug is raised."""
    result = CliRunner().invoke(app, [str(one) for one in arguments], input=given)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def expected(home: Path, numbers: Sequence[int]) -> dict[str, tuple[str, float]]:
    """What Python says of some pictures: the likeliest class and its probability."""
    model = vitgraft.load(home / "run")
    paths = [home / "photos" / f"{number}.png" for number in numbers]
    best = model.predict(paths).max(1)
    found = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return {
        str(path): (model.class_names[label], value) for path, (label, value) in zip(paths, found, strict=True)
    }


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("format", ["csv", "json", "jsonl"])
def test_predict__a_bad_file_has_a_row_of_its_own(home: Path, format: str, workers: int) -> None:
    options = ("--format", format, "--workers", workers, "--batch-size", 2)
    result = call("predict", home / "run", home / "photos", *options)
    assert result.exit_code == 3
    assert "1 of 7 images could not be read" in result.stderr
    rows: list[dict[str, Any]]
    if format == "csv":
        rows = list(csv.DictReader(io.StringIO(result.stdout)))
    else:
        rows = json.loads(result.stdout) if format == "json" else list(map(json.loads, result.stdout.splitlines()))
    assert [row["image"] for row in rows] == [str(home / "photos" / f"{number}.png") for number in range(7)]
    assert "it is not an image" in rows.pop(3)["error"]
    right = expected(home, [0, 1, 2, 4, 5, 6])
    for row in rows:
        label, probability = right[row["image"]]
        assert row["label"] == label
        assert float(row["probability"]) == pytest.approx(probability, abs=1e-5)
        assert not row.get("error")


def test_predict__a_bad_file_in_a_table_and_left_out(home: Path) -> None:
    shown = call("predict", home / "run", home / "photos")
    assert shown.exit_code == 3
    assert shown.stdout.count("(unreadable)") == 1
    assert shown.stdout.count("%") == 6
    left = call("predict", home / "run", home / "photos", "--skip-unreadable", "--format", "csv")
    assert left.exit_code == 0
    assert [Path(row["image"]).stem for row in csv.DictReader(io.StringIO(left.stdout))] == list("012456")
    assert "Left out: Cannot read image" in left.stderr
    none = call("predict", home / "run", home / "photos" / "3.png")
    assert (none.exit_code, "No image could be read" in none.stderr) == (2, True)


def test_predict__paths_from_standard_input(home: Path, tmp_path: Path) -> None:
    odd = picture(tmp_path / "new\nline[1].png", 1)
    paths = [odd, home / "photos" / "0.png", tmp_path / "gone.png", home / "photos" / "0.png"]
    given = b"".join(os.fsencode(path) + b"\0" for path in paths)
    result = call("predict", home / "run", "-", "--format", "jsonl", given=given)
    rows = list(map(json.loads, result.stdout.splitlines()))
    assert result.exit_code == 3
    assert [row["image"] for row in rows] == list(map(str, paths[:3]))
    assert "there is no such file" in rows[2]["error"]
    lines = call("predict", home / "run", "-", "--format=csv", given=f"{home / 'photos'}\n{odd.parent}\n".encode())
    assert len(lines.stdout.splitlines()) == 1 + 7 + 2, "folders are searched; a name with a line break takes two"
    assert "named twice" in call("predict", home / "run", "-", "-", given=given).stderr


def test_predict__a_file_name_that_is_no_text(home: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    picture(tmp_path / name, 1)
    result = call("predict", home / "run", tmp_path, "-o", tmp_path / "r.json")
    assert result.exit_code == 0
    (row,) = json.loads((tmp_path / "r.json").read_bytes())
    assert row["image"] == str(tmp_path / name)


def test_predict__to_a_file(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "r.json"
    photos = [home / "photos" / "0.png", home / "photos" / "1.png"]
    result = call("predict", home / "run", *photos, "-o", out)
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"Wrote 2 of 2 images' answers to {out}" in result.stderr
    assert [row["image"] for row in json.loads(out.read_text())] == list(map(str, photos))
    before = out.read_bytes()
    assert "replace it with --replace" in call("predict", home / "run", photos[0], "-o", out).stderr
    assert out.read_bytes() == before
    assert call("predict", home / "run", photos[0], "-o", out, "--replace").exit_code == 0
    assert len(json.loads(out.read_text())) == 1
    assert "ends in none of" in call("predict", home / "run", photos[0], "-o", tmp_path / "r.txt").stderr
    table = call("predict", home / "run", photos[0], "-o", "-")
    assert "probability" in table.stdout


@pytest.mark.parametrize(("format", "number"), [("json", signal.SIGINT), ("csv", signal.SIGTERM)])
def test_predict__what_was_answered_before_a_stop_is_kept(
    home: Path, tmp_path: Path, format: str, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = models_stream.decode

    def stopped(path: Path, **options: object) -> Decoded:
        if path.name == "5.png":
            signal.raise_signal(number)
        return read(path)

    monkeypatch.setattr(models_stream, "decode", stopped)
    out = tmp_path / f"r.{format}"
    options = ("--batch-size", 2, "--workers", 0, "-o", out)
    result = call("predict", home / "run", home / "photos", *options)
    assert result.exit_code == 128 + number
    assert "Stopped after 4 of 7 images" in result.stderr
    assert f"'{out}.part'" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == [f"r.{format}.part"]
    text = Path(f"{out}.part").read_text()
    rows = json.loads(text) if format == "json" else list(csv.DictReader(io.StringIO(text)))
    assert [Path(row["image"]).stem for row in rows] == list("0123")


@pytest.mark.parametrize("workers", [0, 2])
def test_stream__answers_come_before_the_rest_is_read(
    home: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = models_stream.decode
    monkeypatch.setattr(models_stream, "decode", lambda path, **_: read.append(path.stem) or real(path))
    asker = models_stream.Asker({"a": vitgraft.load(home / "run")}, "cpu")
    paths = [home / "photos" / f"{number % 3}.png" for number in range(40)]
    answers = models_stream.stream(asker, asker.files(paths), batch_size=2, workers=workers)
    assert next(answers).error is None
    assert 2 <= len(read) <= 2 + workers * 2 + 2
    assert [answer.image for answer in answers] == list(map(str, paths[1:]))
    assert len(read) == 40


def test_stream__an_answer_that_is_not_finite_is_an_error(home: Path) -> None:
    model = vitgraft.load(home / "run")
    for value in model.tuned.parameters():
        value.data.fill_(float("nan"))
    asker = models_stream.Asker({"a": vitgraft.load(home / "run"), "b": model}, "cpu")
    (answer,) = models_stream.stream(asker, asker.files([home / "photos" / "0.png"]))
    assert not answer.by_run
    assert "0.png: the answer of b is not finite" in str(answer.error)


def test_predict__nobody_reads_any_more(home: Path) -> None:
    shell = f"set -o pipefail; {sys.executable} -m vitgraft predict {home}/run {home}/photos | true"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 141
    assert all(line.startswith("Note: ") for line in done.stderr.splitlines()), done.stderr


def test_commands__weights_that_moved(home: Path, tmp_path: Path) -> None:
    run = shutil.copytree(home / "run", tmp_path / "run")
    card = json.loads((run / CARD).read_text())
    card["backbone"]["checkpoint"] = "/nowhere/weights.safetensors"
    (run / CARD).write_text(json.dumps(card))
    photo, weights = home / "photos" / "0.png", home / "weights.safetensors"
    for words in (("predict", run, photo), ("merge", run, "--out", tmp_path / "plain.safetensors")):
        told = call(*words)
        assert told.exit_code == 2
        assert "--checkpoint FILE" in told.stderr
        assert call(*words, "--checkpoint", weights).exit_code == 0
    shutil.copy(weights, run)
    assert call("predict", run, photo).exit_code == 0


def test_predict__what_is_left_out_of_a_folder_is_told(home: Path, tmp_path: Path) -> None:
    for number, name in enumerate(("a.png", "b.png", "deep/c.png")):
        picture(tmp_path / "in" / name, number)
    (tmp_path / "in" / "a.png").rename(tmp_path / "in" / "named_by_nobody")
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    (tmp_path / "in" / "deep" / "x.exr").write_bytes(b"v/1\x01" + bytes(64))
    for words, given in (((tmp_path / "in",), None), (("-",), os.fsencode(tmp_path / "in"))):
        result = call("predict", home / "run", *words, "--format", "csv", given=given)
        rows = list(csv.DictReader(io.StringIO(result.stdout)))
        assert [Path(row["image"]).name for row in rows] == ["b.png", "c.png", "named_by_nobody"]
        told = " ".join(result.stderr.split())
        assert "Left out: " in told
        assert "1 .txt" in told
        assert "1 .exr" in told
        assert "OpenEXR" in told
        assert "Read as images by their content, not their name: 1 without a suffix" in told


def test_predict__an_empty_folder_among_others_is_told(home: Path, tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 0)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "x.txt").write_text("no picture")
    every = sorted(tmp_path.iterdir())
    result = call("predict", home / "run", *every, "--format", "csv")
    assert [Path(row["image"]).name for row in csv.DictReader(io.StringIO(result.stdout))] == ["a.png"]
    told = " ".join(result.stderr.split())
    assert "empty' holds no images." in told
    assert "notes' holds no images, only other files (1 .txt)." in told
    assert call("predict", home / "run", every[1], every[2]).exit_code == 2


def test_predict__mistakes_leave_nothing_on_standard_output(home: Path, tmp_path: Path) -> None:
    photo = home / "photos" / "0.png"
    for words, told in (
        ((home / "run", photo, "--device", "cuda:7"), "torch finds "),
        ((home / "run", "--split", "test"), "Name the images: vitgraft predict"),
        ((tmp_path, "--split", "test"), "holds no graft.json"),
        ((home / "run", photo, "-o", tmp_path / "no" / "r.txt"), "ends in none of"),
    ):
        result = call("predict", *words)
        assert (result.exit_code, result.stdout) == (2, "")
        assert told in result.stderr
    assert not list(tmp_path.iterdir())
