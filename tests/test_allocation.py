"""SPT's allocation: the published files from their own lists, budgets that hold, no value lost."""

from math import prod
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from tests.tiny import VARIANTS, backbone
from vitgraft.backbones.families import wrap
from vitgraft.errors import CheckpointError, ConfigError
from vitgraft.search.allocation import (
    PUBLISHED_LEVELS,
    Candidate,
    Rule,
    allocate,
    candidates,
    rank,
    restored,
    scores_of,
    spend,
    totals,
)
from vitgraft.search.published_masks import STAND_INS, PublishedMask, read_mask

SHARED = Path(__file__).parents[2] / "shared" / "published_masks"
LORA = Rule(lambda outputs, inputs: 8 * (outputs + inputs))
ADAPTER = Rule(lambda outputs, inputs: 16 * outputs + 8 + outputs)
FILES = {"lora_cifar_param_req_0.4.pth": LORA, "adapter_clevr_count_param_req_0.2.pth": ADAPTER}


@pytest.fixture(scope="module")
def vit_b16() -> tuple[Candidate, ...]:
    with torch.device("meta"):
        return candidates(wrap(timm.create_model("vit_base_patch16_224", num_classes=0), "ViT-B/16"))


def published(name: str, chosen: tuple[Candidate, ...]) -> PublishedMask:
    if not (SHARED / name).exists():
        pytest.skip("the published files are not here")
    return read_mask(SHARED / name, chosen, FILES[name], always=768)


def lists(name: str) -> dict[str, Any]:
    """A published file as it is."""
    with torch.serialization.safe_globals(STAND_INS):
        found: dict[str, Any] = torch.load(SHARED / name, map_location="cpu", weights_only=True)
    return found


def test_candidates__of_vit_b16_are_the_papers(vit_b16: tuple[Candidate, ...]) -> None:
    assert len(vit_b16) == 194
    assert sum(one.size for one in vit_b16) == 85_056_000
    assert [one.name for one in vit_b16[:4]] == ["0:norm1:weight", "0:norm1:bias", "0:q:weight", "0:q:bias"]
    assert vit_b16[-1].name == "12:norm:bias"


@pytest.mark.parametrize("name", FILES)
def test_published__totals_are_those_of_their_own_lists(name: str, vit_b16: tuple[Candidate, ...]) -> None:
    mask, rule = published(name, vit_b16), FILES[name]
    allocation = mask.allocation
    assert allocation.total(rule) == round(mask.claimed * 1e6)
    raw = lists(name)
    own = sum(rule.cost(vit_b16[number]) for number in allocation.structured | allocation.whole)
    assert own == raw["structured_params"]
    assert sum(map(len, allocation.sparse.values())) == int(raw["unstructured_params"])
    assert len(allocation.structured) + len(allocation.whole) + len(raw["unstructured_name_shapes"]) == 194
    assert all(len(index) < rule.needs(vit_b16[number]) for number, index in allocation.sparse.items())


