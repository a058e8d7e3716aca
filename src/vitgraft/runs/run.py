"""One run from its configuration to its record: load, graft, fit, test once, measure, keep.

Peak memory is the process's own since it began, so it is honest for one run a process, as the command line is.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitgraft.atomic import write_atomically
from vitgraft.backbones.loading import load_backbone
from vitgraft.core.backbone import Backbone
from vitgraft.data.benchmarks.names import mentioned
from vitgraft.data.preprocessing import preset
from vitgraft.data.task import Split, Task
from vitgraft.errors import ConfigError
from vitgraft.machine.memory import give_back
from vitgraft.machine.placement import place
from vitgraft.methods import describe, parse, spec_of
from vitgraft.models import folder, training
from vitgraft.models import model as models
from vitgraft.models.model import Model
from vitgraft.models.planting import own_preprocessing
from vitgraft.results import store
from vitgraft.results.provenance import commit, device_name, versions
from vitgraft.results.record import (
    BackboneFacts,
    Expense,
    MethodFacts,
    Record,
    Scores,
    TaskFacts,
)
from vitgraft.runs import kept_split, protocols, warm
from vitgraft.runs.config import RunConfig
from vitgraft.runs.earlier import Start, begin
from vitgraft.runs.keeping import as_trained, expense, history, keep
from vitgraft.runs.moved import with_weights
from vitgraft.train import legacy, measure
from vitgraft.train.cost import Cost, peak_memory_mib

if TYPE_CHECKING:
    from vitgraft.train.loop import Fitted
    from vitgraft.train.targets import Measured

NO_SUFFIX = "no suffix"
"""What a record calls files that are called like none, where it counts what was left out."""

SHOWN = 10
"""How many skipped images are named before training."""


@dataclass(frozen=True)
class Ready:
    """A task and a backbone that were read already, for several runs on them, and what those counted."""

    task: Task
    backbone: Backbone
    counted: dict[object, Cost] = field(default_factory=dict)


def run(
    config: RunConfig,
    *,
    resume: bool = False,
    force: bool = False,
    test: bool = True,
    tell: Callable[[str], None] = print,
    ready: Ready | None = None,
) -> Record:
    """Do a run: the graft, its log, `run.toml` and `record.json` are in `config.folder` afterwards.

    A folder that holds a run is left alone unless the user says `resume`, which goes on with it (and returns the
    record of a finished one at once), or `force`, which replaces it. Without `test` the test split is left alone,
    as a run should that is one of several to choose from; `test_later` reads it. `tell` gets lines for a person.
    What is `ready` is not read again.

    Raises:
        VitgraftError: anything in configuration, data or weights that cannot be used.
        KeyboardInterrupt, SystemExit: training was stopped by Ctrl-C or SIGTERM, and its state saved.
    """
    if config.training.memory is not None:
        give_back()
    here = place(config.training.device)
    say = tell if here.main else lambda line: None
    start = here.agreed(lambda: begin(config, resume, force))
    if start.done is None:  # data and weights are read before anything is touched
        config = with_weights(config, start.resume, say)
        started = now()
        task, backbone = _read(config, start, test, say) if ready is None else (ready.task, ready.backbone)
        with folder.held(config.folder, here.main):
            start = here.agreed(lambda: begin(config, resume, force))  # another process may have been faster
            if start.done is None:
                model, fitted = _trained(config, start, task, backbone, say)
                counted = {} if ready is None else ready.counted
                record = record_of(config, task, model, fitted, started, test, counted=counted)
                return here.agreed(lambda: keep(config, start, model, record))
    say(f"{config.folder} is finished already; nothing was trained.")
    return start.done


def _read(config: RunConfig, start: Start, test: bool, say: Callable[[str], None]) -> tuple[Task, Backbone]:
    """The task of a run and its backbone."""
    task = warm.task_of(start.config, kept_split.task_of(start.config, start.resume, say))
    _check_named(config, task)
    if not test:
        check_choosable(task)
    tell_of(task, say)
    return task, backbone_of(config)


def _trained(
    config: RunConfig, start: Start, task: Task, backbone: Backbone, say: Callable[[str], None]
) -> tuple[Model, "Fitted"]:
    """The model of a run, trained in the folder in which it begins or goes on."""
    legacy_split = legacy.asked(config.training, task.splits.get("test"))
    main, place_of_run = place(config.training.device).main, start.config.folder
    images = kept_split.list_of(start.config, task, start.resume)
    looks = config.start_from is None and parse(config.method).looks()
    if main and looks:  # it may be stopped before there is a model
        start.make_room(config.toml(), images)
    if config.start_from is None:
        model = build(start.config, task, resume=start.resume, backbone=backbone)
    else:
        model = warm.begun(start.config, task, backbone, say)
    model.kept = images
    if main:
        if not looks:
            start.make_room(config.toml(), images)
        if config.start_from is not None:
            model.keep(place_of_run / folder.START)
        for line in model.method.told(model.backbone, model.findings):
            say(line)
        for name, text in model.method.files(model.backbone, model.findings).items():
            write_atomically(place_of_run / name, text.encode())
    fitted = training.fit(
        model,
        task.splits["train"],
        task.splits.get("val"),
        settings=warm.settings(config),
        out=place_of_run,
        resume=start.resume,
        legacy=legacy_split,
    )
    for line in fitted.target.found(model.class_names):
        say(line)
    return model, fitted


def test_later(config: RunConfig, tell: Callable[[str], None], ready: Ready | None) -> Record:
    """Measure a finished run that has not read the test split on it, and complete its record.

    Raises:
        TaskError: its test images are not as they were.
        RecordError, ArtefactError: the run is not finished.
    """
    path = config.folder / store.FILE
    record = store.read(path)
    if record.test is None:
        if ready is None:
            images, backbone = kept_split.test_split(config, record, tell), None
        else:
            images, backbone = ready.task.splits.get("test"), ready.backbone
        record = replace(record, test=_test(config, models.load(config.folder, backbone=backbone), images))
        store.write(path, record)
    if config.records is not None:  # this may be what an earlier call was stopped before
        store.add(Path(config.records), record)
    return record


def backbone_of(config: RunConfig) -> Backbone:
    """The frozen backbone of a configuration. Raises BackboneError, CheckpointError."""
    return load_backbone(
        config.backbone,
        checkpoint=config.checkpoint,
        image_size=config.image_size,
        global_pool=config.global_pool,
    )


def build(config: RunConfig, task: Task, resume: bool = False, backbone: Backbone | None = None) -> Model:
    """The untrained model of a configuration, on `backbone` if that was made already; a method that looks at
    training data first keeps in the run's folder what it has finished, and goes on with it if `resume`.

    Raises:
        BackboneError, CheckpointError, ConfigError: see `model.graft`.
    """
    frozen = backbone_of(config) if backbone is None else backbone
    pictures = preset(config.preprocessing, own_preprocessing(frozen))
    return models.graft(
        frozen,
        config.method,
        task.classes,
        kind=task.kind,
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
    counted: dict[object, Cost] | None = None,
) -> Record:
    """What a run was and what it reached; its cost is measured unless that of its like is known
    (`cost`, or what of it was `counted`)."""
    peak = peak_memory_mib(model.backbone.device)  # before anything that is not training
    done = replace(config, training=as_trained(config.training, fitted))
    tested = _test(done, model, task.splits.get("test")) if test else None
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
            {suffix or NO_SUFFIX: count for suffix, count in task.left_out.by_suffix().items()},
            task.kind,
        ),
        val=None if fitted.val is None else _scores(fitted.val),
        test=tested,
        history=history(fitted),
        cost=cost or expense(config.training, model, fitted, peak, {} if counted is None else counted),
        versions=versions(),
        device=device_name(model.backbone.device),
        commit=commit(),
        started=started,
        ended=now(),
    )


def _test(config: RunConfig, model: Model, images: Split | None) -> Scores | None:
    """The test split, read once, with the values that were selected."""
    if images is None:
        return None
    settings = config.training
    metrics = measure.evaluate(
        model.tuned,
        images,
        model.preprocessing,
        batch_size=settings.eval_batch_size,
        precision=settings.precision,
        workers=settings.workers,
        device=settings.device,
        target=model.target,
    )
    return _scores(metrics)


def _scores(metrics: "Measured") -> Scores:
    """What was measured, as a record has it."""
    found: dict[str, Any] = asdict(metrics)
    found |= {key: list(one) for key, one in found.items() if isinstance(one, tuple)}
    return Scores(**found)


def now() -> str:
    """This moment in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
