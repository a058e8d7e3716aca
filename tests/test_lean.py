"""The edited linears give what plain autograd gives, on less memory."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from tests.tiny import backbone, images
from vitgraft import methods
from vitgraft.core import lean
from vitgraft.core.edits import LowRankEdit
from vitgraft.core.lean import Before, RowEdit, edited_linears
from vitgraft.core.sites import Tap
from vitgraft.core.tuned import Tuned, perturbed

RANK, SCALE = 2, 0.5


def low_rank(inputs: int, outputs: int, dtype: torch.dtype = torch.float64) -> LowRankEdit:
    down = torch.randn(RANK, inputs, dtype=dtype, requires_grad=True)
    up = torch.randn(outputs, RANK, dtype=dtype, requires_grad=True)
    return LowRankEdit(down, up, SCALE)


def linear(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, dtype=torch.float64).requires_grad_(False)


Step = Callable[[Tensor], Tensor]


class Case:
    """One group of linears on h = before(x), with edits of some of their rows; D_in = 6."""

    def __init__(
        self,
        before: Callable[[Tensor], Tensor] | None,
        widths: Sequence[int],
        rows: Sequence[tuple[int, int, int]],
        by_value: bool = False,
    ) -> None:
        self.before, self.by_value = before, by_value
        self.linears = [linear(6, width) for width in widths]
        self.edits = [RowEdit(*place, low_rank(6, place[2] - place[1])) for place in rows]

    @property
    def step(self) -> Before | None:
        return None if self.before is None else Before(self.before, by_value=self.by_value)

    def factors(self) -> list[Tensor]:
        return [factor for row in self.edits for factor in (row.edit.down, row.edit.up)]

    def lean(self, x: Tensor) -> tuple[Tensor, ...]:
        return edited_linears(x, self.step, self.linears, self.edits)

    def plain(self, x: Tensor) -> tuple[Tensor, ...]:
        """One by one, by autograd."""
        h = x if self.before is None else self.before(x)
        outputs = [each(h) for each in self.linears]
        for row in self.edits:
            change = h @ row.edit.down.t() @ row.edit.up.t() * row.edit.scale
            padding = (row.start, outputs[row.module].shape[-1] - row.stop)
            outputs[row.module] = outputs[row.module] + nn.functional.pad(change, padding)
        return tuple(outputs)


def gate(x: Tensor) -> Tensor:
    """A gated activation (B, N, 12) -> (B, N, 6)."""
    first, second = x.chunk(2, dim=-1)
    return nn.functional.silu(first) * second


def cases() -> dict[str, Callable[[], Case]]:
    norm = nn.LayerNorm(6, dtype=torch.float64).requires_grad_(False)
    return {
        "norm_qkv": lambda: Case(norm, [18], [(0, 0, 6), (0, 6, 12), (0, 12, 18)]),
        "norm_q_and_v": lambda: Case(norm, [18], [(0, 12, 18), (0, 0, 6)]),
        "separate_projections": lambda: Case(norm, [6, 4, 6], [(0, 0, 6), (2, 0, 6)]),
        "same_rows_twice": lambda: Case(norm, [8], [(0, 0, 8), (0, 2, 6)]),
        "proj": lambda: Case(None, [6], [(0, 0, 6)]),
        "gelu_fc2": lambda: Case(nn.functional.gelu, [5], [(0, 0, 5)]),
        "gelu_fc2_by_value": lambda: Case(nn.functional.gelu, [5], [(0, 0, 5)], by_value=True),
        "gated_fc2": lambda: Case(gate, [5], [(0, 0, 5)]),
    }


@pytest.fixture(params=list(cases()))
def case(request: pytest.FixtureRequest) -> Case:
    torch.manual_seed(0)
    return cases()[request.param]()


@pytest.fixture(params=[True, False], ids=["merged", "added"])
def merges(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both ways of computing the same."""
    monkeypatch.setattr(lean._Group, "merges", lambda *_: request.param)
    return bool(request.param)


def inputs(case: Case, wants_grad: bool = True) -> Tensor:
    """x (3, 4, D), not contiguous."""
    width = 12 if case.before is gate else 6
    return torch.randn(4, 3, width, dtype=torch.float64).transpose(0, 1).requires_grad_(wants_grad)


def gradients(run: Callable[[Tensor], tuple[Tensor, ...]], x: Tensor, factors: list[Tensor]) -> list[Tensor]:
    """Gradients of a loss that weighs every output differently, with respect to x (if wanted) and factors."""
    outputs = run(x)
    generator = torch.Generator().manual_seed(1)
    loss = sum((out * torch.randn(out.shape, generator=generator, dtype=out.dtype)).sum() for out in outputs)
    assert isinstance(loss, Tensor)
    return list(torch.autograd.grad(loss, [x, *factors] if x.requires_grad else factors))


