"""A hub repository's copy in a folder: which files hold its weights, and what its config.json says of them.

A folder is one by the names of its files: `model.safetensors`, alone or in parts that the file
`model.safetensors.index.json` lists, or their older names; the cache of the hub's client keeps such
folders under `snapshots`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitgraft.backbones.containers import shortened
from vitgraft.errors import CheckpointError

NAMES = (
    "model.safetensors",
    "pytorch_model.bin",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)
"""Weights by the names of the hub, the preferred first."""

INDEX = ".index.json"
CONFIG = "config.json"

_PART = re.compile(r"(.+)-(\d+)-of-(\d+)(\.\w+)")


@dataclass(frozen=True)
class Snapshot:
    """Weights as a user named them, by the files that hold them; `parts` is a file's name for each tensor's.

    `config` is what lies beside them as config.json, empty where there is none.
    """

    path: Path
    files: tuple[Path, ...]
    parts: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)


def snapshot(path: Path) -> Snapshot | None:
    """The weights at `path`; None for a folder that is no repository's copy.

    Raises:
        CheckpointError: an index that is damaged or whose files are not there, or one part of several.
    """
    home = _newest(path)
    if not home.is_dir():
        return _of_file(home)
    for name in NAMES:
        if (home / name).is_file():
            return Snapshot(path, (home / name,), config=config_in(home))
        if (home / f"{name}{INDEX}").is_file():
            return _in_parts(path, home / f"{name}{INDEX}")
    return None


def config_in(folder: Path, name: str = CONFIG) -> dict[str, Any]:
    """What a folder's config.json, or another file of JSON, holds; nothing if there is none.

    Raises:
        CheckpointError: it is no JSON object.
    """
    path = folder / name
    return _json(path) if path.is_file() else {}


def described(config: Mapping[str, Any]) -> tuple[int | None, str | None]:
    """The number of attention heads and the activation that transformers' config.json names, of images' tower."""
    inner = config.get("vision_config")
    own = inner if isinstance(inner, Mapping) else config
    heads, activation = own.get("num_attention_heads"), own.get("hidden_act")
    return heads if isinstance(heads, int) else None, activation if isinstance(activation, str) else None


def _newest(path: Path) -> Path:
    """The snapshot that `main` means, of a repository as the hub's client keeps it."""
    named, kept = path / "refs" / "main", path / "snapshots"
    if named.is_file() and (found := kept / named.read_text().strip()).is_dir():
        return found
    only = list(kept.iterdir()) if kept.is_dir() else []
    return only[0] if len(only) == 1 else path


def _of_file(path: Path) -> Snapshot:
    if path.name.endswith(INDEX):
        return _in_parts(path, path)
    part = _PART.fullmatch(path.name)
    if part and (index := path.with_name(f"{part[1]}{part[4]}{INDEX}")).is_file():
        raise CheckpointError(
            f"{path} is one of {int(part[3])} parts of a model. Pass {index}, which lists them, or the folder "
            f"{path.parent}."
        )
    return Snapshot(path, (path,), config=config_in(path.parent) if path.name in NAMES else {})


def _in_parts(path: Path, index: Path) -> Snapshot:
    parts = _json(index).get("weight_map")
    if not isinstance(parts, dict) or not parts or not all(isinstance(one, str) for one in parts.values()):
        raise CheckpointError(f"{index} lists no parts of a model under weight_map. Fetch it again.")
    names = sorted(set(parts.values()))
    if foreign := [name for name in names if Path(name).name != name]:
        raise CheckpointError(f"{index} names files outside of its folder ({shortened(foreign)}): fetch it again.")
    if lacking := [name for name in names if not (index.parent / name).is_file()]:
        raise CheckpointError(
            f"{index} lists {len(names)} parts, of which {len(lacking)} lack: {shortened(lacking)}. Fetch what is "
            "missing into the same folder."
        )
    return Snapshot(path, tuple(index.parent / name for name in names), parts, config_in(index.parent))


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is no JSON ({error}). Fetch it again.") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no table of names and values. Fetch it again.")
    return content
