"""One run from its configuration to its record: load, graft, fit, test once, measure, keep.

Peak memory is the process's own since it began, so it is honest for one run a process, as the command line is.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vitgraft.atomic import write_atomically
from vitgraft.backbones.loading import load_backbone
from vitgraft.core.backbone import Backbone
from vitgraft.data import source
from vitgraft.data.benchmarks.names import mentioned
from vitgraft.data.lists.splits import AUTO
from vitgraft.data.preprocessing import preset
from vitgraft.data.task import Task
from vitgraft.errors import ConfigError, DataError, TaskError
from vitgraft.machine.placement import Placement, place
from vitgraft.methods import describe, parse, spec_of
from vitgraft.models import model as models
from vitgraft.models.model import Model
from vitgraft.models.planting import own_preprocessing
from vitgraft.results import store
from vitgraft.results.provenance import commit, device_name, versions
from vitgraft.results.record import (
    BackboneFacts,
    Expense,
    History,
    MethodFacts,
    Record,
    Scores,
    TaskFacts,
)
from vitgraft.runs import protocols
from vitgraft.runs.config import RunConfig
from vitgraft.runs.earlier import finished
from vitgraft.runs.moved import with_weights
from vitgraft.train import calibrate, legacy, measure, state
from vitgraft.train.cost import measure_cost, peak_memory_mib
from vitgraft.train.settings import Training

if TYPE_CHECKING:
    from vitgraft.train.loop import Fitted

SHOWN = 10
"""How many skipped images are named before training."""


def run(
    config: RunConfig,
    *,
    resume: bool = False,
    force: bool = False,
    test: bool = True,
    tell: Callable[[str], None] = print,
) -> Record:
    """Do a run: the graft, its log, `run.toml` and `record.json` are in `config.folder` afterwards.

    A folder that holds a run is left alone unless the user says `resume`, which goes on with it (and returns the
    record of a finished one at once), or `force`, which replaces it. Without `test` the test split is left alone,
    as a run should that is one of several to choose from; `test_later` reads it. `tell` gets lines for a person.

    Raises:
        VitgraftError: anything in configuration, data or weights that cannot be used.
        KeyboardInterrupt, SystemExit: training was stopped by Ctrl-C or SIGTERM, and its state saved.
    """
    before = finished(config, resume, force)
    if before is not None:
        tell(f"{config.folder} is finished already; nothing was trained.")
        return before
    config = with_weights(config, resume, tell)
    started = now()
    task = load_task(config)
    _check_named(config, task)
    if not test:
        check_choosable(task)
    tell_of(task, tell)
    legacy_split = legacy.asked(config.training, task.splits.get("test"))
    main = place(config.training.device).main
    if main and parse(config.method).looks():  # it may be stopped before there is a model
        write_atomically(config.kept, config.toml().encode())
    model = build(config, task, resume=resume)
    if main:
        for line in model.method.told(model.backbone, model.findings):
            tell(line)
        for name, text in model.method.files(model.backbone, model.findings).items():
            write_atomically(config.folder / name, text.encode())
        write_atomically(config.kept, config.toml().encode())
    fitted = models.fit(
        model,
        task.splits["train"],
        task.splits.get("val"),
        settings=config.training,
        out=config.folder,
        resume=resume,
        legacy=legacy_split,
    )
    record = record_of(config, task, model, fitted, started, test)
    if main:
        keep(config, model, record)
    return record


def test_later(config: RunConfig) -> Record:
    """Measure a finished run that has not read the test split on it, and complete its record.

    Raises:
        RecordError, ArtefactError: the run is not finished.
    """
    path = config.folder / store.FILE
    record = store.read(path)
    if record.test is None:
        record = replace(record, test=_test(config, models.load(config.folder), load_task(config)))
        store.write(path, record)
    if config.records is not None:  # this may be what an earlier call was stopped before
        store.add(Path(config.records), record)
    return record


def load_task(config: RunConfig) -> Task:
    """The task that a configuration names, cut into splits as it says.

    Raises:
        TaskError: data that cannot be used.
        ConfigError: something is to be chosen on validation images that are trained on.
    """
    config.check_choosing()
    options: dict[str, Any] = {
        "seed": config.split_seed,
        "val_fraction": config.val_fraction,
        "test_fraction": config.test_fraction,
        "skip_unreadable": config.skip_unreadable,
        "pixel_range": config.pixel_range,
        "max_pixels": config.max_pixels,
        "train_on": config.train_on,
    }
    columns = ("path_column", "label_column", "split_column", "suffix")
    asked = {name: getattr(config, name) for name in ("root", *columns)}
    options |= {name: value for name, value in asked.items() if value not in (None, AUTO)}
    try:
        return source.load(config.data, **options)
    except DataError as error:
        raise TaskError(str(error)) from None


def build(config: RunConfig, task: Task, resume: bool = False, backbone: Backbone | None = None) -> Model:
    """The untrained model of a configuration, on `backbone` if that was made already; a method that looks at
    training data first keeps in the run's folder what it has finished, and goes on with it if `resume`.

    Raises:
        BackboneError, CheckpointError, ConfigError: see `model.graft`.
    """
    if backbone is None:
        backbone = load_backbone(
            config.backbone,
            checkpoint=config.checkpoint,
            image_size=config.image_size,
            global_pool=config.global_pool,
        )
    pictures = preset(config.preprocessing, own_preprocessing(backbone))
    return models.graft(
        backbone,
        config.method,
        task.classes,
        preprocessing=pictures,
        seed=config.training.seed,
        data=task.splits["train"],
        val=task.splits.get("val"),
        settings=config.training,
        out=config.folder,
        resume=resume,
    )


def _check_named(config: RunConfig, task: Task) -> None:
    """Raise ConfigError if a benchmark's folder was named where a protocol has values for tasks by their names."""
    if task.copy and mentioned(config.data) is None and config.protocol != protocols.OURS:
        raise ConfigError(
            f"'{config.data}' is the copy of {task.name}, for which protocol {config.protocol} may have values of "
            f"its own. Name the task, and the folder that holds its copy: {task.name} --root FOLDER."
        )


