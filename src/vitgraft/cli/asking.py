"""What commands share that ask a saved graft: what it runs on, where its weights are, what goes in and out."""

import os
import secrets
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from vitgraft.cli import guard
from vitgraft.data.pictures.ranges import AUTO, MAX_PIXELS, asked
from vitgraft.errors import ConfigError, DataError
from vitgraft.machine.interrupt import BY_SIGNAL
from vitgraft.train.settings import check_device

if TYPE_CHECKING:
    from vitgraft.machine.placement import Placement
    from vitgraft.models.model import Model

STDIN = "-"
"""How a command line says that paths come from standard input, or that results go to standard output."""

RUNS_ON = "Runs on"
"""Where help lists what a model is computed with."""


class Precision(StrEnum):
    """What a model is computed in."""

    fp32 = "fp32"
    bf16 = "bf16"


class Format(StrEnum):
    """How results are written."""

    table = "table"
    json = "json"
    jsonl = "jsonl"
    csv = "csv"


SUFFIXES = {".csv": Format.csv, ".json": Format.json, ".jsonl": Format.jsonl, ".ndjson": Format.jsonl}
"""What the name of a file of results says about its format."""

Checkpoint = Annotated[
    Path | None,
    typer.Option(
        help="The backbone's weights in a local file, if they are not where they were, nor beside the run.",
        show_default=False,
    ),
]
Checkpoints = Annotated[
    list[Path] | None,
    typer.Option(
        help="The backbone's weights in a local file, if they are not where they were, nor beside the run; "
        "several for several backbones.",
        show_default=False,
    ),
]
OtherWeights = Annotated[bool, typer.Option("--force", help="Go on although the backbone's weights are others.")]
Out = Annotated[
    Path | None,
    typer.Option(
        *("--out", "-o"),
        help="Write results to a file, which is there once all are; - is standard output.",
        callback=lambda out: None if out is None or str(out) == STDIN else out,
        show_default=False,
    ),
]
Replace = Annotated[bool, typer.Option("--replace", help="Replace the file of --out if it is there.")]


Uncalibrated = Annotated[
    bool,
    typer.Option("--uncalibrated", help="Of a calibrated run, the probabilities that it was trained to give."),
]


def as_asked(models: "Mapping[str, Model]", uncalibrated: bool) -> "dict[str, Model]":
    """Models by the names of their runs, calibrated unless that is not wanted; which are is told."""
    for name, model in models.items():
        if model.temperature is not None and not uncalibrated:
            whose = f" of {name}" if len(models) > 1 else ""
            guard.note(f"Probabilities{whose} are calibrated: {model.temperature.told()}.")
    return {name: model.uncalibrated() if uncalibrated else model for name, model in models.items()}


@dataclass(frozen=True)
class RunsOn:
    """What a model is computed with. `workers` decode pictures beside the process, none if 0."""

    device: str
    batch_size: int
    precision: str
    workers: int


def runs_on(
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda, cuda:1 (a number), mps, xpu.", rich_help_panel=RUNS_ON)
    ] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.", rich_help_panel=RUNS_ON)] = 64,
    precision: Annotated[
        Precision, typer.Option(help="bf16: where the device has such arithmetic.", rich_help_panel=RUNS_ON)
    ] = Precision.fp32,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="How many decode pictures; 0: none but this process; by default one a core, up to 8.",
            rich_help_panel=RUNS_ON,
            show_default=False,
        ),
    ] = None,
) -> RunsOn:
    """Raises ConfigError for what is no device's name."""
    check_device(device)
    return RunsOn(device, batch_size, str(precision), _cores() if workers is None else workers)


@dataclass(frozen=True)
class Reads:
    """How files are read: black and white of those above 8 bits, and how many pixels they may have."""

    pixel_range: str
    max_pixels: int

    def given(self) -> dict[str, Any]:
        """Keys of a run that say so, of those that are not what they are without it."""
        asked_for = {"pixel_range": self.pixel_range, "max_pixels": self.max_pixels}
        return {key: value for key, value in asked_for.items() if value not in (AUTO, MAX_PIXELS)}


def reads(
    pixel_range: Annotated[
        str,
        typer.Option(
            help="Black and white of images above 8 bits, as 0:4095, or dtype; by default those of training.",
            metavar="auto|dtype|LOW:HIGH",
            show_default=False,
        ),
    ] = AUTO,
    max_pixels: Annotated[int, typer.Option(min=1, help="Images of more pixels are not read.")] = MAX_PIXELS,
) -> Reads:
    """Raises ConfigError for what is no range."""
    asked(pixel_range)
    return Reads(pixel_range, max_pixels)


