"""`fit`, `evaluate`, `predict`: training a model on one task, measuring it, asking it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from vitgraft.core.tuned import Tuned
from vitgraft.data.preprocessing import Preprocessing
from vitgraft.data.task import Split
from vitgraft.errors import ConfigError, DivergedError
from vitgraft.features.cache import Cache, Kept
from vitgraft.features.feed import check_labels
from vitgraft.machine.placement import Placement, place
from vitgraft.machine.progress import Display, Meter
from vitgraft.machine.seeds import own_randomness
from vitgraft.methods.base import Recipe
from vitgraft.train import state as snapshots
from vitgraft.train.batches import Layout
from vitgraft.train.initial import start
from vitgraft.train.journal import Journal
from vitgraft.train.measure import evaluate, outputs, predict
from vitgraft.train.metrics import Metrics
from vitgraft.train.optim import optimizer_of
from vitgraft.train.prepared import data_of, layout_of, prepared
from vitgraft.train.probe import IMAGES, check_backbone, probe
from vitgraft.train.session import Data, Session
from vitgraft.train.settings import Training
from vitgraft.train.state import State
from vitgraft.train.targets import CLASSES, Loss, Measured, Target, target_of
from vitgraft.train.together import Together
from vitgraft.train.within import Within

__all__ = ["Fitted", "Metrics", "evaluate", "fit", "fit_together", "predict"]

DEFAULT = Recipe()

WIDE = (torch.float32, torch.float64)
"""Types that trained values may have."""

NO_BF16 = "This device has no bf16 arithmetic, and would take many times as long to emulate it: computed in fp32."


@dataclass(frozen=True)
class Fitted:
    """How a training run went.

    `history` has one dict an epoch, as `log.jsonl` does. `best_epoch` counts from 1 and is None without
    validation; `val` belongs to the values that the model has now. `seconds` are of training with its
    validation, over all sessions of a resumed run; `images_per_second` leaves out the first step, which warms
    up, and validation. `cached` tells of the frozen part that was computed once, `within` what was chosen to stay
    within a limit of memory, or what an accelerator had room for. `target` is
    what was learned, with what was found for it in the data.
    """

    history: tuple[dict[str, Any], ...]
    best_epoch: int | None
    val: Measured | None
    seconds: float
    images_per_second: float | None
    steps: int
    stopped_early: bool
    cached: Kept = field(default_factory=Kept)
    within: Within | None = None
    target: Target = CLASSES


def fit(
    model: Tuned,
    train: Split,
    val: Split | None,
    settings: Training,
    *,
    preprocessing: Preprocessing,
    recipe: Recipe = DEFAULT,
    out: Path | None = None,
    resume: bool = False,
    legacy: Split | None = None,
    what: str = "",
    target: Target | None = None,
) -> Fitted:
    """Train `model` in place; it ends in eval mode with the values of the last epoch, or of the best.

    `recipe` fills in what the settings leave open. `legacy` is a test split to measure epochs on as the settings
    say (`train.legacy`); nothing is selected by it. `target` is what the model has learned before, else that of
    the labels' kind. `what` says which model this is; a run goes on with the same one only. Into the folder `out`
    go `log.jsonl` and `snapshot.pt`; with `resume` the run there goes on, bit for bit on a CPU, and a folder
    without one starts anew. Several processes started by a launcher (torchrun, accelerate launch) share the work.
    Random generators keep their states.

    Raises:
        DataError: an empty split, or labels that the model has no class for.
        ConfigError: settings that do not fit the data or this machine, or not the run that is resumed.
        DivergedError: a loss that is not finite.
        TrainingError: a tensor that cannot learn, a backbone that changed.
        KeyboardInterrupt, SystemExit: Ctrl-C or SIGTERM; what was reached is saved in `out`.
    """
    settings = _resolved(settings, recipe)
    splits = {"train": train, "val": val} | ({} if legacy is None else {"test": legacy})
    _check(model, splits, settings)
    here = place(settings.device)
    model.to(here.device)
    before = model.backbone.fingerprint()
    same = snapshots.conditions(model, splits, settings, preprocessing)
    target = (target or target_of(train.kind)).prepared(torch.tensor(train.labels), settings)
    same |= {"method": what, "backbone": before, "processes": here.processes}
    optimizer = optimizer_of(model, settings)
    saved = snapshots.load(out, same, model, optimizer) if resume and out is not None else None
    state = saved or State()
    display = Display(settings.epochs, layout_of(model, len(train), settings, here).steps, here.main)
    with own_randomness(here.device), _as_it_was(model), closing(display):
        if here.arithmetic(settings.precision) != settings.precision:
            display.say(NO_BF16)
        journal = Journal(out if here.main else None, same, display, settings.snapshot_seconds)
        journal.begin(state)
        settings, data, kept = prepared(model, splits, settings, preprocessing, state, here, display, before)
        layout, model.recompute = layout_of(model, len(train), settings, here), settings.recompute
        objective = target.loss(data["train"].labels, model.classes, settings)
        if saved is None:
            start(model, settings)
            _probe(model, data["train"], layout, objective, here, settings.precision)
            check_backbone(model, before)
        wrapped = here.wrap(model, model.plan.draw is not None)
        run = Session(model, wrapped, optimizer, objective, layout, data, settings, here, state, journal, target)
        run.go()
        check_backbone(model, before)
        return replace(_finish(run), cached=kept)


def fit_together(
    models: Sequence[Tuned],
    train: Split,
    val: Split | None,
    settings: Sequence[Training],
    *,
    preprocessing: Preprocessing,
    recipe: Recipe = DEFAULT,
) -> list[Fitted | DivergedError]:
    """Train several models at once, in place, as `fit` would each: up to rounding, they end with the same values.

    On an accelerator their dropout may draw other masks than alone.

    The models are of one plan on one backbone and train a head that `stacks`; their settings differ by `lr` and
    `weight_decay` alone, compute in fp32, and have neither patience nor micro-batches. A model whose loss is no
    longer finite does not stop the others; its place has the error. Seconds are a share of what all took. Nothing
    can be resumed.

    Raises:
        DataError: an empty split, or labels that the models have no class for.
        TrainingError: a tensor that cannot learn, a backbone that changed.
    """
    told = [_resolved(one, recipe) for one in settings]
    lead, first = models[0], told[0]
    assert all(replace(one, lr=first.lr, weight_decay=first.weight_decay) == first for one in told), "one recipe"
    assert (first.precision, first.patience, first.accumulate) == ("fp32", None, 1), "what cannot be stacked"
    splits = {"train": train, "val": val}
    _check(lead, splits, first)
    here = place(first.device)
    assert here.processes == 1, "one process trains them all"
    lead.to(here.device)
    before = lead.backbone.fingerprint()
    layout = layout_of(lead, len(train), first, here)
    display = Display(first.epochs, layout.steps)
    silent = Journal(None, {}, Display(first.epochs, layout.steps, shown=False), 0.0)
    with own_randomness(here.device), closing(display):
        cache = Cache(lead, first.caching(), here, display, before)
        data = data_of(splits, first, preprocessing, here, cache)
        target = target_of(train.kind).prepared(data["train"].labels, first)
        objective = target.loss(data["train"].labels, lead.classes, first)
        runs = []
        for model, one in zip(models, told, strict=True):
            model.to(here.device)
            start(model, one)
            run = Session(
                model, model, optimizer_of(model, one), objective, layout, data, one, here, State(), silent, target
            )
            runs.append(run)
        _probe(lead, data["train"], layout, objective, here, first.precision)
        together = Together(runs, display)
        together.go()
    check_backbone(lead, before)
    kept = replace(cache.kept, seconds=cache.kept.seconds / len(runs))
    fitted = [_finish(run) for run in runs]
    shares = [replace(one, seconds=one.seconds / len(runs), cached=kept) for one in fitted]
    return [together.failed.get(number, one) for number, one in enumerate(shares)]


def _resolved(settings: Training, recipe: Recipe) -> Training:
    """Settings in which the method's recipe has filled what was left open."""
    decay = recipe.weight_decay if settings.weight_decay is None else settings.weight_decay
    return replace(settings, lr=recipe.lr if settings.lr is None else settings.lr, weight_decay=decay)


