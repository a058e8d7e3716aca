"""The facts of every run: what was run with which versions on what, what it reached, what it cost."""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from vitgraft.report.page import scales
from vitgraft.report.page.curves import small
from vitgraft.report.page.grouping import common
from vitgraft.report.page.markup import Html, h, together
from vitgraft.report.page.material import Material, Run, seeds_of
from vitgraft.report.page.tables import Cell, Column, Row, facts, table
from vitgraft.results.record import Expense, Record, Scores, TaskFacts
from vitgraft.results.store import shared

COLUMNS = (
    Column("run"),
    Column("method"),
    Column("task"),
    Column("seed", number=True),
    Column("val", "%", number=True, said="accuracy on the images that were selected on"),
    Column("test", "%", number=True, said="accuracy on the images that were read once, at the end"),
    Column("loss", "nats", number=True, said="of test, or of val where the run has not read test"),
    Column("epochs", number=True),
    Column("lr", number=True),
    Column("trained", number=True, said="values, with those of the classifier"),
    Column("kept/image", number=True, said="what autograd keeps of an image"),
    Column("time", "s", number=True, said="of training, frozen part included"),
    Column("peak", "MiB", number=True, said="memory of the process"),
)

OPEN = 3
"""Of so few runs the facts are seen at once."""


def listed(material: Material) -> Html:
    """A table with a row for every run, which leads to its facts."""
    said = "Every run, tried ones, too, which have no accuracy of test. A name leads to the run's facts."
    return table("runs-table", said, COLUMNS, [_line(material, run) for run in material.ordered()], filtered=True)


def _line(material: Material, run: Run) -> Row:
    record, cost = run.record, run.record.cost
    link = f"#{material.number(run)}"
    scores = record.test or record.val
    lr = record.config.get("lr")
    trained, seconds = cost.trained_method + cost.trained_head, cost.train_seconds + cost.cache_seconds
    cells: list[Cell | str | None] = [
        Cell(material.number(run), int(material.number(run)[1:]), link),
        run.row,
        record.task.name,
        str(record.seed),
        _top1(record.val, link),
        _top1(record.test, link),
        Cell(scores and f"{scores.loss:.3f}"),
        str(record.history.epochs),
        Cell(None if lr is None else f"{lr:g}" if isinstance(lr, int | float) else str(lr)),
        Cell(f"{trained:,}"),
        Cell(scales.sized(cost.kept_bytes_per_image), cost.kept_bytes_per_image),
        Cell(f"{seconds:.1f}"),
        Cell(None if cost.peak_memory_mib is None else f"{cost.peak_memory_mib:,.0f}"),
    ]
    return Row(cells, key=material.key(run.row))


def _top1(scores: Scores | None, link: str) -> Cell:
    return Cell(None) if scores is None else Cell(f"{scores.main:.1f}", scores.main, link)


def shared_settings(material: Material) -> Html | None:
    """The settings that all runs have alike; None where there is one run alone, which has them itself."""
    if len(material.runs) < 2:
        return None
    alike = shared(common([run.record for run in material.runs]))
    intro = h("p", "All runs have these settings. Those in which they differ stand with each run below.")
    return together([h("h3", "Settings of all runs", id="settings"), intro, _settings(alike)])


def records(material: Material) -> Html:
    """A part for every row, in it one for every task, in it the runs' facts, closed until they are asked for."""
    alike = common([run.record for run in material.runs]) if len(material.runs) > 1 else {}
    parts = []
    for row, own in groupby(material.ordered(), key=lambda run: run.row):
        cells = []
        for task, runs in groupby(own, key=lambda run: run.record.task.name):
            several = list(runs)
            told = f"{len(several)} run{'s' * (len(several) > 1)}, {seeds_of(several)}"
            head = h("h4", task, " ", h("span", told, class_="quiet"), id=material.anchor(row, task))
            cells += [head, *(_record(material, run, alike) for run in several)]
        parts.append(together([h("h3", row, id=material.anchor(row)), *cells]))
    return together(parts)


def _record(material: Material, run: Run, alike: Mapping[str, object]) -> Html:
    record = run.record
    reached = [f"{name} {scores.main:.1f} %" for name, scores in _splits(record) if scores is not None]
    tried = ", tried" if run.tried or material.scores(run) is None else ""
    head = h("summary", f"seed {record.seed}{tried}: {', '.join(reached) or 'not measured'}")
    own = {key: value for key, value in shared(record.config).items() if key not in alike}
    rest = h("p", "Beside the ", h("a", "settings of all runs", href="#settings"), ":") if alike else None
    inside = facts(_facts(run)), small(run), rest, _settings(own) if own else None
    few = len(material.runs) <= OPEN
    return h("details", head, *inside, id=material.number(run), class_="record", open=few)


