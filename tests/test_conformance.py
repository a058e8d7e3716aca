"""What every registered method must hold, on tiny backbones of several kinds.

A new method is covered by being registered; only fields that make one look at training data are named. The
claims that a method makes about itself (`merges`, `fresh`, `crosses`, its formula) are held against the code.
"""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tests import toy
from tests.tiny import backbone, images
from vitgraft import methods
from vitgraft.core.backbone import Backbone
from vitgraft.core.shape import measure
from vitgraft.core.sites import LINEAR_PLACES, Tap
from vitgraft.core.tuned import Tuned, perturbed
from vitgraft.errors import ConfigError, NotFoldable
from vitgraft.heads.pruning import prunable
from vitgraft.methods.lst import LST
from vitgraft.train.together import stackable

CLASSES = 5
BACKBONES = ("plain", "mae_average", "siglip_attention_pool", "dinov2_registers", "qk_norm", "distilled")
FAMILIES = ("dinov3", "eva02", "beit", "hf_vit", "hf_dinov3", "swin")
"""One of each other family: what families can break is held for all by default, the rest in the slow tests."""

LOOKING = (
    "vqt:tokens=2,keep=0.5",
    "vqt:tokens=2,summary=weighted,keep=0.5",
    "lst:start=fisher",
    "spt-lora:budget=3k,rank=2",
    "spt-adapter:budget=3k,rank=2",
)
"""Methods that look at training data first if they are told to, or choose otherwise on models this small."""

OTHERS = (
    "lora:places=all,share_a=true",
    'peft:{"peft_type": "LOHA", "r": 2, "target_modules": "blocks.+(qkv|attn.proj|fc1|fc2)"}',
    'peft:{"peft_type": "LORA", "r": 2, "use_dora": true}',
)
"""Methods with edits at places of another kind than by default, and two of PEFT's."""

SHORT = {"noah": "noah:supernet=1,population=6,generations=2,parents=2"}
"""A long look at training data, made short."""


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]


@pytest.fixture(scope="module", params=(*BACKBONES, *SLOW))
def frozen(request: pytest.FixtureRequest) -> Backbone:
    """One backbone for every method: what one of them did to it, another would show."""
    return backbone(request.param)


@pytest.fixture(params=(*methods.names(), *LOOKING, *OTHERS))
def method(request: pytest.FixtureRequest, frozen: Backbone) -> methods.Method:
    found = suited(request.param, frozen)
    return pytest.skip("it is refused on this backbone (test_families, test_lst)") if found is None else found


ONE_SEQUENCE = ("vpt-shallow", "vpt-deep", "noah", "vqt", "synqt", "lst")
"""Methods of what sees all of an image's tokens at once."""


def suited(spec: str, frozen: Backbone) -> methods.Method | None:
    """A method as it runs on a backbone, if it does; LST cannot begin as submatrices of blocks with gated mlps."""
    method = methods.parse(SHORT.get(spec, spec))
    if method.name in ONE_SEQUENCE and not frozen.view.one_sequence:
        return None
    if not isinstance(method, LST) or prunable(frozen):
        return method
    return replace(method, start="random") if spec == "lst" else None


def merges(method: methods.Method, frozen: Backbone) -> bool:
    """SSF shifts every linear map, and nothing holds the shift of one without a bias.

    transformers has no classifier of DINOv3.
    """
    if frozen.name == "hf_dinov3":
        return False
    rows = [
        rows for block in range(frozen.depth) for place in LINEAR_PLACES for rows in frozen.rows((block, place))
    ]
    return method.merges and (method.name != "ssf" or all(one.bias is not None for one in rows))


def logits(plain: nn.Module, pictures: Tensor) -> Tensor:
    """Of a library's model: transformers' wrap them up."""
    found = plain(pictures)
    return found if isinstance(found, Tensor) else found.logits