@pytest.mark.parametrize("wants_grad", [True, False])
def test_edited_linears__is_plain_autograd(case: Case, merges: bool, wants_grad: bool) -> None:
    x = inputs(case, wants_grad)
    for ours, plain in zip(case.lean(x), case.plain(x), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)
    expected = gradients(case.plain, x, case.factors())
    for run in (case.lean, lambda x: checkpoint(case.lean, x, use_reentrant=False)):
        for ours, plain in zip(gradients(run, x, case.factors()), expected, strict=True):
            torch.testing.assert_close(ours, plain, rtol=1e-11, atol=1e-11)


def test_edited_linears__passes_gradcheck(case: Case, merges: bool) -> None:
    def run(x: Tensor, *factors: Tensor) -> tuple[Tensor, ...]:
        pairs = zip(case.edits, factors[::2], factors[1::2], strict=True)
        edits = [replace(row, edit=LowRankEdit(down, up, SCALE)) for row, down, up in pairs]
        return edited_linears(x, case.step, case.linears, edits)

    assert torch.autograd.gradcheck(run, (inputs(case), *case.factors()))


def test_edited_linears__keeps_its_input_and_factors_alone(case: Case, merges: bool) -> None:
    kept: list[Tensor] = []
    x = inputs(case)
    with torch.autograd.graph.saved_tensors_hooks(lambda value: kept.append(value) or value, lambda value: value):
        case.lean(x)
    assert {value.data_ptr() for value in kept} == {value.data_ptr() for value in (x, *case.factors())}


def test_edited_linears__bears_hooks_on_modules() -> None:
    """torch's FLOP counter watches the inputs of modules, also of those that run again in the backward pass."""
    norm = nn.LayerNorm(6, dtype=torch.float64).requires_grad_(False)
    case = Case(norm, [6], [(0, 0, 6)])
    with FlopCounterMode(display=False) as counter:
        case.lean(inputs(case))[0].sum().backward()
    assert counter.get_total_flops() > 0


def test_edited_linears__refuses_a_second_derivative(case: Case) -> None:
    x = inputs(case)
    (first,) = torch.autograd.grad(case.lean(x)[0].square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_autocast__an_edit_below_the_weights_rounding_counts() -> None:
    """1 + 2^-10 is 1 in bf16: an edit that is merged before rounding would never train."""
    plain = nn.Linear(2, 1, bias=False).requires_grad_(False)
    with torch.no_grad():
        plain.weight.copy_(torch.tensor([[1.0, -1.0]]))
    down = torch.tensor([[1.0, 0.0]], requires_grad=True)
    up = torch.tensor([[2.0**-10]], requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (out,) = edited_linears(torch.ones(1, 1, 2), None, [plain], [RowEdit(0, 0, 1, LowRankEdit(down, up, 1.0))])
    assert out.dtype is torch.bfloat16
    assert out.item() == 2.0**-10


def test_rounded_products__are_not_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    group = lean._Group(None, (nn.Linear(2, 2),), ())
    assert not group.merges(torch.float32, "cpu", ())
    assert not group.merges(torch.bfloat16, "cpu", ())


def both_ways(variant: str, autocast: bool = False) -> tuple[list[Tensor], list[Tensor]]:
    """Gradients of LoRA everywhere, by the lean operation and (with every place tapped) by plain autograd."""
    frozen = backbone(variant)
    torch.manual_seed(0)
    plan = methods.parse("lora:places=all").plan(frozen, 3)
    read = [Tap(block, place) for block in range(frozen.depth) for place in ("q", "k", "v", "proj", "fc1", "fc2")]
    found = []
    for taps in (frozenset(), frozenset(read)):
        model = Tuned(frozen, replace(plan, taps=taps))
        with perturbed(model, scale=0.1), torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            logits = model(images(frozen))
            found.append(list(torch.autograd.grad(logits.float().square().sum(), list(model.parameters()))))
    return found[0], found[1]


@pytest.mark.parametrize(
    "variant", ["plain", "swiglu_packed", "aimv2_swiglu_rmsnorm", "scaled_norms", "qk_norm", "dinov2_registers"]
)
def test_whole_model__lean_is_plain(variant: str) -> None:
    for ours, plain in zip(*both_ways(variant), strict=True):
        assert torch.allclose(ours, plain, rtol=1e-3, atol=1e-5 * float(plain.abs().max()) + 1e-7)


def test_merges__not_where_tf32_was_allowed_by_the_newer_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch then refuses to say so by the older one."""
    assert lean._multiplies_exactly()

    def refuses() -> str:
        raise RuntimeError("mix of the legacy and new APIs")

    monkeypatch.setattr(torch, "get_float32_matmul_precision", refuses)
    assert not lean._multiplies_exactly()


def test_whole_model__lean_is_near_plain_in_bf16() -> None:
    for ours, plain in zip(*both_ways("plain", autocast=True), strict=True):
        assert ours.dtype is torch.float32
        assert torch.nn.functional.cosine_similarity(ours.flatten(), plain.flatten(), dim=0) > 0.98
