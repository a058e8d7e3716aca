"""Published selections of SPT: those that contradict themselves are refused, the others described as they are."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vitgraft
from tests import toy
from tests.tiny import backbone, images, vit
from vitgraft import methods
from vitgraft.backbones.families import wrap
from vitgraft.core.backbone import Backbone
from vitgraft.core.shape import measure
from vitgraft.errors import CheckpointError, ConfigError, Told, VitgraftError
from vitgraft.methods.spt import Spt, SptAdapter, SptLora
from vitgraft.runs.config import RunConfig
from vitgraft.search.allocation import Allocation, candidates
from vitgraft.search.published_masks import STAND_INS, read_mask

SHARED = Path(__file__).parents[2] / "shared" / "published_masks"
WIDTH, HIDDEN, DEPTH, RANK = 24, 96, 3, 2
PLACES = {"norm1": "norm1", "q": "attn.q", "k": "attn.k", "v": "attn.v", "proj": "attn.proj", "norm2": "norm2",
          "fc1": "mlp.fc1", "fc2": "mlp.fc2"}  # fmt: skip


def their_name(candidate: Any) -> str:
    (block, place), kind = candidate.site, candidate.kind
    return f"norm.{kind}" if place == "norm" else f"blocks.{block}.{PLACES[place]}.{kind}"


def published(method: Spt, frozen: Backbone) -> dict[str, Any]:
    """A selection as the authors write it, counted by formulas of this test's own."""
    generator = torch.Generator().manual_seed(0)
    names = frozen.parameter_names()
    sizes = {name: torch.rand(1, generator=generator) ** 4 for name in names}
    scores = {name: torch.rand(frozen.parameter(name).shape, generator=generator) * sizes[name] for name in names}
    (chosen,) = method.spend(frozen, scores, [1_500])
    parts = {number: chosen.form(number) for number in range(len(chosen.candidates))}
    assert set(parts.values()) == {"structured", "whole", "sparse", "frozen"}
    matrices = [[0] * 6 for _ in range(DEPTH)]
    order, shapes, index, start, structured = ("q", "k", "v", "proj", "fc1", "fc2"), {}, [], 0, 0
    for number, one in enumerate(chosen.candidates):
        if parts[number] == "structured":
            matrices[one.site[0]][order.index(one.site[1])] = 1
            outputs, inputs = one.shape
            lora, adapter = RANK * (outputs + inputs), 2 * RANK * outputs + RANK + outputs
            structured += lora if isinstance(method, SptLora) else adapter
        elif parts[number] == "whole":
            structured += one.shape[0]
        else:
            shapes[their_name(one)] = torch.Size(one.shape)
            index += [start + int(position) for position in chosen.sparse.get(number, ())]
            start += one.size
    vectors = [their_name(chosen.candidates[number]) for number, form in parts.items() if form == "whole"]
    return {
        "unstructured_name_shapes": shapes,
        "unstructured_name_shapes_int": {name: int(torch.tensor(shape).prod()) for name, shape in shapes.items()},
        "params": torch.tensor((structured + len(index) + WIDTH) / 1e6),
        "unstructured_params": torch.tensor(float(len(index))),
        "structured_params": structured,
        "unstructured_indexes": torch.tensor(index),
        "tuned_matrices": matrices,
        "tuned_vectors": vectors,
    }


def saved(folder: Path, values: object) -> Path:
    torch.save(values, folder / "mask.pth")
    return folder / "mask.pth"


@pytest.fixture(scope="module")
def frozen() -> Backbone:
    return backbone()


