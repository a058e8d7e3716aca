"""Looking at training data before there is a plan: stages that train, and gradients of the backbone.

A run with a folder keeps what is finished of it in `stages/`: the trained values of each stage and, at last, the
findings. A run that was killed goes on from there.
"""

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vitgraft.atomic import write_atomically
from vitgraft.core.backbone import Backbone
from vitgraft.core.plan import Plan
from vitgraft.core.tuned import Tuned
from vitgraft.data.preprocessing import Preprocessing
from vitgraft.data.task import Split
from vitgraft.errors import CheckpointError, ConfigError
from vitgraft.features.feed import Feed, OnDemand, Reader, check_labels
from vitgraft.grafts.elastic import Supernet
from vitgraft.machine.placement import place
from vitgraft.machine.progress import Display
from vitgraft.methods import Method, Recipe, spec_of
from vitgraft.search.evolution import Candidate, Evolution, Score, Search
from vitgraft.train import limit as memory_limit
from vitgraft.train import loop, state
from vitgraft.train.gradients import Look, squared_gradients
from vitgraft.train.hunt import Hunt
from vitgraft.train.measure import measure
from vitgraft.train.settings import Training, as_now
from vitgraft.train.targets import Measured, Target, target_of

STAGES = "stages"
"""The folder of a run in which stages are kept until the run is finished."""

VALUES = "values.safetensors"
FINDINGS = "findings.safetensors"
RANDOM = "random state"


