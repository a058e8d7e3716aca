"""Each method's own arithmetic: published counts, and what its formula says about outputs."""

import copy
import json
from pathlib import Path

import pytest
import timm
import torch

from tests.tiny import VARIANTS, backbone, images
from vitgraft import methods
from vitgraft.backbones.families import wrap
from vitgraft.core.backbone import Backbone
from vitgraft.core.shape import measure
from vitgraft.core.sites import Tap
from vitgraft.core.tuned import Tuned, perturbed
from vitgraft.errors import ConfigError, NotFoldable
from vitgraft.grafts.bottleneck import quick_gelu
from vitgraft.grafts.scale_shift import ScaleShift

VIT_B16 = {
    "full": 85_798_656,
    "linear": 0,
    "bias": 102_912,
    "partial:k=1": 7_089_408,
    "partial:k=3": 21_265_152,
    "mlp:k=3": 1_184_256,
    "vpt-shallow:tokens=50": 38_400,
    "vpt-deep:tokens=10": 92_160,
    "vpt-deep:tokens=50": 460_800,
    "vpt-deep:tokens=100": 921_600,
    "adapter:hidden=8": 156_768,
    "adapter:hidden=32": 599_424,
    "adapter:hidden=64": 1_189_632,
    "adapter:hidden=8,position=houlsby": 313_536,
    "lora:rank=8": 294_912,
    "lora:rank=16": 589_824,
    "lora:rank=4,places=qkv": 221_184,
    "lora:rank=8,last=3": 73_728,
    "lora:rank=8,places=qkv,share_a=true": 294_912,
    "lora:rank=8,places=all,share_a=true": 8 * 12 * (4 + 2 + 5 + 5) * 768,
    "adaptformer": 1_189_632,
    "ssf": 205_824,
}
"""Trained values on ViT-B/16, classifier excluded: the papers' figures, or their formulas written out."""


@pytest.fixture(scope="module")
def vit_b16() -> Backbone:
    with torch.device("meta"):
        return wrap(timm.create_model("vit_base_patch16_224", num_classes=0), "ViT-B/16")


@pytest.mark.parametrize(("spec", "count"), VIT_B16.items())
def test_count__on_vit_b16(vit_b16: Backbone, spec: str, count: int) -> None:
    method = methods.parse(spec)
    assert Tuned(vit_b16, method.plan(vit_b16, 10)).trained_values().method == count
    assert method.formula(measure(vit_b16)) == count


def test_count__mean_head_of_vtab(vit_b16: Backbone) -> None:
    classes = (100, 102, 47, 102, 37, 10, 397, 2, 10, 45, 5, 8, 6, 6, 4, 16, 16, 18, 9)
    heads = [Tuned(vit_b16, methods.parse("linear").plan(vit_b16, c)).trained_values().head for c in classes]
    assert round(sum(heads) / len(heads)) == 38_045


def model_of(frozen: Backbone, spec: str) -> Tuned:
    torch.manual_seed(0)
    return Tuned(frozen, methods.parse(spec).plan(frozen, 4)).eval()


SHARED = "lora:places=all,share_a=true,rank=4"

VARIANTS_OF_METHODS = (
    "lora:places=all,rank=3,alpha=6",
    "lora:places=qkv,dropout=0.1",
    "lora:places=fc1+fc2",
    "lora:places=k+proj,last=1",
    "lora:places=qkv,share_a=true,rank=4,dropout=0.1",
    "lora:places=all,share_a=true,rank=2,alpha=6,last=2",
    "adapter:position=houlsby,activation=relu",
    "partial:k=2",
    "mlp:k=1",
    "vpt-deep:tokens=1",
)


@pytest.mark.parametrize("variant", ["plain", "mae_average", "aimv2_swiglu_rmsnorm", "swiglu_packed"])
@pytest.mark.parametrize("spec", VARIANTS_OF_METHODS)
def test_fields__count_learn_and_merge(variant: str, spec: str) -> None:
    frozen = backbone(variant)
    method = methods.parse(spec)
    model = model_of(frozen, spec).train()
    assert model.trained_values().method == method.formula(measure(frozen))
    pictures = images(frozen, count=8)
    with perturbed(model, 0.05):
        model(pictures).square().mean().backward()
        assert all(value.grad is not None and value.grad.any() for value in model.parameters())
        if method.merges:
            with torch.no_grad():
                assert torch.allclose(model.merge()(pictures), model.eval()(pictures), atol=2e-5)