@pytest.mark.parametrize("kind", [SptLora, SptAdapter])
def test_mask__is_described_as_it_is_and_needs_no_data(tmp_path: Path, frozen: Backbone, kind: type[Spt]) -> None:
    values = published(kind(rank=RANK), frozen)
    spec = f"{kind.name}:rank={RANK},mask={saved(tmp_path, values)}"
    model = vitgraft.graft(vit(), spec, toy.CLASSES)
    count = round(float(values["params"]) * 1e6)
    assert model.tuned.trained_values().method == count
    told = model.method.told(model.backbone, model.findings)
    matrices, vectors = sum(map(sum, values["tuned_matrices"])), len(values["tuned_vectors"])
    entries = len(values["unstructured_indexes"])
    assert told[-2].startswith(f"{matrices} matrices by {kind.module} (")
    assert f"{vectors} whole vectors (" in told[-2]
    assert f"{entries:,} sparse entries, the class token (24)" in told[-2]
    assert told[-1] == f"{count:,} values; a published selection."
    (text,) = model.method.files(model.backbone, model.findings).values()
    card = json.loads(text)
    assert (card["met"], card["level"], card["budget"]) == (count, None, None)
    for row in card["rows"]:
        known = row["form"] in ("sparse", "frozen")
        assert row["chosen"] == (row["trained"] if known else None)
    model.save(tmp_path / "run")
    again = vitgraft.load(tmp_path / "run", backbone=vit())
    assert again.method.told(again.backbone, again.findings) == told
    with torch.no_grad():
        pictures = images(model.backbone)
        assert torch.equal(again.tuned(pictures), model.tuned.eval()(pictures))


def test_mask__of_another_kind_or_rank_names_its_own(tmp_path: Path, frozen: Backbone) -> None:
    path = saved(tmp_path, published(SptLora(rank=RANK), frozen))
    for spec in ("spt-adapter:rank=2", "spt-lora:rank=8", "spt-lora"):
        with pytest.raises(
            CheckpointError, match=r"is a selection for spt-lora of rank 2, by its count of"
        ) as told:
            vitgraft.graft(vit(), f"{spec},mask={path}" if ":" in spec else f"{spec}:mask={path}")
        advised = str(told.value).rsplit("Give it as ", 1)[1].removesuffix(".")
        assert vitgraft.graft(vit(), advised).tuned.trained_values().method > 1_000
    path = saved(tmp_path, published(SptAdapter(rank=RANK), frozen))
    with pytest.raises(CheckpointError, match=r"is a selection for spt-adapter of rank 2"):
        vitgraft.graft(vit(), f"spt-lora:rank=2,mask={path}")


def test_mask__indices_that_are_only_unsorted_are_sorted(tmp_path: Path, frozen: Backbone) -> None:
    values, method = published(SptLora(rank=RANK), frozen), SptLora(rank=RANK)
    chosen = candidates(frozen)
    expected = read_mask(saved(tmp_path, values), chosen, method.rule(), WIDTH).allocation
    values["unstructured_indexes"] = values["unstructured_indexes"].flip(0)
    with pytest.warns(Told, match=r"its \d+ indices were not in order, and were sorted"):
        found = read_mask(saved(tmp_path, values), chosen, method.rule(), WIDTH).allocation
    assert same(found, expected)


def same(one: Allocation, other: Allocation) -> bool:
    first, second = one.tensors(), other.tensors()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


Change = Callable[[dict[str, Any]], object]


def changed(key: str, change: Callable[[Any], Any]) -> Change:
    return lambda values: values.update({key: change(values[key])})


