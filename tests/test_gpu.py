"""Training, caching, resuming and merging on an accelerator; skipped where there is none (`make test-gpu`)."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import vitgraft
from tests import toy
from tests.caching import SETTINGS, at_logits, place, session
from tests.test_resume import EVERY_STEP, train
from tests.tiny import vit
from vitgraft.train import loop
from vitgraft.train.settings import Training

__all__ = ["place"]

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.accelerator.is_available(), reason="there is no accelerator here"),
]
METHODS = ("lora", "spt-lora:budget=3k,rank=2", "synqt", "vqt", "linear")
GAP = 1e-3
"""Two ways to the same values differ by rounding alone: an accelerator adds up in another order each time."""


def kind() -> str:
    found = torch.accelerator.current_accelerator()
    return found.type if found is not None else "cpu"


def fitted(method: str, precision: str) -> vitgraft.Model:
    """A model that was trained on the toy task, wherever `auto` is."""
    settings = Training(epochs=6, batch_size=10, lr=1e-2, precision=precision)
    given = {"data": toy.split(40), "settings": settings, "preprocessing": toy.PREPROCESSING}
    model = vitgraft.graft(vit(), method, toy.CLASSES, **given)
    before = model.backbone.fingerprint()
    done = vitgraft.fit(model, toy.split(40), toy.split(21, seed=1), settings=settings)
    assert model.backbone.fingerprint() == before
    assert done.val is not None
    assert done.val.top1 > 60, "24 steps must beat chance (33 %)"
    return model


def near(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> bool:
    return all(torch.allclose(found[name], value, atol=GAP) for name, value in expected.items())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", METHODS)
def test_fit__learns_there(method: str, precision: str, tmp_path: Path) -> None:
    model = fitted(method, precision)
    assert {value.device.type for value in model.tuned.parameters()} == {kind()}
    assert all(value.dtype is torch.float32 for value in model.tuned.parameters())
    model.save(tmp_path)
    loaded = vitgraft.load(tmp_path, backbone=vit())  # on the CPU
    pictures = [toy.split(40).images[index] for index in range(6)]
    there = model.predict(pictures).cpu()
    here = loop.predict(loaded.tuned, pictures, loaded.preprocessing, device="cpu")
    assert torch.allclose(here, there, atol=GAP)


@pytest.mark.parametrize("method", ["lora", "spt-lora:budget=3k,rank=2", "linear"])
def test_merge__gives_the_same_logits_there(method: str) -> None:
    model = fitted(method, "fp32")
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1)).to(model.backbone.device)
    with torch.no_grad():
        assert torch.allclose(model.merge()(images), model.tuned.eval()(images), atol=GAP)


@pytest.mark.parametrize("room", [True, False], ids=["in its memory", "beside it"])
@pytest.mark.parametrize("where", ["disk", "ram"])
@pytest.mark.parametrize("method", ["linear", "vqt", "synqt", "partial:k=1"])
def test_training__from_the_cache_is_training_without_it(
    method: str, where: str, room: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows lie in the accelerator's memory where that has room for them, else in the machine's."""
    if not room:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 0))
    settings = replace(SETTINGS, device="auto")
    found = session(method, replace(settings, cache=where))
    assert found.fitted is not None
    assert found.fitted.cached.place == where
    assert found.gap(session(method, replace(settings, cache="off"))) <= GAP


@pytest.mark.parametrize("method", ["lora", "vqt"])
def test_run__that_was_stopped_goes_on(method: str, tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop() -> None:
        raise Stopped

    settings = replace(EVERY_STEP, device="auto")
    expected, whole = train(method, None, settings)
    with pytest.raises(Stopped), at_logits(20, stop):
        train(method, tmp_path, settings)
    assert (tmp_path / "snapshot.pt").exists()
    found, values = train(method, tmp_path, settings)
    assert (found.steps, found.best_epoch) == (expected.steps, expected.best_epoch)
    assert near(values, whole)