def tuned(frozen: Backbone, method: methods.Method) -> Tuned:
    findings = toy.findings(frozen, method, CLASSES)
    torch.manual_seed(0)
    return Tuned(frozen, method.plan(frozen, CLASSES, findings))


def step(model: Tuned, pictures: Tensor, steps: int = 2) -> None:
    """A few optimizer steps with weight decay on every trained value."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    labels = torch.arange(len(pictures)) % CLASSES
    model.train()
    for _ in range(steps):
        torch.nn.functional.cross_entropy(model(pictures), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


def test_registry__is_not_empty() -> None:
    assert len(methods.names()) >= 11


def test_count__is_the_papers_formula(frozen: Backbone, method: methods.Method) -> None:
    model = tuned(frozen, method)
    values = model.trained_values()
    formula = method.formula(measure(frozen))
    assert values.method == formula if method.counts == "exactly" else 0 < values.method <= formula
    assert values.head == sum(value.numel() for value in model.head.classifier.parameters())


def test_stacks__is_what_the_head_can(frozen: Backbone, method: methods.Method) -> None:
    assert method.looks() or method.stacks == stackable([tuned(frozen, method)] * 2)


def test_fresh__is_the_frozen_model(frozen: Backbone, method: methods.Method) -> None:
    model = tuned(frozen, method).eval()
    pictures = images(frozen)
    with torch.no_grad():
        same = torch.allclose(model.features(pictures).pooled, frozen(pictures).pooled, atol=1e-6)
    assert same == method.fresh


def test_learning__every_trained_tensor_gets_a_gradient(frozen: Backbone, method: methods.Method) -> None:
    model = tuned(frozen, method).train()
    with perturbed(model, scale=0.05):
        model(images(frozen, count=8)).square().mean().backward()
        dead = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()]
    assert not dead, "these trained tensors never learn"


def test_frozen__backbone_stays_bit_for_bit(frozen: Backbone, method: methods.Method) -> None:
    before = frozen.fingerprint()
    model = tuned(frozen, method)
    trained = {name: value.clone() for name, value in model.state_dict().items()}
    step(model, images(frozen, count=8))
    assert frozen.fingerprint() == before
    after = model.state_dict()
    assert all(not torch.equal(after[name], value) for name, value in trained.items() if value.is_floating_point())


def test_state__is_what_is_trained(frozen: Backbone, method: methods.Method) -> None:
    model = tuned(frozen, method)
    parameters = {name for name, _ in model.named_parameters()}
    buffers = dict(model.named_buffers())
    assert set(model.state_dict()) <= parameters | buffers.keys()
    assert parameters <= set(model.state_dict())
    findings = toy.findings(frozen, method, CLASSES)
    assert bool(findings) == method.looks()
    for name in buffers.keys() - set(model.state_dict()):  # it is saved beside the state, as a finding
        assert any(torch.equal(buffers[name], value) for value in findings.values())
    frozen_tensors = {value.data_ptr() for value in frozen.parameters()}
    assert not any(value.data_ptr() in frozen_tensors for value in model.parameters())


def test_state__moves_a_model_to_another(frozen: Backbone, method: methods.Method) -> None:
    first = tuned(frozen, method)
    second = Tuned(frozen, method.plan(frozen, CLASSES, toy.findings(frozen, method, CLASSES)))
    pictures = images(frozen)
    step(first, images(frozen, count=8, seed=3))
    second.load_state_dict(first.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(first.eval()(pictures), second.eval()(pictures))


def test_merge__keeps_the_promise(frozen: Backbone, method: methods.Method) -> None:
    model = tuned(frozen, method).eval()
    pictures = images(frozen)
    before = copy.deepcopy(frozen.model.state_dict())
    with perturbed(model, scale=0.05), torch.no_grad():
        expected = model(pictures)
        if not merges(method, frozen):
            with pytest.raises(NotFoldable):
                model.merge()
            return
        plain = model.merge()
        found = logits(plain, pictures)
    assert torch.allclose(found, expected, atol=2e-5)
    assert type(plain) is type(frozen.model) or type(plain).__name__ == "ViTForImageClassification"
    assert all(torch.equal(value, before[name]) for name, value in frozen.model.state_dict().items())


def test_frozen_depth__is_honest(frozen: Backbone, method: methods.Method) -> None:
    model = tuned(frozen, method).train()
    expected = {"all blocks": 0, "last blocks": frozen.depth - 1, "no block": frozen.depth}
    assert model.frozen_depth == expected[method.crosses]
    taps = [Tap(block, "out") for block in range(frozen.depth)]
    readings = frozen(images(frozen), model.edits(), taps).taps
    carried = [readings[tap].requires_grad for tap in taps]
    assert carried == [block >= model.frozen_depth for block in range(frozen.depth)]


def test_prefix__computed_once_gives_the_same(frozen: Backbone, method: methods.Method) -> None:
    model = tuned(frozen, method).eval()
    pictures = images(frozen)
    assert (model.prefix is not None) == (model.frozen_depth > 0)
    if model.prefix is None:
        return
    with torch.no_grad():
        readings = frozen.read(pictures, model.prefix.taps)
        assert readings.keys() == model.prefix.taps
        torch.testing.assert_close(model(readings), model(pictures), rtol=1e-5, atol=1e-5)


def test_checkpoint__changes_neither_loss_nor_gradients(frozen: Backbone, method: methods.Method) -> None:
    pictures = images(frozen)
    gradients = []
    for checkpoint in ("none", "mlp", "block"):
        model = tuned(frozen, method).train()
        model.recompute = checkpoint
        with perturbed(model, scale=0.05):
            torch.manual_seed(7)
            model(pictures).square().mean().backward()
        gradients.append([value.grad for value in model.parameters()])
    for plain, *again in zip(*gradients, strict=True):
        assert all(torch.allclose(plain, other, atol=1e-5) for other in again)


def test_two_tasks__share_one_backbone(frozen: Backbone, method: methods.Method) -> None:
    first, second = tuned(frozen, method).eval(), tuned(frozen, methods.parse("lora")).eval()
    pictures = images(frozen)
    with torch.no_grad():
        before = second(pictures)
    step(first, images(frozen, count=8))
    with torch.no_grad():
        assert torch.equal(second(pictures), before)


def test_bf16__trained_values_stay_fp32(frozen: Backbone, method: methods.Method) -> None:
    """In bf16 autocast the trained values stay fp32 and the logits stay near."""
    model = tuned(frozen, method).eval()
    pictures = images(frozen)
    with torch.no_grad():
        exact = model(pictures)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = model(pictures)
    assert all(value.dtype is torch.float32 for value in model.parameters())
    assert torch.allclose(exact, rough.float(), atol=0.15 * float(exact.abs().max()) + 0.02)


@pytest.mark.parametrize("family", FAMILIES)
def test_families__every_method_counts_learns_and_merges(family: str) -> None:
    """The formula, a gradient for all that trains, and the plain model's logits."""
    frozen = backbone(family)
    pictures = images(frozen)
    for name in methods.names():
        method = suited(name, frozen)
        if method is None:
            with pytest.raises(ConfigError, match=f"{name} adds prompts, queries or a network beside"):
                methods.parse(SHORT.get(name, name)).plan(frozen, CLASSES, {"found": torch.ones(1)})
            continue
        if method.looks():
            continue  # in the slow tests
        torch.manual_seed(0)
        model = Tuned(frozen, method.plan(frozen, CLASSES))
        assert model.trained_values().method == method.formula(measure(frozen)), name
        with perturbed(model, scale=0.05):
            model.train()(pictures).square().mean().backward()
            assert all(value.grad is not None and value.grad.any() for value in model.parameters()), name
            if merges(method, frozen):
                with torch.no_grad():
                    assert torch.allclose(logits(model.merge(), pictures), model.eval()(pictures), atol=2e-5), name
