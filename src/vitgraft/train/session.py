"""One training run, step by step: the loop that everything else in this package serves."""

import math
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from vitgraft.core.tuned import Inputs, Tuned
from vitgraft.errors import DivergedError
from vitgraft.features.feed import Chunk, Feed, moved, sent
from vitgraft.machine.interrupt import Interrupt
from vitgraft.machine.placement import Placement
from vitgraft.machine.progress import Meter
from vitgraft.machine.seeds import DRAW, DROPOUT, derive, seed_all
from vitgraft.train.batches import Layout
from vitgraft.train.journal import Journal
from vitgraft.train.legacy import KEY, measured
from vitgraft.train.measure import measure
from vitgraft.train.optim import Schedule, set_lr
from vitgraft.train.settings import Training
from vitgraft.train.smaller import NoRoom, evaluated_fewer, halved
from vitgraft.train.state import State
from vitgraft.train.targets import CLASSES, Loss, Measured, Target

POLL = 20
"""Steps of the run between two looks at a loss that lies on an accelerator, for which the host has to wait."""


@dataclass(frozen=True)
class Data:
    """Images and labels (n, ...) of one split; labels are on the CPU."""

    feed: Feed
    labels: Tensor


@dataclass
class Session:
    """A model in training; `wrapped` is the same model as several processes share it.

    `data` has train, perhaps val, and test only where epochs are measured on it (`train.legacy`). `settings.lr` is
    resolved. `state` is up to date whenever the run stands still.
    """

    model: Tuned
    wrapped: nn.Module
    optimizer: torch.optim.Optimizer
    objective: Loss
    layout: Layout
    data: Mapping[str, Data]
    settings: Training
    here: Placement
    state: State
    journal: Journal
    target: Target = CLASSES
    interrupt: Interrupt = field(default_factory=Interrupt)

    def __post_init__(self) -> None:
        self._began = perf_counter() - self.state.seconds
        self._meter = Meter(self.state.timed_images, self.state.timed_seconds)
        self._warm = False
        # of this epoch: loss, hits, and how often a process was asked to stop
        self._sums = torch.zeros(3, dtype=self.here.real, device=self.here.device)

    def go(self) -> None:
        """Train until the last epoch or the end of patience.

        Raises:
            KeyboardInterrupt, SystemExit: Ctrl-C or SIGTERM came meanwhile; everything is saved.
        """
        stopped = False
        with self.interrupt:
            while not stopped and not self._over:
                with closing(self.data["train"].feed.stream(self.chunks())) as images:
                    try:
                        stopped = self._train(images)
                        continue
                    except NoRoom:
                        pass  # and with it goes what the step has held
                self._smaller()
        if stopped or self.here.any(self.interrupt.asked):  # it may have come after the last step
            self.here.meet()  # or the process that saves would be ended with those that are done
            self.interrupt.end(self.journal.stopped(self.state))

    @property
    def _over(self) -> bool:
        return self.state.epoch >= self.settings.epochs or self.state.stopped_early

    def _train(self, images: Iterator[Inputs]) -> bool:
        """The remaining epochs; True if someone asked to stop before their end. Raises NoRoom."""
        while not self._over:
            if self._train_epoch(images):
                return True
            self._end_epoch()
        return False

    def _smaller(self) -> None:
        """Halve the micro-batches, after the device had no room for one: the step begins again, and is the same.

        Raises:
            TrainingError: they cannot be halved, or several processes would have to do it at the same moment.
        """
        self._meter.stop()
        self._collect()
        self.optimizer.zero_grad()
        if not self.here.blocking:
            torch.get_device_module(self.here.device).empty_cache()
        self.layout, self.settings, self.state.within = halved(self.layout, self.settings, self.state, self.here)
        self.journal.display.say(
            f"The device had no room for a micro-batch in epoch {self.state.epoch + 1}: now a step is computed in "
            f"{self.layout.accumulate}, whose gradients add up to the same."
        )

    def chunks(self) -> Generator[Chunk]:
        """What the micro-batches of this process hold, from here to the end of training."""
        first = self.state.step
        for epoch in range(self.state.epoch, self.settings.epochs):
            for batch in self.layout.epoch(epoch)[first:]:
                for part in self.layout.shares(batch, self.here.rank):
                    yield epoch, part
            first = 0

    def _train_epoch(self, images: Iterator[Inputs]) -> bool:
        """The remaining steps of an epoch; True if someone asked to stop before its end."""
        state = self.state
        self._sums.copy_(torch.tensor([state.loss, state.hits, 0.0], dtype=self.here.real))
        self.model.train()
        if self._warm:
            self._meter.start()
        for batch in self.layout.epoch(state.epoch)[state.step :]:
            self._step(batch, images)
            state.step += 1
            self._meter.count(len(batch))
            if not self._warm:  # the first step allocates and compiles: it is not timed
                self.here.wait()
                self._meter.start()
                self._warm = True
            self.journal.display.step(state.epoch * self.layout.steps + state.step, self._meter.rate())
            stopped = self._asked()
            if stopped or self.journal.due():
                self._pause()
            if stopped:
                return True
        self._collect()
        self._meter.stop()
        self.here.align(self.model)
        return False

    def _step(self, batch: Tensor, images: Iterator[Inputs]) -> None:
        """One step of the optimizer on the images `batch` (b,)."""
        state, here, settings = self.state, self.here, self.settings
        self.set_lr()
        mass = self.objective.mass(self.data["train"].labels[batch])
        parts = self.layout.shares(batch, here.rank)
        sums = torch.zeros_like(self._sums)
        sums[2] = self.interrupt.asked
        if self.model.plan.draw is not None:
            self.model.plan.draw(derive(settings.seed, DRAW, state.epoch, state.step))
        try:
            for number, part in enumerate(parts):
                self._part(number, part, len(parts), mass, next(images), sums)
        except torch.OutOfMemoryError as error:
            raise NoRoom from error
        self._sums += here.total(sums)
        state.mass += mass
        if here.blocking:
            self._check_finite()  # before the step: the trained values stay as they were
        self.update()
        self.optimizer.zero_grad()

    def _part(self, number: int, part: Tensor, of: int, mass: float, images: Inputs, sums: Tensor) -> None:
        """The gradients of micro-batch `number` of a step, the images `part` (b,), and what adds to its sums."""
        state, here = self.state, self.here
        pictures = moved(images, here.device)
        labels = sent(self.data["train"].labels[part], here.device)
        seed_all(derive(self.settings.seed, DROPOUT, state.epoch, state.step, number, here.rank), here.device)
        with here.local(self.wrapped, number < of - 1):
            with here.autocast(self.settings.precision):
                logits = self.wrapped(pictures)
            loss = self.objective(logits, labels)
            # Processes average their gradients, and their sum is wanted.
            total = loss * (here.processes / mass)
            penalty = self.model.head.penalty()
            torch.autograd.backward(total if penalty is None else total + penalty / of)
        sums[0] += loss.detach()
        sums[1] += self.target.hits(logits.detach(), labels)

    def update(self) -> None:
        """One step along the gradients that are there."""
        if self.settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimizer.step()

    def set_lr(self) -> None:
        """Tell the optimizer the learning rate of the next step."""
        set_lr(self.optimizer, self.lr())

    def lr(self) -> float:
        """The learning rate of the next step."""
        return Schedule(self.settings, self.layout.steps).at(self.state.epoch, self.state.step)

    def _asked(self) -> bool:
        """True if someone wants the run to stop; all processes get the same answer."""
        if self.here.processes == 1:
            return self.interrupt.asked
        if not self.here.blocking and (self.state.epoch * self.layout.steps + self.state.step) % POLL:
            return False
        return bool(self._sums[2] > 0)

    def _check_finite(self) -> None:
        if not math.isfinite(float(self._sums[0])):
            raise self.diverged()

    def diverged(self) -> DivergedError:
        """What is to be said of a loss that is no longer finite."""
        kept = "" if self.journal.folder is None else f" The snapshot before is kept in {self.journal.folder}."
        rate = self.optimizer.param_groups[0]["lr"]
        return DivergedError(
            f"The loss is no longer finite in epoch {self.state.epoch + 1} of {self.settings.epochs}, at a "
            f"learning rate of {rate:.3g}. Use a lower lr, clip_norm=1, or precision=fp32.{kept}"
        )

    def _collect(self) -> None:
        """Bring what the device holds of this epoch's sums into the state."""
        self._check_finite()
        self.state.loss, self.state.hits = self._sums[:2].tolist()

    def _pause(self) -> None:
        """Write a snapshot within an epoch; the time for it does not count."""
        self._collect()
        self.here.wait()
        self._meter.stop()
        self._save()
        self._meter.start()

    def _save(self) -> None:
        self.state.seconds = perf_counter() - self._began
        self.state.timed_images, self.state.timed_seconds = self._meter.images, self._meter.seconds
        self.journal.save(self.state, self.model, self.optimizer)

    def _end_epoch(self) -> None:
        """Validate, select, log, save."""
        self.end_epoch(self._measure("val") if "val" in self.data else None)

    def end_epoch(self, val: Measured | None) -> None:
        """Select by what was found on validation, log, save."""
        state = self.state
        lr = self.optimizer.param_groups[0]["lr"]
        entry: dict[str, Any] = {"epoch": state.epoch + 1, "lr": lr, "train_loss": state.loss / state.mass}
        entry |= self.target.told(state.hits, self.layout.n)
        state.epoch, state.step = state.epoch + 1, 0
        state.loss = state.hits = state.mass = 0.0
        if val is not None:
            entry |= {f"val_{key}": value for key, value in self._remember(asdict(val)).items()}
        if "test" in self.data and measured(self.settings.legacy_epochs, state.epoch, self.settings.epochs):
            began = perf_counter()
            entry[KEY] = self._measure("test").main
            self._began += perf_counter() - began  # it is no part of training
        entry["images_per_second"] = self._meter.rate()
        entry["seconds"] = perf_counter() - self._began
        state.history.append(entry)
        self._save()
        self.journal.epoch(entry)
        if state.stopped_early:
            self.journal.early(state, self.settings)

    def _remember(self, found: dict[str, Any]) -> dict[str, Any]:
        """What was found on validation after the epoch that is over, remembered if it is the best.

        Among equals the earlier epoch stays the best.
        """
        state, settings = self.state, self.settings
        state.last_metrics = found
        if state.best_metrics is None or self.target.rank(found) > self.target.rank(state.best_metrics):
            state.best_epoch, state.best_metrics, state.stale = state.epoch, found, 0
            if settings.select == "best":
                state.best_values = {name: v.detach().clone() for name, v in self.model.state_dict().items()}
        else:
            state.stale += 1
            state.stopped_early = settings.patience is not None and state.stale >= settings.patience
        return found

    def _measure(self, name: str) -> Measured:
        """The model as it is on a split."""
        data, how = self.data[name], {"precision": self.settings.precision, "target": self.target}
        while True:
            size = self.settings.eval_batch_size
            try:
                return measure(self.model, data.feed, data.labels, self.here, batch_size=size, **how)  # type: ignore[arg-type]
            except torch.OutOfMemoryError:
                if size == 1 or self.here.processes > 1:
                    raise
            self.settings, self.state.within = evaluated_fewer(self.settings, self.state)
            self.journal.display.say(
                f"The device had no room for {size} images of {name}: now {size // 2} at a time."
            )
