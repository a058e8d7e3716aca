"""What people do with a torch module, done with a tuned model: half, double, copies, pickles, compile, export."""

import copy
import gc
import io
from collections.abc import Iterator

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch._dynamo.utils import counters

import vitgraft
from tests import toy
from tests.tiny import backbone, images, vit
from vitgraft import methods
from vitgraft.backbones.families import wrap
from vitgraft.core.backbone import Backbone
from vitgraft.core.tuned import Tuned, perturbed
from vitgraft.errors import ConfigError

CLASSES = 5
SHORT = {
    "noah": "noah:supernet=1,population=6,generations=2,parents=2",
    "spt-lora": "spt-lora:budget=3k,rank=2",
    "spt-adapter": "spt-adapter:budget=3k,rank=2",
}
BLOCKS = 9
"""More than torch.compile makes versions of a function for (8)."""

SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in methods.names()]
TYPES = {torch.float64: 1e-5, torch.bfloat16: 0.1, torch.float16: 0.02}
"""Types, and how far logits may then be from those in fp32, relative to their size."""


def tuned(name: str, frozen: Backbone) -> Tuned:
    """A model whose trained values are none that hide something."""
    method = methods.parse(SHORT.get(name, name))
    torch.manual_seed(0)
    model = Tuned(frozen, method.plan(frozen, CLASSES, toy.findings(frozen, method, CLASSES)))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn(value.shape, generator=generator) * 0.02)
    return model.eval()


def apart(one: Tensor, two: Tensor) -> float:
    return float((one.float() - two.float()).abs().max() / max(1.0, float(two.float().abs().max())))


# Types


@pytest.mark.parametrize("name", ["lora", "mlp", "synqt", "full", *SLOW])
def test_dtype__of_the_whole_model_and_of_no_other(name: str) -> None:
    frozen = backbone()
    other, model = tuned("linear", frozen), tuned(name, frozen)
    pictures, before = images(frozen, 3), frozen.fingerprint()
    with torch.no_grad():
        wanted, others = model(pictures), other(pictures)
        for dtype, tolerance in TYPES.items():
            moved = tuned(name, frozen).to(dtype)
            logits = moved(pictures)
            assert logits.dtype is dtype
            assert {value.dtype for value in (*moved.parameters(), *moved.backbone.parameters())} == {dtype}
            assert apart(logits, wanted) < tolerance
            assert moved.backbone.fingerprint() == before, "they are the same weights"
            assert moved.float().backbone is frozen, "nothing is lost on the way back"
        assert torch.equal(other(pictures), others)
    assert frozen.dtype is torch.float32
    assert frozen.fingerprint() == before


def test_dtype__a_twin_is_shared() -> None:
    frozen = backbone()
    one, two = tuned("lora", frozen).half(), tuned("linear", frozen).half()
    assert one.backbone is two.backbone
    assert one.bfloat16().backbone is not two.backbone
    assert one.half().backbone is two.backbone


def test_dtype__a_twin_alone_is_rounded_and_says_so() -> None:
    """Where nobody holds the original any more, widening gives other weights: another fingerprint."""
    model = tuned("lora", backbone())
    before = model.backbone.fingerprint()
    assert model.half().backbone.fingerprint() == before
    gc.collect()
    assert model.float().backbone.dtype is torch.float32
    assert model.backbone.fingerprint() != before


@pytest.mark.parametrize("move", ["half", "bfloat16", "double"])
def test_dtype__what_a_model_does_with_pictures(move: str, tmp_path: object) -> None:
    model = vitgraft.graft(backbone(), "lora", toy.CLASSES, preprocessing=toy.PREPROCESSING)
    pictures = [Image.new("RGB", (16, 16), colour) for colour in ("red", "green")]
    wanted, measured = model.predict(pictures), model.evaluate(toy.split(9))
    getattr(model.tuned, move)()
    assert (model.predict(pictures) - wanted).abs().max() < 0.02
    assert model.evaluate(toy.split(9)).loss == pytest.approx(measured.loss, abs=0.02)
    bundle = vitgraft.Bundle({"a": model, "b": vitgraft.graft(model.backbone, "linear", 3)})
    assert (bundle.predict(pictures, device="cpu")["a"] - wanted).abs().max() < 0.02


def test_dtype__training_in_half_is_refused() -> None:
    model = vitgraft.graft(backbone(), "linear", toy.CLASSES, preprocessing=toy.PREPROCESSING)
    model.tuned.half()
    with pytest.raises(ConfigError, match=r"in torch\.float16, .*model\.tuned\.float\(\)"):
        vitgraft.fit(model, toy.split(6), epochs=1)
    model.tuned.float()
    vitgraft.fit(model, toy.split(6), epochs=1)


# Copies


@pytest.mark.parametrize("name", ["lora", "vqt", *SLOW])
def test_copies__and_pickles_answer_alike(name: str) -> None:
    frozen = backbone()
    model, pictures = tuned(name, frozen), images(frozen, 3)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    with torch.no_grad():
        wanted = model(pictures)
        twin, again = copy.deepcopy(model), torch.load(file, weights_only=False)
        assert torch.equal(twin(pictures), wanted)
        assert torch.equal(again(pictures), wanted)
        with perturbed(twin, 0.1):
            assert not torch.equal(twin(pictures), wanted)
            assert torch.equal(model(pictures), wanted), "a copy has values of its own"
    assert list(model.state_dict()) == list(twin.state_dict()) == list(again.state_dict())


# torch.compile and torch.export


@pytest.fixture
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("_fresh")
@pytest.mark.parametrize("name", ["lora", *SLOW])
def test_compile__one_graph_for_all_blocks_in_training(name: str) -> None:
    """Not one a block: the limit of recompilation was reached at block 7, and the rest ran as it does without."""
    frozen = wrap(vit(depth=BLOCKS), "deep")
    model, pictures = tuned(name, frozen), images(frozen, 4)
    model(pictures).square().mean().backward()
    wanted = {key: value.grad.clone() for key, value in model.named_parameters() if value.grad is not None}
    model.zero_grad()
    compiled = torch.compile(model, backend="eager")
    for _ in range(2):
        model.zero_grad()
        compiled(pictures).square().mean().backward()
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]
    found = {key: value.grad for key, value in model.named_parameters() if value.grad is not None}
    assert found.keys() == wanted.keys()
    for key, grad in found.items():
        assert apart(grad, wanted[key]) < 1e-5, key
    if methods.parse(name).name in ("synqt", "lora", "vpt-shallow"):  # with its dropout, too
        model.train()
        compiled(pictures).sum().backward()
        assert not counters["graph_break"]


@pytest.mark.parametrize("name", ["vpt-deep", "vqt", *SLOW])
def test_export__any_number_of_images(name: str) -> None:
    frozen = backbone()
    model = tuned(name, frozen)
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, (images(frozen, 2),), dynamic_shapes=({0: batch},)).module()
    for count in (1, 2, 7):
        pictures = images(frozen, count, seed=count)
        with torch.no_grad():
            assert apart(program(pictures), model(pictures)) < 1e-5