def test_published__separate_projections_are_rows_of_the_fused_one(vit_b16: tuple[Candidate, ...]) -> None:
    """Flat positions within k of the files, and in the fused weight behind our place k."""
    name = "lora_cifar_param_req_0.4.pth"
    allocation = published(name, vit_b16).allocation
    raw = lists(name)
    start = 0
    for key, shape in raw["unstructured_name_shapes"].items():
        if key == "blocks.11.attn.k.weight":
            break
        start += prod(shape)
    index = raw["unstructured_indexes"]
    theirs = index[(index >= start) & (index < start + 768 * 768)] - start
    (number,) = (i for i, one in enumerate(vit_b16) if one.name == "11:k:weight")
    assert torch.equal(allocation.sparse[number], theirs)
    fused = torch.zeros(3, 768, 768)
    fused[1].view(-1)[theirs] = 1
    rows, columns = fused.view(-1, 768).nonzero().unbind(1)
    assert torch.equal(((768 + theirs // 768) * 768 + theirs % 768), rows * 768 + columns)


def test_published__what_is_none_is_told(tmp_path: Path, vit_b16: tuple[Candidate, ...]) -> None:
    with pytest.raises(CheckpointError, match="Check the path"):
        read_mask(tmp_path / "missing.pth", vit_b16, LORA)
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"is no selection of SPT's"):
        read_mask(tmp_path / "other.pth", vit_b16, LORA)
    torch.save({"tuned_matrices": Path("x")}, tmp_path / "foreign.pth")
    with pytest.raises(CheckpointError, match="which vitgraft never does"):
        read_mask(tmp_path / "foreign.pth", vit_b16, LORA)
    if SHARED.exists():
        with pytest.raises(CheckpointError, match="12 blocks, and the backbone has 3"):
            read_mask(SHARED / "lora_cifar_param_req_0.4.pth", candidates(backbone()), LORA)


CHOSEN = (
    Candidate((0, "norm1"), "weight", (10,)),
    Candidate((0, "q"), "weight", (10, 10)),
    Candidate((0, "q"), "bias", (10,)),
    Candidate((1, "norm"), "weight", (10,)),
)
RULE = Rule(lambda outputs, inputs: 2 * (outputs + inputs), alpha=4.0, beta=5.0)
"""A matrix is structured (40 values) from 10 entries on, a vector whole from 2 on."""


def scores(seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(one.shape, generator=generator) for one in CHOSEN]


def test_rule__thresholds_are_reached_exactly() -> None:
    values = [torch.zeros(one.shape) for one in CHOSEN]
    values[1].view(-1)[:9] = 2.0
    values[0][3] = 1.0
    ranking = rank(CHOSEN, values, 10)
    nine = allocate(ranking, RULE, 10)
    assert [nine.form(number) for number in range(4)] == ["sparse", "sparse", "frozen", "frozen"]
    assert nine.total(RULE) == 10
    values[1].view(-1)[9] = 2.0
    values[0][4] = 1.0
    ten = allocate(rank(CHOSEN, values, 12), RULE, 12)
    assert [ten.form(number) for number in range(4)] == ["whole", "structured", "frozen", "frozen"]
    assert ten.total(RULE) == 50


@pytest.mark.parametrize("seed", range(3))
def test_totals__of_every_level_are_those_of_its_allocation(seed: int) -> None:
    ranking = rank(CHOSEN, scores(seed), 130)
    found = totals(ranking, RULE, always=7).tolist()
    for level in range(1, 131):
        allocation = allocate(ranking, RULE, level, always=7)
        assert allocation.level == level
        assert allocation.total(RULE) == found[level - 1]
    assert found == sorted(found)


@pytest.mark.parametrize("count", [1, 13, 60, 130])
def test_rank__is_the_plain_sort(count: int) -> None:
    values = scores()
    ranking = rank(CHOSEN, values, count)
    flat = torch.cat([value.flatten() for value in values])
    starts = torch.tensor([0, 10, 110, 120])
    assert torch.equal(starts[ranking.owner] + ranking.position, flat.argsort(descending=True)[:count])


def test_rank__loses_nothing_among_equals() -> None:
    values = [torch.ones(one.shape) for one in CHOSEN]
    for count in (1, 50, 129, 500):
        ranking = rank(CHOSEN, values, count)
        assert len(ranking.owner) == min(count, 130)
        assert len(set(zip(ranking.owner.tolist(), ranking.position.tolist(), strict=True))) == min(count, 130)
    assert ranking.complete


def test_rank__a_misleading_sample_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitgraft.search.allocation._floor", lambda *_: 2.0)
    assert len(rank(CHOSEN, scores(), 40).owner) == 40


def test_spend__budgets_are_met_and_never_exceeded() -> None:
    budgets = [8, 20, 60, 90, 1_000]
    found = spend(CHOSEN, scores(), RULE, budgets, always=7)
    ranking = rank(CHOSEN, scores(), 130)
    sums = totals(ranking, RULE, 7).tolist()
    for budget, allocation in zip(budgets, found, strict=True):
        assert allocation.total(RULE) <= budget
        assert allocation.level == len([one for one in sums if one <= budget])
    assert found[-1].level == 130
    with pytest.raises(ConfigError, match=r"A budget of 7 values pays for nothing: 7 are trained anyway"):
        spend(CHOSEN, scores(), RULE, [7], always=7)


@pytest.mark.parametrize("alpha", [10.0, 1.0])
def test_spend__a_budget_for_everything_asks_no_ranking(alpha: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what the ranking would have said, also where a matrix is too small to ever be structured."""
    rule = Rule(lambda outputs, inputs: 12 * (outputs + inputs), alpha)
    expected = allocate(rank(CHOSEN, scores(), 130), rule, 130, always=7)
    few, whole = spend(CHOSEN, scores(), rule, [60, 10**9], always=7)
    for name, value in expected.tensors().items():
        assert torch.equal(value, whole.tensors()[name])
    assert whole.total(rule) == expected.total(rule)
    assert few.level < 130
    monkeypatch.setattr("vitgraft.search.allocation.rank", None)
    assert spend(CHOSEN, scores(), rule, [10**9], always=7)[0].level == 130


def test_spend__published_levels_take_the_nearest() -> None:
    chosen = (Candidate((0, "q"), "weight", (500, 500)), Candidate((0, "q"), "bias", (500,)))
    generator = torch.Generator().manual_seed(0)
    values = [torch.rand(one.shape, generator=generator) for one in chosen]
    dear = Rule(lambda outputs, inputs: 10**7)
    (near,) = spend(chosen, values, dear, [95_000], published=True)
    assert near.level == 100_000
    assert near.level in PUBLISHED_LEVELS
    assert near.total(dear) > 95_000


def test_restored__is_the_same() -> None:
    (allocation,) = spend(CHOSEN, scores(), RULE, [60])
    again = restored(CHOSEN, allocation.tensors())
    assert again.structured == allocation.structured
    assert again.whole == allocation.whole
    assert all(torch.equal(again.sparse[number], index) for number, index in allocation.sparse.items())
    with pytest.raises(ConfigError, match="other values than this backbone has"):
        restored(CHOSEN[:2], allocation.tensors())


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_scores__are_the_rows_of_each_place(variant: str) -> None:
    frozen = backbone(variant)
    values = {name: frozen.parameter(name).detach() for name in frozen.parameter_names()}
    for candidate, found in zip(candidates(frozen), scores_of(frozen, values), strict=True):
        assert found.shape == candidate.shape
        rows = frozen.rows(candidate.site)
        own = [(part.weight if candidate.kind == "weight" else part.bias).part for part in rows]
        assert torch.equal(found, torch.cat(own))
