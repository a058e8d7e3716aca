"""What a run leaves behind while it goes: snapshots, the log, and lines for a person."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from vitgraft.atomic import json_of, named, write_atomically
from vitgraft.core.tuned import Tuned
from vitgraft.machine.progress import Display, Entry
from vitgraft.train import state as snapshots
from vitgraft.train.settings import Training
from vitgraft.train.state import State

LOG = "log.jsonl"
"""One JSON object an epoch, in the run's folder."""

SAVING_SHARE = 20
"""A snapshot that takes a second to write is written at most every so many seconds."""


class Journal:
    """Writes into `folder`; into nothing if it is None, as in all processes but one.

    `same` is what must not change when the run goes on (`state.conditions`); `seconds` lie between two
    snapshots within an epoch, none if it is 0.
    """

    def __init__(self, folder: Path | None, same: Mapping[str, Any], display: Display, seconds: float) -> None:
        self.folder, self.same, self.display, self.seconds = folder, same, display, seconds
        self._due_at = perf_counter() + seconds

    def begin(self, state: State) -> None:
        """Make the folder agree with `state`: a fresh run's leaves nothing of an earlier one."""
        if state.epoch or state.step:
            self.display.say(f"Going on after epoch {state.epoch}, step {state.step}.")
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (state.epoch or state.step):
                snapshots.discard(self.folder)
            rewrite_log(self.folder, state.history)

    def due(self) -> bool:
        """True if it is time for a snapshot."""
        return self.folder is not None and perf_counter() >= self._due_at

    def save(self, state: State, model: Tuned, optimizer: torch.optim.Optimizer) -> None:
        """Write a snapshot."""
        if self.folder is None:
            return
        began = perf_counter()
        snapshots.save(self.folder, self.same, state, model, optimizer)
        now = perf_counter()
        self._due_at = now + (max(self.seconds, SAVING_SHARE * (now - began)) if self.seconds else 0.0)

    def epoch(self, entry: Mapping[str, Any]) -> None:
        """Log and show an epoch that is over."""
        if self.folder is not None:
            append_log(self.folder, entry)
        self.display.epoch(entry)

    def early(self, state: State, settings: Training) -> None:
        """Say that patience has ended, and which values the run keeps."""
        last = "the last epoch's values; to keep the best: --select best (in Python, select='best')"
        kept = "its values" if settings.select == "best" else last
        self.display.say(
            f"Stopped early after epoch {state.epoch} of {settings.epochs}: no better validation for "
            f"{settings.patience} epoch{'s' * (settings.patience != 1)}. The best was epoch {state.best_epoch}; "
            f"kept are {kept}."
        )

    def stopped(self, state: State) -> str:
        """Say how to go on after an interrupt; returns what was said."""
        where = f"Stopped after epoch {state.epoch}, step {state.step}."
        if self.folder is None:
            said = f"{where} Nothing was saved: no output folder was given."
        else:
            how = "run the same command with --resume (in Python: resume=True)"
            said = f"{where} The snapshot is in {self.folder}; to go on, {how}."
        self.display.say(said)
        return said


def rewrite_log(folder: Path, history: Sequence[Entry]) -> None:
    """Make `log.jsonl` hold exactly `history`, so that a resumed run repeats no line."""
    write_atomically(folder / LOG, "".join(json_of(entry) + "\n" for entry in history).encode())


def append_log(folder: Path, entry: Entry) -> None:
    """Add one epoch to `log.jsonl`."""
    with named(folder / LOG), (folder / LOG).open("a") as file:
        file.write(json_of(entry) + "\n")
