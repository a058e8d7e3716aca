"""Loads a weight file into a timm model: all of what belongs there, or nothing.

Files of timm, JAX (.npz), MAE, MoCo-v3, DINOv2 and transformers are told apart and renamed by `layouts`, which
also takes off what stands before a backbone's names. Here the names and shapes of both sides are compared, and
only declared differences pass:

- a classifier (`head`, `head_dist`) may be absent, and is left out where its sizes differ;
- a model that pools before its last norm (`fc_norm`) takes no `norm` from the file, and starts its own at (1, 0);
- `attn_pool` is left out by a model that pools otherwise;
- what the layout declares: MAE's decoder, JAX's pre_logits, ...
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from timm.layers import GELU, GELUTanh, QuickGELU, resample_abs_pos_embed
from timm.models import adapt_input_conv
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitgraft.backbones.catalogue import Looks, like
from vitgraft.backbones.containers import shortened
from vitgraft.backbones.layouts import HEADS, JAX, Named, first_part, translate
from vitgraft.backbones.timm_filters import filtered
from vitgraft.backbones.weight_files import WeightFile, read_weights
from vitgraft.errors import CheckpointError

POSITIONS, PATCHES = "pos_embed", "patch_embed.proj.weight"
RGB = 3
PATCH_AXES = 4  # of a convolution's weight: (D, colours, p, p)

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
}
"""What transformers' words for an activation compute, in ours."""

NEARLY = {"gelu", "gelu_tanh"}
"""These two are the same but for an approximation."""


@dataclass(frozen=True)
class LoadReport:
    """How a file and a model differed, in timm's names; every difference is a declared one.

    `missing` are the model's tensors that kept their initial values, `unexpected` those of the file without a
    place in the model, `resampled` position embeddings of another grid (`grids` says which), `dropped` what is no
    part of a backbone: classifiers, decoders, what stands outside of `prefix`. `container` are the keys at which
    the weights were, and `others` keys or beginnings of names at which there were others; `wrappers` were taken
    off or out of names. `computes` says what the model computes a little differently from the one that the file
    was made for.
    """

    path: Path
    layout: str
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    resampled: tuple[str, ...] = ()
    grids: str = ""
    dropped: tuple[str, ...] = ()
    container: str = ""
    others: tuple[str, ...] = ()
    wrappers: tuple[str, ...] = ()
    prefix: str = ""
    computes: str = ""

    def notes(self) -> str:
        """The summary, if the file asked for any choice, or model and file differ in more than a classifier.

        Another grid of positions is what was asked for.
        """
        differences = (*self.missing, *self.unexpected, *self.dropped)
        plain = all(first_part(name) in HEADS for name in differences)
        chosen = self.container or self.others or self.wrappers or self.prefix or self.computes
        return "" if plain and not chosen else self.summary()

    def summary(self) -> str:
        """One line, such as `a.pth (MAE): missing fc_norm.weight, fc_norm.bias; unexpected norm.weight, ...`."""
        taken = [self.prefix] if self.prefix else []
        facts = {
            "taken from": (self.container,) if self.container else (),
            "not taken, though there:": self.others,
            "taken off names:": (*self.wrappers, *taken),
            "missing": self.missing,
            "unexpected": self.unexpected,
            "resampled": tuple(f"{name} ({self.grids})" for name in self.resampled),
            "left out": self.dropped,
            "computed otherwise:": (self.computes,) if self.computes else (),
        }
        told = [f"{word} {shortened(list(names))}" for word, names in facts.items() if names]
        return f"{self.path.name} ({self.layout}): {'; '.join(told) or 'every tensor fits'}."


def load_weights(model: nn.Module, path: Path | str) -> LoadReport:
    """Copy a file's weights into `model`, whose own classifier, if the file has no fitting one, stays as it is.

    Raises:
        CheckpointError: a file that is missing or unreadable, or that differs from the model in more than the
            declared exceptions. The model is then untouched.
    """
    file = read_weights(Path(path))
    own: dict[str, Tensor] = model.state_dict()
    if isinstance(model, VisionTransformer):
        source = translate(file)
        tensors, foreign_heads = _without_foreign_heads(source.tensors, own)
        tensors, grids = _resampled(model, file, tensors, bilinear=source.layout is JAX)
        resampled: tuple[str, ...] = (POSITIONS,) if grids else ()
    else:
        source, resampled = filtered(model, file)
        tensors, foreign_heads = _without_foreign_heads(source.tensors, own)
        grids = "timm's way" if resampled else ""
    tensors, fitted = _of_channels(tensors, own)
    report = LoadReport(
        path=file.path,
        layout=source.layout.name,
        missing=tuple(name for name in own if name not in tensors),
        unexpected=tuple(name for name in tensors if name not in own),
        resampled=resampled,
        grids=grids,
        dropped=(*source.dropped, *foreign_heads),
        container=file.container,
        others=(*file.others, *source.others),
        wrappers=file.wrappers,
        prefix=source.prefix,
    )
    _check(report, model, source, tensors)
    told = [one for one in (fitted, _computes(model, source, file.path)) if one]
    report = replace(report, computes="; ".join(told))
    model.load_state_dict({name: tensors.get(name, value) for name, value in own.items()}, strict=True)
    return report


