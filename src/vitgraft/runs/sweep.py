"""Runs that train at once: those of one method, task and seed that differ by what their optimizers are told.

Each leaves what it would have left alone: its folder, its graft, its record. Its seconds are a share of what all
took, and its peak memory is that of all. It keeps no log and cannot be resumed, as it is one of many and short.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from vitgraft.data.kept import Kept
from vitgraft.errors import DivergedError
from vitgraft.results.record import Record
from vitgraft.runs import kept_split, run
from vitgraft.runs.config import RunConfig
from vitgraft.runs.earlier import begin
from vitgraft.runs.keeping import keep
from vitgraft.train import loop


def run_together(
    configs: Sequence[RunConfig], tell: Callable[[str], None] = print, ready: run.Ready | None = None
) -> list[Record | DivergedError]:
    """Do one of `groups`, without reading the test split. A run that diverges has its error in its place.

    A folder that holds something is written anew.

    Raises:
        VitgraftError: anything in configuration, data or weights that none of them can use.
    """
    first, cost = configs[0], None
    started = run.now()
    task = kept_split.load_task(first) if ready is None else ready.task
    images = Kept.of(task.splits)
    run.check_choosable(task)
    run.tell_of(task, tell)
    starts = [begin(config, resume=False, force=True) for config in configs]
    lead = run.build(first, task, backbone=None if ready is None else ready.backbone)
    built = [lead, *(run.build(config, task, backbone=lead.backbone) for config in configs[1:])]
    fitted = loop.fit_together(
        [model.tuned for model in built],
        task.splits["train"],
        task.splits.get("val"),
        [config.training for config in configs],
        preprocessing=lead.preprocessing,
        recipe=lead.method.recipe,
    )
    found: list[Record | DivergedError] = []
    for config, start, model, one in zip(configs, starts, built, fitted, strict=True):
        if isinstance(one, DivergedError):
            found.append(one)
            continue
        start.make_room(config.toml(), images)
        model.kept = images
        counted = {} if ready is None else ready.counted
        record = run.record_of(config, task, model, one, started, False, cost, counted)
        cost = replace(record.cost, together=len(configs))  # their shapes and shares are the same
        record = replace(record, cost=cost)
        found.append(keep(config, start, model, record))
    tell(f"{len(configs)} configurations of {first.method} on {task.name} were trained at once.")
    return found
