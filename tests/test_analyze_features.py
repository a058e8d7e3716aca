"""The worth of blocks' readings: what is read, what is chosen by what, and the advice."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import toy
from tests.runs import SIZE, done, photos, refused, weights
from tests.tiny import backbone, images
from vitgraft.analyze.features import CLASS, PATCHES, Curve, Worth, advice, probe, taps
from vitgraft.analyze.readings import readings
from vitgraft.core.backbone import Backbone
from vitgraft.core.sites import Tap
from vitgraft.data.transforms import evaluation
from vitgraft.train.settings import Training


def test_taps__leave_out_what_is_no_patch() -> None:
    frozen = backbone("dinov2_registers")
    assert frozen.view.prefix_tokens == 3
    whole = Tap(1, "out")
    found = frozen.read(images(frozen), {whole, *taps(frozen).values()})
    torch.testing.assert_close(found[taps(frozen)[1, PATCHES]], found[whole][:, 3:].mean(dim=1))
    torch.testing.assert_close(found[taps(frozen)[1, CLASS]], found[whole][:, 0])
    assert {reading for _, reading in taps(backbone("average_norm_first"))} == {PATCHES}


def test_readings__are_those_of_the_backbone_and_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VITGRAFT_CACHE", str(tmp_path))
    frozen, wanted = backbone(), taps(backbone()).values()
    splits = {"train": toy.split(70), "val": toy.split(9, seed=1)}
    settings = Training(device="cpu")
    found = readings(frozen, wanted, splits, toy.PREPROCESSING, settings)
    pictures = torch.stack([splits["val"].tensors(evaluation(toy.PREPROCESSING))[at][0] for at in range(9)])
    for tap, value in frozen.read(pictures, wanted).items():
        np.testing.assert_allclose(found["val"][tap], value.numpy(), rtol=1e-4, atol=1e-5)
        assert found["train"][tap].shape == (70, frozen.width)
    walks: list[int] = []
    plain = type(frozen).read

    def counted(self: Backbone, batch: Tensor, some: Iterable[Tap]) -> dict[Tap, Tensor]:
        walks.append(len(batch))
        return plain(self, batch, some)

    monkeypatch.setattr(type(frozen), "read", counted)
    again = readings(frozen, wanted, splits, toy.PREPROCESSING, settings)
    assert all((again[name][tap] == found[name][tap]).all() for name in splits for tap in wanted)
    assert sum(walks) < 10  # a look at two images of each split, to see that they still agree


def test_probe__is_chosen_on_validation() -> None:
    draw = np.random.default_rng(0)

    def some(count: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
        labels = draw.integers(0, 3, count)
        values = draw.standard_normal((count, 20))
        values[np.arange(count), labels] += noise
        return values.astype(np.float32), labels

    parts = {name: some(count, 3.0) for name, count in (("train", 120), ("val", 90), ("test", 90))}
    values, labels = ({name: part[at] for name, part in parts.items()} for at in (0, 1))
    found = probe(0, CLASS, values, labels)
    assert found.val > 75
    assert found.test is not None
    assert found.test > 70
    wrong = {**labels, "test": (labels["test"] + 1) % 3}
    assert probe(0, CLASS, values, wrong).strength == found.strength  # test chooses nothing
    without = probe(0, CLASS, {name: values[name] for name in ("train", "val")}, labels)
    assert without.test is None
    assert without.val == found.val


def worths(*val: float) -> Curve:
    found = [Worth(at, CLASS, one, one - 1, 0.1) for at, one in enumerate(val)]
    return Curve("toy", found, {"train": 9, "val": 100}, 3)


def test_advice__follows_from_validation() -> None:
    rising = worths(20, 40, 60, 80)
    assert (rising.best.block, rising.enough.block) == (3, 3)
    assert "builds up to the end" in advice(rising)
    falling = worths(20, 78, 80, 60)  # one standard error of 80 % over 100 images is 4
    assert (falling.best.block, falling.enough.block) == (2, 1)
    assert "Blocks above 1 lose some of what it needs" in advice(falling)
    assert "lora:last=2" in advice(falling)
    assert "add little" in advice(worths(20, 80, 80, 79))


def test_command__draws_a_curve(tmp_path: Path) -> None:
    folder, file = photos(tmp_path / "photos", 12), weights(tmp_path / "weights.safetensors")
    asked = ("--backbone", "test_vit", "--checkpoint", file, "--image-size", SIZE, "--out", tmp_path / "figures")
    said = done("analyze", "features", folder, *asked).stdout
    rows = list(csv.DictReader((tmp_path / "figures/features.csv").open()))
    assert len({row["block"] for row in rows}) * 2 == len(rows)
    assert {row["reading"] for row in rows} == {CLASS, PATCHES}
    assert all(0 <= float(row["test"]) <= 100 for row in rows)
    card = json.loads((tmp_path / "figures/features.json").read_text())
    assert said.strip() in card["caption"]
    without = ("--val-fraction", 0, "--name", "other")
    assert "--val-fraction" in refused("analyze", "features", folder, *asked, *without)
