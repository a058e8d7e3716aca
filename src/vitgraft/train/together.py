"""Many configurations trained at once: what they read is read once, and their heads run as one.

Models that read the frozen backbone and differ by what their optimizers are told meet the same images in the same
order with the same dropout, as each would alone. So a batch is read once, and what trains is a stack: each model's
values are a slice of it (torch.func.vmap). Each keeps its own optimizer, learning rate, history and selection.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import closing

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from vitgraft.core.backbone import Features
from vitgraft.core.tuned import Inputs, Tuned
from vitgraft.errors import DivergedError
from vitgraft.features.feed import moved, sent
from vitgraft.machine.progress import MAIN, Display
from vitgraft.machine.seeds import DROPOUT, derive, seed_all
from vitgraft.train.batches import in_order
from vitgraft.train.measure import evaluating
from vitgraft.train.session import Session
from vitgraft.train.targets import Measured


def stackable(models: Sequence[Tuned]) -> bool:
    """True if these models, of one plan on one backbone, can be a stack."""
    heads = [model.head for model in models]
    return all(head.stacks for head in heads) and not any(
        model.plan.grafts or model.plan.unfreeze or model.backbone is not models[0].backbone for model in models
    )


class Stack:
    """The trained values of M models side by side, (M, ...) each; the models' own become slices of them.

    Values that train have gradients of the same layout, which are slices, too.
    """

    def __init__(self, models: Sequence[Tuned]) -> None:
        assert stackable(models), "these models train more than a head, or heads that cannot run as one"
        self.models = models
        self.values: dict[str, Tensor] = {}
        for name, _ in models[0].head.named_parameters():
            own = [model.head.get_parameter(name) for model in models]
            stacked = torch.stack([value.detach() for value in own]).requires_grad_()
            stacked.grad = torch.zeros_like(stacked)
            self.values[name] = stacked
            for value, part, grad in zip(own, stacked.detach(), stacked.grad, strict=True):
                value.data = part
                value.grad = grad

    def __call__(self, inputs: Inputs) -> Tensor:
        """Logits (M, B, C) of images (B, 3, H, W), or of readings of them."""
        lead = self.models[0]
        features: Features = lead.features(inputs)

        def one(values: dict[str, Tensor]) -> Tensor:
            logits: Tensor = functional_call(lead.head, values, (features, lead.backbone))
            return logits

        logits: Tensor = vmap(one, randomness="same")(self.values)
        return logits

    def penalties(self) -> Tensor | None:
        """What each adds to its mean loss, (M,), if anything."""
        found = [penalty for model in self.models if (penalty := model.head.penalty()) is not None]
        return torch.stack(found) if found else None

    def release(self) -> None:
        """Give every model values of its own again."""
        for model in self.models:
            for value in model.head.parameters():
                value.data = value.detach().clone()
                value.grad = None

    def forget(self) -> None:
        """Zero every gradient."""
        for value in self.values.values():
            assert value.grad is not None, "gradients are there from the beginning"
            value.grad.zero_()


class Together:
    """Runs in step. Those whose loss is no longer finite are in `failed`, by their number; the others go on."""

    def __init__(self, runs: Sequence[Session], display: Display) -> None:
        self.runs, self.display = runs, display
        self.stack = Stack([run.model for run in runs])
        self.failed: dict[int, DivergedError] = {}

    def go(self) -> None:
        """Train all to the last epoch."""
        lead = self.runs[0]
        with closing(lead.data["train"].feed.stream(lead.chunks())) as images:
            for _ in range(lead.settings.epochs):
                self._epoch(images)
        self.stack.release()

    def _epoch(self, images: Iterator[Inputs]) -> None:
        lead, count = self.runs[0], len(self.runs)
        sums = torch.zeros(2, count, dtype=lead.here.real, device=lead.here.device)
        mass = 0.0
        lead.model.train()
        for batch in lead.layout.epoch(lead.state.epoch):
            mass += self._step(batch, next(images), sums)
            self.display.step(lead.state.epoch * lead.layout.steps + lead.state.step, None)
        losses, hits = sums.tolist()
        found = self._validate() if "val" in lead.data else [None] * count
        for number, (run, loss, hit, val) in enumerate(zip(self.runs, losses, hits, found, strict=True)):
            if not math.isfinite(loss) and number not in self.failed:
                self.failed[number] = run.diverged()
            run.state.loss, run.state.hits, run.state.mass = loss, hit, mass
            run.end_epoch(val)
        self.display.say(self._line(found))

    def _step(self, batch: Tensor, inputs: Inputs, sums: Tensor) -> float:
        """One step of each optimizer on the images `batch` (b,), added to losses and hits (2, M); its mass."""
        lead = self.runs[0]
        seed_all(derive(lead.settings.seed, DROPOUT, lead.state.epoch, lead.state.step, 0, 0), lead.here.device)
        labels = lead.data["train"].labels[batch]
        mass = lead.objective.mass(labels)
        labels = sent(labels, lead.here.device)
        logits = self.stack(moved(inputs, lead.here.device))
        losses = vmap(lambda one: lead.objective(one, labels))(logits)
        penalties = self.stack.penalties()
        total = losses / mass if penalties is None else losses / mass + penalties
        torch.autograd.backward(total.sum())
        sums[0] += losses.detach()
        sums[1] += lead.target.hits(logits.detach(), labels)
        for run in self.runs:
            run.set_lr()
            run.update()
            run.state.step += 1
        self.stack.forget()
        return mass

    def _validate(self) -> list[Measured]:
        lead = self.runs[0]
        data, size = lead.data["val"], lead.settings.eval_batch_size
        batches = in_order(len(data.labels), size)
        tallies = [lead.target.tally(data.labels, run.model.classes, lead.here.device) for run in self.runs]
        with evaluating(lead.model):
            for indices, inputs in zip(batches, data.feed.stream((0, part) for part in batches), strict=True):
                labels = sent(data.labels[indices], lead.here.device)
                for tally, logits in zip(tallies, self.stack(moved(inputs, lead.here.device)), strict=True):
                    tally.add(logits, labels, indices)
        return [tally.metrics() for tally in tallies]

    def _line(self, found: Sequence[Measured | None]) -> str:
        state, settings = self.runs[0].state, self.runs[0].settings
        told = f"epoch {state.epoch}/{settings.epochs}, {len(self.runs)} configurations"
        top = [metrics.main for metrics in found if metrics is not None]
        name = MAIN[f"val_{self.runs[0].target.main}"]
        return f"{told}: val {name} {min(top):.2f} to {max(top):.2f} %" if top else told
