"""VQT: queries that read and are not read."""

import pytest
import timm
import torch
from torch import nn

from tests import toy
from tests.tiny import backbone, images
from vitgraft import methods
from vitgraft.backbones.families import wrap
from vitgraft.core.block import BlockView
from vitgraft.core.plan import Plan
from vitgraft.core.query import read_block
from vitgraft.core.shape import measure
from vitgraft.core.sites import Tap
from vitgraft.core.tuned import Tuned
from vitgraft.errors import ConfigError
from vitgraft.heads.query import QueryHead


@pytest.mark.parametrize(("tokens", "count"), [(1, 9_216), (10, 92_160), (300, 2_764_800)])
def test_count__on_vit_b16(tokens: int, count: int) -> None:
    with torch.device("meta"):
        frozen = wrap(timm.create_model("vit_base_patch16_224", num_classes=0), "ViT-B/16")
    model = Tuned(frozen, methods.parse(f"vqt:tokens={tokens}").plan(frozen, 10))
    assert model.trained_values().method == count
    assert model.trained_values().head == (768 * (1 + 12 * tokens) + 1) * 10


def masked_block(view: BlockView, u: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The plain block on [u; x], with a mask that forbids u as a key: the outputs at u's places."""
    joined = view.norm1(torch.cat((u, x), dim=1))
    count = u.shape[1]
    mask = torch.zeros(joined.shape[1], joined.shape[1]).masked_fill(
        torch.arange(joined.shape[1]) < count, -torch.inf
    )
    q, k, v = view.split("qkv", [linear(joined) for linear in view.linears("qkv")])
    q, k, v = (part.unflatten(-1, (view.heads, -1)).transpose(1, 2) for part in (q, k, v))
    mixed = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask.to(q))
    middle = torch.cat((u, x), dim=1) + view.linears("proj")[0](mixed.transpose(1, 2).flatten(2))
    inner = view.activate(view.linears("fc1")[0](view.norm2(middle)))
    return (middle + view.linears("fc2")[0](inner))[:, :count]


def test_read_block__is_attention_with_a_mask() -> None:
    frozen = backbone()
    view = frozen.view.blocks[1]
    taps = [Tap(1, "in"), Tap(1, "norm1")]
    found = frozen(images(frozen), taps=taps).taps
    u = torch.randn(4, 3, frozen.width, generator=torch.Generator().manual_seed(0))
    attended, added = read_block(view, u, found[taps[1]], nn.Identity())
    assert torch.allclose(u + attended + added, masked_block(view, u, found[taps[0]]), atol=1e-5)


def test_read_block__shared_queries_equal_repeated_ones() -> None:
    """Values and gradients, in fp64."""
    frozen = backbone()
    frozen.model.double()
    tap = Tap(0, "norm1")
    h = frozen(images(frozen).double(), taps=[tap]).taps[tap]
    found = []
    for shared in (True, False):
        u = torch.randn(1, 2, frozen.width, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
        attended, added = read_block(frozen.view.blocks[0], u if shared else u.expand(4, -1, -1), h, nn.Identity())
        (attended + added).square().sum().backward()
        found.append((attended, added, u.grad))
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-10)


def test_queries__permuted_queries_permute_the_outputs() -> None:
    frozen = backbone()
    tap = Tap(0, "norm1")
    h = frozen(images(frozen), taps=[tap]).taps[tap]
    u = torch.randn(4, 5, frozen.width, generator=torch.Generator().manual_seed(0))
    order = torch.tensor([3, 0, 4, 1, 2])
    plain, _ = read_block(frozen.view.blocks[0], u, h, nn.Identity())
    permuted, _ = read_block(frozen.view.blocks[0], u[:, order], h, nn.Identity())
    assert torch.allclose(permuted, plain[:, order], atol=1e-6)


@pytest.mark.parametrize("spec", ["vqt:tokens=3", "vqt:tokens=3,summary=mean", "vqt:tokens=3,summary=weighted"])
def test_features__every_piece_has_unit_norm(spec: str) -> None:
    frozen = backbone()
    method = methods.parse(spec)
    model = Tuned(frozen, method.plan(frozen, 4)).eval()
    assert model.trained_values().method == method.formula(measure(frozen))
    assert isinstance(model.head, QueryHead)
    features = model.head.read(model.features(images(frozen)), frozen)
    width = frozen.width * (3 if spec.endswith("=3") else 1)
    sizes = [frozen.width] + [width] * frozen.depth
    for piece in features.split(sizes, dim=1):
        assert torch.allclose(piece.norm(dim=1), torch.ones(4), atol=1e-5)
    model(images(frozen)).sum().backward()
    assert all(value.grad is not None and value.grad.any() for value in model.parameters())


