"""Training from the feature cache is training without it; what is held, and when an entry is found again."""

from dataclasses import replace
from functools import cache as once
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests import tiny, toy
from tests.caching import METHODS, SETTINGS, TRAIN, VAL, Session, only, place, same, session, walked
from tests.test_distributed import in_two_processes
from vitgraft.backbones.families import wrap
from vitgraft.core.backbone import Backbone
from vitgraft.data.task import ArrayImages, Split
from vitgraft.errors import TrainingError
from vitgraft.features import cache, entries
from vitgraft.train import loop

__all__ = ["place"]

FP32 = 1e-5
FP16 = {"mlp": 5e-3}
"""By method, else 5e-4: four times what was measured, see `rows.KINDS`. The logits reach 0.65."""

OFF = replace(SETTINGS, cache="off")


@once
def uncached(method: str) -> Session:
    return session(method, OFF)


@pytest.mark.parametrize("where", ["disk", "ram"])
@pytest.mark.parametrize("method", METHODS)
def test_training__from_the_cache_is_training_without_it(method: str, where: str) -> None:
    found = session(method, replace(SETTINGS, cache=where))
    assert found.fitted is not None
    assert (found.fitted.cached.place, found.fitted.cached.size > 0) == (where, True)
    assert found.gap(uncached(method)) <= FP32


@pytest.mark.parametrize("method", METHODS)
def test_training__from_16_bits_stays_near(method: str) -> None:
    found = session(method, replace(SETTINGS, cache_precision="fp16"))
    assert 0 < found.gap(uncached(method)) <= FP16.get(method, 5e-4)


@pytest.mark.usefixtures("bf16")
@pytest.mark.parametrize("method", ["linear", "partial:k=1"])
def test_training__in_bf16_from_the_cache_stays_near(method: str) -> None:
    half = replace(SETTINGS, precision="bf16")
    assert session(method, half).gap(session(method, replace(half, cache="off"))) <= 1e-2
    with walked() as counts:
        session(method, half)
    assert counts == [1, 2, 2], "an entry in fp32 of a model in bf16 is found again"


def test_training__with_one_image_a_split() -> None:
    one = toy.split(1)
    for where in ("disk", "ram"):
        found = session("linear", replace(SETTINGS, cache=where), train=one, val=one)
        assert found.gap(session("linear", OFF, train=one, val=one)) <= FP32


# What is held


@pytest.mark.parametrize(
    ("method", "columns"),
    [
        ("linear", {(3, "pooled", "all", (24,))}),
        ("mlp", {(3, "pooled", "all", (24,))}),
        ("synqt", {(block, "norm1", "all", (17, 24)) for block in range(3)}),
        ("vqt", {*((block, "norm1", "all", (17, 24)) for block in range(3)), (3, "pooled", "all", (24,))}),
        ("lst", {(0, "in", "all", (17, 24)), *((block, "out", "all", (17, 24)) for block in range(3))}),
        ("partial:k=1", {(1, "out", "all", (17, 24))}),
        ("partial:k=2", {(0, "out", "all", (17, 24))}),
        ("lora:last=1", {(1, "out", "all", (17, 24))}),
    ],
)
def test_entry__holds_what_the_method_reads_and_no_more(method: str, columns: set[Any]) -> None:
    session(method, replace(SETTINGS, epochs=1), val=None)
    card = only().card
    assert card is not None
    assert {(c["block"], c["place"], c["reduction"], tuple(c["shape"])) for c in card.columns} == columns
    values = sum(int(np.prod(shape)) for *_, shape in columns)
    assert only().size == len(TRAIN) * values * 4


def test_entry__of_head2toe_holds_vectors_alone() -> None:
    session("head2toe:keep=1", replace(SETTINGS, epochs=1), val=None)
    card = only().card
    assert card is not None
    assert all(len(column["shape"]) == 1 for column in card.columns)


def test_entry__is_in_16_bits_unless_asked() -> None:
    session("linear", replace(SETTINGS, cache_precision=type(SETTINGS)().cache_precision), val=None)
    assert only().size == len(TRAIN) * 24 * 2


# Found again


