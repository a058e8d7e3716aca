"""The last block computes the tokens that are read, and those alone; nothing else changes."""

import pytest
import torch
from torch import Tensor

from tests import toy
from tests.tiny import backbone, images
from vitgraft import methods
from vitgraft.core.backbone import NO_EDITS, Backbone, Edits
from vitgraft.core.graft import Graft
from vitgraft.core.sites import Tap
from vitgraft.core.tuned import Tuned, perturbed


class Mean(Graft):
    """Adds the mean over all tokens to each of them."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return y + y.mean(dim=1, keepdim=True)


def left(frozen: Backbone, edits: Edits = NO_EDITS, taps: frozenset[Tap] = frozenset()) -> int:
    """How many tokens come out of the last block where only the pooled vector is wanted."""
    return frozen(images(frozen), edits, taps, tokens=False).tokens.shape[1]


@pytest.mark.parametrize(
    ("variant", "count"),
    [("plain", 1), ("dinov2_registers", 1), ("distilled", 2), ("mae_average", 17), ("siglip_attention_pool", 16)],
)
def test_pooled__is_the_same_from_fewer_tokens(variant: str, count: int) -> None:
    frozen = backbone(variant)
    assert left(frozen) == count
    pictures = images(frozen)
    with torch.no_grad():
        few, all_of_them = frozen(pictures, tokens=False), frozen(pictures)
    torch.testing.assert_close(few.pooled, all_of_them.pooled, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", methods.names())
@pytest.mark.parametrize("checkpoint", ["none", "mlp", "block"])
def test_gradients__are_the_same_from_fewer_tokens(
    name: str, checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = backbone()
    method = methods.parse(name)
    findings = toy.findings(frozen, method, 5)
    torch.manual_seed(0)
    model = Tuned(frozen, method.plan(frozen, 5, findings)).eval()
    model.recompute = checkpoint  # type: ignore[assignment]
    found = []
    with perturbed(model, scale=0.05):
        for reads in (model.head.reads, "tokens"):
            monkeypatch.setattr(type(model.head), "reads", reads)
            loss = model(images(frozen)).square().sum()
            found.append(torch.autograd.grad(loss, list(model.parameters())))
    for few, all_of_them in zip(*found, strict=True):
        torch.testing.assert_close(few, all_of_them, rtol=1e-3, atol=1e-5 * float(all_of_them.abs().max()) + 1e-7)


def test_tokens__are_all_there_if_something_reads_them() -> None:
    frozen = backbone()
    last = frozen.depth - 1
    assert left(frozen, taps=frozenset({Tap(last, "out", "mean")})) == 17
    assert left(frozen, taps=frozenset({Tap(frozen.depth, "norm")})) == 17
    assert left(frozen, taps=frozenset({Tap(last - 1, "out"), Tap(frozen.depth, "pooled")})) == 1
    assert left(frozen, Edits({(last, "mlp"): (Mean(),)})) == 17
    assert left(frozen, Edits({(last - 1, "mlp"): (Mean(),), (last, "v"): (Mean(),)})) == 1


def test_grafts__that_say_so_edit_each_token_alone() -> None:
    frozen = backbone()
    told = 0
    for method in map(methods.parse, methods.names()):
        for (_, place), grafts in method.plan(frozen, 5, toy.findings(frozen, method, 5)).grafts.items():
            for graft in grafts:
                if not graft.per_token:
                    continue
                told += 1
                (inputs, outputs) = sizes(graft, place, frozen)
                x, y = torch.randn(2, 7, inputs), torch.randn(2, 7, outputs)
                graft.eval()
                torch.testing.assert_close(graft(x[:, 2:4], y[:, 2:4]), graft(x, y)[:, 2:4], rtol=1e-5, atol=1e-5)
    assert told > 0


def sizes(graft: Graft, place: str, frozen: Backbone) -> tuple[int, int]:
    """(D_in, D_out) of a graft's site in block 0."""
    rows = frozen.rows((0, place))
    outputs = sum(piece.stop - piece.start for piece in rows) or frozen.width
    module = rows[0].module if rows else None
    return getattr(module, "in_features", frozen.width), outputs