@pytest.mark.parametrize("spec", ["lora:places=qkv", "lora:places=all", "lora:places=proj+fc2", SHARED])
def test_lora__fast_path_is_plain_autograd(spec: str) -> None:
    """Values and gradients without kept projections' inputs equal those of the graft's own forward (fp64)."""
    frozen = backbone()
    frozen.model.double()
    pictures = images(frozen).double()
    found = []
    for fast in (True, False):
        model = model_of(frozen, spec).double().train()
        if not fast:
            for graft in (graft for grafts in model.plan.grafts.values() for graft in grafts):
                graft.weight_edits = lambda: None  # type: ignore[method-assign]
        with perturbed(model, 0.1):
            logits = model(pictures)
            logits.square().sum().backward()
        found.append((logits.detach(), [value.grad for value in model.parameters()]))
    (fast_logits, fast_gradients), (plain_logits, plain_gradients) = found
    assert torch.allclose(fast_logits, plain_logits, atol=1e-12)
    for ours, theirs in zip(fast_gradients, plain_gradients, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-10)


def test_lora__is_w_plus_ba_over_rank() -> None:
    frozen = backbone()
    model = model_of(frozen, "lora:rank=2,alpha=6,places=v")
    pictures = images(frozen)
    with perturbed(model, 0.1), torch.no_grad():
        taps = [Tap(0, "norm1"), Tap(0, "v")]
        found = frozen(pictures, model.edits(), taps).taps
        graft = model.plan.grafts[(0, "v")][0]
        plain = frozen(pictures, taps=taps).taps
        change = found[taps[0]] @ graft.down.T @ graft.up.T * 3.0
    assert torch.allclose(found[taps[1]], plain[taps[1]] + change, atol=1e-5)


def test_lora__with_a_shared_a_is_one_edit_of_the_fused_projection() -> None:
    """NOAH's: q, k and v of one B A x. What q and v with the same A and rows of B give is another function."""
    frozen = backbone()
    model = model_of(frozen, "lora:rank=3,places=qkv,share_a=true")
    pictures = images(frozen)
    with perturbed(model, 0.3), torch.no_grad():
        (graft,) = model.plan.grafts[1, "qkv"]
        change = graft.up @ graft.down
        plain = copy.deepcopy(frozen.model)
        for block, fused in enumerate(block.attn.qkv for block in plain.blocks):
            (one,) = model.plan.grafts[block, "qkv"]
            fused.weight += one.up @ one.down
        assert change.shape == (3 * frozen.width, frozen.width)
        expected = model.head.classifier(plain.forward_head(plain.forward_features(pictures), pre_logits=True))
        assert torch.allclose(model(pictures), expected, atol=1e-5)
        for block, fused in enumerate(block.attn.qkv for block in plain.blocks):
            (one,) = model.plan.grafts[block, "qkv"]
            rows = slice(frozen.width, 2 * frozen.width)
            fused.weight[rows] -= one.up[rows] @ one.down
        without_k = model.head.classifier(plain.forward_head(plain.forward_features(pictures), pre_logits=True))
        assert not torch.allclose(model(pictures), without_k, atol=1e-3)


def test_adapter__is_the_published_formula() -> None:
    frozen = backbone()
    model = model_of(frozen, "adapter:hidden=3")
    tap = Tap(0, "mlp")
    pictures = images(frozen)
    with perturbed(model, 0.1), torch.no_grad():
        graft = model.plan.grafts[(0, "mlp")][0]
        h = frozen(pictures, taps=[tap]).taps[tap]
        inner = h @ graft.down.weight.T + graft.down.bias
        expected = h + quick_gelu(inner) @ graft.up.weight.T + graft.up.bias
        assert torch.allclose(frozen(pictures, model.edits(), [tap]).taps[tap], expected, atol=1e-5)


def test_adaptformer__reads_the_unnormalised_stream() -> None:
    frozen = backbone()
    model = model_of(frozen, "adaptformer:hidden=3,scale=0.5")
    taps = [Tap(0, "in"), Tap(0, "attn"), Tap(0, "mlp")]
    pictures = images(frozen)
    with perturbed(model, 0.1), torch.no_grad():
        graft = model.plan.grafts[(0, "mlp")][0]
        plain = frozen(pictures, taps=taps).taps
        x = plain[taps[0]] + plain[taps[1]]
        branch = torch.relu(x @ graft.down.weight.T + graft.down.bias) @ graft.up.weight.T + graft.up.bias
        found = frozen(pictures, model.edits(), taps).taps
    assert torch.allclose(found[taps[2]], plain[taps[2]] + 0.5 * branch, atol=1e-5)


def test_ssf__identity_scale_is_the_frozen_model() -> None:
    frozen = backbone()
    model = model_of(frozen, "ssf")
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, ScaleShift):
                module.scale.fill_(1)
                module.shift.zero_()
        pictures = images(frozen)
        assert torch.equal(model.features(pictures).pooled, frozen(pictures, tokens=False).pooled)


