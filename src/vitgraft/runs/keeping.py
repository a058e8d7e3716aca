"""What a run leaves: its history and its cost, then the graft and, when all is there, the record."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from vitgraft.atomic import remove, write_atomically
from vitgraft.data.labelling import CLASS
from vitgraft.machine.placement import Placement
from vitgraft.models import folder
from vitgraft.models.model import Model
from vitgraft.results import store
from vitgraft.results.record import Expense, History, Record
from vitgraft.runs import warm
from vitgraft.runs.config import RunConfig
from vitgraft.runs.earlier import Start
from vitgraft.train import calibrate, legacy, state
from vitgraft.train.cost import Cost, measure_cost
from vitgraft.train.settings import Training

if TYPE_CHECKING:
    from vitgraft.train.loop import Fitted


def history(fitted: "Fitted") -> History:
    of_classes = fitted.target.kind == CLASS.name
    on_test, epoch = legacy.best(fitted.history) or (None, None)
    return History(
        epochs=len(fitted.history),
        best_epoch=fitted.best_epoch,
        stopped_early=fitted.stopped_early,
        train_loss=[entry["train_loss"] for entry in fitted.history],
        val_top1=[entry.get("val_top1") for entry in fitted.history] if of_classes else [],
        legacy_best_on_test=on_test,
        legacy_best_epoch=epoch,
        val_main=[] if of_classes else [fitted.target.main_of(entry) for entry in fitted.history],
    )


def expense(
    settings: Training, model: Model, fitted: "Fitted", peak: float | None, known: dict[object, Cost]
) -> Expense:
    """Everything the run cost; activations are counted as training kept them, once for all runs of one plan.

    `known` is what was counted so far.

    What a method found in training data is shipped with the graft, and the search for it was training, too.
    """
    tuned, within = model.tuned, fitted.within
    before, tuned.recompute = tuned.recompute, as_trained(settings, fitted).recompute
    computed = Placement(tuned.backbone.device).arithmetic(settings.precision)
    key = None if model.method.looks() else (model.method, tuned.classes, tuned.recompute, computed)
    try:
        counted = known.get(key) or measure_cost(tuned, dtype=torch.bfloat16 if computed == "bf16" else None)
    finally:
        tuned.recompute = before
    if key is not None:
        known[key] = counted
    shipped = counted.graft_bytes + sum(value.nbytes for value in model.findings.values())
    return Expense(
        **{**asdict(counted), "graft_bytes": shipped},
        peak_memory_mib=peak,
        train_seconds=model.finding_seconds + fitted.seconds,
        images_per_second=fitted.images_per_second,
        cache_place=fitted.cached.place,
        cache_bytes=fitted.cached.size,
        cache_seconds=fitted.cached.seconds,
        micro_batches=None if within is None else within.accumulate,
        computed_twice=None if within is None else within.recompute,
        evaluated_at_once=None if within is None else within.eval_batch_size,
        predicted_peak_mib=None if within is None or within.peak is None else within.peak / 2**20,
    )


def as_trained(settings: Training, fitted: "Fitted") -> Training:
    """The settings with what was chosen for the memory there was."""
    return settings if fitted.within is None else fitted.within.settings(settings)


def keep(config: RunConfig, start: Start, model: Model, record: Record) -> Record:
    """Write the graft, then the record, whose presence says that the run is finished; returns it with its graft.

    What it replaces is there until then.
    """
    metrics = {name: asdict(scores) for name, scores in (("val", record.val), ("test", record.test)) if scores}
    place = start.config.folder
    card = model.keep(place, metrics=metrics, cost=asdict(record.cost))
    record = replace(record, graft=card.digest, origin=warm.origin(start.config))
    if config.records is not None:
        path = store.add(Path(config.records), record)
        for name, text in model.method.files(model.backbone, model.findings).items():
            write_atomically(store.beside(path, name), text.encode())
    store.write(place / store.FILE, record)
    state.discard(place)  # nothing is to go on any more
    calibrate.discard(place)
    remove(place / folder.START)
    if place != config.folder:
        folder.complete(config.folder)
    return record