def check_choosable(task: Task) -> None:
    """Raise ConfigError if a run is one of several to choose from, and there are no images to choose by."""
    if "val" not in task.splits:
        raise ConfigError(
            f"{task.name} has no val to choose on. Cut one (val_fraction=0.15), or give the method nothing to "
            "choose from (grid = {})."
        )


def tell_of(task: Task, tell: Callable[[str], None]) -> None:
    """Tell a person what was found, guessed or left out while a task's data were read."""
    for line in task.notes:
        tell(line)
    for name, reason in task.skipped[:SHOWN]:
        tell(f"Left out: {name}: {reason}")
    if task.skipped:
        tell(f"Unreadable images left out: {len(task.skipped)}.")


def record_of(
    config: RunConfig,
    task: Task,
    model: Model,
    fitted: "Fitted",
    started: str,
    test: bool,
    cost: Expense | None = None,
) -> Record:
    """What a run was and what it reached; its cost is measured unless that of its like is known."""
    peak = peak_memory_mib(model.backbone.device)  # before anything that is not training
    tested = _test(config, model, task) if test else None
    described = describe(model.method)
    return Record(
        config=store.shared(config.table()),
        seed=config.training.seed,
        method=MethodFacts(described.pop("name"), spec_of(model.method), described),
        backbone=BackboneFacts(model.backbone.name, model.backbone.fingerprint()),
        task=TaskFacts(
            task.name,
            task.fingerprint(),
            task.group,
            len(task.classes),
            {name: len(split) for name, split in task.splits.items()},
            len(task.skipped) + task.left_out.missed,
            task.copy,
            list(task.notes),
            task.left_out.by_suffix(),
        ),
        val=None if fitted.val is None else Scores(**asdict(fitted.val)),
        test=tested,
        history=_history(fitted),
        cost=cost or _expense(config.training, model, fitted, peak),
        versions=versions(),
        device=device_name(model.backbone.device),
        commit=commit(),
        started=started,
        ended=now(),
    )


def _test(config: RunConfig, model: Model, task: Task) -> Scores | None:
    """The test split, read once, with the values that were selected."""
    if "test" not in task.splits:
        return None
    settings = config.training
    metrics = measure.evaluate(
        model.tuned,
        task.splits["test"],
        model.preprocessing,
        batch_size=settings.eval_batch_size,
        precision=settings.precision,
        workers=settings.workers,
        device=settings.device,
    )
    return Scores(**asdict(metrics))


def _history(fitted: "Fitted") -> History:
    on_test, epoch = legacy.best(fitted.history) or (None, None)
    return History(
        epochs=len(fitted.history),
        best_epoch=fitted.best_epoch,
        stopped_early=fitted.stopped_early,
        train_loss=[entry["train_loss"] for entry in fitted.history],
        val_top1=[entry.get("val_top1") for entry in fitted.history],
        legacy_best_on_test=on_test,
        legacy_best_epoch=epoch,
    )


def _expense(settings: Training, model: Model, fitted: "Fitted", peak: float | None) -> Expense:
    """Everything the run cost; activations are counted as training kept them.

    What a method found in training data is shipped with the graft, and the search for it was training, too.
    """
    tuned = model.tuned
    before, tuned.recompute = tuned.recompute, settings.recompute
    try:
        computed = Placement(tuned.backbone.device).arithmetic(settings.precision)
        counted = measure_cost(tuned, dtype=torch.bfloat16 if computed == "bf16" else None)
    finally:
        tuned.recompute = before
    shipped = counted.graft_bytes + sum(value.nbytes for value in model.findings.values())
    return Expense(
        **{**asdict(counted), "graft_bytes": shipped},
        peak_memory_mib=peak,
        train_seconds=model.finding_seconds + fitted.seconds,
        images_per_second=fitted.images_per_second,
        cache_place=fitted.cached.place,
        cache_bytes=fitted.cached.size,
        cache_seconds=fitted.cached.seconds,
    )


def keep(config: RunConfig, model: Model, record: Record) -> None:
    """Write the graft, then the record, whose presence says that the run is finished."""
    metrics = {name: asdict(scores) for name, scores in (("val", record.val), ("test", record.test)) if scores}
    model.save(config.folder, metrics=metrics, cost=asdict(record.cost))
    if config.records is not None:
        path = store.add(Path(config.records), record)
        for name, text in model.method.files(model.backbone, model.findings).items():
            write_atomically(store.beside(path, name), text.encode())
    store.write(config.folder / store.FILE, record)
    state.discard(config.folder)  # nothing is to go on any more
    calibrate.discard(config.folder)


def now() -> str:
    """This moment in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