def test_ssf__a_model_without_biases_refuses_to_merge() -> None:
    model = model_of(backbone("aimv2_swiglu_rmsnorm"), "ssf")
    with pytest.raises(NotFoldable, match=r"needs a bias there, and .* has none"):
        model.merge()


@pytest.mark.parametrize("variant", ["plain", "mae_average", "siglip_attention_pool", "dinov2_registers"])
@pytest.mark.parametrize("spec", ["vpt-deep:tokens=3", "vpt-shallow:tokens=3"])
def test_vpt__order_of_prompts_does_not_matter(variant: str, spec: str) -> None:
    frozen = backbone(variant)
    model = model_of(frozen, spec)
    pictures = images(frozen)
    with torch.no_grad():
        before = model(pictures)
        for grafts in model.plan.grafts.values():
            grafts[0].tokens.copy_(grafts[0].tokens.flip(0))
        assert torch.allclose(model(pictures), before, atol=1e-5)


@pytest.mark.parametrize(("spec", "extra"), [("vpt-deep:tokens=3", 3), ("vpt-shallow:tokens=2", 2)])
def test_vpt__sequence_has_the_same_length_at_every_block(spec: str, extra: int) -> None:
    frozen = backbone()
    model = model_of(frozen, spec)
    taps = [Tap(block, "out") for block in range(frozen.depth)]
    features = frozen(images(frozen), model.edits(), taps)
    assert {value.shape[1] for value in features.taps.values()} == {17 + extra}
    assert features.tokens.shape[1] == 17


def test_vpt_deep__prompt_outputs_of_the_block_before_are_dropped() -> None:
    """With prompts from block 1 on only, the last prompts of block 0's output are gone before block 1."""
    frozen = backbone()
    model = model_of(frozen, "vpt-deep:tokens=3")
    tap = Tap(1, "in")
    read = frozen(images(frozen), model.edits(), [tap]).taps[tap]
    assert torch.equal(read[0, 17:], model.plan.grafts[(1, "in")][0].tokens)


def test_vpt__initial_bound() -> None:
    """√(6 / (3·16² + 768)) = 0.0625 on ViT-B/16; here a patch has 48 values and D is 24."""
    frozen = backbone()
    tokens = model_of(frozen, "vpt-deep:tokens=200").plan.grafts[(0, "in")][0].tokens
    bound = (6 / (48 + 24)) ** 0.5
    assert bound * 0.95 < float(tokens.detach().abs().max()) <= bound


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("lroa", "no method 'lroa'. Did you mean 'lora'"),
        ("lora:rnak=8", "no field of lora 'rnak'. Did you mean 'rank'"),
        ("lora:rank=eight", "rank='eight' is not an int"),
        ("lora:rank", "'rank' has no value"),
        ("lora:rank=8,rank=4", "gives 'rank' twice"),
        ("linear:k=3", "linear has no fields"),
    ],
)
def test_spec__mistakes_are_told(spec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        methods.parse(spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("lora:rank=0", "rank=0 must be above zero"),
        ("lora:places=qx", "no place 'qx'"),
        ("lora:last=9", "last=9 must be from 0 to the backbone's 3 blocks"),
        (
            "lora:share_a=true",
            r"share_a=true gives q, k and v one A in common, and places='qv' are not all of them",
        ),
        ("partial:k=4", "k=4 must be from 1 to the backbone's 3 blocks"),
        ("adapter:position=both", "position='both' is not known. Known: pfeiffer, houlsby"),
        ("vpt-deep:dropout=1.0", "dropout=1.0 must be at least 0 and below 1"),
    ],
)
def test_plan__wrong_fields_are_told(spec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        methods.parse(spec).plan(backbone(), 4)


@pytest.mark.parametrize("spec", [*methods.names(), *VARIANTS_OF_METHODS, "lora:rank=8,places=q+fc1,alpha=4.0"])
def test_spec__round_trip(spec: str) -> None:
    method = methods.parse(spec)
    assert methods.parse(methods.spec_of(method)) == method
    assert methods.parse(json.loads(json.dumps(methods.describe(method)))) == method


def test_files__no_method_contains_another() -> None:
    """Two method files that are nearly the same are one too many."""
    from difflib import SequenceMatcher

    folder = Path(methods.__file__).parent
    files = [path.read_text() for path in sorted(folder.glob("*.py")) if path.name not in ("__init__.py",)]
    assert len(files) > 8
    for i, first in enumerate(files):
        for second in files[i + 1 :]:
            assert SequenceMatcher(None, first.splitlines(), second.splitlines()).ratio() < 0.7


def test_variants__are_all_built() -> None:
    assert len(VARIANTS) >= 20
