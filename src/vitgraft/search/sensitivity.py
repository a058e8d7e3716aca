"""Scores of a backbone's values as a file: one serves every budget and every kind of module."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vitgraft.atomic import json_of, write_atomically
from vitgraft.core.backbone import Backbone
from vitgraft.errors import ArtefactError

SCHEMA = 1


@dataclass(frozen=True)
class Sensitivity:
    """A score for each value of a backbone, by the parameter's name, and how they came about (`origin`)."""

    scores: Mapping[str, Tensor]
    backbone: str
    fingerprint: str
    origin: Mapping[str, Any] = field(default_factory=dict)


def without_data(backbone: Backbone, score: str) -> dict[str, Tensor]:
    """Scores that ask no image, magnitude or random: what a ranking by gradients must beat."""
    values = {name: backbone.parameter(name).detach() for name in backbone.parameter_names()}
    if score == "magnitude":
        return {name: value.abs() for name, value in values.items()}
    return {name: torch.rand(value.shape) for name, value in values.items()}


def write(path: Path, sensitivity: Sensitivity) -> None:
    """Write a file that is whole or not there; it is as large as the weights."""
    card = {
        "schema": SCHEMA,
        "backbone": sensitivity.backbone,
        "fingerprint": sensitivity.fingerprint,
        "origin": dict(sensitivity.origin),
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in sensitivity.scores.items()}
    write_atomically(path, safetensors.torch.save(tensors, {"sensitivity": json_of(card)}))


def card_of(path: Path) -> dict[str, Any] | None:
    """What a file of scores says of itself: backbone, fingerprint, origin. None if it is no such file."""
    try:
        with safe_open(path, framework="pt") as file:
            card = json.loads((file.metadata() or {})["sensitivity"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return None
    return card if isinstance(card, dict) and isinstance(card.get("origin"), dict) else None


def read(path: Path, backbone: Backbone) -> Sensitivity:
    """The scores in a file, which must be of this backbone.

    Raises:
        ArtefactError: a file that is missing, damaged or no sensitivity, or of another backbone.
    """
    try:
        with safe_open(path, framework="pt") as file:
            card = json.loads((file.metadata() or {})["sensitivity"])
            found = Sensitivity({}, card["backbone"], card["fingerprint"], card["origin"])
            scores = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        why = f"it has no {error.args[0]!r}" if isinstance(error, KeyError) else str(error)
        raise ArtefactError(
            f"'{path}' is no sensitivity that can be read: {why}. Make one with vitgraft sensitivity."
        ) from None
    own = backbone.fingerprint()
    if found.fingerprint != own:
        raise ArtefactError(
            f"'{path}' holds the sensitivity of {found.backbone} with weights {found.fingerprint}; this backbone "
            f"({backbone.name}) has {own}. Make one for it with vitgraft sensitivity."
        )
    return Sensitivity(scores, found.backbone, found.fingerprint, found.origin)
