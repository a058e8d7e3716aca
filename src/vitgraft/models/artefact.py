"""A graft on disk: a folder with `graft.safetensors` (the trained values) and `graft.json` (what they are).

Beside the trained values stand the findings of a method that looked at training data, under names of their own.

Nothing of the backbone is in it. Files are written under a temporary name and renamed, the tensors first, so a
folder with a `graft.json` is complete.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from vitgraft.atomic import write_atomically
from vitgraft.core.tuned import Tuned
from vitgraft.errors import ArtefactError

SCHEMA = 1
TENSORS = "graft.safetensors"
CARD = "graft.json"
FOUND = "found:"
"""What a finding's name begins with among the tensors."""


@dataclass(frozen=True)
class BackboneId:
    """Which backbone a graft stands on, and how it was made: `checkpoint` is a file of the user's, if any.

    `rebuildable` is False for a model object that the user built: only its fingerprint is known.
    """

    name: str
    fingerprint: str
    checkpoint: str | None = None
    image_size: int | None = None
    global_pool: str | None = None
    rebuildable: bool = True


@dataclass(frozen=True)
class Card:
    """Everything about a graft but its values. `method` and `preprocessing` are in their own JSON forms."""

    method: dict[str, Any]
    backbone: BackboneId
    preprocessing: dict[str, Any]
    class_names: tuple[str, ...]
    trained_values: dict[str, int]
    versions: dict[str, str]
    metrics: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    @classmethod
    def from_json(cls, values: Mapping[str, Any], path: Path) -> Self:
        """The card in `values`, read from `path`. Raises ArtefactError."""
        if values.get("schema") != SCHEMA:
            raise ArtefactError(
                f"{path} has schema {values.get('schema')!r}; this vitgraft reads {SCHEMA}. "
                "Load it with the version that wrote it, or train again."
            )
        try:
            backbone = BackboneId(**values["backbone"])
            rest = {key: value for key, value in values.items() if key != "backbone"}
            return cls(backbone=backbone, **{**rest, "class_names": tuple(rest["class_names"])})
        except (KeyError, TypeError) as error:
            raise ArtefactError(f"{path} is not a graft's card: {error}. Save the graft again.") from None


def write(folder: Path, card: Card, state: Mapping[str, Tensor], findings: Mapping[str, Tensor]) -> None:
    """Write a graft into `folder`, replacing one that is there. Raises ArtefactError if that is a file."""
    if folder.exists() and not folder.is_dir():
        raise ArtefactError(f"'{folder}' is a file, and a graft is written into a folder. Name another one.")
    folder.mkdir(parents=True, exist_ok=True)
    together = {**state, **{FOUND + name: value for name, value in findings.items()}}
    tensors = {name: value.detach().cpu().contiguous() for name, value in together.items()}
    write_atomically(folder / TENSORS, safetensors.torch.save(tensors))
    write_atomically(folder / CARD, (json.dumps(asdict(card), indent=2) + "\n").encode())


def read(folder: Path) -> tuple[Card, dict[str, Tensor], dict[str, Tensor]]:
    """The card, the trained values and the findings in `folder`.

    Raises:
        ArtefactError: a missing, damaged or foreign file.
    """
    path = folder / CARD
    if not path.is_file():
        raise ArtefactError(
            f"{folder} holds no {CARD}, so it is no finished graft. Name the folder that `vitgraft fit --out` or "
            "`model.save` wrote; a run that was stopped goes on with `--resume`."
        )
    try:
        values = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ArtefactError(f"{path} is damaged ({error}). Save the graft again.") from None
    card = Card.from_json(values, path)
    tensors = folder / TENSORS
    try:
        together = safetensors.torch.load_file(tensors)
    except (SafetensorError, OSError) as error:
        raise ArtefactError(f"{tensors} cannot be read ({error}). Save the graft again.") from None
    findings = {name for name in together if name.startswith(FOUND)}
    state = {name: value for name, value in together.items() if name not in findings}
    return card, state, {name.removeprefix(FOUND): together[name] for name in sorted(findings)}


def fill(tuned: Tuned, state: Mapping[str, Tensor], folder: Path) -> None:
    """Give a model the trained values of `folder`. Raises ArtefactError unless they are exactly its own."""
    own = tuned.state_dict()
    wrong = sorted(own.keys() ^ state.keys())
    wrong += [name for name in own.keys() & state.keys() if own[name].shape != state[name].shape]
    if wrong:
        raise ArtefactError(
            f"{folder / TENSORS} does not fit its own card: {len(wrong)} tensors are missing, foreign or "
            f"of another shape, such as {', '.join(wrong[:4])}. The files belong to two different grafts, or to "
            "another backbone."
        )
    tuned.load_state_dict(dict(state), strict=True)