def _check(model: Tuned, splits: Mapping[str, Split | None], settings: Training) -> None:
    if half := sorted({str(value.dtype) for value in model.parameters() if value.dtype not in WIDE}):
        raise ConfigError(
            f"The model is in {', '.join(half)}, in which small steps of training are lost. Train it in fp32 "
            "(model.tuned.float()); precision='bf16' computes in bf16, and keeps the trained values in fp32."
        )
    for name, split in splits.items():
        if split is not None:
            check_labels(name, split, model.classes)
    if splits["val"] is not None:
        return
    for key, wanted in (("select='best'", settings.select == "best"), ("patience", settings.patience is not None)):
        if wanted:
            raise ConfigError(f"{key} needs a validation split, and there is none. Add one, or leave it out.")


def _probe(model: Tuned, data: Data, layout: Layout, objective: Loss, here: Placement, precision: str) -> None:
    """Try the first few images of the first micro-batch."""
    first = layout.shares(layout.epoch(0)[0], 0)[0][:IMAGES]
    while True:
        with closing(data.feed.stream([(0, first)])) as stream:
            try:
                return probe(model, next(stream), data.labels[first], objective, here, precision)
            except torch.OutOfMemoryError:
                if len(first) <= layout.least:
                    raise
        first = first[: max(len(first) // 2, layout.least)]


@contextmanager
def _as_it_was(model: Tuned) -> Iterator[None]:
    """What is computed twice is a choice of training's."""
    before = model.recompute
    try:
        yield
    finally:
        model.recompute = before


def _finish(run: Session) -> Fitted:
    """The result; the model takes the values that were selected, and then what is decided with them."""
    state, model, target = run.state, run.model, run.target
    metrics = state.last_metrics
    if state.best_values is not None:
        model.load_state_dict(state.best_values)
        metrics = state.best_metrics
    model.eval()
    val = None if metrics is None else target.measures(**metrics)
    if val is not None and target.decides:
        target, val = _decided(run)
    meter = Meter(state.timed_images, state.timed_seconds)
    return Fitted(
        history=tuple(state.history),
        best_epoch=state.best_epoch,
        val=val,
        seconds=state.seconds,
        images_per_second=meter.rate(),
        steps=state.epoch * run.layout.steps + state.step,
        stopped_early=state.stopped_early,
        within=None if state.within is None else Within(**state.within),
        target=target,
    )


def _decided(run: Session) -> tuple[Target, Measured]:
    """What is chosen by the finished model's outputs on validation images, and what it reaches there with it.

    Every process looks at all of them, and finds the same.
    """
    val, settings, alone = run.data["val"], run.settings, Placement(run.here.device)
    how = {"batch_size": settings.eval_batch_size, "precision": settings.precision}
    found = outputs(run.model, val.feed, len(val.labels), alone, **how)  # type: ignore[arg-type]
    target = run.target.decided(found, val.labels)
    tally = target.tally(val.labels, run.model.classes, torch.device("cpu"))
    tally.add(found, val.labels, torch.arange(len(found)))
    return target, tally.metrics()
