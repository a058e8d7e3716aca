"""Costs are counted, not estimated: against hand-made graphs, against formulas of the architecture."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests import toy
from tests.tiny import SIZE, SMALL, vit
from vitgraft import methods
from vitgraft.backbones.families import wrap
from vitgraft.core.tuned import Tuned
from vitgraft.train.cost import (
    forward_flops,
    kept_bytes,
    kept_bytes_per_image,
    measure_cost,
    peak_memory_mib,
    step_flops,
)

D, H, HEADS, CLASSES = SMALL["embed_dim"], 4 * SMALL["embed_dim"], SMALL["num_heads"], 5
N = (SIZE // SMALL["patch_size"]) ** 2 + 1
FLOAT = 4  # bytes
DEPTH = 2


def tuned(method: str, depth: int = DEPTH, pool: str = "token") -> Tuned:
    """A tiny model; pooled by `avg`, its last block computes every token."""
    frozen = wrap(vit(depth=depth, global_pool=pool), "tiny")
    chosen = methods.parse(method)
    findings = toy.findings(frozen, chosen, CLASSES)
    torch.manual_seed(0)
    return Tuned(frozen, chosen.plan(frozen, CLASSES, findings))


def block_bytes(method: str) -> int:
    """What one more block keeps an image."""
    deep, shallow = (kept_bytes_per_image(tuned(method, depth)) for depth in (3, 2))
    return deep - shallow


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x.clone(), x)
        return x * x

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * grad  # type: ignore[attr-defined]


GRAPHS: dict[str, tuple[Callable[[Tensor], object], int]] = {
    "exp keeps its output": (lambda x: x.exp(), 1),
    "a sum keeps nothing": (lambda x: x.sum() + x, 0),
    "two views of one storage count once": (lambda x: x.exp()[:5] * x.exp()[5:], 2),
    "a custom function's tensors count": (Square.apply, 2),
    "what is dropped on the way does not count": (lambda x: (x.exp(), x.sum())[1], 0),
    "recomputation keeps its input": (
        lambda x: checkpoint(lambda y: y.exp().sin().cos(), x, use_reentrant=False),
        1,
    ),
    "a constant factor counts": (lambda x: x * torch.ones(10), 1),
}


@pytest.mark.parametrize("what", GRAPHS)
def test_kept_bytes__counts_distinct_storages(what: str) -> None:
    run, tensors = GRAPHS[what]
    x = torch.zeros(10, requires_grad=True)
    assert kept_bytes(lambda: run(x)) == tensors * 10 * FLOAT


def test_kept_bytes__leaves_out_parameters_and_their_views() -> None:
    layer = nn.Linear(10, 10)
    x = torch.zeros(3, 10, requires_grad=True)
    assert kept_bytes(lambda: layer(x)) == FLOAT * (10 * 10 + 3 * 10)
    assert kept_bytes(lambda: layer(x), leaving_out=layer.parameters()) == FLOAT * 3 * 10


def test_kept_bytes__runs_under_grad() -> None:
    x = torch.zeros(10, requires_grad=True)
    with torch.no_grad():
        assert kept_bytes(x.exp) == 10 * FLOAT


def test_lora__a_block_keeps_ten_maps() -> None:
    """Input, q, k, v, attention's output, the stream before the mlp, and four of the mlp's hidden layer.

    Small print: attention's log-sum-exp (heads, N), the second normalisation's mean and deviation (N).
    """
    assert H == 4 * D
    assert block_bytes("lora:places=qkv") == FLOAT * (10 * N * D + HEADS * N + 2 * N)


def test_lora__everywhere_keeps_no_normalised_and_no_activated_copy() -> None:
    assert block_bytes("lora:places=all") == FLOAT * (10 * N * D + HEADS * N)


def test_recomputation__a_block_keeps_its_input() -> None:
    found = []
    for depth in (2, 3):
        model = tuned("lora:places=qkv", depth)
        model.recompute = "block"
        found.append(kept_bytes_per_image(model))
    assert found[1] - found[0] == FLOAT * N * D


def test_frozen_prefix__keeps_nothing() -> None:
    assert block_bytes("linear") == 0
    assert block_bytes("lora:last=1") == 0


@pytest.mark.parametrize("method", ["lora", "mlp", "adaptformer"])
def test_kept__is_the_same_for_every_batch(method: str) -> None:
    model = tuned(method)
    assert kept_bytes_per_image(model, batch=2) == kept_bytes_per_image(model, batch=5)


def test_kept__half_precision_keeps_less() -> None:
    model = tuned("lora")
    half = kept_bytes_per_image(model, dtype=torch.bfloat16)
    assert half < 0.75 * kept_bytes_per_image(model)


def test_flops__are_the_architectures() -> None:
    patches = 2 * (N - 1) * D * 3 * SMALL["patch_size"] ** 2
    block = 2 * N * D * (4 * D + 2 * H) + 4 * N * N * D
    forward = patches + DEPTH * block + 2 * D * CLASSES
    assert forward_flops(tuned("linear", pool="avg")) == forward
    rank = 4
    factors = DEPTH * 3 * 2 * N * (D * rank + rank * D)
    assert forward_flops(tuned(f"lora:places=qkv,rank={rank}", pool="avg")) == forward + factors


def test_flops__of_a_step() -> None:
    forward = forward_flops(tuned("linear", pool="avg"))
    assert forward < step_flops(tuned("linear", pool="avg")) < 1.01 * forward
    assert 2.9 * forward < step_flops(tuned("full", pool="avg")) < 3 * forward
    lora = tuned("lora:rank=1", pool="avg")
    assert 1.9 * forward < step_flops(lora) < 2.2 * forward
    plain = step_flops(lora)
    lora.recompute = "block"
    assert plain + 0.6 * forward < step_flops(lora) < plain + forward


def test_flops__the_last_block_computes_the_class_token_alone() -> None:
    """All that is left of it for the other tokens is q, k and v."""
    tokens = (N - 1) * (2 * D * (D + 2 * H) + 4 * N * D)
    assert forward_flops(tuned("linear")) == forward_flops(tuned("linear", pool="avg")) - tokens


def test_flops__do_not_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of a model whose weights are not numbers costs the same, and leaves no gradient."""
    model = tuned("lora:places=all")
    expected = step_flops(model)
    with torch.no_grad():
        for value in model.parameters():
            value.fill_(float("nan"))
    assert step_flops(model) == expected
    assert all(value.grad is None for value in model.parameters())


def test_measure_cost__leaves_the_model_as_it_was() -> None:
    model = tuned("mlp").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    measure_cost(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert model.training
    assert all(value.grad is None for value in model.parameters())


@pytest.mark.parametrize("name", methods.names())
def test_measure_cost__of_every_method(name: str) -> None:
    model = tuned(name)
    cost = measure_cost(model)
    assert json.loads(json.dumps(asdict(cost))) == asdict(cost)
    assert cost.trained_method == model.trained_values().method
    assert cost.graft_bytes >= FLOAT * (cost.trained_method + cost.trained_head)
    assert min(cost.kept_bytes_per_image, cost.flops_per_image, cost.step_flops_per_image) > 0


def test_peak_memory__has_seen_what_was_held() -> None:
    held = torch.ones(8 * 2**20)
    found = peak_memory_mib()
    assert found is not None
    assert found > held.nbytes / 2**20


CHILD = "from vitgraft.train.cost import peak_memory_mib; print(peak_memory_mib())"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems tell no better")
def test_peak_memory__is_not_that_of_the_program_that_started_it() -> None:
    held = torch.ones(2**28)
    child = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    assert float(child.stdout) < held.nbytes / 2**20
