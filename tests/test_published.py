"""Grafts that papers' own code has saved."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import vitgraft
from tests.tiny import backbone, images, vit
from vitgraft.core.backbone import Backbone
from vitgraft.core.tuned import perturbed
from vitgraft.errors import ArtefactError, CheckpointError
from vitgraft.heads.synqt import SynqtHead
from vitgraft.models.model import Model
from vitgraft.models.published import load_synqt, synqt_names, synqt_values


def published(model: Model) -> dict[str, Tensor]:
    """A model of ours as the published code would save it, its dead parameters among the rest."""
    head, frozen = model.tuned.head.state_dict(), model.backbone
    state = {theirs: head[ours].clone() for ours, theirs in synqt_names(frozen.depth, 3)}
    state["synqt.q"] = torch.stack([head[f"synthesis.{block}.queries"] for block in range(frozen.depth)])
    state["synqt.out_combine.weight"] = torch.zeros(3 * frozen.depth + 1)
    state |= {f"synqt.pre_norm.{block}.weight": torch.ones(frozen.width) for block in range(frozen.depth)}
    return state | {name: frozen.parameter(name).detach().clone() for name in frozen.parameter_names()}


@pytest.fixture
def model() -> Model:
    made = vitgraft.graft(vit(), "synqt:tokens=3", 5)
    with perturbed(made.tuned, scale=0.1):
        values = {name: value.clone() for name, value in made.tuned.state_dict().items()}
    made.tuned.load_state_dict(values)
    return made


def test_names__cover_every_tensor_once(model: Model) -> None:
    ours, theirs = zip(*synqt_names(model.backbone.depth, 3), strict=True)
    queries = {f"synthesis.{block}.queries" for block in range(model.backbone.depth)}
    assert len(set(ours)) == len(ours) == len(set(theirs))
    assert set(ours) | queries == set(model.tuned.head.state_dict())
    assert isinstance(model.tuned.head, SynqtHead)


def test_load__gives_the_same_logits(model: Model, tmp_path: Path) -> None:
    """From a torch file, as Distributed Data Parallel names it; saved and loaded as ours afterwards."""
    file = tmp_path / "best.pth"
    torch.save({"state_dict": {f"module.{name}": value for name, value in published(model).items()}}, file)
    found = load_synqt(file, backbone(), ["a", "b", "c", "d", "e"])
    pictures = images(model.backbone)
    with torch.no_grad():
        expected = model.tuned.eval()(pictures)
        assert torch.equal(found.tuned.eval()(pictures), expected)
        found.save(tmp_path / "run")
        again = vitgraft.load(tmp_path / "run", backbone=vit())
        assert torch.equal(again.tuned.eval()(pictures), expected)
    assert again.class_names == ("a", "b", "c", "d", "e")


def refused(file: Path, state: dict[str, Tensor], frozen: Backbone, classes: list[str] | None = None) -> str:
    torch.save(state, file)
    with pytest.raises((ArtefactError, CheckpointError)) as caught:
        load_synqt(file, frozen, classes)
    return str(caught.value)


def test_load__refuses_what_does_not_fit(model: Model, tmp_path: Path) -> None:
    state, file = published(model), tmp_path / "best.pth"
    plain = {name: value for name, value in state.items() if not name.startswith("synqt.")}
    assert "is no SynQT of 3 blocks" in refused(file, plain, backbone())
    assert "tells 5 classes apart, and 2 names" in refused(file, state, backbone(), ["a", "b"])
    assert "has 3 blocks and the backbone 2" in refused(file, state, backbone("other_shape"))
    moved = state | {"norm.weight": state["norm.weight"] + 0.1}
    told = refused(file, moved, backbone())
    assert "1 of" in told
    assert "norm.weight" in told
    narrow = state | {"synqt.mlp.mlp.fc1.weight": torch.zeros(8, model.backbone.width)}
    assert "of another shape" in refused(file, narrow, backbone())


def test_values__without_the_backbone_are_enough(model: Model) -> None:
    trained = {name: value for name, value in published(model).items() if name.startswith(("synqt.", "head."))}
    values = synqt_values(trained, model.backbone.depth)
    own = model.tuned.head.state_dict()
    assert all(torch.equal(values[name], own[name]) for name in own)