def without(key: str, place: int) -> Change:
    """A name of a dictionary, taken out."""
    return changed(key, lambda one: {name: one[name] for number, name in enumerate(one) if number != place})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (changed("unstructured_indexes", lambda one: torch.cat([one, one])), "are there more than once"),
        (changed("unstructured_indexes", lambda one: one[::2]), "single entries, and says that there are"),
        (changed("unstructured_indexes", lambda one: -one - 1), "an index is -"),
        (changed("unstructured_indexes", lambda one: one + 10**6), "and must be from 0 to"),
        (changed("unstructured_indexes", lambda one: one.double()), "is no list of whole numbers"),
        (changed("unstructured_indexes", lambda one: one.view(1, -1)), "is no list of whole numbers"),
        (changed("unstructured_indexes", lambda one: one[:0]), "holds 0 single entries"),
        (changed("unstructured_indexes", lambda one: one.tolist()), "is no list of whole numbers"),
        (changed("params", lambda one: one * 2), "what it chooses trains"),
        (changed("params", lambda one: one + 1e-6), "what it chooses trains"),
        (changed("params", lambda one: one * torch.nan), "params is no number"),
        (changed("params", lambda one: "0.4"), "params is no number"),
        (changed("structured_params", lambda one: one + 1), "its modules and vectors are"),
        (changed("tuned_matrices", lambda one: one[:2]), "2 blocks, and the backbone has 3"),
        (changed("tuned_matrices", lambda one: [row[:5] for row in one]), "has not 6 numbers for each block"),
        (changed("tuned_matrices", lambda one: [[2] * 6] * 3), "each 0 or 1"),
        (changed("tuned_matrices", lambda one: 7), "is no list of a row for each block"),
        (changed("tuned_matrices", lambda one: [[1 - flag for flag in row] for row in one]), "contradicts itself"),
        (changed("tuned_vectors", lambda one: [*one, one[0]]), "twice"),
        (changed("tuned_vectors", lambda one: one[1:]), "it says nothing of 1 of the backbone's values"),
        (changed("tuned_vectors", lambda one: [*one, "blocks.0.attn.q.weight"]), "which is no vector"),
        (changed("tuned_vectors", lambda one: [*one, 7]), "7, which the backbone does not have"),
        (changed("tuned_vectors", lambda one: None), "is no list of names"),
        (without("unstructured_name_shapes", 0), "other sizes than unstructured_name_shapes"),
        (changed("unstructured_name_shapes", lambda one: dict(reversed(one.items()))), "not in the order of"),
        (changed("unstructured_name_shapes", lambda one: {**one, "blocks.0.attn.q.weight": (1, 2)}), "(1, 2)"),
        (changed("unstructured_name_shapes", lambda one: list(one)), "is no dictionary of shapes"),
        (changed("unstructured_name_shapes_int", lambda one: 3), "is no selection of SPT's"),
        (lambda values: values.pop("params"), "it has no 'params'"),
        (lambda values: values.pop("tuned_matrices"), "it has no 'tuned_matrices'"),
    ],
)  # fmt: skip
def test_mask__that_contradicts_itself_is_refused(
    tmp_path: Path, frozen: Backbone, change: Change, told: str
) -> None:
    values = published(SptLora(rank=RANK), frozen)
    change(values)
    with pytest.raises(CheckpointError) as caught:
        read_mask(saved(tmp_path, values), candidates(frozen), SptLora(rank=RANK).rule(), WIDTH)
    assert told in str(caught.value)
    assert "mask.pth" in str(caught.value)