def _facts(run: Run) -> dict[str, object]:
    record = run.record
    history, task = record.history, record.task
    best = f", best {history.best_epoch}" if history.best_epoch else ""
    early = ", stopped early" if history.stopped_early else ""
    sizes = ", ".join(f"{count:,} {split}" for split, count in task.sizes.items())
    skipped = f"; {task.skipped:,} left out" if task.skipped else ""
    copy = f"; {task.copy}" if task.copy else ""
    fields = ", ".join(f"{key}={_short(value)}" for key, value in record.method.fields.items())
    return {
        **{name: _scores(scores) for name, scores in _splits(record) if scores is not None},
        "best on test": _legacy(record),
        "epochs": f"{history.epochs}{best}{early}",
        "cost": _cost(record.cost),
        "method": f"{record.method.name}: {fields}" if fields else record.method.name,
        "backbone": f"{record.backbone.name}, weights {record.backbone.fingerprint}",
        "data": f"{task.name}: {_labels(task)}; {sizes}{skipped}{copy}; images {task.fingerprint}",
        "told": "; ".join(task.notes) or None,
        "began with": None if record.origin is None else f"{record.origin.run}, values {record.origin.graft}",
        "values": record.graft,
        "versions": ", ".join(f"{name} {version}" for name, version in record.versions.items()),
        "commit": record.commit,
        "device": record.device,
        "ran": f"{_time(record.started)} to {_time(record.ended)}",
        "record": h("code", run.file),
    }


NAMED = {"class": "classes", "multi": "labels, any number a picture", "number": "numbers a picture"}


def _labels(task: TaskFacts) -> str:
    return f"{task.classes} {NAMED[task.labels]}"


def _splits(record: Record) -> Sequence[tuple[str, Scores | None]]:
    return ("test", record.test), ("val", record.val)


def _scores(scores: Scores) -> str:
    if scores.map is not None:
        told = f"F1 {scores.f1_micro:.1f} % micro, {scores.f1_macro:.1f} % macro, all right {scores.exact:.1f} %"
        return f"{scores.map:.2f} % mean average precision, {told}, loss {scores.loss:.4f} nats, n = {scores.n:,}"
    if scores.r2 is not None:
        told = f"R² {scores.r2:.4f}, mean absolute error {scores.mae:.4g}, root mean square {scores.rmse:.4g}"
        return f"{told}, loss {scores.loss:.4f}, n = {scores.n:,}"
    top5 = "" if scores.top5 is None else f", top-5 {scores.top5:.1f} %"
    rest = f", mean per class {scores.mean_per_class:.1f} %, loss {scores.loss:.4f} nats, n = {scores.n:,}"
    return f"{scores.top1:.2f} %{top5}{rest}"


def _legacy(record: Record) -> str | None:
    best = record.history.legacy_best_on_test
    return None if best is None else f"{best:.2f} %, of epoch {record.history.legacy_best_epoch}; no result"


def _cost(cost: Expense) -> str:
    told = [
        f"{cost.trained_method:,} trained values and {cost.trained_head:,} of the classifier",
        f"{scales.sized(cost.kept_bytes_per_image)} kept an image",
        f"{cost.flops_per_image / 1e9:.3g} GFLOPs forward, {cost.step_flops_per_image / 1e9:.3g} in training",
        f"{scales.sized(cost.graft_bytes)} on disk",
        f"{cost.train_seconds:.1f} s of training",
    ]
    if cost.cache_place != "off":
        told.append(
            f"frozen part {scales.sized(cost.cache_bytes)} on {cost.cache_place} in {cost.cache_seconds:.1f} s"
        )
    if cost.images_per_second is not None:
        told.append(f"{cost.images_per_second:,.0f} images/s")
    if cost.peak_memory_mib is not None:
        told.append(f"peak {cost.peak_memory_mib:,.0f} MiB")
    if cost.together > 1:
        told.append(f"{cost.together} runs trained at once")
    return ", ".join(told)


def _time(told: str) -> str:
    return told.replace("T", " ").replace("+00:00", " UTC")


def _short(value: object) -> str:
    return "none" if value is None else str(value)


def _settings(config: Mapping[str, object]) -> Html:
    """A configuration as a run's TOML file has it."""
    return h("pre", h("code", "\n".join(_lines(config))))


def _lines(config: Mapping[str, object]) -> Iterable[str]:
    for key, value in config.items():
        yield f"{key} = {json.dumps('none' if value is None else value, ensure_ascii=False)}"
