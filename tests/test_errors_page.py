"""The truth about a run as a page, figures and tables: whole, escaped, small, and honest about what it is of."""

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.browser import Browser, needs_chromium
from tests.pages import Checked
from tests.runs import arguments, done, photo, photos, refused, weights
from vitgraft.analyze.errors import duplicates, scores, suspects
from vitgraft.analyze.errors.curves import Curves, curves
from vitgraft.analyze.errors.gathered import Gathered
from vitgraft.analyze.errors.page import page
from vitgraft.analyze.errors.reliability import reliability, softmax
from vitgraft.analyze.errors.tables import tables
from vitgraft.analyze.errors.thumbnails import SIDE, Album, shrunk
from vitgraft.analyze.errors.truth import Copies, Labels, Truth
from vitgraft.data.task import ArrayImages, Split
from vitgraft.train.metrics import Tally

STRANGE = "<b>&'\"$x_1$"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished run on photos with a class of a strange name, wrong labels, copies, and what is no picture."""
    home = tmp_path_factory.mktemp("errors")
    root = photos(home / "photos", 12)
    (root / "green").rename(root / STRANGE)
    for number in range(4):
        photo(root / "blue" / f"not{number}.png", 0, 9000 + number)
    shutil.copy(root / "red" / "00.png", root / "red" / "copy.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VITGRAFT_CACHE", str(home / "cache"))
        options = arguments(weights(home / "w.safetensors"), method="linear", out=home / "run", epochs=3, lr=0.1)
        done("fit", root, *options, "--val-fraction=0.3", "--test-fraction=0.3")
        yield home


@pytest.fixture(autouse=True)
def _its_cache(home: Path, monkeypatch: pytest.MonkeyPatch, _own_cache: Path) -> None:
    """The features that the run has left."""
    monkeypatch.setenv("VITGRAFT_CACHE", str(home / "cache"))


def told(path: Path) -> tuple[Checked, str]:
    found = Checked(path.read_text())
    return found, " ".join(" ".join(found.text).split())


def test_eval__report_tells_what_is_of_which_split(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    shown = done("eval", home / "run", "--report", file, "--json")
    facts = json.loads(shown.stdout)
    plain = json.loads(done("eval", home / "run", "--json").stdout)
    assert facts == {**plain, "loss": pytest.approx(plain["loss"], rel=1e-5)}
    assert "features of train" not in shown.stderr  # fit has left them in the cache
    assert "features of test" in shown.stderr
    found, text = told(file)
    assert STRANGE in text
    assert f"photos, test: n = {facts['n']} images of 3 classes" in text
    assert f"{facts['top1']:.1f} % (" in text
    assert str(home) not in text.replace(str(home / "run"), "").replace(str(file), "")
    assert "red/copy.png" in text
    assert "vitgraft calibrate" in text
    pictures = [given["src"] for given in found.of("img")]
    assert sum(one.startswith("data:image/jpeg") for one in pictures) >= 5
    assert sum(one.startswith("data:image/svg") for one in pictures) == 5
    assert file.stat().st_size < 600_000
    assert "is there already" in refused("eval", home / "run", "--report", file)
    assert "must end in .html" in refused("eval", home / "run", "--report", tmp_path / "page.pdf")


def test_analyze_errors__writes_figures_tables_and_the_page(home: Path, tmp_path: Path) -> None:
    done("calibrate", home / "run")
    done("analyze", "errors", home / "run", "--out", tmp_path, "--near", "0.9")
    names = {path.name for path in tmp_path.iterdir()}
    kinds = (".png", ".svg", ".csv", ".json")
    figures = {f"errors-{name}{kind}" for name in ("confusion", "reliability", "learning") for kind in kinds}
    listed = {f"errors-{name}.csv" for name in ("classes", "mistakes", "labels", "copies")}
    assert names == figures | listed | {"errors.html"}
    rows = {name: list(csv.DictReader((tmp_path / name).open())) for name in names if name.endswith(".csv")}
    card = json.loads((tmp_path / "errors-reliability.json").read_text())
    counted = sum(int(row["images"]) for row in rows["errors-confusion.csv"])
    assert counted == card["n"] == sum(int(row["support"]) for row in rows["errors-classes.csv"])
    wrong = sum(int(row["images"]) for row in rows["errors-confusion.csv"] if row["label"] != row["answer"])
    assert len(rows["errors-mistakes.csv"]) == wrong
    pairs = {frozenset((row["image"], row["other_image"])) for row in rows["errors-copies.csv"]}
    assert frozenset(("red/00.png", "red/copy.png")) in pairs
    assert {"temperature", "ece", "ece_calibrated"} == card["found"].keys()
    assert {row["class"] for row in rows["errors-classes.csv"]} == {"red", "blue", STRANGE}
    _, text = told(tmp_path / "errors.html")
    assert "It is kept with the run, and predict and eval use it." in text
    told_so = refused("analyze", "errors", home / "run", "--out", tmp_path)
    assert "this very command did not make it" in told_so
    done("calibrate", home / "run", "--undo")


@pytest.mark.slow
def test_report__on_other_images_and_without_a_test(home: Path, tmp_path: Path) -> None:
    """Other images: one a class, one that cannot be read; the run's own images are looked at beside them."""
    for name, channel in (("red", 0), (STRANGE, 1)):
        photo(tmp_path / "new" / name / "one.png", channel, 5 + channel)
    (tmp_path / "new" / "red" / "broken.png").write_text("no picture")
    file = tmp_path / "page.html"
    done("eval", home / "run", tmp_path / "new", "--report", file, "--skip-unreadable")
    _, text = told(file)
    assert "new, all: n = 2 images" in text
    assert "broken.png" in text
    for split in ("val", "train"):
        done("eval", home / "run", "--split", split, "--report", tmp_path / f"{split}.html")
        _, text = told(tmp_path / f"{split}.html")
        assert f"photos, {split}: n =" in text
    _, text = told(tmp_path / "val.html")
    assert "no temperature is fitted, which would flatter" in text


