"""Models that a repository on the hub or a folder describes, by timm's names for them.

`hf-hub:owner/name`, perhaps with `@revision`, and `local-dir:FOLDER`: a config.json of timm's says what is built,
and the weights lie beside it.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from timm.models import PretrainedCfg

from vitgraft.backbones import hub
from vitgraft.backbones.catalogue import TIMM
from vitgraft.backbones.snapshots import CONFIG, config_in
from vitgraft.errors import BackboneError

HUB, FOLDER = "hf-hub", "local-dir"
SPELLINGS = {"hf-hub": HUB, "hf_hub": HUB, "local-dir": FOLDER}

OURS = frozenset({"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"})
"""Arguments of timm.create_model that say where weights are, and are no business of a model's description."""

FAMILIES = {
    "vit": "vit",
    "deit": "deit",
    "dinov2": "dinov2",
    "dinov2_with_registers": "dinov2",
    "vit_mae": "mae",
    "clip": "clip",
    "clip_vision_model": "clip",
    "siglip": "siglip",
    "siglip_vision_model": "siglip",
}
"""transformers' model types, by how the catalogue's short names begin."""


DISTILLED = 2
"""Prefix tokens of a model without registers: a class token, a distillation token."""


@dataclass(frozen=True)
class Described:
    """What to build: timm's architecture, its arguments and its pretrained_cfg. `folder` holds the weights."""

    architecture: str
    arguments: Mapping[str, Any]
    pretrained_cfg: Mapping[str, Any]
    folder: Path | None


def canonical(name: str) -> str:
    """A name in timm's one spelling, a folder's path in full; other names as they are."""
    kind, where = _parts(name)
    if kind is None:
        return name
    return f"{kind}:{os.path.abspath(os.path.expanduser(where)) if kind == FOLDER else where}"


def folder_of(name: str) -> Path | None:
    """The folder that a name's weights are in; None for names that have none."""
    kind, where = _parts(name)
    return Path(where) if kind == FOLDER and where else None


def described(name: str, checkpoint: Path | None = None) -> Described | None:
    """What a name with a source describes; None for timm's own names.

    A folder that moved, or a repository that was fetched, is described by the one that is given as `checkpoint`.

    Raises:
        BackboneError: no description there, or one that is not timm's.
        CheckpointError: the hub cannot be reached.
    """
    kind, where = _parts(name)
    if kind is None:
        return None
    if not where:
        raise BackboneError(f"{name!r} names nothing: write hf-hub:owner/name or local-dir:FOLDER.")
    if kind == HUB and checkpoint is not None and (checkpoint / CONFIG).is_file():  # the repository, fetched
        home, folder = checkpoint, checkpoint
    elif kind == HUB:
        home, folder = hub.fetch_file(name, where, (CONFIG,)).parent, None
    else:
        given = Path(canonical(name).partition(":")[2])
        moved = checkpoint is not None and not given.is_dir() and checkpoint.is_dir()
        home = folder = checkpoint if moved and checkpoint is not None else given
    if not (home / CONFIG).is_file():
        raise BackboneError(
            f"{name}: there is no {CONFIG} in {home}, which would say what to build. Name the model, and give its "
            "weights: --backbone NAME --checkpoint FILE (in Python, checkpoint=FILE)."
        )
    return _parsed(name, config_in(home), home, folder)


def _parts(name: str) -> tuple[str | None, str]:
    kind, colon, where = name.partition(":")
    return (SPELLINGS.get(kind.lower()), where) if colon else (None, name)


def _parsed(name: str, config: Mapping[str, Any], home: Path, folder: Path | None) -> Described:
    """By timm's rules: what was saved long ago has its pretrained_cfg at the top."""
    architecture = config.get("architecture")
    if not isinstance(architecture, str):
        raise BackboneError(_not_timms(name, config, home))
    inner, arguments = config.get("pretrained_cfg", config), config.get("model_args") or {}
    if not isinstance(inner, Mapping) or not isinstance(arguments, Mapping):
        raise BackboneError(f"{home / CONFIG} is not as timm writes it: fetch it again.")
    if foreign := sorted(OURS & arguments.keys()):
        raise BackboneError(f"{home / CONFIG} sets {', '.join(foreign)}, which a description must not.")
    known = {one.name for one in fields(PretrainedCfg)} - {"file", "url", "state_dict", "source", "architecture"}
    pretrained = {key: _tuples(value) for key, value in inner.items() if key in known}
    kept = {key: _tuples(value) for key, value in arguments.items() if key != "num_classes"}
    return Described(architecture, kept, pretrained, folder)


def _tuples(value: Any) -> Any:
    """JSON has lists where timm has tuples."""
    return tuple(value) if isinstance(value, list) else value


def _not_timms(name: str, config: Mapping[str, Any], home: Path) -> str:
    kind = config.get("model_type")
    if not isinstance(kind, str):
        return (
            f"{name}: its {CONFIG} names no architecture of timm's. Name the model: vitgraft backbones lists some."
        )
    found = _alike(kind, config)
    names = " or ".join(row.short for row in found) or "NAME (vitgraft backbones lists some)"
    return (
        f"{name} is a {kind} of transformers, which is built by timm's name, with these files as its weights: "
        f"--backbone {names} --checkpoint {home} (in Python, checkpoint='{home}'). As transformers' own model "
        f"it is --backbone hf:{name.partition(':')[2]}."
    )


def _alike(kind: str, config: Mapping[str, Any]) -> list[Any]:
    """The catalogue's models of the same family and sizes."""
    inner = config.get("vision_config")
    own = inner if isinstance(inner, Mapping) else config
    sizes = tuple(own.get(key) for key in ("hidden_size", "num_hidden_layers", "patch_size"))
    registers = own.get("num_register_tokens", 0)
    return [
        row
        for row in TIMM
        if row.family == FAMILIES.get(kind)
        and (row.width, row.depth, row.patch) == sizes
        and (not registers or row.prefix > registers)
        and (registers or row.prefix <= DISTILLED)
    ]