def test_mask__that_leaves_a_name_out_everywhere_is_refused(tmp_path: Path, frozen: Backbone) -> None:
    """Its indices would point into other values."""
    values = published(SptLora(rank=RANK), frozen)
    for key in ("unstructured_name_shapes", "unstructured_name_shapes_int"):
        without(key, 0)(values)
    with pytest.raises(CheckpointError, match="says nothing of 1 of"):
        read_mask(saved(tmp_path, values), candidates(frozen), SptLora(rank=RANK).rule(), WIDTH)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=3) | st.just(torch.ones(3)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mask__of_any_content_is_a_sentence_or_as_it_was(
    tmp_path: Path, frozen: Backbone, data: st.DataObject
) -> None:
    """Fields replaced, and parts of fields: a VitgraftError, or the very choice that it was."""
    values, method = published(SptLora(rank=RANK), frozen), SptLora(rank=RANK)
    expected = read_mask(saved(tmp_path, values), candidates(frozen), method.rule(), WIDTH).allocation
    key = data.draw(st.sampled_from(sorted(values)))
    inside = values[key]
    if isinstance(inside, list | dict) and data.draw(st.booleans()):
        copy = dict(inside) if isinstance(inside, dict) else list(inside)
        place = data.draw(st.sampled_from(sorted(copy) if isinstance(copy, dict) else range(len(copy))))
        copy[place] = data.draw(ANYTHING)
        values[key] = copy
    else:
        values[key] = data.draw(ANYTHING)
    try:
        found = read_mask(saved(tmp_path, values), candidates(frozen), method.rule(), WIDTH).allocation
    except VitgraftError:
        return
    assert same(found, expected)


@pytest.mark.parametrize("name", ["lora_cifar_param_req_0.4.pth", "adapter_clevr_count_param_req_0.2.pth"])
def test_mask__published_files_in_the_wrong_hands(tmp_path: Path, name: str) -> None:
    if not (SHARED / name).exists():
        pytest.skip("the published files are not here")
    import timm

    with torch.device("meta"):
        frozen = wrap(timm.create_model("vit_base_patch16_224", num_classes=0), "ViT-B/16")
    kind, other = (SptLora, SptAdapter) if name.startswith("lora") else (SptAdapter, SptLora)
    right = kind(mask=str(SHARED / name))
    found = right.allocation(frozen, right.find(frozen, 10, None))  # type: ignore[arg-type]
    assert found.total(right.rule()) == {SptLora: 380_909, SptAdapter: 201_679}[kind]
    for wrong in (other(mask=str(SHARED / name)), kind(rank=4, mask=str(SHARED / name))):
        with pytest.raises(CheckpointError, match=f"is a selection for {kind.name} of rank 8"):
            wrong.find(frozen, 10, None)  # type: ignore[arg-type]
    with torch.serialization.safe_globals(STAND_INS):
        values = torch.load(SHARED / name, map_location="cpu", weights_only=True)
    for change in (lambda one: torch.cat([one, one]), lambda one: one[: len(one) // 2], lambda one: one + 1):
        spoiled = {**values, "unstructured_indexes": change(values["unstructured_indexes"])}
        mask = kind(mask=str(saved(tmp_path, spoiled)))
        if int(spoiled["unstructured_indexes"][-1]) - int(values["unstructured_indexes"][-1]) == 1:
            continue  # a shift by one contradicts nothing
        with pytest.raises(CheckpointError, match="contradicts itself"):
            mask.find(frozen, 10, None)  # type: ignore[arg-type]


def test_formula__of_a_mask_is_what_it_counts(tmp_path: Path, frozen: Backbone) -> None:
    path = saved(tmp_path, published(SptAdapter(rank=RANK), frozen))
    method = SptAdapter(rank=RANK, mask=str(path))
    model = vitgraft.graft(vit(), method)
    assert method.formula(measure(frozen)) == model.tuned.trained_values().method
    with pytest.raises(CheckpointError, match="Check the path"):
        SptLora(mask=str(tmp_path / "none.pth")).formula(measure(frozen))


def test_protocol__fills_no_field_that_would_do_nothing() -> None:
    """Those of the paper's protocol stand aside where a selection is given, instead of being refused."""
    config = RunConfig.of({"data": "digits", "protocol": "spt", "method": "spt-lora:mask=m.pth"})
    assert config.method == "spt-lora:dropout=0.1,mask=m.pth"
    assert RunConfig.of(tomllib.loads(config.toml())).method == config.method
    config = RunConfig.of({"data": "digits", "protocol": "spt", "method": "spt-lora:score=random"})
    assert config.method == "spt-lora:dropout=0.1,score=random,sweep=published"


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("spt-lora:mask=m.pth,budget=0.2M", r"budget=0\.2M would do nothing beside mask=m\.pth"),
        ("spt-lora:mask=m.pth,images=64,alpha=5", r"alpha=5\.0, images=64 would do nothing beside mask"),
        ("spt-lora:sensitivity=s.safetensors,score=fisher", "score=fisher would do nothing beside sensitivity"),
        ("spt-adapter:score=random,images=64", "images=64 would do nothing beside score=random"),
        ("spt-adapter:score=fisher,batch=8", "batch=8 would do nothing beside score=fisher"),
    ],
)
def test_fields__that_would_do_nothing_are_refused(spec: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        vitgraft.graft(vit(), spec, toy.CLASSES, data=toy.split(12))


def test_data__are_asked_for_only_by_what_looks_at_them() -> None:
    for spec in ("spt-lora", "spt-lora:budget=auto", "noah", "head2toe", "vqt:keep=0.7", "lst:start=fisher"):
        with pytest.raises(ConfigError, match="looks at training data before the model is built") as told:
            vitgraft.graft(vit(), spec, toy.CLASSES)
        assert methods.spec_of(methods.parse(spec)) in str(told.value)
    for score in ("magnitude", "random"):
        model = vitgraft.graft(vit(), f"spt-lora:score={score},budget=2k,rank=2", toy.CLASSES)
        assert 1_000 < model.tuned.trained_values().method <= 2_000