@pytest.mark.parametrize("summary", ["flatten", "mean", "weighted"])
def test_keep__classifies_the_kept_features_of_fixed_queries(summary: str) -> None:
    frozen = backbone()
    method = methods.parse(f"vqt:tokens=3,summary={summary},keep=0.7")
    findings = toy.findings(frozen, method, 4)
    model = Tuned(frozen, method.plan(frozen, 4, findings)).eval()
    head = model.head
    assert isinstance(head, QueryHead)
    total = frozen.width * (1 + frozen.depth * (3 if summary == "flatten" else 1))
    kept = findings["kept"]
    assert len(kept) == int(0.7 * total) == head.classifier.in_features
    assert torch.equal(kept, kept.unique())
    assert torch.equal(head.queries, findings["queries"])
    assert {name for name, _ in model.named_parameters()} == {"head.classifier.weight", "head.classifier.bias"}
    assert model.trained_values().method == method.formula(measure(frozen)) == 0
    with torch.no_grad():
        features = model.features(images(frozen))
        whole = head.read(features, frozen)
        assert whole.shape[1] == total
        expected = whole[:, kept] @ head.classifier.weight.T + head.classifier.bias
        assert torch.allclose(model(images(frozen)), expected, atol=1e-6)


def test_keep__stages_train_queries_then_score_them() -> None:
    """The first stage gives the queries; the second holds them fixed, at half the rate, with a group lasso."""
    frozen = backbone()
    stages = {}

    class Watched:
        def fit(self, name: str, plan: Plan, recipe: methods.Recipe, rate: float = 1.0) -> Tuned:
            model = Tuned(frozen, plan)
            with torch.no_grad():
                for value in model.parameters():
                    value.add_(torch.randn(value.shape, generator=torch.Generator().manual_seed(1)))
            stages[name] = (model, rate)
            return model

        def squared_gradients(self, model: Tuned, limit: int) -> dict[str, torch.Tensor]:
            raise AssertionError("no gradients of the backbone are wanted")

    found = methods.parse("vqt:tokens=2,keep=0.25,penalty=0.5").find(frozen, 4, Watched())
    assert list(stages) == ["queries", "scores"]
    (first, rate), (second, slower) = stages.values()
    assert (rate, slower) == (1.0, 0.5)
    assert first.head.penalty() is None
    weight = second.head.classifier.weight
    assert torch.equal(found["queries"], first.head.queries)
    assert torch.equal(found["queries"], second.head.queries)
    assert torch.allclose(second.head.penalty(), 0.5 * weight.norm(dim=0).sum())
    norms = weight.detach().norm(dim=0)
    left_out = torch.ones(len(norms), dtype=torch.bool)
    left_out[found["kept"]] = False
    assert len(found["kept"]) == int(0.25 * len(norms))
    assert norms[found["kept"]].min() >= norms[left_out].max()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("vqt:keep=0", "keep=0.0 must be above 0 and at most 1"),
        ("vqt:keep=1.5", "keep=1.5 must be above 0 and at most 1"),
        ("vqt:keep=0.5,penalty=-1", "penalty=-1.0 must be at least 0"),
    ],
)
def test_keep__wrong_fields_are_told(spec: str, message: str) -> None:
    frozen = backbone()
    findings = {"queries": torch.zeros(3, 1, 24), "kept": torch.arange(4)}
    with pytest.raises(ConfigError, match=message):
        methods.parse(spec).plan(frozen, 4, findings)


def test_keep__findings_of_another_backbone_are_told() -> None:
    findings = {"queries": torch.zeros(3, 1, 24), "kept": torch.arange(90, 100)}
    with pytest.raises(ConfigError, match="not among the 96 that this backbone gives"):
        methods.parse("vqt:keep=0.5").plan(backbone(), 4, findings)


def test_dropout__is_each_images_own() -> None:
    """Upstream drops after queries are given to every image; an image that stands there twice is read twice."""
    frozen = backbone()
    model = Tuned(frozen, methods.parse("vqt:tokens=3,dropout=0.5").plan(frozen, 4))
    pictures = images(frozen)[:1].expand(4, -1, -1, -1)
    assert not torch.allclose(model.train()(pictures)[0], model(pictures)[1])
    logits = model(pictures)
    assert not torch.allclose(logits[0], logits[1])
    logits = model.eval()(pictures)
    assert torch.allclose(logits[0], logits[1])
