"""Sparse edits: their gradient is the dense one's at the chosen entries; nothing of a weight's size is kept."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.tiny import backbone, images
from vitgraft import methods
from vitgraft.core import edits as edits_module
from vitgraft.core import lean
from vitgraft.core.edits import Entries, LowRankEdit, ShiftEdit, SparseEdit, lines_of
from vitgraft.core.graft import Graft
from vitgraft.core.lean import Before, RowEdit, edited_linears
from vitgraft.core.plan import Plan
from vitgraft.core.tuned import Tuned, perturbed
from vitgraft.grafts.low_rank import LowRank
from vitgraft.grafts.sparse import NormDelta, SparseDelta
from vitgraft.heads.linear import LinearHead
from vitgraft.train.cost import kept_bytes_per_image

INPUTS, OUTPUTS = 40, 36
FEW_COLUMNS = torch.tensor([row * INPUTS + column for row in range(3, 33) for column in (2, 31)])
FEW_ROWS = torch.tensor([row * INPUTS + column for row in (1, 20) for column in range(5, 38)])
SELECTIONS = {
    "few_columns": FEW_COLUMNS,
    "few_rows": FEW_ROWS,
    "few_of_both": torch.tensor([0, 7, 5 * INPUTS, 5 * INPUTS + 39]),
    "one": torch.tensor([OUTPUTS * INPUTS - 1]),
    "scattered": torch.randperm(OUTPUTS * INPUTS, generator=torch.Generator().manual_seed(0))[:400].sort().values,
    "all": torch.arange(OUTPUTS * INPUTS),
}


@pytest.fixture(autouse=True)
def _lines_are_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that matrices this small have blocks of every kind."""
    monkeypatch.setattr(edits_module, "COPY", 32)


@pytest.fixture(params=list(SELECTIONS))
def index(request: pytest.FixtureRequest) -> Tensor:
    return SELECTIONS[request.param]


