"""Reads a file of named tensors: safetensors, torch or numpy. What it is, its content says, not its suffix.

No pickle is ever executed: torch files are read with `weights_only`, numpy files with `allow_pickle=False`.
"""

import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from vitgraft.errors import CheckpointError

CONTAINERS = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Keys under which training scripts keep their weights, the preferred first: averaged weights, as in timm."""

WRAPPERS = ("module.", "_orig_mod.")
"""What DistributedDataParallel and torch.compile put before every name; taken off, in any order."""

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".tar", ".npz")
SHOWN = 8  # names that a message lists before it only counts
_SNIFFED = 512  # bytes at the start of a file that tell its kind


@dataclass(frozen=True)
class WeightFile:
    """Named tensors as a file holds them, without containers and wrappers.

    `kind` is "safetensors", "torch" or "npz"; `unwrapped` the containers and wrappers that were taken off, from
    the outside in.
    """

    path: Path
    kind: str
    unwrapped: tuple[str, ...]
    tensors: Mapping[str, Tensor]


def read_weights(path: Path) -> WeightFile:
    """Every tensor of a weight file, on the CPU; torch files are mapped into memory where their format allows.

    Raises:
        CheckpointError: no such file, a damaged one, one that is no weight file, or one that only a full
            unpickling could read.
    """
    kind = _kind(_existing(path))
    if kind == "torch":
        return _unwrapped(path, _read_torch(path))
    read = _read_npz if kind == "npz" else _read_safetensors
    return WeightFile(path, kind, (), read(path))


def shortened(names: list[str]) -> str:
    """`a, b, c and 5 more`: up to 8 names."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _existing(path: Path) -> Path:
    if path.is_file():
        return path
    if path.is_dir():
        inside = sorted(entry.name for entry in path.iterdir() if entry.suffix in SUFFIXES)
        found = f"It holds {shortened(inside)}" if inside else f"It holds no file ending in {', '.join(SUFFIXES)}"
        raise CheckpointError(f"Checkpoint {path} is a folder. {found}; pass one weight file.")
    if not path.parent.is_dir():
        raise CheckpointError(f"Checkpoint {path} does not exist, nor does the folder {path.parent}.")
    names = sorted(entry.name for entry in path.parent.iterdir() if entry.is_file())
    near = get_close_matches(path.name, names, n=3, cutoff=0.5)
    near += [name for name in names if Path(name).stem == path.stem and name not in near]
    weights = [name for name in names if Path(name).suffix in SUFFIXES]
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Weight files there: {shortened(weights) or 'none'}."
    raise CheckpointError(f"Checkpoint {path} does not exist. {hint}")


def _kind(path: Path) -> str:
    with path.open("rb") as stream:
        start = stream.read(_SNIFFED)
    if not start:
        raise CheckpointError(f"{path} is empty: the download or copy did not finish. Fetch it again.")
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path} is a Git LFS pointer: a short text that stands for the weights. Run `git lfs pull` in its "
            "repository, or download the file itself."
        )
    if start.lstrip()[:1] == b"<":
        raise CheckpointError(
            f"{path} is a web page, no weights: the address led to an error, log-in or preview page. Open it in "
            "a browser, and download the file behind it."
        )
    if start.startswith(b"PK"):
        return _zip_kind(path)
    if start[8:9] == b"{":  # after the header's length in eight bytes
        return "safetensors"
    if start.startswith(b"\x80"):  # the protocol byte of a pickle: torch's format before 1.6
        return "torch"
    raise CheckpointError(
        f"{path} is no weight file. Readable are safetensors, torch's .pth, .pt, .bin or .tar, and JAX's .npz; "
        "unpack an archive first, and of a sharded model pass one merged file."
    )


def _zip_kind(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise _damaged(path, error) from None
    if any(name.endswith("/constants.pkl") for name in names):
        raise CheckpointError(
            f"{path} is a TorchScript program, not a file of weights. Save its state_dict() as safetensors, or "
            "take the model's file from timm's hub repository."
        )
    return "npz" if any(name.endswith(".npy") for name in names) else "torch"


def _damaged(path: Path, error: Exception) -> CheckpointError:
    reason = str(error).strip().splitlines()
    return CheckpointError(
        f"{path} cannot be read: it is cut off or damaged ({reason[0] if reason else type(error).__name__}). It "
        f"has {path.stat().st_size:,} bytes; compare with its source, and fetch it again."
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise _damaged(path, error) from None


def _read_npz(path: Path) -> dict[str, Tensor]:
    tensors = {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for name in arrays.files:
                tensors[name] = torch.from_numpy(np.ascontiguousarray(arrays[name]))
    except TypeError as error:  # torch has no such type: text, dates, or JAX's raw bfloat16
        raise CheckpointError(f"{path} holds an array that is no weight, {name!r}: {error}.") from None
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise _damaged(path, error) from None
        raise CheckpointError(
            f"{path} holds Python objects at {name!r}, which vitgraft never unpickles. Save it again with plain "
            "number arrays only."
        ) from None
    except (OSError, EOFError, zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError) as error:
        raise _damaged(path, error) from None
    return tensors


def _read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise _refused(path, error) from None
    except Exception as error:
        # Damaged bytes make torch's reader stumble anywhere: EOFError, KeyError, RuntimeError, TypeError, ...
        raise _damaged(path, error) from None


def _refused(path: Path, error: Exception) -> CheckpointError:
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    if found is None:
        return _damaged(path, RuntimeError("torch finds no valid pickle in it"))
    return CheckpointError(
        f"{path} holds more than tensors ({found[1]}), and reading that would run code from the file, which "
        'vitgraft never does. If you trust its source, convert it once: python -c "import torch, '
        f"safetensors.torch as s; d = torch.load('{path.name}', map_location='cpu', weights_only=False); "
        "d = d.get('state_dict', d.get('model', d)); s.save_file({k: v.clone() for k, v in d.items()}, "
        "'converted.safetensors')\" and pass converted.safetensors."
    )


def _unwrapped(path: Path, content: Any) -> WeightFile:
    taken: list[str] = []
    while isinstance(content, Mapping) and (key := _container(content)) is not None:
        taken.append(key)
        content = content[key]
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a dictionary of named tensors.")
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(
            f"{path} holds no named tensors. Its keys are {shortened([str(key) for key in content]) or 'none'}; "
            f"weights are looked for under {', '.join(CONTAINERS)}, or at the top."
        )
    while wrapper := next((w for w in WRAPPERS if all(name.startswith(w) for name in tensors)), None):
        taken.append(wrapper)
        tensors = {name.removeprefix(wrapper): value for name, value in tensors.items()}
    return WeightFile(path, "torch", tuple(taken), tensors)


def _container(content: Mapping[Any, Any]) -> str | None:
    return next((key for key in CONTAINERS if isinstance(content.get(key), Mapping)), None)
