"""`vitgraft analyze inference`: what tuned models cost in use."""

from typing import Annotated, Any, Literal

import typer

from vitgraft.cli import guard, show
from vitgraft.cli.analyze.asked import Asked, bare_of
from vitgraft.cli.options import given_by

SHOWN = ("speed", "speed / frozen model's", "peak growth", "FLOPs", "layers", "trained")
BESIDE = ("published speed", "published speed / BitFit's", "published FLOPs")
"""Columns that are printed; the file has more."""


@given_by(bare_of)
def inference(
    asked: Asked,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds in which all models take turns.")] = 20,
    batch: Annotated[int, typer.Option(min=1, help="Images of a batch.")] = 16,
    classes: Annotated[int, typer.Option(min=2, help="Classes of the task.")] = 100,
    precision: Annotated[Literal["fp32", "bf16"], typer.Option(help="Arithmetic.")] = "fp32",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Measure what tuned models cost in use, beside the published table (SynQT, appendix, table 1).

    Images a second, peak memory, FLOPs and trained values of the frozen model, bias, VPT-shallow 100, VPT-deep 10,
    VQT 1, SynQT 4, adapters, LoRA, and LoRA merged. Models take turns, round by round, so that a machine that
    slows down slows all of them; leave it alone meanwhile. Weights are random and nothing is downloaded, as no
    number here depends on them. Stopped, the same command goes on.

    Examples:

      vitgraft analyze inference --rounds 5

      vitgraft analyze inference --backbone vit_base_patch16_224 --batch 64 --device cuda
    """
    from dataclasses import asdict

    import torch

    from vitgraft.analyze.bare import WEIGHTS, bare
    from vitgraft.analyze.inference import Setting, measure
    from vitgraft.analyze.inference_figure import figure
    from vitgraft.analyze.journal import Journal
    from vitgraft.cli.analyze.asked import described, placed
    from vitgraft.report.style import styled
    from vitgraft.results.provenance import commit, device_name, versions

    asked.check_free()
    where, arithmetic = placed(device, precision)
    setting = Setting(asked.backbone, asked.image_size, batch, classes, where, arithmetic)
    told: dict[str, Any] = {
        "name": asked.name,
        "command": asked.command,
        "device": device_name(torch.device(where)),
        "backbone": {**described(bare(asked.backbone, asked.image_size)), "weights": WEIGHTS},
    }
    same = {**told, **asdict(setting), "command": None, "versions": versions(), "commit": commit()}
    journal = Journal(asked.out / f".{asked.name}.part.jsonl", same)
    rows = measure(setting, rounds, journal, guard.note)
    with styled():
        card, drawing = figure(rows, setting, told)
        asked.write(card, drawing)
    journal.close()
    _print(card.columns, card.rows)
    for line in card.notes:
        typer.echo(line)


def _print(columns: Any, rows: Any) -> None:
    """The table for a person, without columns that are empty."""
    found = [dict(zip(columns, row, strict=True)) for row in rows]
    shown = [*SHOWN, *(name for name in BESIDE if any(row[name] is not None for row in found))]
    cells = [(str(row["model"]), *(_number(row[name]) for name in shown)) for row in found]
    show.table("", ("model", *shown), cells, right=shown)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"
