"""Several grafts on one backbone: one pass for all, and the same answers as each alone."""

from pathlib import Path

import pytest
import torch

import vitgraft
from tests.tiny import backbone, images, vit
from vitgraft import methods
from vitgraft.core.shared import answers
from vitgraft.core.tuned import Tuned, perturbed
from vitgraft.data.preprocessing import Preprocessing
from vitgraft.data.task import ArrayImages
from vitgraft.errors import ArtefactError, ConfigError
from vitgraft.models.bundle import Bundle

SPECS = ("synqt:tokens=1", "vqt", "lst", "linear", "mlp", "partial:k=1", "lora:last=1", "lora", "vpt-deep")


def test_answers__are_those_of_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the methods and the numbers of classes; what no trained value reaches is walked once."""
    frozen = backbone()
    models = [Tuned(frozen, methods.parse(spec).plan(frozen, 3 + i)).eval() for i, spec in enumerate(SPECS)]
    pictures = images(frozen)
    with torch.no_grad():
        alone = [model(pictures) for model in models]
        walks = []
        stem = type(frozen.view.stem).forward
        monkeypatch.setattr(type(frozen.view.stem), "forward", lambda *inputs: walks.append(1) or stem(*inputs))
        together = answers(models, pictures)
    assert len(walks) == 1 + sum(model.prefix is None for model in models) == 3
    for ours, theirs in zip(together, alone, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_answers__refuse_two_backbones() -> None:
    first, second = (Tuned(frozen, methods.parse("linear").plan(frozen, 3)) for frozen in (backbone(), backbone()))
    with pytest.raises(ConfigError, match="stand on different backbones"):
        answers([first, second], images(first.backbone))


def saved(folder: Path, spec: str, classes: int, preprocessing: Preprocessing | None = None) -> Path:
    """A graft with values that are not its first ones."""
    model = vitgraft.graft(vit(), spec, classes, preprocessing=preprocessing)
    with perturbed(model.tuned, scale=0.1):
        model.save(folder)
    return folder


@pytest.fixture
def pictures() -> ArrayImages:
    pixels = torch.randint(0, 256, (5, 16, 16, 3), generator=torch.Generator().manual_seed(0))
    return ArrayImages(pixels.to(torch.uint8).numpy(), "noise")


def bundled(folders: list[Path]) -> Bundle:
    """The folders' grafts on one backbone, which was built in Python and is passed to the first."""
    first = vitgraft.load(folders[0], backbone=vit())
    rest = {str(folder): vitgraft.load(folder, backbone=first.backbone) for folder in folders[1:]}
    return Bundle({str(folders[0]): first, **rest})


def test_bundle__answers_by_name(tmp_path: Path, pictures: ArrayImages) -> None:
    folders = [
        saved(tmp_path / "a", "synqt", 3),
        saved(tmp_path / "b", "vqt", 7),
        saved(tmp_path / "c", "lora", 2),
    ]
    found = bundled(folders).predict(pictures[i] for i in range(5))
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        str(folders[0]): (5, 3),
        str(folders[1]): (5, 7),
        str(folders[2]): (5, 2),
    }
    for folder in folders:
        alone = vitgraft.load(folder, backbone=vit()).predict(pictures[i] for i in range(5))
        torch.testing.assert_close(found[str(folder)], alone, rtol=1e-5, atol=1e-6)


def test_bundle__keeps_each_grafts_preprocessing(tmp_path: Path, pictures: ArrayImages) -> None:
    dark = Preprocessing(size=(16, 16), mean=(0.9, 0.9, 0.9), std=(0.2, 0.2, 0.2))
    folders = [saved(tmp_path / "a", "linear", 3), saved(tmp_path / "b", "linear", 3, dark)]
    found = bundled(folders).predict([pictures[0]])
    for folder in folders:
        alone = vitgraft.load(folder, backbone=vit()).predict([pictures[0]])
        torch.testing.assert_close(found[str(folder)], alone, rtol=1e-5, atol=1e-6)
    first, second = found.values()
    assert not torch.allclose(first, second, atol=1e-3)


def test_bundle__loads_a_backbone_once(tmp_path: Path) -> None:
    for name, spec in (("a", "linear"), ("b", "vqt")):
        vitgraft.graft("figures", spec, 3).save(tmp_path / name)
    first, second = Bundle.load([tmp_path / "a", tmp_path / "b"]).members.values()
    assert first.backbone is second.backbone
    saved(tmp_path / "c", "linear", 3)
    with pytest.raises(ArtefactError, match="was built in Python"):
        Bundle.load([tmp_path / "a", tmp_path / "c"])


def test_bundle__spans_backbones(tmp_path: Path, pictures: ArrayImages) -> None:
    folder = saved(tmp_path / "a", "vqt", 3)
    first = vitgraft.load(folder, backbone=vit())
    other = vitgraft.graft(vit(seed=1), "linear", 4)
    found = Bundle({"a": first, "b": other}).predict([pictures[0], pictures[1]])
    torch.testing.assert_close(found["a"], first.predict([pictures[0], pictures[1]]), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found["b"], other.predict([pictures[0], pictures[1]]), rtol=1e-5, atol=1e-6)


def test_bundle__of_nothing_and_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least one folder"):
        Bundle({})
    found = bundled([saved(tmp_path / "a", "linear", 3)]).predict([])
    assert [tuple(value.shape) for value in found.values()] == [(0, 3)]
