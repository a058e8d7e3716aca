"""Sheets of samples: some of each class, by seed, as pictures with their names."""

import csv
import json
from pathlib import Path

import numpy as np

from tests import toy
from tests.runs import call, done, photos, refused
from vitgraft.analyze.samples import PIXELS, sheet, some_of_each
from vitgraft.cli.analyze.tasks import titles
from vitgraft.data.task import ArrayImages, Split


def test_choice__is_some_of_each_class_by_seed() -> None:
    labels = np.repeat([0, 1, 2, 5], [40, 3, 40, 1])
    found = some_of_each(labels, 8, seed=0)
    assert [int(label) for label in labels[found]] == [0, 0, 0, 1, 1, 2, 2, 5] or len(set(labels[found])) == 4
    assert found == some_of_each(labels, 8, seed=0) != some_of_each(labels, 8, seed=1)
    assert sorted(some_of_each(labels, 999, seed=0)) == list(range(84))
    assert len(set(labels[some_of_each(labels, 2, seed=3)])) == 2


def test_sheet__holds_pictures_with_their_classes() -> None:
    split = toy.split(12)
    found = sheet("toy", "train", split, 6)
    assert [sample.label for sample in found.samples] == ["0", "0", "1", "1", "2", "2"]
    for sample in found.samples:
        index = int(sample.name.removeprefix("toy[").removesuffix("]"))
        assert (sample.pixels == np.asarray(split.images[index])).all()
        assert int(sample.label) == split.labels[index]
    large = Split(ArrayImages(np.zeros((1, 40, 600, 3), dtype=np.uint8), "wide"), np.zeros(1, dtype=np.int64))
    assert sheet("wide", "train", large, 1).samples[0].pixels.shape[1] == PIXELS


def test_titles__are_as_short_as_they_may_be() -> None:
    assert titles(["digits", "a/photos.csv"]) == ["digits", "photos"]
    assert titles(["a/photos/", "b/photos"]) == ["a/photos", "b/photos"]
    assert titles(["photos", "photos"]) == ["photos", "photos"]


def test_command__writes_a_figure_of_folders_and_built_in_tasks(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", 12)
    written = ("analyze", "samples", folder, "digits", "--count", 5, "--seed", 2, "--out", tmp_path / "figures")
    done(*written)
    rows = list(csv.DictReader((tmp_path / "figures/samples.csv").open()))
    assert len(rows) == 10
    assert {row["class"] for row in rows if row["sheet"] == "photos"} == {"red", "green", "blue"}
    assert all(row["image"].startswith(row["class"]) for row in rows if row["sheet"] == "photos")
    card = json.loads((tmp_path / "figures/samples.json").read_text())
    assert "digits: 5 of the 800 images of train, 10 classes" in card["caption"]
    assert card["seeds"] == [2]
    assert card["n"] == 10
    done(*written)  # the same command replaces its own
    assert "is there already" in refused(*written[:4], "--out", tmp_path / "figures")


def test_command__says_which_splits_there_are(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", 4)
    said = refused(
        "analyze", "samples", folder, "--val-fraction", 0, "--split", "val", "--out", tmp_path / "figures"
    )
    assert "has no val split" in said
    assert not (tmp_path / "figures").exists()
    assert call("analyze", "samples", "--help").exit_code == 0
