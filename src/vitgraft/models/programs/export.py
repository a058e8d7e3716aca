"""`export`: a tuned model written as a program, and run from its file before it counts."""

import os
import tempfile
import warnings
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from vitgraft.errors import ArtefactError, ConfigError, Told, option, unknown
from vitgraft.kinds import checked
from vitgraft.models.model import Model
from vitgraft.models.programs import torch_forms
from vitgraft.models.programs.served import Served, example, facts, served

Form = Literal["onnx", "torchscript", "torch-export"]
FORMS: tuple[Form, ...] = get_args(Form)
SUFFIXES: Mapping[str, str] = {"onnx": ".onnx", "torchscript": ".pt", "torch-export": ".pt2"}

TRACED, RUN = 2, 3
"""Images in the batch that a program is made with, and in the one that it is run with: it takes any number."""

TOLERANCE = 1e-4
"""How far a program's logits may lie from the model's, relative to their size."""

ROUNDED = 0.25
"""The same for a program of int8 weights; a program that is further away is broken, not rounded."""


@dataclass(frozen=True)
class Exported:
    """A written program: its form, where it stands, whether it is merged, and why not.

    `gap` is the largest difference of logits from the model's on noise, of the file itself; None if nothing here
    can run it. `size` is in bytes.
    """

    form: Form
    path: Path
    unmerged: str | None
    gap: float | None
    size: int


@checked
def export(
    model: Model,
    out: Path | str,
    to: str | None = None,
    *,
    pixels: str = "uint8",
    int8: bool = False,
    overwrite: bool = False,
) -> Exported:
    """Write a model as a program of any number of images, which runs without vitgraft.

    It takes `pixels` of the model's size, (B, 3, H, W): "uint8", "unit" (0 to 1) or "normalised"; and gives logits
    and probabilities (B, C). Class names and preprocessing travel along as JSON: ONNX's metadata, or the file
    `vitgraft.json` in a torch file. `to` is onnx, torchscript or torch-export, by default what `out` ends in:
    .onnx, .pt, .pt2. It is merged where the method merges. `int8` stores the weights of linear maps in 8 bits.

    Raises:
        ConfigError: an unknown form or kind of pixels, a missing package, or `int8` of another form than ONNX.
        ArtefactError: `out` is there, or the program that was written computes something else than the model.
    """
    path = Path(os.path.expanduser(os.fspath(out)))
    form = _form(path, to)
    if path.is_dir() or (path.exists() and not overwrite):
        raise ArtefactError(f"'{path}' is there already. Name another file, or replace it ({_force()}).")
    writer = _writer(form, int8)
    program, unmerged = served(model, pixels)  # type: ignore[arg-type]
    kind = program.pixels
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder, _quietly():
        made = Path(folder) / path.name
        writer.write(program, example(model, kind, TRACED), facts(model, kind), made)
        gap = _gap(writer, made, program, example(model, kind, RUN), ROUNDED if int8 else TOLERANCE)
        files = sorted(Path(folder).iterdir(), key=lambda one: one == made)  # the program comes last
        size = sum(one.stat().st_size for one in files)
        for one in files:
            os.replace(one, path.parent / one.name)
    if gap is None:
        warnings.warn(Told(f"{path} was not run: onnxruntime is not installed."), stacklevel=2)
    return Exported(form, path, unmerged, gap, size)


def _force() -> str:
    return "--force; in Python, overwrite=True"


def _form(path: Path, to: str | None) -> Form:
    """The form that is asked for, or that the file's name says."""
    if to is not None:
        if to not in FORMS:
            raise ConfigError(unknown("form", to, FORMS))
        return next(form for form in FORMS if form == to)
    found = [form for form in FORMS if SUFFIXES[form] == path.suffix]
    if not found:
        known = ", ".join(f"{form} ({SUFFIXES[form]})" for form in FORMS)
        raise ConfigError(
            f"'{path}' says no form by its end. Known: {known}; or name one: {option('to', 'onnx')}."
        )
    return found[0]


@dataclass(frozen=True)
class Writer:
    """One form: `write` makes the file, `run` gives the logits of a file, or None if nothing here can run it."""

    write: Callable[[Served, Tensor, Mapping[str, str], Path], None]
    run: Callable[[Path, Tensor], Tensor | None]


def _writer(form: Form, int8: bool) -> Writer:
    if form == "onnx":
        from vitgraft.models.programs import onnx_form

        onnx_form.check(int8)
        return Writer(onnx_form.write_int8 if int8 else onnx_form.write, onnx_form.run)
    if int8:
        raise ConfigError(
            f"int8 weights are written into ONNX alone, and {form} was asked for. Use {option('to', 'onnx')}, or "
            "leave int8 out."
        )
    if form == "torchscript":
        return Writer(torch_forms.write_script, torch_forms.run_script)
    return Writer(torch_forms.write_program, torch_forms.run_program)


def _gap(writer: Writer, path: Path, program: Served, images: Tensor, most: float) -> float | None:
    """How far a file's logits are from the model's. Raises ArtefactError if they are others."""
    with torch.no_grad():
        wanted = program(images)[0]
        found = writer.run(path, images)
    if found is None:
        return None
    gap = float((found - wanted).abs().max())
    if found.shape != wanted.shape or not gap <= most * max(1.0, float(wanted.abs().max())):
        raise ArtefactError(
            f"The program that was written computes other logits than the model ({gap:.2g} apart on noise), so it "
            "was not kept. Please report it with the versions of torch and onnxruntime."
        )
    return gap


@contextmanager
def _quietly() -> Any:
    """Nothing is heard of what libraries tell their own developers while they write."""
    import logging

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
