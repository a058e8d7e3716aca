"""Squared gradients of a frozen backbone, summed over batches: what SPT calls sensitivity, and Fisher information.

A gradient is squared and let go as soon as it is there, so that besides activations there are the weights, one
sum a value, and one parameter's gradient at a time.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vitgraft.core.backbone import Edits
from vitgraft.core.graft import Graft
from vitgraft.core.sites import Site
from vitgraft.core.tuned import Tuned
from vitgraft.errors import TrainingError
from vitgraft.features.feed import OnDemand, sent
from vitgraft.machine.placement import Placement
from vitgraft.machine.seeds import DROPOUT, ORDER, derive, own_randomness, seed_all
from vitgraft.train.objective import Objective
from vitgraft.train.targets import Loss


@dataclass(frozen=True)
class Look:
    """How images are looked at: up to `images` of them, `batch` to a gradient, blocks left out at a rate.

    `drop_path` is the last block's rate, falling to 0 at the first (stochastic depth). `batch` 1 gives the Fisher
    information with true labels.
    """

    images: int
    batch: int = 1
    drop_path: float = 0.0
    seed: int = 0

    def batches(self, n: int) -> list[Tensor]:
        """Indices (b,) of each batch among n training images, chosen by the seed alone."""
        generator = torch.Generator().manual_seed(derive(self.seed, ORDER, 0))
        return list(torch.randperm(n, generator=generator)[: self.images].split(self.batch))


class DropPath(Graft):
    """Stochastic depth (Huang et al., 2016): a branch is left out for an image at a rate, and else made larger."""

    per_token = True

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        kept = torch.rand(len(y), 1, 1, device=y.device) >= self.rate
        return y * kept / (1 - self.rate)


def squared_gradients(
    model: Tuned,
    feed: OnDemand,
    labels: Tensor,
    look: Look,
    here: Placement,
    advance: Callable[[int], None] = lambda more: None,
    at_once: int | None = None,
    objective: Loss | None = None,
) -> dict[str, Tensor]:
    """Σ over batches of (∂ mean loss / ∂ value)², for each parameter of the backbone by name (He et al., 2023).

    `feed` has the training images and `labels` (n, ...) the true labels, `objective` the loss (cross-entropy); the
    head's values are held. Processes share the batches. Sums do not depend on the order of batches but for
    rounding. With `at_once`, a batch is computed in parts of so many images: activations take less memory, and
    gradients so far as much as the weights do.

    Raises:
        TrainingError: a sum that is not finite.
    """
    model.to(here.device).eval()
    names = model.backbone.parameter_names()
    values = [model.backbone.parameter(name).detach().requires_grad_() for name in names]
    sums, whole = [torch.zeros_like(value) for value in values], _Whole()
    for value, total in zip(values, sums, strict=True):
        value.register_post_accumulate_grad_hook(_squaring(total, whole))
    grafts = _with_drop_path(model, look.drop_path)
    edits = Edits(grafts, {**model.edits().values, **dict(zip(names, values, strict=True))})
    chosen = look.batches(len(labels))[here.rank :: here.processes]
    with own_randomness(here.device), torch.enable_grad():
        seed_all(derive(look.seed, DROPOUT, here.rank), here.device)
        parts = [(part, len(index)) for index in chosen for part in index.split(at_once or len(index))]
        seen = 0
        for (part, size), images in zip(parts, feed.stream((0, part) for part, _ in parts), strict=True):
            seen += len(part)
            whole.reached = seen == size
            seen = 0 if whole.reached else seen
            loss = batch_loss(model, edits, images.to(here.device), sent(labels[part], here.device), objective)
            (loss * (len(part) / size)).backward(inputs=values)
            advance(len(part))
    found = dict(zip(names, [here.total(total) for total in sums], strict=True))
    _check_finite(found)
    return found


def batch_loss(
    model: Tuned, edits: Edits, images: Tensor, labels: Tensor, objective: Loss | None = None
) -> Tensor:
    """The mean loss of images (b, 3, H, W) with labels (b, ...) under some edits of the backbone."""
    objective = Objective() if objective is None else objective
    features = model.backbone(images, edits, model.plan.taps, tokens=model.head.reads == "tokens")
    return objective(model.classify(features), labels) / objective.mass(labels)


@dataclass
class _Whole:
    """Whether the gradients of all of a batch are there."""

    reached: bool = True


def _squaring(total: Tensor, whole: _Whole) -> Callable[[Tensor], None]:
    def square(value: Tensor) -> None:
        assert value.grad is not None
        if not whole.reached:
            return
        total.addcmul_(value.grad, value.grad)
        value.grad = None

    return square


def _with_drop_path(model: Tuned, rate: float) -> Mapping[Site, Sequence[Graft]]:
    """The plan's grafts, and stochastic depth behind every branch if there is any."""
    grafts: dict[Site, Sequence[Graft]] = dict(model.plan.grafts)
    depth = model.backbone.depth
    for block in range(1, depth) if rate else ():
        for place in ("attn", "mlp"):
            drop = DropPath(rate * block / (depth - 1))
            grafts[block, place] = (*grafts.get((block, place), ()), drop)
    return grafts


def _check_finite(found: Mapping[str, Tensor]) -> None:
    broken = [name for name, value in found.items() if not torch.isfinite(value).all()]
    if broken:
        raise TrainingError(
            f"The squared gradients of {broken[0]} and {len(broken) - 1} other tensors are not finite: the "
            "backbone gives no finite loss on these images. Check its weights, and the preprocessing."
        )