def _of_channels(tensors: dict[str, Tensor], own: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """With a patch embedding of the model's number of channels, and what was done to the file's, which has three.

    As timm: one channel is the sum of the three; of more, each takes one in turn, scaled so that the sum stays.
    """
    there, wanted = tensors.get(PATCHES), own.get(PATCHES)
    if there is None or wanted is None or there.ndim != PATCH_AXES or there.shape[1] != RGB:
        return tensors, ""
    channels = wanted.shape[1]
    if channels == RGB:
        return tensors, ""
    return (
        {**tensors, PATCHES: adapt_input_conv(channels, there)},
        f"the patch embedding reads {channels} channels, with the file's three summed up or in turn",
    )


def _without_foreign_heads(
    tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Without the classifiers that are not the model's own in every tensor's name and shape."""
    foreign = {
        first_part(name)
        for name, value in tensors.items()
        if first_part(name) in HEADS and (name not in own or own[name].shape != value.shape)
    }
    kept = {name: value for name, value in tensors.items() if first_part(name) not in foreign}
    return kept, tuple(name for name in tensors if name not in kept)


def _resampled(
    model: VisionTransformer, file: WeightFile, tensors: dict[str, Tensor], bilinear: bool
) -> tuple[dict[str, Tensor], str]:
    """With positions (1, N, D) on the model's grid, and how they were moved; those of prefix tokens are kept.

    As in timm: bilinear for JAX files, as their own code does, else bicubic with antialiasing.
    """
    positions, own = tensors.get(POSITIONS), model.pos_embed
    if positions is None or own is None or positions.ndim != 3 or positions.shape[2] != own.shape[2]:
        return tensors, ""
    prefix = 0 if model.no_embed_class else model.num_prefix_tokens
    grid = tuple(model.patch_embed.grid_size)
    found = _grid(positions.shape[1] - prefix, file, model) or (grid if positions.shape == own.shape else None)
    if found is None or found == grid:
        return tensors, ""  # the same, or nobody knows: then it is reported as another shape
    moved = resample_abs_pos_embed(
        positions,
        new_size=list(grid),
        old_size=list(found),
        num_prefix_tokens=prefix,
        interpolation="bilinear" if bilinear else "bicubic",
        antialias=not bilinear,
    )
    return {**tensors, POSITIONS: moved}, f"{found[0]} x {found[1]} to {grid[0]} x {grid[1]}"


def _grid(count: int, file: WeightFile, model: VisionTransformer) -> tuple[int, int] | None:
    """The grid (rows, columns) of a file's positions: what it says of its images, else a square if there is one.

    As many positions may stand in several grids: 4 x 4 are as many as 2 x 8, and not the same.
    """
    height, width = model.patch_embed.patch_size
    for pixels in file.image_sizes():
        rows, columns = pixels[0] // height, pixels[1] // width
        if rows * columns == count:
            return rows, columns
    side = math.isqrt(max(count, 0))
    return (side, side) if side and side * side == count else None


def _check(report: LoadReport, model: Any, source: Named, tensors: Mapping[str, Tensor]) -> None:
    own: dict[str, Tensor] = model.state_dict()
    may_miss, may_have = _exceptions(set(own), set(tensors))
    missing = [name for name in report.missing if name not in may_miss]
    unexpected = [name for name in report.unexpected if name not in may_have]
    shapes = [
        f"{name} {tuple(value.shape)} for {tuple(own[name].shape)}"
        for name, value in tensors.items()
        if name in own and own[name].shape != value.shape
    ]
    differences = {"Missing in the file": missing, "Unknown to the model": unexpected, "Of another shape": shapes}
    if found := [f"{what} ({len(names)}): {shortened(names)}." for what, names in differences.items() if names]:
        raise CheckpointError(_misfit(report, source.tensors, own, found))
    heads = None if source.heads is None else model.blocks[0].attn.num_heads
    if source.heads != heads:
        raise CheckpointError(
            f"{report.path} ({report.layout}) was trained with {source.heads} attention heads; the model has "
            f"{heads}. The shapes agree, but the outputs would not: choose the backbone that belongs to the file."
        )
    broken = [name for name, value in tensors.items() if not torch.isfinite(value).all()]
    if broken:
        raise CheckpointError(
            f"{report.path} holds values that are not finite in {len(broken)} tensors: {shortened(broken)}. The "
            "file is damaged, or its training diverged; fetch it again or take another."
        )


def _computes(model: Any, source: Named, path: Path) -> str:
    """How the mlps' activation differs from a config.json's, if at all. Raises CheckpointError if by much."""
    wanted = ACTIVATIONS.get(source.activation or "")
    found = None if wanted is None else activation(model)
    if wanted is None or found is None or wanted == found:
        return ""
    if {wanted, found} == NEARLY:
        return f"{found}, where its config.json says {source.activation} (they differ by less than 0.001)"
    raise CheckpointError(
        f"{path} ({source.layout.name}) was trained with {source.activation}, as its config.json says, and "
        f"the model computes {found}. The shapes agree, but the outputs would not: choose the backbone that "
        "belongs to the file. Of timm's CLIP models those with quickgelu in their name compute quick_gelu."
    )


def activation(model: Any) -> str | None:
    """What the mlps compute, in one of the words of ACTIVATIONS; None if it is none of them."""
    act = getattr(model.blocks[0].mlp, "act", None)
    if isinstance(act, nn.GELU):
        return "gelu_tanh" if act.approximate == "tanh" else "gelu"
    kinds = {GELU: "gelu", GELUTanh: "gelu_tanh", QuickGELU: "quick_gelu"}
    return kinds.get(type(act))


def _exceptions(own: set[str], found: set[str]) -> tuple[set[str], set[str]]:
    """Names that the file may miss, and names that it may have beyond the model's."""
    parts, found_parts = {first_part(name) for name in own}, {first_part(name) for name in found}
    may_miss, may_have = set(HEADS), set[str]()
    if "fc_norm" in parts - found_parts and "norm" in found_parts - parts:
        may_miss.add("fc_norm")
        may_have.add("norm")
    if "attn_pool" not in parts:
        may_have.add("attn_pool")
    missing = {name for name in own if first_part(name) in may_miss}
    return missing, {name for name in found if first_part(name) in may_have}


def _misfit(report: LoadReport, found: Mapping[str, Tensor], own: Mapping[str, Tensor], told: list[str]) -> str:
    seems = _described(found) or f"no vision transformer: its names begin with {shortened(sorted(found))}"
    return (
        f"{report.path} ({report.layout} layout) does not fit the model. {' '.join(told)} The file seems to hold "
        f"{seems}{_called(found)}; the model is {_described(own)}. Choose the backbone and pooling that belong to "
        "the file, or the file that belongs to the backbone."
    )


def _called(tensors: Mapping[str, Tensor]) -> str:
    """` (as dinov2-s has)`: the listed backbones of the file's sizes and parts, by their short names."""
    patch, parts = tensors.get("patch_embed.proj.weight"), {first_part(name) for name in tensors}
    if patch is None or patch.ndim != PATCH_AXES:
        return ""
    registers = tensors.get("reg_token")
    prefix = len(parts & {"cls_token", "dist_token"}) + (0 if registers is None else registers.shape[1])
    blocks = {name.split(".")[1] for name in tensors if first_part(name) == "blocks"}
    scaled = any(name.endswith((".ls1.gamma", ".gamma_1")) for name in tensors)
    found = like(Looks(patch.shape[0], len(blocks), patch.shape[2], prefix, scaled, parts))
    return f" (as {', '.join(found)} {'has' if len(found) == 1 else 'have'})" if found else ""


def _described(tensors: Mapping[str, Tensor]) -> str:
    """`a transformer of width 48, 3 blocks, 4 x 4 patches, 17 positions`, or nothing."""
    patch, positions = tensors.get("patch_embed.proj.weight"), tensors.get(POSITIONS)
    blocks = {name.split(".")[1] for name in tensors if first_part(name) == "blocks"}
    facts = [f"{len(blocks)} blocks"] if blocks else []
    if patch is not None and patch.ndim == PATCH_AXES:
        facts = [f"width {patch.shape[0]}", *facts, f"{patch.shape[2]} x {patch.shape[3]} patches"]
    if positions is not None and positions.ndim > 1:
        facts.append(f"{positions.shape[1]} positions")
    return f"a transformer of {', '.join(facts)}" if facts else ""