@dataclass
class Calibrator:
    """Training data in the hands of one method: `methods.base.Calibration`, and the findings it leads to.

    `settings` are the run's own; a stage has no validation, so nothing is selected in it. `val` are images to
    choose by. `seconds` adds up what all of it took, over all sessions of a resumed run.
    """

    method: Method
    backbone: Backbone
    classes: int
    train: Split
    preprocessing: Preprocessing
    settings: Training
    out: Path | None = None
    resume: bool = False
    val: Split | None = None
    seconds: float = 0.0
    _val_feed: Feed | None = None
    _eval_batch: int | None = None

    def find(self) -> dict[str, Tensor]:
        """The method's findings, on the CPU; none if it does not look. A run that goes on reads those it kept.

        Raises:
            ConfigError: a field that does not fit, or a run of other settings that is to go on.
            CheckpointError: a damaged file in the run's folder.
            KeyboardInterrupt: a stage was stopped, and its state saved if there is a folder.
        """
        if not self.method.looks():
            return {}
        path, same = self._path(FINDINGS), self._same(self.settings)
        if not self.resume and self.out is not None and self._main:
            discard(self.out)
        kept = self._kept(path, same)
        if kept is not None:
            found, self.seconds = kept
            return found
        found = self.method.find(self.backbone, self.classes, self)
        found = {name: value.detach().cpu().contiguous() for name, value in found.items()}
        self._keep(path, found, same, self.seconds)
        return found

    def fit(self, name: str, plan: Plan, recipe: Recipe, rate: float = 1.0, longer: int = 1) -> Tuned:
        """Train a plan with the run's settings, at `rate` times its learning rate and for `longer` times its
        epochs, or read what it came to.
        """
        model = Tuned(self.backbone, plan)
        settings = _settings(self.settings, recipe, rate, longer)
        path, same = self._path(name, VALUES), self._same(settings) | {"stage": name}
        kept = self._kept(path, same)
        if kept is not None:
            model.load_state_dict(kept[0])
            self.seconds += kept[1]
            return model.to(place(settings.device).device).eval()
        if self._main:
            print(f"{self.method.name} looks at the training data, stage {name}:", file=sys.stderr, flush=True)
        folder = None if path is None else path.parent
        options: dict[str, Any] = {"preprocessing": self.preprocessing, "out": folder, "resume": self.resume}
        fitted = loop.fit(model, self.train, None, settings, recipe=recipe, **options)
        seconds = fitted.seconds + fitted.cached.seconds
        self._keep(path, model.state_dict(), same, seconds)
        if folder is not None and self._main:
            state.discard(folder)
        self.seconds += seconds
        return model

    def once(self, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """What `make` returns, on the CPU, or what it returned before the run was stopped.

        It leaves the random generator where `make` did, so that all that follows is the same.
        """
        path, same = self._path(name, VALUES), self._same(self.settings) | {"stage": name}
        kept = self._kept(path, same)
        if kept is not None:
            found, seconds = kept
            self.seconds += seconds
            torch.set_rng_state(found.pop(RANDOM))
            return found
        before = self.seconds
        made = {key: value.detach().cpu().contiguous() for key, value in make().items()}
        self._keep(path, {**made, RANDOM: torch.get_rng_state()}, same, self.seconds - before)
        return made

    def score(self, model: Tuned) -> Score:
        """Top-1 in percent on the validation images, and the loss below zero. Raises ConfigError without any."""
        began = perf_counter()
        found = self._metrics(model)
        self.seconds += perf_counter() - began
        return found.main, -found.loss

    def search(
        self,
        name: str,
        model: Tuned,
        net: Supernet,
        evolution: Evolution,
        allowed: Callable[[Candidate], bool],
    ) -> Candidate:
        """The best candidate by `score` that evolution finds, each being measured by all processes together."""
        path, same = self._path(name, VALUES), self._same(self.settings) | {"stage": name}
        kept = self._kept(path, same)
        before, began = 0.0 if kept is None else kept[1], perf_counter()

        def keep(state: dict[str, Tensor]) -> None:
            self._keep(path, state, same, before + perf_counter() - began)

        search = Search(net.dials, allowed, replace(evolution, seed=self.settings.seed))
        display = Display(1, 1, self._main)
        total = evolution.population * evolution.generations
        with closing(display), display.work("search", total, "candidates") as advance:

            def score(candidate: Candidate) -> Score:
                net.choose(candidate)
                found = self._metrics(model)
                advance(1)
                return found.main, -found.loss

            best = Hunt(search, score, keep, display.say).go(None if kept is None else kept[0])
        self.seconds += before + perf_counter() - began
        return best

    def _metrics(self, model: Tuned) -> Measured:
        """A model on the validation images, which stay in memory if they fit."""
        settings, here = self.settings, place(self.settings.device)
        if self.val is None:
            raise ConfigError(
                f"{spec_of(self.method)} chooses by validation accuracy, and there are no validation images. "
                "Give a val split (in Python, val=...)."
            )
        if self._val_feed is None:
            check_labels("val", self.val, self.classes)
            self._val_feed = Reader(self.preprocessing, workers=settings.workers).feed(self.val.images)
        model.to(here.device)
        if self._eval_batch is None:  # of the one model that is measured again and again
            self._eval_batch = memory_limit.evaluated_at_once(model, settings, here)
        sizes = {"batch_size": self._eval_batch, "precision": settings.precision, "target": self._target()}
        return measure(model, self._val_feed, torch.tensor(self.val.labels), here, **sizes)  # type: ignore[arg-type]

    def squared_gradients(
        self, model: Tuned, limit: int, batch: int = 1, drop_path: float = 0.0
    ) -> dict[str, Tensor]:
        """Squared gradients of batches' mean losses, summed over `limit` seeded training images, by parameter.

        Besides the backbone there are as many values again for the sums, and one parameter's gradient. Processes
        share the batches. Raises TrainingError for a sum that is not finite.
        """
        began, here = perf_counter(), place(self.settings.device)
        look = Look(limit, batch, drop_path, self.settings.seed)
        feed = OnDemand(self.train.images, Reader(self.preprocessing, workers=self.settings.workers))
        display = Display(1, 1, here.main)
        with closing(display), display.work("squared gradients", min(limit, len(self.train))) as advance:
            labels, at_once = (
                torch.tensor(self.train.labels),
                memory_limit.looked_at_once(model, batch, self.settings, here),
            )
            loss = self._target().loss(labels, self.classes, Training())
            found = squared_gradients(model, feed, labels, look, here, advance, at_once, loss)
        self.seconds += perf_counter() - began
        return found

    def _target(self) -> Target:
        """What is learned, with what must be known of the training labels."""
        plain = Training(regression_loss=self.settings.regression_loss)
        return target_of(self.train.kind).prepared(torch.tensor(self.train.labels), plain)

    @property
    def _main(self) -> bool:
        return place(self.settings.device).main

    def _path(self, *parts: str) -> Path | None:
        return None if self.out is None else self.out.joinpath(STAGES, *parts)

    def _same(self, settings: Training) -> dict[str, Any]:
        """What must be the same for kept values to be used, as plain values."""
        return {
            **{key: value for key, value in asdict(settings).items() if key not in state.FREE},
            "method": spec_of(self.method),
            **({"revision": self.method.revision} if self.method.revision > 1 else {}),
            "classes": self.classes,
            "train labels": sha256(self.train.labels.tobytes()).hexdigest()[:16],
            "preprocessing": repr(self.preprocessing),
            "backbone": self.backbone.fingerprint(),
        }

    def _kept(self, path: Path | None, same: Mapping[str, Any]) -> tuple[dict[str, Tensor], float] | None:
        """The tensors in a file of an earlier session, and the seconds that they took; None if there is none."""
        if path is None or not self.resume or not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                said = file.metadata()
                before, seconds = as_now(dict(json.loads(said["same"]))), float(said["seconds"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{path} cannot be read ({error}). Delete it, and that part of the run is done again."
            ) from None
        differing = [key for key in {**before, **same} if before.get(key) != same.get(key)]
        if differing:
            told = "; ".join(f"{key} is {same.get(key)!r}, was {before.get(key)!r}" for key in differing)
            raise ConfigError(
                f"What {path.parent} holds cannot be used with other settings: {told}. Give the same ones, or "
                "start anew without resume (--resume) or in another folder."
            )
        return tensors, seconds

    def _keep(
        self, path: Path | None, tensors: Mapping[str, Tensor], same: Mapping[str, Any], seconds: float
    ) -> None:
        if path is not None and self._main:
            plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
            said = {"same": json.dumps(same), "seconds": str(seconds)}
            write_atomically(path, safetensors.torch.save(plain, said))


def discard(out: Path) -> None:
    """Remove the stages of an earlier run."""
    if (out / STAGES).exists():
        shutil.rmtree(out / STAGES)


def _settings(settings: Training, recipe: Recipe, rate: float, longer: int) -> Training:
    """A run's settings for a stage: there is no validation to select on."""
    lr = recipe.lr if settings.lr is None else settings.lr
    warmup = None if settings.warmup_epochs is None else settings.warmup_epochs * longer
    stage = replace(settings, epochs=settings.epochs * longer, warmup_epochs=warmup, select="last", patience=None)
    return replace(stage, lr=lr * rate, min_lr=settings.min_lr * rate)