def _cores() -> int:
    """Processors of this process, up to 8: more would wait for the disk."""
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def standard_input() -> list[str]:
    """Paths from standard input, a line each, or with NUL between them as `find -print0` writes them.

    Raises:
        DataError: nothing comes.
    """
    content = sys.stdin.buffer.read()
    nul = b"\0" in content
    parts = content.split(b"\0") if nul else [line.removesuffix(b"\r") for line in content.split(b"\n")]
    paths = [os.fsdecode(part) for part in parts if part.strip()]
    if not paths:
        raise DataError("Standard input (-) names no images. Give one path a line, or with NUL between them.")
    return paths


@contextmanager
def list_given(data: str | None) -> Iterator[str | None]:
    """Labelled images that a command names: - is a list from standard input, as a file for the length of a block.

    Raises:
        DataError: nothing comes.
    """
    if data != STDIN:
        yield data
        return
    content = sys.stdin.buffer.read()
    if not content.strip():
        raise DataError("Standard input (-) is empty. Give a list of images and labels, as a CSV file has them.")
    first = content.split(b"\n", 1)[0]
    suffix = next((suffix for mark, suffix in ((b"\t", ".tsv"), (b",", ".csv")) if mark in first), ".txt")
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"stdin{suffix}"
        path.write_bytes(content)
        yield str(path)


def tell_arithmetic(on: RunsOn, here: "Placement") -> None:
    """Say so if a device does not compute in what was asked for."""
    if here.arithmetic(on.precision) != on.precision:
        from vitgraft.train.loop import NO_BF16

        guard.note(NO_BF16)


def format_of(format: Format | None, out: Path | None, fallback: Format = Format.table) -> Format:
    """The format that was asked for, or else that of the file's suffix. Raises ConfigError if neither says it."""
    if format is not None:
        return format
    if out is None:
        return fallback
    if out.suffix.lower() not in SUFFIXES:
        raise ConfigError(
            f"'{out}' ends in none of {', '.join(SUFFIXES)}, which would say how to write it. Rename it, or say: "
            f"--format {', '.join(Format)}."
        )
    return SUFFIXES[out.suffix.lower()]


@dataclass(frozen=True)
class Writes:
    """What is written of each image's answer, how, and where: None is standard output."""

    format: Format
    out: Path | None
    replace: bool
    top: int
    skip_unreadable: bool


def writes(
    format: Annotated[
        Format | None, typer.Option(help="How to write; by default a table, or what the file's name says.")
    ] = None,
    out: Out = None,
    replace: Replace = False,
    top: Annotated[int, typer.Option(min=1, help="How many classes an image.")] = 1,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave out of the results images that cannot be read.")
    ] = False,
) -> Writes:
    """Raises ConfigError if nothing says the format of a file."""
    return Writes(format_of(format, out), out, replace, top, skip_unreadable)


@contextmanager
def results(out: Path | None, replace: bool = False) -> Iterator[TextIO]:
    """Where results go: standard output, or a file that is written aside and takes its name when all is written.

    What was written before a failure, Ctrl-C or SIGTERM is kept in FILE.part, and told.

    Raises:
        ArtefactError: the file is there and not to be replaced, or is a folder.
    """
    if out is None:
        yield sys.stdout
        return
    path = out.expanduser().resolve()
    if path.exists() and not path.is_file() and not path.is_dir():  # a pipe, or /dev/null
        with _opened(path, "w") as file:
            yield file
        return
    guard.check_free(path, replace, option="--replace")
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with _ended_by_sigterm(), _opened(aside, "x") as file:
            yield file
        os.replace(aside, path)
    except BaseException:
        _keep_part(aside, path.with_name(f"{path.name}.part"))
        raise


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the process as it always does, but not before what it does on its way out."""

    def end(number: int, frame: object) -> None:
        raise SystemExit(BY_SIGNAL + number)

    if threading.current_thread() is not threading.main_thread():  # no other may say so
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _opened(path: Path, mode: str) -> TextIO:
    """A text file in which names that are no UTF-8 are the bytes that they are."""
    return open(path, mode, encoding="utf-8", errors="surrogateescape", newline="")  # type: ignore[return-value]


def _keep_part(aside: Path, part: Path) -> None:
    """Results that are not all, under a name that says so; none leave nothing."""
    with suppress(OSError):
        if aside.stat().st_size == 0:
            aside.unlink()
            return
        os.replace(aside, part)
        guard.note(f"What was written before that is in '{part}'.")


def check_named(paths: Sequence[str]) -> None:
    """Raise DataError if standard input is named twice: it can be read once."""
    if list(paths).count(STDIN) > 1:
        raise DataError("Standard input (-) is named twice, and can be read once. Name it once.")
