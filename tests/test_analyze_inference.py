"""What tuned models cost in use: FLOPs as published, turns that are taken, rounds that are kept."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from tests.runs import done, refused
from tests.tiny import backbone, images
from vitgraft.analyze import inference
from vitgraft.analyze.inference import CONTENDERS, PLAIN, Contender, Counts, Row, Setting, Spread
from vitgraft.analyze.inference_figure import COLUMNS, _against, table
from vitgraft.analyze.journal import Journal
from vitgraft.analyze.peak import Peak
from vitgraft.train.cost import flops_of

SMALL = Setting("test_vit", "32", 2, 5, "cpu", "fp32")
BASE = Setting("vit_base_patch16_224", None, 2, 100, "cpu", "fp32")
NAMED = {one.published: one for one in CONTENDERS if one.published}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peaks of this process."""
    monkeypatch.setattr(inference, "alone", lambda work, *given: work(*given))


def rows(layers: float, *speeds: float) -> list[Row]:
    """Of the frozen model and of bias: a batch of two takes 1 and 2 seconds in each round but a slow one."""
    counts = Counts(10, 40, layers)
    times = ((1.0, 1.0, 10.0), (2.0, 2.0, 20.0))
    chosen = (PLAIN, NAMED["BitFit"])
    return [Row(one, counts, Peak(300.0, 5.0), seconds) for one, seconds in zip(chosen, times, strict=True)]


@pytest.mark.parametrize(
    "name",
    [
        "BitFit",
        "VPT-Deep",
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("VPT-Shallow", "VQT", "SynQT")),
    ],
)
def test_flops__are_the_published_ones_within_two_percent(name: str) -> None:
    counts = inference.counts(BASE, NAMED[name])
    assert counts.layers / 1e9 == pytest.approx(inference.published(NAMED[name])["GFLOPs"], rel=0.02)
    assert counts.flops > counts.layers * 1.8


def test_layers__are_multiply_adds_of_weights_and_every_token() -> None:
    counts, small = inference.counts(SMALL, PLAIN), inference.counts(SMALL, NAMED["BitFit"])
    model = timm.create_model("test_vit", img_size=32, num_classes=5)
    tokens, width, patches = 5, model.embed_dim, 4
    linears = [one.weight.numel() for one in model.blocks.modules() if isinstance(one, nn.Linear)]
    own = tokens * sum(linears) + patches * model.patch_embed.proj.weight.numel() + model.head.weight.numel()
    assert counts.layers == small.layers == own
    attention = 2 * len(model.blocks) * tokens * tokens * width
    assert counts.flops == 2 * (own + attention)
    assert small.flops < counts.flops  # of the last block, the class token alone


def test_flops__of_what_runs() -> None:
    x, y = torch.zeros(3, 4, 5), torch.zeros(3, 5, 6)
    found = flops_of(lambda: (x @ y, x.flatten(0, 1) @ y[0]))
    assert (found.total, found.layers) == (2 * 2 * 3 * 4 * 5 * 6, 2 * 3 * 4 * 5 * 6)


def test_merged__is_the_librarys_model_with_the_same_answers() -> None:
    frozen = backbone()
    model, run = inference._built(Contender("LoRA, merged", "lora", merged=True), frozen, 3)
    assert type(run) is type(frozen.model)
    with torch.no_grad():
        assert torch.allclose(run(images(frozen)), model(images(frozen)), atol=1e-5)


def test_spread__is_of_quartiles() -> None:
    assert Spread.of([1.0, 2.0, 3.0, 4.0, 100.0]) == Spread(2.0, 3.0, 4.0)
    assert Spread.of([2.0]) == Spread(2.0, 2.0, 2.0)


def test_table__compares_within_rounds() -> None:
    made = [dict(zip(COLUMNS, row, strict=True)) for row in table(rows(16.9e9), SMALL)]
    assert [row["speed"] for row in made] == [2.0, 1.0]
    assert made[1]["speed / frozen model's"] == made[1]["lower quartile"] == made[1]["upper quartile"] == 0.5
    assert made[0]["published speed"] is None
    assert made[1]["published speed"] == 249.94
    assert made[1]["layers / published"] == 1.0


def test_published__are_left_out_beside_another_model() -> None:
    made = table(rows(5e9), SMALL)
    assert all(dict(zip(COLUMNS, row, strict=True))["published speed"] is None for row in made)
    assert "left out" in _against(made)[0]
    assert "all within 2%, bias furthest with +1.0%" in _against(table(rows(16.9e9 * 1.01), SMALL))[0]
    assert {"images/s": 172.69, "GFLOPs": 25.3}.items() <= inference.published(NAMED["VPT-Shallow"]).items()


@pytest.mark.usefixtures("here")
@pytest.mark.slow
def test_inference__takes_turns_and_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some = (PLAIN, NAMED["VQT"], CONTENDERS[-1])
    monkeypatch.setattr(inference, "CONTENDERS", some)
    options = ("--backbone", "test_vit", "--image-size", 32, "--batch", 2, "--classes", 5, "--rounds", 3)
    result = done("analyze", "inference", *options, "--out", tmp_path)
    found = list(csv.DictReader((tmp_path / "inference.csv").open()))
    card = json.loads((tmp_path / "inference.json").read_text())
    assert [row["model"] for row in found] == [one.title for one in some]
    assert all(float(row["speed"]) > 0 and int(row["trained"]) > 0 for row in found)
    assert float(found[0]["speed / frozen model's"]) == 1.0
    assert "3 rounds" in card["caption"]
    assert card["units"]["layers"] == "G multiply-adds an image"
    assert "left out" in card["notes"][-1]
    assert "LoRA, merged" in result.stdout
    assert "round 3 of 3" in result.stderr
    assert not list(tmp_path.glob(".*"))
    assert "--force" in refused("analyze", "inference", *options[:-1], 4, "--out", tmp_path)


@pytest.mark.usefixtures("here")
def test_rounds__that_are_kept_are_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "CONTENDERS", (PLAIN, NAMED["BitFit"]))
    ran: list[str] = []
    once = inference._once

    def counted(*given: Any) -> float:
        ran.append("batch")
        return once(*given)

    def interrupted(line: str) -> None:
        if line.startswith("round 2"):
            raise KeyboardInterrupt

    def begin(rounds: int, tell: Callable[[str], None]) -> list[Row]:
        return inference.measure(SMALL, rounds, Journal(tmp_path / "part", {}), tell)

    monkeypatch.setattr(inference, "_once", counted)
    with pytest.raises(KeyboardInterrupt):
        begin(3, interrupted)
    ran.clear()
    found = begin(3, lambda _: None)
    assert len(ran) == 2 * 2  # the warm-up and the third round
    assert [len(row.seconds) for row in found] == [3, 3]
