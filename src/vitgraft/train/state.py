"""Snapshots: all that a killed run needs to go on and end as if it had never been killed.

No random state is among it: order, augmentation and dropout are functions of (seed, epoch, step).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitgraft.atomic import left_over, replacing
from vitgraft.core.tuned import Tuned
from vitgraft.data.preprocessing import Preprocessing
from vitgraft.data.task import Split
from vitgraft.errors import CheckpointError, ConfigError, DivergedError
from vitgraft.train.settings import Training, as_now

SCHEMA = 1
FILE = "snapshot.pt"
FREE = ("device", "workers", "eval_batch_size", "snapshot_seconds", "cache", "cache_limit")
"""Settings that may differ when a run goes on: they do not change what it computes."""


@dataclass
class State:
    """How far a run has come: `epoch` epochs are over, and `step` steps of the next.

    `loss`, `hits` and `mass` add up over the steps of the unfinished epoch. `stale` counts epochs since
    `best_epoch`, the one (from 1) with the best validation. `within` is what was chosen for the memory there is
    (`within.Within`).
    """

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    hits: float = 0.0
    mass: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int | None = None
    best_metrics: dict[str, Any] | None = None
    best_values: dict[str, Tensor] | None = None
    last_metrics: dict[str, Any] | None = None
    stale: int = 0
    stopped_early: bool = False
    seconds: float = 0.0
    timed_images: int = 0
    timed_seconds: float = 0.0
    within: dict[str, Any] | None = None


def conditions(
    model: Tuned, splits: Mapping[str, Split | None], settings: Training, preprocessing: Preprocessing
) -> dict[str, Any]:
    """What must be the same for a run to go on, as plain values."""
    values = {key: value for key, value in asdict(settings).items() if key not in FREE}
    for name, split in splits.items():
        values[f"{name} images"] = 0 if split is None else len(split)
        values[f"{name} labels"] = "" if split is None else sha256(split.labels.tobytes()).hexdigest()[:16]
    shapes = repr([(name, tuple(value.shape)) for name, value in model.state_dict().items()])
    values["trained tensors"] = sha256(shapes.encode()).hexdigest()[:16]
    values["preprocessing"] = repr(preprocessing)
    return values


def save(
    folder: Path, same: Mapping[str, Any], state: State, model: Tuned, optimizer: torch.optim.Optimizer
) -> None:
    """Write a snapshot; a kill at any moment leaves it or the one before.

    Raises:
        DivergedError: a trained value that is not finite. Such a run is not worth going on with.
    """
    broken = [name for name, value in model.named_parameters() if not value.isfinite().all()]
    if broken:
        raise DivergedError(
            f"After epoch {state.epoch}, step {state.step}, {len(broken)} trained tensors are no longer finite, "
            f"such as {broken[0]}. Use a lower lr, clip_norm=1, or precision=fp32."
        )
    content = {
        "schema": SCHEMA,
        "same": dict(same),
        "state": vars(state),
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    with replacing(folder / FILE) as file:
        torch.save(content, file)


def load(folder: Path, same: Mapping[str, Any], model: Tuned, optimizer: torch.optim.Optimizer) -> State | None:
    """Bring model and optimizer to the snapshot in `folder`; None if there is none.

    Raises:
        ConfigError: the snapshot is of a run with other settings, which are named.
        CheckpointError: it cannot be read.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        schema = content["schema"]
    except Exception as error:  # a damaged zip file fails in many ways
        raise CheckpointError(
            f"The snapshot {path} is damaged ({type(error).__name__}). Delete it, and the run starts anew."
        ) from error
    if schema != SCHEMA:
        raise CheckpointError(
            f"The snapshot {path} has schema {schema!r}; this vitgraft reads {SCHEMA}. Go on with the version "
            "that wrote it, or delete it to start anew."
        )
    before = as_now(content["same"])
    differing = [key for key in {**before, **same} if before.get(key) != same.get(key)]
    if differing:
        told = "; ".join(f"{key} is {same.get(key)!r}, was {before.get(key)!r}" for key in differing)
        raise ConfigError(
            f"The run in {folder} cannot go on with other settings: {told}. Give the same ones, or start anew "
            "without resume (--resume) or in another folder."
        )
    model.load_state_dict(content["model"], strict=True)
    optimizer.load_state_dict(content["optimizer"])
    return State(**content["state"])


def unfinished(folder: Path) -> str | None:
    """How far the run in `folder` has come, in words, if it has not ended; None if none can go on."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        state, epochs = content["state"], content["same"]["epochs"]
        epoch, step, ended = state["epoch"], state["step"], state["stopped_early"]
    except Exception as error:  # a damaged zip file fails in many ways
        raise CheckpointError(
            f"The snapshot {path} cannot be read ({type(error).__name__}). Delete it to start anew, or use "
            "another folder."
        ) from error
    return None if ended or epoch >= epochs else f"epoch {epoch} of {epochs}, step {step}"


def discard(folder: Path) -> None:
    """Remove the snapshot of an earlier run."""
    for path in (folder / FILE, *left_over(folder / FILE)):
        path.unlink(missing_ok=True)
