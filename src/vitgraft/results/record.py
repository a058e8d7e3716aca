"""Record: everything about one finished run that a table, a plot or a doubter needs. It imports no torch."""

import dataclasses
import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field
from typing import Annotated, Any, Self, Union, get_args, get_origin, get_type_hints

from vitgraft.errors import VitgraftError
from vitgraft.results.scores import MAIN as MAIN
from vitgraft.results.scores import ONE_CLASS as ONE_CLASS
from vitgraft.results.scores import Loss as Loss
from vitgraft.results.scores import Scores as Scores

SCHEMA = 1
"""Raised when a field is renamed, removed or changes its meaning; a new field with a default needs no raise."""


class RecordError(VitgraftError):
    """A file that is no record, or one of another schema."""


@dataclass(frozen=True)
class MethodFacts:
    """A method: `spec` is the shortest text that names it, `fields` all of its fields, resolved."""

    name: str
    spec: str
    fields: dict[str, Any]


@dataclass(frozen=True)
class BackboneFacts:
    """A backbone: its name, and the digest of its weights."""

    name: str
    fingerprint: str


@dataclass(frozen=True)
class TaskFacts:
    """A task: `sizes` counts the images of each split, `skipped` those that were left out: unreadable ones, and
    files that are or may be images of another kind. `left_out` counts by suffix the files that were not looked at.

    `copy` says how a benchmark's copy is kept, such as "lists, JPEG": pictures differ by it. `notes` are what a
    person was told about the data: what was guessed, ignored or left out. `labels` is their kind: class, multi or
    number, and `classes` how many classes or numbers there are.
    """

    name: str
    fingerprint: str
    group: str | None
    classes: int
    sizes: dict[str, int]
    skipped: int = 0
    copy: str = ""
    notes: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    labels: str = ONE_CLASS


@dataclass(frozen=True)
class Origin:
    """Another run, as it was called, whose values a run began with, and their digest."""

    run: str
    graft: str | None


@dataclass(frozen=True)
class History:
    """How training went: one entry an epoch in each list; `best_epoch` counts from 1, None without selection.

    `val_top1` is empty without a val split, and has None for epochs that were not evaluated. Of other labels than
    one class a picture, `val_main` has what decides (`Scores.main`) in its stead.

    `legacy_best_on_test` is the top-1 in percent of the epoch that was best on the test split, `legacy_best_epoch`
    that epoch: to stand beside papers that report such numbers. None unless a run was asked for them. Nothing is
    selected by them, and they are no result of the run.
    """

    epochs: int
    best_epoch: int | None
    stopped_early: bool
    train_loss: list[Loss]
    val_top1: list[float | None]
    legacy_best_on_test: float | None = None
    legacy_best_epoch: int | None = None
    val_main: list[float | None] = field(default_factory=list)


@dataclass(frozen=True)
class Expense:
    """What the run cost.

    Trained values of the method and of the classifier; bytes that autograd keeps an image (parameters excluded);
    FLOPs of an image's forward pass, and of its forward and backward pass in training; bytes of the trained
    values on disk; the process's peak memory in MiB (of the accelerator, where training ran on one); seconds of
    training with its validation; images a second through training steps. Of the frozen part that was computed
    once: where it was kept (disk, ram, off), its bytes, and the seconds of computing what was not there yet, which
    `train_seconds` leaves out. How many configurations trained at once: seconds are a share of what all took.
    None: not measured.

    Where a limit of memory chose them, or an accelerator had no room for what was configured: micro-batches a
    step, what was computed twice, images at a time in evaluation, and the peak in MiB that was predicted.
    """

    trained_method: int
    trained_head: int
    kept_bytes_per_image: int
    flops_per_image: int
    step_flops_per_image: int
    graft_bytes: int
    peak_memory_mib: float | None
    train_seconds: float
    images_per_second: float | None
    cache_place: str = "off"
    cache_bytes: int = 0
    cache_seconds: float = 0.0
    together: int = 1
    micro_batches: int | None = None
    computed_twice: str | None = None
    evaluated_at_once: int | None = None
    predicted_peak_mib: float | None = None


@dataclass(frozen=True)
class Tried:
    """One candidate of a selection: `settings` are the keys of its run that candidates differ in.

    `val_top1` in percent (of other labels than one class a picture `Scores.main`) and `val_loss` are None where it
    was not trained to its end, for the reason in `left_out`. `seconds` are what it took, a share of what all took
    where `together` trained at once, and `predicted_seconds` what it was to take; trained values of method and
    classifier; bytes that autograd keeps an image.
    """

    method: str
    settings: dict[str, Any]
    val_top1: float | None = None
    val_loss: Loss | None = None
    seconds: float | None = None
    predicted_seconds: float | None = None
    trained: int | None = None
    kept_bytes_per_image: int | None = None
    together: int = 1
    left_out: str | None = None