@pytest.fixture(params=[True, False], ids=["merged", "added"])
def merges(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both ways of computing the same."""
    monkeypatch.setattr(lean._Group, "merges", lambda *_: request.param)
    return bool(request.param)


def values(k: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(k, generator=generator, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("by_value", [True, False])
@pytest.mark.parametrize("shape", [(7,), (3, 5)])
def test_gradient__is_the_dense_one_at_the_entries(
    index: Tensor, shape: tuple[int, ...], by_value: bool, merges: bool
) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(INPUTS, OUTPUTS, dtype=torch.float64).requires_grad_(False)
    x = torch.randn(*shape, INPUTS, dtype=torch.float64, requires_grad=True)
    delta, shift = values(len(index)), values(4, 1)
    places = torch.tensor([0, 3, 4, 35])
    edits = [SparseEdit(Entries.of(index, (OUTPUTS, INPUTS)), delta), ShiftEdit(places, shift)]
    (ours,) = edited_linears(
        x, Before(F.gelu, by_value=by_value), [linear], [RowEdit(0, 0, OUTPUTS, edit) for edit in edits]
    )

    weight = linear.weight.flatten().index_add(0, index, delta.detach()).view(OUTPUTS, INPUTS).requires_grad_()
    bias = linear.bias.index_add(0, places, shift.detach()).requires_grad_()
    dense = F.linear(F.gelu(x), weight, bias)
    torch.testing.assert_close(ours, dense, rtol=1e-12, atol=1e-12)
    weigh = torch.randn_like(dense)
    found = torch.autograd.grad((ours * weigh).sum(), [x, delta, shift])
    expected = torch.autograd.grad((dense * weigh).sum(), [x, weight, bias])
    torch.testing.assert_close(found[0], expected[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found[1], expected[1].flatten()[index], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found[2], expected[2][places], rtol=1e-12, atol=1e-12)


def test_graft__by_plain_autograd_is_the_same(index: Tensor) -> None:
    graft = SparseDelta((OUTPUTS, INPUTS), index, torch.tensor([1, 2])).double()
    x = torch.randn(2, 3, INPUTS, dtype=torch.float64)
    y = torch.randn(2, 3, OUTPUTS, dtype=torch.float64)
    with perturbed(graft):
        weight, bias = graft.fold(torch.zeros(OUTPUTS, INPUTS).double(), torch.zeros(OUTPUTS).double())
        assert int((weight != 0).sum()) == len(index)
        torch.testing.assert_close(graft(x, y), y + F.linear(x, weight, bias), rtol=1e-12, atol=1e-12)


def test_block__is_small_where_entries_share_lines() -> None:
    shape = (OUTPUTS, INPUTS)
    assert Entries.of(SELECTIONS["all"], shape).block == shape
    assert Entries.of(SELECTIONS["one"], shape).block == (1, 1)
    kinds = {
        (one.rows is None, one.columns is None) for one in (Entries.of(i, shape) for i in SELECTIONS.values())
    }
    assert len(kinds) == 4
    wide = Entries.of(torch.arange(0, 3000 * 768, 768), (3000, 768))
    assert wide.rows is None
    assert wide.block == (3000, 1)


class Sizes(TorchDispatchMode):
    """The largest tensor that an operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = function(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else (out,):
            if isinstance(value, Tensor):
                self.largest = max(self.largest, value.numel())
        return out


def test_backward__makes_nothing_of_the_weights_size_nor_of_k_by_k() -> None:
    """k = 600 of 400 x 400 in three columns: the gradient makes no more than a few lines."""
    index = (torch.arange(200)[:, None] * 400 + torch.tensor([1, 7, 300])).flatten()
    entries = Entries.of(index, (400, 400))
    h, grad = torch.randn(10, 400), torch.randn(10, 400)
    with Sizes() as sizes:
        entries.gather(partial(lines_of, h), grad)
    assert sizes.largest <= 4_000 < len(index) ** 2


def grafted() -> Tuned:
    """Sparse edits everywhere, with LoRA on v and fc1."""
    frozen = backbone()
    generator = torch.Generator().manual_seed(0)

    def some(size: int, k: int) -> Tensor:
        return torch.randperm(size, generator=generator)[:k].sort().values

    grafts: dict[tuple[int, str], tuple[Graft, ...]] = {}
    for block in range(frozen.depth):
        for place in ("q", "v", "proj", "fc1", "fc2"):
            rows = frozen.rows((block, place))
            shape = (rows[0].stop - rows[0].start, rows[0].module.in_features)
            delta = SparseDelta(shape, some(shape[0] * shape[1], 30), some(shape[0], 5))
            low = (LowRank(shape[1], shape[0], 2, 2.0),) if place in ("v", "fc1") else ()
            grafts[block, place] = (delta, *low)
        for place in ("norm1", "norm2"):
            (rows,) = frozen.rows((block, place))
            grafts[block, place] = (NormDelta(rows.module, torch.arange(24), some(24, 3)),)
    (rows,) = frozen.rows((frozen.depth, "norm"))
    grafts[frozen.depth, "norm"] = (NormDelta(rows.module, some(24, 2), torch.arange(24)),)
    torch.manual_seed(0)
    return Tuned(frozen, Plan(LinearHead(frozen.width, 5), grafts))


def gradients(model: Tuned, checkpoint: str = "none") -> list[Tensor]:
    model.recompute = checkpoint  # type: ignore[assignment]
    loss = model(images(model.backbone)).square().sum()
    return list(torch.autograd.grad(loss, list(model.parameters())))


@pytest.mark.parametrize("checkpoint", ["none", "mlp", "block"])
def test_whole_model__lean_is_plain(checkpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = grafted()
    with perturbed(model, scale=0.05):
        ours = gradients(model, checkpoint)
        for kind in (SparseDelta, LowRank):
            monkeypatch.setattr(kind, "weight_edits", lambda self: None)
        plain = gradients(model)
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5 * float(other.abs().max()) + 1e-7)


def test_whole_model__merges_and_changes_the_chosen_values_alone() -> None:
    model = grafted()
    frozen = model.backbone
    with perturbed(model, scale=0.05), torch.no_grad():
        plain, expected = model.eval().merge(), model(images(frozen))
        torch.testing.assert_close(plain(images(frozen)), expected, rtol=1e-4, atol=1e-5)
    changed = {
        name: int((value != frozen.parameter(name)).sum())
        for name, value in plain.named_parameters()
        if name in frozen.parameter_names()
    }
    assert changed["blocks.1.attn.proj.weight"] == 30
    assert changed["blocks.1.mlp.fc2.bias"] == 5
    assert changed["blocks.0.norm1.weight"] == 24
    assert changed["blocks.0.norm1.bias"] == 3
    assert changed["blocks.2.attn.qkv.bias"] == 10
    assert changed["pos_embed"] == 0


def test_whole_model__keeps_no_more_than_low_rank_does() -> None:
    """Outputs of normalisations and activations are computed again, though these train, too."""
    model = grafted()
    lora = Tuned(model.backbone, methods.parse("lora:places=all").plan(model.backbone, 5))
    assert kept_bytes_per_image(model) <= kept_bytes_per_image(lora) * 1.02


def test_low_rank__beside_a_sparse_edit_is_one_product() -> None:
    edits = (
        LowRankEdit(torch.ones(1, 2), torch.ones(3, 1), 1.0),
        SparseEdit(Entries.of(torch.tensor([5]), (3, 2)), torch.ones(1)),
    )
    linear = nn.Linear(2, 3, bias=False).requires_grad_(False)
    group = lean._Group(None, (linear,), tuple(RowEdit(0, 0, 3, edit) for edit in edits))
    weight, bias = group.merged(0)
    assert bias is None
    torch.testing.assert_close(weight - linear.weight, torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 2.0]]))
