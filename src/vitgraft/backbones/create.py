"""Makes a backbone by name: a timm model or the built-in one, with published, local or random weights."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vitgraft.backbones import hub
from vitgraft.backbones.catalogue import BUILT_IN, BUILT_INS, TIMM, short_names, spelled_out
from vitgraft.backbones.checkpoints import LoadReport, load_weights
from vitgraft.backbones.families import listed, viewed
from vitgraft.backbones.sizes import Size, canonical_size, check_patches, for_timm
from vitgraft.backbones.sources import Described, described
from vitgraft.errors import BackboneError, CheckpointError, near, unknown

POOLINGS = ("token", "avg", "avgmax", "max", "map", "prr")
FOLDER = Path(__file__).parent / BUILT_IN
CARD = ("architecture", "mean", "std", "size")
"""What figures.json holds: VisionTransformer's arguments, normalisation (three values each), pixels of a side."""


def create_model(
    name: str,
    *,
    checkpoint: Path | None = None,
    pretrained: bool = True,
    image_size: Size = None,
    global_pool: str | None = None,
    in_chans: int | None = None,
    seed: int = 0,
) -> tuple[nn.Module, LoadReport | None]:
    """A headless model in eval mode, and how its weights fitted.

    `name` is timm's, with or without a tag or with a source (`hf-hub:`, `local-dir:`), a short one of the
    catalogue, or `figures`. Weights come from
    `checkpoint`; without one, from where they are published, unless `pretrained` is False: then they are random,
    drawn from `seed`, and there is no report. With `in_chans` channels of a picture other than a file's three, its
    patch embedding is fitted as timm does it. The global random state stays as it is.

    Raises:
        BackboneError: an unknown name, size or pooling, or a model of a family without a view.
        CheckpointError: weights that are missing, cannot be fetched, or do not fit.
    """
    name, image_size = spelled_out(name, canonical_size(image_size))
    if global_pool is not None and global_pool not in POOLINGS:
        raise BackboneError(unknown("pooling", global_pool, POOLINGS))
    options = {
        "img_size": for_timm(image_size),
        "global_pool": global_pool,
        "in_chans": in_chans,
    }
    chosen = {key: value for key, value in options.items() if value is not None}
    source = described(name, checkpoint)
    build = (
        _build_own if name in BUILT_INS else _build_timm if source is None else partial(_build_described, source)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with torch.device("meta"):  # no values yet: those of a large model take a minute to draw
            plan: Any = build(name, chosen)
        check_patches(image_size, plan.patch_embed.patch_size, name)
        if checkpoint is None and not pretrained:
            return build(name, chosen).eval(), None
        file = checkpoint or _published(name, plan, source)
        skipping = {"weight_init": "skip"} if isinstance(plan, VisionTransformer) else {}
        model = build(name, {**chosen, **skipping})  # the file's values follow, or an error
    return model.eval(), load_weights(model, file)


def _published(name: str, model: Any, source: Described | None) -> Path:
    if name in BUILT_INS:
        return FOLDER / f"{name}.safetensors"
    if source is None:
        return hub.fetch(name, model.pretrained_cfg)
    return source.folder or hub.fetch_file(name, name.partition(":")[2])


def _build_described(source: Described, name: str, options: Mapping[str, Any]) -> nn.Module:
    if not timm.is_model(source.architecture):
        raise BackboneError(f"{name} is a {source.architecture}, which timm {timm.__version__} does not have.")
    return _built(name, source.architecture, {**source.arguments, **options}, dict(source.pretrained_cfg))


def _build_timm(name: str, options: Mapping[str, Any]) -> nn.Module:
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise BackboneError(_unknown_name(name, architecture))
    tags = [one.partition(".")[2] for one in timm.list_models(f"{architecture}.*", pretrained=True)]
    if tag and tag not in tags:
        raise BackboneError(unknown(f"tag of {architecture}", tag, tags))
    return _built(name, name, options)


def _built(
    name: str, architecture: str, options: Mapping[str, Any], pretrained_cfg: dict[str, Any] | None = None
) -> nn.Module:
    try:
        model: nn.Module = timm.create_model(
            architecture, pretrained=False, num_classes=0, pretrained_cfg=pretrained_cfg, **options
        )
    except (TypeError, AssertionError, ValueError, RuntimeError) as error:
        told = ", ".join(f"{key} {value}" for key, value in options.items()) or "its own settings"
        raise BackboneError(f"timm cannot build {name} with {told}: {error}") from error
    if not viewed(model):
        raise BackboneError(
            f"{name} is a {type(model).__name__} of timm, which vitgraft has no view of. Supported are its "
            f"{listed()} models; `vitgraft backbones` lists well-known ones."
        )
    return model


def _unknown_name(name: str, architecture: str) -> str:
    listed, known = [row.name for row in TIMM], [*BUILT_INS, *timm.list_models()]
    same = near(name, [*listed, *short_names()], 1, 1.0) or near(architecture, known, 1, 1.0)
    short = near(name, short_names(), 1, 0.75)
    close = same or short + near(name, listed, 1, 0.9) + near(architecture, known, 2, 0.6)
    hint = f" Did you mean {' or '.join(dict.fromkeys(close))}?" if close else ""
    if "/" in name:
        hint = f" A repository of the hub is named hf-hub:{name}, a folder local-dir:{name}."
    return f"There is no backbone {name!r} in timm {timm.__version__}.{hint} `vitgraft backbones` lists some."


def _build_own(name: str, options: Mapping[str, Any]) -> VisionTransformer:
    card = _card(FOLDER / f"{name}.json")
    model = VisionTransformer(**{**card["architecture"], "num_classes": 0, **options})
    model.pretrained_cfg = {
        "architecture": name,
        "input_size": (model.in_chans, card["size"], card["size"]),
        "mean": tuple(card["mean"]),
        "std": tuple(card["std"]),
        "interpolation": card.get("interpolation", "bicubic"),
        "crop_pct": card.get("crop_pct", 1.0),
        "num_classes": 0,
    }
    return model


def _card(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(
            f"This installation lacks the built-in backbone's {path.name}. Install vitgraft again from a complete "
            "source, or name a timm model."
        ) from None
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged ({error}). Install vitgraft again.") from None
    lacking = [key for key in CARD if key not in card]
    if lacking:
        raise CheckpointError(f"{path} lacks {', '.join(lacking)}. Install vitgraft again.")
    return dict(card)
