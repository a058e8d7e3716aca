"""Head2Toe: which places are read, how they are pooled and normalised, and which features stay."""

import pytest
import timm
import torch

from tests import toy
from tests.tiny import backbone, images
from vitgraft import methods
from vitgraft.backbones.families import wrap
from vitgraft.core.plan import Plan
from vitgraft.core.sites import STEM, Tap
from vitgraft.core.tuned import Tuned
from vitgraft.errors import ConfigError
from vitgraft.heads.selected import SelectedHead, group_lasso, pieces, strongest


def test_pieces__on_vit_b16() -> None:
    """4 places a block and 4 around them; with means over tokens, each has its place's width."""
    with torch.device("meta"):
        frozen = wrap(timm.create_model("vit_base_patch16_224", num_classes=0), "ViT-B/16")
        found = pieces(frozen, 0)
        model = Tuned(frozen, methods.parse("head2toe:keep=1").plan(frozen, 10))
    assert len(found) == 52
    assert sum(found.values()) == 12 * (3 * 768 + 3072) + 4 * 768
    assert model.trained_values().method == 0
    assert model.trained_values().head == 10 * (sum(found.values()) + 1)


def test_pieces__are_pooled_to_about_a_size() -> None:
    """17 tokens of 24 values pooled to 100: windows of int(17 / (100 / 24)) = 4 tokens, the last one dropped."""
    frozen = backbone()
    found = pieces(frozen, 100)
    assert found[Tap(0, "norm1", "pool", 100)] == 4 * 24
    assert found[Tap(1, "act", "pool", 100)] == 96
    assert found[Tap(3, "pooled", "pool", 100)] == 24
    model = Tuned(frozen, methods.parse("head2toe:keep=1,size=100").plan(frozen, 4)).eval()
    assert model(images(frozen)).shape == (4, 4)


@pytest.mark.parametrize(
    ("variant", "missing"),
    [
        ("plain", None),
        ("mae_average", (3, "norm")),
        ("siglip_attention_pool", None),
        ("dynamic_size", (STEM, "patch")),
    ],
)
def test_pieces__places_without_tokens_are_left_out(variant: str, missing: tuple[int, str] | None) -> None:
    found = {(tap.block, tap.place) for tap in pieces(backbone(variant), 0)}
    expected = {(STEM, "patch"), (0, "in"), (3, "norm"), (3, "pooled")}
    assert expected - found == (set() if missing is None else {missing})


@pytest.mark.parametrize("spec", ["head2toe:keep=1", "head2toe:keep=0.05", "head2toe:keep=0.3,size=100"])
def test_features__a_piece_has_unit_norm_or_is_zero(spec: str) -> None:
    frozen, method = backbone(), methods.parse(spec)
    model = Tuned(frozen, method.plan(frozen, 4, toy.findings(frozen, method, 4))).eval()
    head = model.head
    assert isinstance(head, SelectedHead)
    features = model.features(images(frozen))
    silent = next(tap for tap in head.order if tap in features.taps)
    features.taps[silent].zero_()
    norms = [piece.norm(dim=1) for piece in head.read(features).split(head.counts, dim=1)]
    for tap, count, norm in zip(head.order, head.counts, norms, strict=True):
        assert torch.allclose(norm, torch.full((4,), float(count > 0 and tap != silent)), atol=1e-5)


def test_features__are_the_kept_ones_of_each_place() -> None:
    frozen = backbone()
    method = methods.parse("head2toe:keep=0.2")
    findings = toy.findings(frozen, method, 4)
    model = Tuned(frozen, method.plan(frozen, 4, findings)).eval()
    assert isinstance(model.head, SelectedHead)
    sizes = pieces(frozen, 0)
    readings = frozen.read(images(frozen), sizes)
    whole = torch.cat([readings[tap] for tap in sizes], dim=1)
    assert len(findings["kept"]) == int(0.2 * whole.shape[1])
    chosen = torch.zeros(whole.shape[1], dtype=torch.bool)
    chosen[findings["kept"]] = True
    expected, start = [], 0
    for size in sizes.values():
        span = slice(start, start + size)
        part = whole[:, span][:, chosen[span]]
        expected.append(part / part.norm(dim=1, keepdim=True))
        start += size
    torch.testing.assert_close(model.head.read(model.features(images(frozen))), torch.cat(expected, dim=1))


