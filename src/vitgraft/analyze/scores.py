"""Scores of a backbone's values on a task: computed, or taken from a folder of files that hold just these."""

import re
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from vitgraft.core.backbone import Backbone
from vitgraft.data.preprocessing import preset
from vitgraft.data.task import Task
from vitgraft.machine.seeds import own_randomness, seed_all
from vitgraft.methods import describe
from vitgraft.methods.spt import LOOKING, Spt
from vitgraft.models.planting import own_preprocessing
from vitgraft.runs.config import RunConfig
from vitgraft.search import sensitivity as files
from vitgraft.search.sensitivity import Sensitivity
from vitgraft.train.calibrate import Calibrator

SUFFIX = ".safetensors"
SAME = ("task_fingerprint", "classes", "seed")
"""What two files of scores must have in common, beside backbone and the fields of how gradients are taken."""


def scored(config: RunConfig, method: Spt, task: Task, frozen: Backbone) -> Sensitivity:
    """Score a backbone's values on a task's training images, as `method` says.

    Raises:
        ConfigError: a field that does not fit.
        TrainingError: sums that are not finite.
    """
    pictures = preset(config.preprocessing, own_preprocessing(frozen))
    looking = Calibrator(method, frozen, len(task.classes), task.splits["train"], pictures, config.training)
    began, cpu = perf_counter(), torch.device("cpu")
    with own_randomness(cpu):
        seed_all(config.training.seed, cpu)
        scores = method.scores(frozen, len(task.classes), looking)
    scores = {name: value.cpu() for name, value in scores.items()}
    told = origin(config, method, task) | {"seconds": round(perf_counter() - began, 3)}
    return Sensitivity(scores, frozen.name, frozen.fingerprint(), told)


def origin(config: RunConfig, method: Spt, task: Task) -> dict[str, Any]:
    """What scores depend on beside the backbone."""
    return {
        "task": task.name,
        "task_fingerprint": task.fingerprint(),
        "classes": len(task.classes),
        "method": describe(method),
        "seed": config.training.seed,
    }


def kept(folder: Path, config: RunConfig, method: Spt, task: Task, frozen: Backbone) -> Path | None:
    """A file in `folder` that holds what `scored` would compute, made by whatever command; None without one."""
    wanted, fingerprint = origin(config, method, task), frozen.fingerprint()
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        card = files.card_of(path)
        if card is not None and card.get("fingerprint") == fingerprint and _same(card["origin"], wanted):
            return path
    return None


def scored_once(
    folder: Path | None, config: RunConfig, method: Spt, task: Task, frozen: Backbone
) -> tuple[Sensitivity, Path | None]:
    """`scored`, or what a file in `folder` holds of it; new scores are kept there. Returns the file, too."""
    if folder is None:
        return scored(config, method, task, frozen), None
    path = kept(folder, config, method, task, frozen)
    if path is not None:
        return files.read(path, frozen), path
    found = scored(config, method, task, frozen)
    words = [re.sub(r"\W+", "-", Path(one).name).strip("-") for one in (task.name, frozen.name)]
    path = (
        folder / f"{'-'.join(words)}-{frozen.fingerprint()[:6]}-{task.fingerprint()[:6]}-s{config.training.seed}"
    )
    files.write(path.with_name(path.name + SUFFIX), found)
    return found, path.with_name(path.name + SUFFIX)


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    ways = [{key: dict(its.get("method", {})).get(key) for key in LOOKING} for its in (one, other)]
    return ways[0] == ways[1] and all(one.get(key) == other[key] for key in SAME)
