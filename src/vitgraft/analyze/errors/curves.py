"""How a run learnt, epoch by epoch: its log as columns."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitgraft.train.journal import LOG


@dataclass(frozen=True)
class Curves:
    """One value an epoch (from 1) in each list, None where it was not measured; accuracies are in percent."""

    epochs: tuple[int, ...]
    train_loss: tuple[float | None, ...]
    val_loss: tuple[float | None, ...]
    val_top1: tuple[float | None, ...]


def curves(folder: Path) -> Curves | None:
    """The curves of the run in a folder; None if its log is not there, holds nothing, or cannot be read."""
    try:
        lines = (folder / LOG).read_text().splitlines()
        entries = [json.loads(line) for line in lines if line.strip()]
        epochs = tuple(int(entry["epoch"]) for entry in entries)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if not entries:
        return None
    columns = (_column(entries, key) for key in ("train_loss", "val_loss", "val_top1"))
    return Curves(epochs, *columns)


def _column(entries: list[dict[str, Any]], key: str) -> tuple[float | None, ...]:
    found = (entry.get(key) for entry in entries)
    return tuple(float(value) if isinstance(value, int | float) else None for value in found)
