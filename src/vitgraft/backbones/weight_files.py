"""Reads a file of named tensors: safetensors, torch or numpy. What it is, its content says, not its suffix.

No pickle is ever executed: torch files are read with `weights_only`, or by `inert` if they hold more than tensors;
numpy files with `allow_pickle=False`.
"""

import json
import pickle
import pickletools
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vitgraft.backbones.containers import shortened, weights_in
from vitgraft.backbones.inert import MAGIC, Contents, Stored, contents
from vitgraft.backbones.onnx_file import read_onnx
from vitgraft.backbones.sizes import said_sizes
from vitgraft.backbones.snapshots import Snapshot, snapshot
from vitgraft.errors import CheckpointError

WRAPPERS = ("module.", "_orig_mod.", "model.", "backbone.", "base_model.", "net.")
"""What DistributedDataParallel, torch.compile and training scripts put before names; taken off if all have it."""

WITHIN = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Parts that torch's own wrappers put into names, behind others, too; taken out there."""

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".tar", ".npz", ".onnx")
ONNX_VERSION, ONNX_NEXT = b"\x08", b"\x12\x1a\x22\x28\x32\x3a\x42"
"""An ONNX file begins with the number of its version, below 128, and the tag of another field."""

_SNIFFED = 512  # bytes at the start of a file that tell its kind


@dataclass(frozen=True)
class WeightFile:
    """Named tensors as a file holds them, without containers and wrappers.

    `kind` is "safetensors", "torch", "npz" or "onnx". `container` are the keys that led to the weights
    (`model.teacher`), `others` those that lead to weights that were not taken, `ignored` what lay among them
    without being a tensor or having a name, and `wrappers` what was taken off or out of names; `config` is the
    config.json of a hub's copy.
    """

    path: Path
    kind: str
    tensors: Mapping[str, Tensor]
    container: str = ""
    others: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    wrappers: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)

    def image_sizes(self) -> list[tuple[int, int]]:
        """What is said of the images that the weights are for, (height, width) in pixels each.

        In the metadata of a file that `vitgraft merge` wrote, or in a config.json of timm's or transformers'.
        """
        known = self.config.get("pretrained_cfg")
        timm = known if isinstance(known, Mapping) else self.config
        built = self.config.get("model_args")
        said = [built.get("img_size")] if isinstance(built, Mapping) else []
        said += [timm.get("input_size"), self.config.get("image_size")]
        if self.kind == "safetensors" and self.path.is_file():
            with suppress(OSError, SafetensorError, ValueError), safe_open(self.path, "pt") as file:
                ours = json.loads((file.metadata() or {}).get("preprocessing", "null"))
                said.insert(0, ours.get("size") if isinstance(ours, Mapping) else None)
        return said_sizes(*said)


def read_weights(path: Path) -> WeightFile:
    """Every tensor of a weight file, or of a hub repository's copy in a folder, on the CPU.

    Torch files are mapped into memory where their format allows.

    Raises:
        CheckpointError: no such file, a damaged one, one that is no weight file, or one whose weights cannot be
            told from the rest.
    """
    found = snapshot(path) if path.exists() else None
    if found is None:
        raise _no_weights(path)
    files = [_read(file) for file in found.files]
    whole = files[0] if len(files) == 1 else _put_together(found, files)
    return _unwrapped(replace(whole, path=path, config=found.config))


def _read(path: Path) -> WeightFile:
    kind = _kind(path)
    if kind == "torch":
        return _read_torch(path)
    if kind == "onnx":
        named, unnamed = read_onnx(path)
        return WeightFile(path, kind, named, ignored=unnamed)
    read = _read_npz if kind == "npz" else _read_safetensors
    return WeightFile(path, kind, read(path))


def _put_together(found: Snapshot, files: Sequence[WeightFile]) -> WeightFile:
    """A model in parts as one. Each tensor must lie in the part that the index says."""
    tensors = {name: value for file in files for name, value in file.tensors.items()}
    lying = {(name, file.path.name) for file in files for name in file.tensors}
    listed = set(found.parts.items())
    if lying != listed:
        astray = sorted({name for name, _ in lying ^ listed})
        raise CheckpointError(
            f"{found.path}: its parts do not hold what its index lists; {len(astray)} tensors are elsewhere or "
            f"missing ({shortened(astray)}). They belong to different downloads: fetch all of them again."
        )
    return WeightFile(found.path, files[0].kind, tensors)


def _no_weights(path: Path) -> CheckpointError:
    """What to say of a path at which there are no weights."""
    if path.is_dir():
        inside = sorted(entry.name for entry in path.iterdir() if entry.suffix in SUFFIXES)
        found = f"It holds {shortened(inside)}" if inside else f"It holds no file ending in {', '.join(SUFFIXES)}"
        return CheckpointError(
            f"Checkpoint {path} is a folder. {found}; pass one weight file, or a folder as a hub has it, with "
            "model.safetensors."
        )
    if not path.parent.is_dir():
        return CheckpointError(f"Checkpoint {path} does not exist, nor does the folder {path.parent}.")
    names = sorted(entry.name for entry in path.parent.iterdir() if entry.is_file())
    near = get_close_matches(path.name, names, n=3, cutoff=0.5)
    near += [name for name in names if Path(name).stem == path.stem and name not in near]
    weights = [name for name in names if Path(name).suffix in SUFFIXES]
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Weight files there: {shortened(weights) or 'none'}."
    return CheckpointError(f"Checkpoint {path} does not exist. {hint}")


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
    if start[:1] == ONNX_VERSION and start[2:3] in ONNX_NEXT:
        return "onnx"
    if start.startswith(b"\x80"):  # the protocol byte of a pickle: torch's format before 1.6 begins with one
        return _pickle_kind(path)
    raise CheckpointError(
        f"{path} is no weight file. Readable are safetensors, torch's .pth, .pt, .bin or .tar, JAX's .npz, ONNX; "
        "unpack an archive first, and of a model in parts pass the folder with its index."
    )


