"""What a model costs: trained values, bytes that autograd keeps, FLOPs, file size, peak memory."""

import sys
import weakref
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from vitgraft.core.sites import STEM
from vitgraft.core.tuned import Tuned
from vitgraft.machine.seeds import own_randomness
from vitgraft.train.footprint import unreal

MIB = 2**20

BATCHED = (torch.ops.aten.bmm, torch.ops.aten.baddbmm)
"""Products that are not of one matrix with all tokens."""

VALUE_BYTES = 4
"""Trained values are stored as fp32."""


@dataclass(frozen=True)
class Cost:
    """What training and shipping one tuned model takes; every field is a number, so it goes into JSON as it is.

    `trained_method` and `trained_head` count values. `kept_bytes_per_image` is what autograd holds between
    forward and backward for one more image. `flops_per_image` is a forward pass for use, and
    `step_flops_per_image` a forward and backward pass for training: two per multiply-add of matrix products,
    convolutions and attention, nothing else. `graft_bytes` is the trained values on disk, without a header.
    """

    trained_method: int
    trained_head: int
    kept_bytes_per_image: int
    flops_per_image: int
    step_flops_per_image: int
    graft_bytes: int


def measure_cost(model: Tuned, batch: int = 2, dtype: torch.dtype | None = None) -> Cost:
    """The cost of `model` as it stands, with its recomputation setting; it is left as it was.

    `dtype` is that of autocast, None for none. Nothing is computed: bytes and FLOPs are counted on tensors
    that have a shape and no values.
    """
    values = model.trained_values()
    return Cost(
        trained_method=values.method,
        trained_head=values.head,
        kept_bytes_per_image=kept_bytes_per_image(model, batch, dtype),
        flops_per_image=forward_flops(model),
        step_flops_per_image=step_flops(model),
        graft_bytes=VALUE_BYTES * sum(value.numel() for value in model.state_dict().values()),
    )


class _Kept:
    """A tensor that autograd holds; it lives as long as the graph needs it. `stage` is where it was first held."""

    def __init__(self, value: Tensor, number: int, stage: Hashable) -> None:
        self.value = value.detach()  # an output would hold its own graph
        self.number, self.stage = number, stage


def kept_bytes(run: Callable[[], Any], leaving_out: Iterable[Tensor] = ()) -> int:
    """Bytes of the distinct storages that autograd holds for the backward pass of `run()`.

    Counted by saved-tensor hooks, so custom functions and recomputation count as what they keep. What lies in
    the storage of one of `leaving_out`, such as parameters and buffers, is there anyway and does not count.
    """
    return sum(_kept_by(run, lambda: None, leaving_out).values())


def _kept_by(
    run: Callable[[], Any], stage: Callable[[], Hashable], leaving_out: Iterable[Tensor] = ()
) -> Counter[Hashable]:
    """The same by what `stage()` was when a storage was first held."""
    with torch.enable_grad(), keeping(stage) as living:
        result = run()
    seen = {_storage(value) for value in leaving_out}
    found: Counter[Hashable] = Counter()
    for kept in sorted(living, key=lambda kept: kept.number):
        if _storage(kept.value) not in seen:
            seen.add(_storage(kept.value))
            found[kept.stage] += kept.value.untyped_storage().nbytes()
    del result  # the graph hangs on it until here
    return found


@contextmanager
def keeping(stage: Callable[[], Hashable] = lambda: None) -> "Iterator[weakref.WeakSet[_Kept]]":
    """Within, tensors that autograd saves are noted; gives those that it still holds."""
    living: weakref.WeakSet[_Kept] = weakref.WeakSet()
    numbers = count()

    def pack(value: Tensor) -> _Kept:
        kept = _Kept(value, next(numbers), stage())
        living.add(kept)
        return kept

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.value):
        yield living


def growing_bytes(living: "Iterable[_Kept]", batch: int) -> float:
    """Bytes an image of the storages of what is held, of `batch` images: those whose size they divide grow."""
    sizes = {_storage(kept.value): kept.value.untyped_storage().nbytes() for kept in living}
    return sum(size for size in sizes.values() if size % batch == 0) / batch


def kept_bytes_per_image(model: Tuned, batch: int = 2, dtype: torch.dtype | None = None) -> int:
    """What autograd keeps for one more image of a training step, parameters and buffers excluded.

    The difference between 2 `batch` and `batch` images, so that what does not grow with them drops out.
    """
    return round(sum(kept_bytes_by_stage(model, batch, dtype).values()))