@dataclass(frozen=True)
class Selection:
    """How a run was chosen among others by accuracy on validation: `by` what, within which limit of minutes, in
    how many seconds in all, among what. `given` are the keys that it was asked with, `told` what a person heard.
    """

    by: str
    minutes: float
    seconds: float
    given: dict[str, Any]
    tried: list[Tried]
    told: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Record:
    """One run, from its resolved configuration to what it reached and what it cost.

    `val` is what the run selected on, `test` was read once, at the end. `started` and `ended` are UTC, ISO 8601.
    `graft` is the digest of the values that it came to, which the graft's own card tells, too; `origin` says what
    it began with, if that was another run's values, and `selection` among what it was chosen, if it was.
    """

    config: dict[str, Any]
    seed: int
    method: MethodFacts
    backbone: BackboneFacts
    task: TaskFacts
    val: Scores | None
    test: Scores | None
    history: History
    cost: Expense
    versions: dict[str, str]
    device: str
    commit: str | None
    started: str
    ended: str
    graft: str | None = None
    origin: Origin | None = None
    selection: Selection | None = None
    schema: int = SCHEMA

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        return asdict(self)

    def flat(self) -> dict[str, Any]:
        """The record as one row: keys with dots, such as `test.top1`, `config.lr` and `method.fields.rank`.

        Every record has the same keys, but for those of its configuration, its method, its task's splits and
        what was left out of its data: what was not measured is None. Lists, which have an entry an epoch, stay
        lists.
        """
        row: dict[str, Any] = {}
        _flatten(type(self), self.to_json(), "", row)
        return row

    @classmethod
    def from_json(cls, values: object) -> Self:
        """The inverse of `to_json`.

        Raises:
            RecordError: no record, another schema, a missing or unknown key, or a value of the wrong type.
        """
        if not isinstance(values, Mapping) or "schema" not in values or "config" not in values:
            raise RecordError("It is no record of a run.")
        if values["schema"] != SCHEMA:
            raise RecordError(f"It has schema {values['schema']!r}; this vitgraft reads {SCHEMA}.")
        record: Self = _read(cls, values, "record")
        for name, scores in (("val", record.val), ("test", record.test)):
            if record.task.labels == ONE_CLASS and scores is not None and scores.top1 is None:
                raise RecordError(f"Its record.{name}.top1 is None, not float.")
        return record


def _flatten(hint: Any, value: object, prefix: str, row: dict[str, Any]) -> None:
    """Put `value`, whose type hint is known, into a row under keys that begin with `prefix`."""
    kind = next((one for one in (hint, *get_args(hint)) if dataclasses.is_dataclass(one)), None)
    if kind is not None:
        for key, inner in get_type_hints(kind).items():
            found = value.get(key) if isinstance(value, Mapping) else None
            _flatten(inner, found, f"{prefix}.{key}" if prefix else key, row)
    elif isinstance(value, Mapping):
        for key, found in value.items():
            _flatten(Any, found, f"{prefix}.{key}", row)
    else:
        row[prefix] = value


def _read(hint: Any, value: object, where: str) -> Any:
    """`value` checked against a type hint of this file. Raises RecordError."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return math.nan if value is None else _read(arguments[0], value, where)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _read(next(one for one in arguments if one is not type(None)), value, where)
    if dataclasses.is_dataclass(hint):
        return _read_dataclass(hint, value, where)
    if hint is Any:
        return value
    if origin is list and isinstance(value, list):
        return [_read(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value)]
    if origin is dict and isinstance(value, Mapping):
        return {str(key): _read(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if origin is None and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise RecordError(f"Its {where} is {value!r}, not {getattr(hint, '__name__', hint)}.")


def _read_dataclass(kind: Any, value: object, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise RecordError(f"Its {where} is {value!r}, not a table.")
    hints = get_type_hints(kind, include_extras=True)
    fields = {item.name: item for item in dataclasses.fields(kind)}
    foreign = sorted(value.keys() - fields.keys())
    missing = sorted(
        name
        for name, item in fields.items()
        if name not in value and item.default is MISSING and item.default_factory is MISSING
    )
    if foreign or missing:
        lacking = [f"lacks {', '.join(missing)}"] if missing else []
        wrong = lacking + ([f"has unknown {', '.join(foreign)}"] if foreign else [])
        raise RecordError(f"Its {where} {' and '.join(wrong)}.")
    return kind(**{key: _read(hints[key], item, f"{where}.{key}") for key, item in value.items()})


def tried_from_json(values: object) -> Tried:
    """A candidate as JSON values tell it. Raises RecordError."""
    tried: Tried = _read(Tried, values, "candidate")
    return tried