@pytest.mark.slow
@needs_chromium
def test_report__in_a_browser(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    done("eval", home / "run", "--report", file)
    with Browser() as browser:
        for width, dark in ((1280, False), (390, True)):
            browser.open(file, width=width, dark=dark)
            assert browser.get("document.documentElement.scrollWidth <= window.innerWidth")
            assert browser.get("[...document.images].every((one) => one.complete && one.naturalWidth > 0)")
        assert not browser.problems
        assert not [one for one in browser.requests if not one.startswith(("file:", "data:"))]


def truth(classes: int, n: int, **changes: Any) -> Truth:
    """What is known of answers that somebody has thrown dice for."""
    draw = np.random.default_rng(0)
    names = tuple(f"class {number}" for number in range(classes))
    labels = draw.integers(0, classes, n)
    logits = draw.standard_normal((n, classes)).astype(np.float32)
    logits[np.arange(n), labels] += 3
    pixels = draw.integers(0, 255, (n, 40, 60, 3), dtype=np.uint8)
    images = Gathered({"test": Split(ArrayImages(pixels, "noise"), labels)}, names)
    probabilities = softmax(logits)
    tally = Tally(classes, torch.device("cpu"))
    tally.add(torch.tensor(logits), torch.tensor(labels))
    answers = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(answers != labels)
    suspected = [suspects.Suspect(int(i), int(labels[i]), int(answers[i]), 0.1, 0.9) for i in wrong]
    fold = suspects.OutOfFold(probabilities, np.full(n, True), 5, n, 1, 0.5)
    pairs = [duplicates.Pair(i, i + 1, 0.99) for i in range(n - 1)]
    given: dict[str, Any] = {
        "run": Path("runs/noise"),
        "data": "noise",
        "split": "test",
        "images": images,
        "metrics": tally.metrics(),
        "probabilities": probabilities,
        "before": reliability(probabilities, labels),
        "calibrated": None,
        "classes": scores.by_class(probabilities, labels, names),
        "confused": scores.confused(answers, labels, classes),
        "worst": scores.worst(probabilities, labels),
        "labels": Labels(fold, suspected),
        "copies": Copies(pairs, 0.95, 9 * n, len(pairs), None),
        "curves": Curves((1, 2), (1.0, None), (None, None), (None, None)),
        "record": None,
        "facts": {"backbone": "none"},
        "notes": (),
    }
    return Truth(**{**given, **changes})


@pytest.mark.slow
def test_page__of_hundreds_of_classes_stays_small() -> None:
    text = page(truth(400, 800), "vitgraft eval runs/noise --report page.html")
    found = Checked(text)
    assert len(text) < 3_000_000
    assert len(found.of("tr")) < 1000
    assert len(found.of("img")) < 90
    said = " ".join(" ".join(found.text).split())
    assert "The 30 of 400 classes that most mistakes are about" in said
    assert "300 of" in said


def test_page__of_one_image_and_of_nothing_else() -> None:
    alone = truth(2, 1, labels=None, copies=None, curves=None, notes=("Nothing to be seen.",))
    found = Checked(page(alone, "vitgraft"))
    said = " ".join(" ".join(found.text).split())
    assert "n = 1 images of 2 classes" in said
    assert "Nothing to be seen." in said
    assert "There is none: all 1 images" in said
    assert len(tables(alone)["mistakes"].rows) == 0


def test_page__leaves_pictures_out_when_it_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    few = truth(3, 60)
    monkeypatch.setattr("vitgraft.analyze.errors.page.Album", lambda: Album(budget=20_000))
    text = page(few, "vitgraft")
    assert "pictures were left out to keep the page small" in text
    assert text.count("data:image/jpeg") * 1500 < 40_000


def test_thumbnails__are_small_and_tiny_pictures_are_seen() -> None:
    from io import BytesIO

    from PIL import Image

    for size, expected in (
        ((3000, 500), (SIDE, 24)),
        ((8, 8), (72, 72)),
        ((100, 60), (100, 60)),
        ((1, 1), (72, 72)),
    ):
        assert Image.open(BytesIO(shrunk(Image.new("RGB", size)))).size == expected


def test_curves__of_a_log_and_of_none(tmp_path: Path) -> None:
    assert curves(tmp_path) is None
    (tmp_path / "log.jsonl").write_text(
        '{"epoch": 1, "train_loss": 2.0}\n{"epoch": 2, "train_loss": null, "val_top1": 5}\n'
    )
    found = curves(tmp_path)
    assert found == Curves((1, 2), (2.0, None), (None, None), (None, 5.0))
    for broken in ("[1]", "{", "", '{"epochs": 1}'):
        (tmp_path / "log.jsonl").write_text(broken)
        assert curves(tmp_path) is None