def kept_bytes_by_stage(
    model: Tuned, batch: int = 2, dtype: torch.dtype | None = None
) -> dict[int | Literal["head"], float]:
    """The same by the stage that first holds them: the stem (-1), the blocks, the tail (L), and the head."""
    device = model.backbone.device
    arithmetic = torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)
    with still(model, training=True), unreal(), arithmetic, _stages(model) as stage:
        few, many = (_kept_by(partial(_loss, model, images), stage) for images in (batch, 2 * batch))
    stages: tuple[int | Literal["head"], ...] = (*range(STEM, model.backbone.depth + 1), "head")
    return {one: (many[one] - few[one]) / batch for one in stages}


@contextmanager
def _stages(model: Tuned) -> Iterator[Callable[[], Hashable]]:
    """What tells which stage the walk is in, or `head`."""
    view, now = model.backbone.view, [cast(Hashable, STEM)]

    def enter(stage: Hashable) -> Callable[..., None]:
        return lambda *_: now.__setitem__(0, stage)

    modules = enumerate((view.stem, *view.blocks, view.tail), start=STEM)
    hooks = [module.register_forward_pre_hook(enter(stage)) for stage, module in modules]
    hooks.append(model.head.register_forward_pre_hook(enter("head")))
    try:
        yield lambda: now[0]
    finally:
        for hook in hooks:
            hook.remove()


def forward_flops(model: Tuned) -> int:
    """FLOPs of one image's forward pass without autograd, counted without computing anything."""
    with still(model, training=False):
        return flops_of(lambda: model(_images(model, 1))).total


@dataclass(frozen=True)
class Flops:
    """FLOPs of some work: all of them, and those of `layers` alone, without the products of attention.

    Half of the latter, the multiply-adds of linear maps and convolutions, is what many papers call FLOPs.
    """

    total: int
    layers: int


def flops_of(run: Callable[[], Any]) -> Flops:
    """FLOPs of `run()` without autograd, counted without computing anything."""
    with _counting() as counter, torch.no_grad():
        run()
    return Flops(counter.total, counter.total - counter.batched)


def step_flops(model: Tuned, batch: int = 8) -> int:
    """FLOPs of the forward and backward pass of one of `batch` images (edited weights are shared by them)."""
    with still(model, training=True), _counting() as counter, torch.enable_grad():
        torch.autograd.grad(_loss(model, batch), list(model.parameters()), allow_unused=True)
    return counter.total // batch


def peak_memory_mib(device: torch.device | None = None) -> float | None:
    """The most memory in MiB that this process has held so far: of a CUDA device if given, else of the host.

    Cached features count on a CUDA device, if they had room there, and not on the host. None where the system does
    not say. Only a fresh process tells the peak of one run.
    """
    if device is not None and device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device) / MIB)
    if (own := _high_water_mib()) is not None:
        return own
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # bytes a step
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB


def _high_water_mib() -> float | None:
    """As Linux tells it of this program alone: rusage begins with what the program held that started it."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(found[0]) / 1024 if found else None


def _loss(model: Tuned, images: int) -> Tensor:
    labels = torch.zeros(images, dtype=torch.long, device=model.backbone.device)
    return F.cross_entropy(model(_images(model, images)), labels)


def _images(model: Tuned, count: int) -> Tensor:
    """Black images (count, 3, height, width): no count depends on what is in them."""
    view = model.backbone.view
    parameter = next(model.backbone.parameters())
    return torch.zeros(count, view.channels, *view.image_size, dtype=parameter.dtype, device=parameter.device)


def _storage(value: Tensor) -> int:
    return int(value.untyped_storage()._cdata)


class _FlopCounter(TorchDispatchMode):
    """Adds up the FLOPs of every operation; `batched` are those of products of many matrices, as in attention.

    torch's own FlopCounterMode also follows modules by hooks on their inputs, which fail where a backward pass
    differentiates on its own, as prompts and the lean linears do.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = self.batched = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func is torch.ops.aten.addmm_.default:
            self.total += 2 * args[1].numel() * args[2].shape[1]
        elif func.overloadpacket in flop_registry:
            found = flop_registry[func.overloadpacket](*args, **kwargs, out_val=out)
            self.total += found
            self.batched += found if func.overloadpacket in BATCHED else 0
        return out


@contextmanager
def _counting() -> Iterator[_FlopCounter]:
    """Count FLOPs of tensors that have a shape and no values.

    Attention is taken apart into its matrix products, which every device's fused kernel performs, too.
    """
    counter = _FlopCounter()
    with unreal(), counter, sdpa_kernel(SDPBackend.MATH):
        yield counter


@contextmanager
def still(model: Tuned, training: bool) -> Iterator[None]:
    """In the given mode for the length of a block; then mode, buffers and random states are as before."""
    before = model.training
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    try:
        with own_randomness(model.backbone.device):
            model.train(training)
            yield
    finally:
        with torch.no_grad():
            for name, value in model.named_buffers():
                value.copy_(buffers[name])
        model.train(before)