def _zip_kind(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception as error:  # BadZipFile, NotImplementedError, UnicodeDecodeError, ...
        raise _damaged(path, error) from None
    if any(name.endswith("/constants.pkl") for name in names):
        raise CheckpointError(
            f"{path} is a TorchScript program, not a file of weights. Save its state_dict() as safetensors, or "
            "take the model's file from timm's hub repository."
        )
    if any(name.endswith(".npy") for name in names):
        return "npz"
    if not any(name.rpartition("/")[2] == "data.pkl" for name in names):
        raise CheckpointError(
            f"{path} is a zip archive of {shortened(names) or 'nothing'}, and no weight file itself. Unpack it, "
            "and pass the weight file that was in it."
        )
    return "torch"


def _pickle_kind(path: Path) -> str:
    """torch, if the first of the file's pickles is torch's magic number. Nothing is run."""
    try:
        with path.open("rb") as stream:
            if any(value == MAGIC for _, value, _ in pickletools.genops(stream)):
                return "torch"
    except Exception as error:  # whatever the tool stumbles over
        raise _damaged(path, error) from None
    raise CheckpointError(
        f"{path} is a plain pickle (of pickle.dump, not of torch.save); reading it would run code from the file, "
        "which vitgraft never does. Save the weights, in the Python that wrote it: safetensors.torch.save_file("
        "{name: torch.as_tensor(value).contiguous() for name, value in WEIGHTS.items()}, 'weights.safetensors'), "
        "WEIGHTS being the dictionary of named tensors, of a model its state_dict()."
    )


def _damaged(path: Path, error: Exception) -> CheckpointError:
    reason = str(error).strip().splitlines()
    return CheckpointError(
        f"{path} cannot be read: it is cut off or damaged ({reason[0] if reason else type(error).__name__}). It "
        f"has {path.stat().st_size:,} bytes; compare with its source, and fetch it again."
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # SafetensorError, OSError, ValueError, KeyError, ...
        raise _damaged(path, error) from None


def _read_npz(path: Path) -> dict[str, Tensor]:
    tensors, name = {}, ""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for name in arrays.files:
                tensors[name] = torch.from_numpy(np.ascontiguousarray(arrays[name]))
    except TypeError as error:  # torch has no such type: text, dates, or JAX's raw bfloat16
        raise CheckpointError(f"{path} holds an array that is no weight, {name!r}: {error}.") from None
    except ValueError as error:
        if "allow_pickle" not in str(error) or not name:
            raise _damaged(path, error) from None
        raise CheckpointError(
            f"{path} holds Python objects at {name!r}, which vitgraft never unpickles. Save it again with plain "
            "number arrays only."
        ) from None
    except Exception as error:  # OSError, EOFError, BadZipFile, LargeZipFile, zlib.error, NotImplementedError, ...
        raise _damaged(path, error) from None
    return tensors


def _read_torch(path: Path) -> WeightFile:
    """By torch's own reader, or by the inert one if the file holds more than that knows."""
    inside: Contents | None = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError:
        inside = _inert(path)
        content = inside.content
    except Exception as error:
        # Damaged bytes make torch's reader stumble anywhere: EOFError, KeyError, RuntimeError, TypeError, ...
        raise _damaged(path, error) from None
    found = weights_in(path, content)
    weights = {name: value for name, value in found.weights.items() if isinstance(value, Tensor)}
    if inside is not None:
        try:
            stored = {name: one for name, one in found.weights.items() if isinstance(one, Stored)}
            read = inside.read(stored)
            weights = {name: read[name] for name in stored}
        except Exception as error:
            raise _damaged(path, error) from None
    container = ".".join(found.keys)
    return WeightFile(path, "torch", weights, container, found.others, found.ignored)


def _inert(path: Path) -> Contents:
    try:
        return contents(path)
    except Exception as error:  # whatever damaged bytes lead to
        reason = str(error).strip().splitlines()
        raise CheckpointError(
            f"{path} cannot be read: it is cut off or damaged, or its tensors are made by code of its own, which "
            f"vitgraft never runs ({reason[0] if reason else type(error).__name__}). It has "
            f"{path.stat().st_size:,} bytes; compare with its source, and fetch it again, or save its weights as "
            "safetensors in the Python that wrote it."
        ) from None


def _unwrapped(file: WeightFile) -> WeightFile:
    """With names as the model itself has them."""
    tensors, taken = dict(file.tensors), list[str]()
    if not tensors:
        raise CheckpointError(f"{file.path} holds no named tensors.")
    for part in WITHIN:
        if any(part in name.split(".")[1:] for name in tensors):
            taken.append(f"{part}.")
            tensors = _without(file.path, tensors, part)
    while wrapper := next((w for w in WRAPPERS if all(name.startswith(w) for name in tensors)), None):
        taken.append(wrapper)
        tensors = {name.removeprefix(wrapper): value for name, value in tensors.items()}
    return replace(file, tensors=tensors, wrappers=tuple(taken))


def _without(path: Path, tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """With a part taken out of all names, unless it is their first."""
    renamed = {}
    for name, value in tensors.items():
        first, *rest = name.split(".")
        renamed[".".join([first, *(one for one in rest if one != part)])] = value
    if len(renamed) < len(tensors):
        raise CheckpointError(
            f"{path} holds some tensors twice, with and without what torch.compile or a wrapper puts into names, "
            "and nothing says which are meant. Save the state_dict() of one model alone."
        )
    return renamed