def test_taps__places_of_which_nothing_is_kept_are_not_read() -> None:
    frozen = backbone()
    sizes = pieces(frozen, 0)
    plan = methods.parse("head2toe").plan(frozen, 4, {"kept": torch.tensor([0, 3, sum(sizes.values()) - 1])})
    assert plan.taps == {Tap(STEM, "patch", "pool"), Tap(3, "pooled", "pool")}
    assert Tuned(frozen, plan)(images(frozen)).shape == (4, 4)


def test_strongest__scores_equal_column_norms() -> None:
    weight = torch.randn(5, 40, generator=torch.Generator().manual_seed(0))
    norms = weight.norm(dim=0)
    kept = strongest(weight, 0.25)
    assert torch.equal(kept, norms.topk(10).indices.sort().values)
    assert torch.equal(strongest(weight, 1.0), torch.arange(40))
    assert len(strongest(weight, 0.001)) == 1
    assert torch.equal(strongest(torch.ones(2, 6), 0.5), torch.arange(3))
    assert torch.allclose(group_lasso(weight, 0.1), 0.1 * norms.sum())


def test_group_lasso__a_column_of_zeros_has_no_gradient() -> None:
    weight = torch.tensor([[3.0, 0.0], [4.0, 0.0]], requires_grad=True)
    group_lasso(weight, 2.0).backward()
    assert torch.allclose(weight.grad, torch.tensor([[1.2, 0.0], [1.6, 0.0]]))


def test_stages__the_lasso_stands_in_the_first_alone() -> None:
    frozen = backbone()
    stages: dict[str, Tuned] = {}

    class Watched:
        def fit(self, name: str, plan: Plan, recipe: methods.Recipe, rate: float = 1.0) -> Tuned:
            stages[name] = Tuned(frozen, plan)
            return stages[name]

        def squared_gradients(self, model: Tuned, limit: int) -> dict[str, torch.Tensor]:
            raise AssertionError("no gradients of the backbone are wanted")

    method = methods.parse("head2toe:penalty=0.5")
    found = method.find(frozen, 4, Watched())
    weight = stages["scores"].head.classifier.weight
    assert weight.shape[1] == sum(pieces(frozen, 0).values())
    assert torch.allclose(stages["scores"].head.penalty(), 0.5 * weight.norm(dim=0).sum())
    assert torch.equal(found["kept"], strongest(weight, 0.1))
    assert method.plan(frozen, 4, found).head.penalty() is None


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("head2toe:keep=0", "keep=0.0 must be above 0 and at most 1"),
        ("head2toe:size=-1", "size=-1 must be at least 0"),
        ("head2toe:penalty=-1", "penalty=-1.0 must be at least 0"),
    ],
)
def test_fields__mistakes_are_told(spec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        methods.parse(spec).plan(backbone(), 4, {"kept": torch.arange(3)})


def test_learning__the_toy_task_is_learnt() -> None:
    """Which channel is tinted is a matter of the patch embedding already."""
    from vitgraft.train.loop import evaluate, fit
    from vitgraft.train.settings import Training

    frozen, method = backbone(), methods.parse("head2toe:keep=0.3")
    findings = toy.findings(frozen, method, 3)
    model = Tuned(frozen, method.plan(frozen, 3, findings))
    settings = Training(epochs=15, batch_size=10, device="cpu")
    fit(model, toy.split(60), None, settings, preprocessing=toy.PREPROCESSING, recipe=method.recipe)
    assert evaluate(model, toy.split(60, seed=3), toy.PREPROCESSING, device="cpu").top1 > 80
