"""Patterns of sensitivity: what is counted where, what is kept, and the figures."""

import csv
import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.runs import SIZE, done, photos, refused, weights
from tests.tiny import backbone
from vitgraft.analyze.sensitivity import OPERATIONS, Pattern, pattern, spread
from vitgraft.analyze.sensitivity_figure import draw
from vitgraft.cli.analyze.several import parsed
from vitgraft.errors import ConfigError
from vitgraft.methods.spt import SptLora
from vitgraft.report.style import styled
from vitgraft.search.allocation import allocate, candidates, rank, scores_of

PUBLISHED = Path(__file__).parents[2] / "shared" / "published_masks"


def test_pattern__tells_the_rows_of_a_fused_projection_apart() -> None:
    frozen, method = backbone(), SptLora(rank=1)
    scores = {name: torch.zeros(frozen.parameter(name).shape) for name in frozen.parameter_names()}
    width = frozen.width
    fused = scores["blocks.1.attn.qkv.weight"]
    fused[width : 2 * width] = 2.0  # all of k
    fused[2 * width, :3] = 1.0  # three of v
    scores["norm.weight"][:2] = 1.5
    chosen = width * width + 3 + 2
    ranking = rank(candidates(frozen), scores_of(frozen, scores), chosen)
    spent = allocate(ranking, method.rule(), chosen)
    sensitive = pattern(spent, method.rule(), "sensitive", "tiny", "toy")
    expected = np.zeros((frozen.depth + 1, len(OPERATIONS)), dtype=int)
    expected[1, OPERATIONS.index("k")], expected[1, OPERATIONS.index("v")] = width * width, 3
    expected[frozen.depth, OPERATIONS.index("norms")] = 2
    assert (sensitive.counts == expected).all()
    assert sensitive.by_block[1] == pytest.approx(100 * (width * width + 3) / chosen)
    assert sensitive.by_operation.sum() == pytest.approx(100)
    assert (sensitive.sizes[:-1, :3] == width * (width + 1)).all()
    assert sensitive.sizes.sum() == sum(candidate.size for candidate in candidates(frozen))
    trained = pattern(spent, method.rule(), "trained", "tiny", "toy")
    expected[1, OPERATIONS.index("k")] = 2 * width  # one module of rank 1 stands for all of k
    assert (trained.counts == expected).all()


def test_drawing__shows_every_point() -> None:
    """Backbones share an axis: that of another backbone must not cut the highest point off."""
    low, high = (np.full((4, len(OPERATIONS)), 10), np.full((4, len(OPERATIONS)), 10))
    high[2, OPERATIONS.index("v")] = 900
    sizes = np.full((4, len(OPERATIONS)), 100)
    sizes[:, OPERATIONS.index("fc1")] = 5_000
    patterns = [
        Pattern(name, "toy", counts, sizes, 9, 9) for name, counts in (("a", low), ("b", high), ("c", low))
    ]
    with styled():
        axes = draw(patterns, "sensitive").axes
    assert len(axes) == 6
    for one in axes:
        points = np.concatenate([line.get_ydata() for line in one.lines])
        assert one.get_ylim()[0] == 0
        assert points.max() < one.get_ylim()[1]


def test_spread__is_that_of_all_values_and_knows_no_scale() -> None:
    frozen = backbone()
    torch.manual_seed(0)
    scores = {name: torch.rand(frozen.parameter(name).shape) ** 4 for name in frozen.parameter_names()}
    parts = scores_of(frozen, scores)
    flat = torch.cat([part.flatten() for part in parts]).double()
    found, louder = spread(parts), spread([1e-6 * part for part in parts])
    assert found.values == len(flat)
    assert found.variance == pytest.approx(float(flat.var(correction=0)))
    assert found.relative == pytest.approx(float(flat.var(correction=0) / flat.mean() ** 2))
    assert louder.relative == pytest.approx(found.relative, rel=1e-4)
    assert louder.variance == pytest.approx(1e-12 * found.variance, rel=1e-4)
    best = flat.sort(descending=True).values[: round(0.01 * len(flat))]
    assert found.top == pytest.approx(float(100 * best.sum() / flat.sum()))
    assert spread([torch.ones(10, 10)]).relative == 0


def test_backbones__have_titles_that_tell_them_apart() -> None:
    assert [one.title for one in parsed(["figures", "dinov2-s:image_size=112"])] == ["figures", "dinov2-s"]
    found = parsed(["dinov2-s:image_size=112,checkpoint=a/x.pth", "dinov2-s:image_size=224", "hf-hub:owner/name"])
    assert [one.title for one in found] == ["dinov2-s, x, 112 px", "dinov2-s, 224 px", "hf-hub:owner/name"]
    assert found[0].keys() == {"backbone": "dinov2-s", "checkpoint": "a/x.pth", "image_size": "112"}
    with pytest.raises(ConfigError, match="Did you mean 'checkpoint'"):
        parsed(["figures:chekpoint=a"])
    with pytest.raises(ConfigError, match="twice"):
        parsed(["figures", "figures"])