def test_second_run__walks_two_images_a_split(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = session("partial:k=1")
    said = f"The frozen part is computed once, into {place}: 0.08 MiB."
    assert capsys.readouterr().err.splitlines()[0] == said
    with walked() as counts:
        second = session("partial:k=1")
    assert counts == [1, 2, 2]
    assert "features" not in capsys.readouterr().err
    assert first.fitted is not None
    assert second.fitted is not None
    assert first.fitted.cached.seconds > 0 == second.fitted.cached.seconds
    assert same(first, second)
    assert first.gap(second) == 0


def test_second_run__reads_a_larger_entry() -> None:
    session("vqt")
    with walked() as counts:
        found = session("synqt")
        session("linear")
    assert counts == [1, 2, 2] * 2
    assert found.gap(uncached("synqt")) <= FP32
    assert len(entries.entries()) == 2


def test_second_run__a_smaller_entry_does_not_do() -> None:
    session("linear", val=None)
    with walked() as counts:
        session("vqt", val=None)
    assert counts == [1, 20]


def _shifted(images: ArrayImages) -> ArrayImages:
    pixels = images.pixels.copy()
    pixels[-1, 0, 0, 0] += 1
    return ArrayImages(pixels, images.label)


@pytest.mark.usefixtures("bf16")
@pytest.mark.parametrize("what", ["weights", "pooling", "activation", "preprocessing", "images", "type", "bits"])
def test_other_run__has_an_entry_of_its_own(what: str) -> None:
    settings = replace(SETTINGS, epochs=1)
    session("linear", settings, val=None)
    other: dict[str, Any] = {
        "weights": {"frozen": wrap(tiny.vit(seed=1), "plain")},
        "pooling": {"frozen": pooled_otherwise()},
        "activation": {"frozen": wrap(tiny.vit(act_layer="gelu_tanh"), "plain")},
        "preprocessing": {"preprocessing": replace(toy.PREPROCESSING, interpolation="bilinear")},
        "images": {"train": Split(_shifted(TRAIN.images), TRAIN.labels)},
        "type": {"settings": replace(settings, precision="bf16")},
        "bits": {"settings": replace(settings, cache_precision="fp16")},
    }
    with walked() as counts:
        session("linear", **{"settings": settings, "val": None, **other[what]})
    assert counts == [1, 20]
    assert len(entries.entries()) == 2


def pooled_otherwise() -> Backbone:
    """The plain backbone's weights, pooled by the mean."""
    frozen = wrap(tiny.vit(global_pool="avg", fc_norm=False), "plain")
    assert frozen.fingerprint() == tiny.backbone().fingerprint()
    return frozen


def test_spot_check__sees_what_the_key_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_structure", lambda model: "alike")
    session("linear")
    expected = session("linear", OFF, frozen=pooled_otherwise())
    with walked() as counts:
        found = session("linear", frozen=pooled_otherwise())
    assert counts == [1, 2, 32, 2, 2, 20]
    assert found.gap(expected) <= FP32
    assert len(entries.entries()) == 2


def test_spot_check__leaves_a_larger_entry_of_another_model_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_structure", lambda model: "alike")
    session("vqt", val=None)
    found = session("linear", val=None, frozen=pooled_otherwise())
    assert found.gap(session("linear", OFF, val=None, frozen=pooled_otherwise())) <= FP32
    with walked() as counts:
        session("vqt", val=None)
    assert counts == [1, 2]


# What is not cached, and what cannot be


def test_random_augmentation__is_told_and_validation_is_cached(capsys: pytest.CaptureFixture[str]) -> None:
    flipped = replace(SETTINGS, augment="flip")
    found = session("linear", flipped)
    said = capsys.readouterr().err
    assert "Nothing of train is cached: augmentation 'flip' is random, and each epoch walks the backbone." in said
    card = only().card
    assert card is not None
    assert card.count == len(VAL)
    assert found.gap(session("linear", replace(flipped, cache="off"))) <= FP32


@pytest.mark.parametrize("method", ["mlp", "partial:k=1"])
@pytest.mark.parametrize("where", ["disk", "ram"])
def test_views__as_many_as_epochs_are_the_augmented_run(method: str, where: str) -> None:
    flipped = replace(SETTINGS, augment="flip", views=5)
    found = session(method, replace(flipped, cache=where))
    assert found.gap(session(method, replace(flipped, cache="off"))) <= FP32
    assert len(entries.entries()) == (3 if where == "disk" else 0)


def test_views__take_turns() -> None:
    flipped = replace(SETTINGS, augment="flip", views=2, epochs=4, select="last")
    with walked() as counts:
        session("linear", flipped, val=None)
    assert counts == [1, 20, 20]


def test_no_frozen_part__is_told_if_a_cache_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    first = session("lora", replace(SETTINGS, cache="auto", epochs=1))
    assert "cache" not in capsys.readouterr().err
    second = session("lora", replace(SETTINGS, epochs=1))
    assert "Nothing is cached: a trained value reaches the first block" in capsys.readouterr().err
    assert second.fitted is not None
    assert second.fitted.cached.place == "off"
    assert same(first, second)
    assert entries.entries() == []


def loud() -> nn.Module:
    """A model whose stream is beyond what 16 bits hold."""
    model = tiny.vit()
    with torch.no_grad():
        model.pos_embed[0, 3, 5] = 1e5
    return model


def test_values__beyond_16_bits_are_told() -> None:
    halves = replace(SETTINGS, cache_precision="fp16")
    with pytest.raises(
        TrainingError, match=r"block 1 gives at 'out' reaches 1e\+05, which fp16 cannot hold"
    ) as told:
        session("partial:k=1", halves, frozen=wrap(loud(), "loud"))
    assert "--cache-precision fp32" in str(told.value)
    found = session("partial:k=1", frozen=wrap(loud(), "loud"))
    assert found.gap(session("partial:k=1", OFF, frozen=wrap(loud(), "loud"))) <= FP32


def test_two_processes__train_from_one_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests import test_distributed as two

    monkeypatch.setattr(loop, "optimizer_of", two._sgd)
    settings = replace(two.SETTINGS, cache="disk", cache_precision="fp32")
    first, second = in_two_processes("mlp", settings, tmp_path / "two")
    assert len(entries.entries()) == 2
    assert all(entry.complete for entry in entries.entries())
    off = in_two_processes("mlp", replace(settings, cache="off"), tmp_path / "off")[0]
    for name, value in off["values"].items():
        assert torch.equal(first["values"][name], second["values"][name]), name
        assert torch.allclose(first["values"][name], value, atol=2e-5), name


def test_pictures__may_be_of_another_size_than_the_backbones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that takes several sizes gives as many tokens as the pictures have."""
    larger = replace(toy.PREPROCESSING, size=(24, 24))
    monkeypatch.setattr(toy, "PREPROCESSING", larger)
    cached = session("vqt", replace(SETTINGS, cache="ram"), frozen=tiny.backbone("dynamic_size"))
    assert cached.gap(session("vqt", replace(SETTINGS, cache="off"), frozen=tiny.backbone("dynamic_size"))) < 1e-4