@pytest.mark.slow
def test_command__draws_tasks_on_backbones_and_keeps_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = weights(tmp_path / "weights.safetensors")
    first, second = (photos(tmp_path / name, 6, 10 * place) for place, name in enumerate(("first", "second")))
    spec = "spt-lora:images=8,batch=4"
    kept = tmp_path / "scores"
    on = ("--backbone", "test_vit", "--checkpoint", file, "--image-size", SIZE)
    done("sensitivity", first, *on, "--out", kept / "mine.safetensors", "--method", spec, "--budgets", "2k")
    small, large = (f"test_vit:checkpoint={file},image_size={size}" for size in (SIZE, 2 * SIZE))
    asked = ("analyze", "sensitivity", first, second, "--backbone", small, "--backbone", large)
    asked = (*asked, "--method", spec, "--scores", kept, "--out", tmp_path / "figures", "--budget", "1%")
    said = done(*asked).stderr
    assert f"first on test_vit, weights, 32 px: scores in {kept / 'mine.safetensors'}" in " ".join(said.split())
    assert len(list(kept.glob("*.safetensors"))) == 4
    rows = list(csv.DictReader((tmp_path / "figures/sensitivity.csv").open()))
    assert {(row["backbone"], row["task"]) for row in rows} == {
        (f"test_vit, weights, {size} px", task) for size in (32, 64) for task in ("first", "second")
    }
    shares = [float(row["share"]) for row in rows if row["backbone"].endswith("32 px") and row["task"] == "first"]
    assert sum(shares) == pytest.approx(100, abs=0.1)
    spreads = list(csv.DictReader((tmp_path / "figures/sensitivity-variance.csv").open()))
    assert len(spreads) == 4
    assert all(float(row["relative variance"]) > 0 for row in spreads)
    card = json.loads((tmp_path / "figures/sensitivity.json").read_text())
    assert "τ = " in card["caption"]
    assert [one["image_size"] for one in card["backbone"]] == [[SIZE, SIZE], [2 * SIZE, 2 * SIZE]]

    def never(*_: object, **__: object) -> None:
        raise AssertionError("scores are there")

    monkeypatch.setattr("vitgraft.train.calibrate.squared_gradients", never)
    again: list[Pattern] = []
    module = import_module("vitgraft.cli.analyze.sensitivity")  # the command has its module's name
    monkeypatch.setattr(module, "_write", lambda places, found, *_: again.extend(found))
    done(*asked)
    assert sum(int(one.counts.sum()) for one in again) == sum(int(row["counted"]) for row in rows)
    with pytest.raises(AssertionError, match="scores are there"):
        done(*asked, "--seed", 1, "--force")  # another seed looks at other images


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published files lie beside the checkout, not in it")
def test_command__draws_published_masks(tmp_path: Path) -> None:
    names = ("lora_cifar_param_req_0.4", "adapter_clevr_count_param_req_0.2")
    masks = [one for name in names for one in ("--mask", PUBLISHED / f"{name}.pth")]
    done("analyze", "sensitivity", *masks, "--out", tmp_path)
    rows = list(csv.DictReader((tmp_path / "sensitivity.csv").open()))
    totals = {name: sum(int(row["counted"]) for row in rows if row["task"] == name) for name in names}
    assert totals == {names[0]: 380_909 - 768, names[1]: 201_679 - 768}  # the class token stands nowhere
    paired = sum(float(row["share"]) for row in rows if row["task"] == names[0] and row["operation"] in "qk")
    assert paired < 1
    caption = json.loads((tmp_path / "sensitivity.json").read_text())["caption"]
    assert "Share of the values that a budget trains" in caption


def test_command__refuses_what_makes_no_figure(tmp_path: Path) -> None:
    out = ("--out", tmp_path)
    assert "Nothing is named" in refused("analyze", "sensitivity", *out)
    assert "has no sensitivity" in refused("analyze", "sensitivity", "digits", "--method", "lora", *out)
    assert "--budget" in refused("analyze", "sensitivity", "digits", "--method", "spt-lora:budget=20k", *out)
    mask = tmp_path / "mask.pth"
    mask.write_bytes(b"no mask")
    assert "mask.pth" in refused("analyze", "sensitivity", "--mask", mask, *out)
    assert not list(tmp_path.glob("*.png"))
