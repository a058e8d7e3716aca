"""Backbones that transformers builds: `hf:owner/name` on the hub, or `hf:FOLDER` in its layout.

The prefix says whose code runs. A name without it is timm's, and takes transformers' files as its `--checkpoint`;
with `hf:` the model is transformers' own, which the extra `hf` installs, and so is what a merge gives.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from vitgraft.backbones import hub
from vitgraft.backbones.families import wrap
from vitgraft.backbones.sizes import Size, check_patches, sides_of
from vitgraft.backbones.snapshots import CONFIG, config_in
from vitgraft.core.backbone import Backbone
from vitgraft.errors import BackboneError, CheckpointError

PREFIX = "hf:"
PROCESSOR = "preprocessor_config.json"

CLASSES = {
    "vit": "ViTModel",
    "deit": "DeiTModel",
    "vit_mae": "ViTMAEModel",
    "dinov2": "Dinov2Model",
    "dinov2_with_registers": "Dinov2WithRegistersModel",
    "dinov3_vit": "DINOv3ViTModel",
    "clip": "CLIPVisionModel",
    "clip_vision_model": "CLIPVisionModel",
    "siglip": "SiglipVisionModel",
    "siglip_vision_model": "SiglipVisionModel",
}
"""transformers' class by its model type: of image and text, the tower of images alone."""

POOLED = ("vit", "deit")
"""Types whose class adds a pooler that most files do not have, and no backbone needs."""

RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers, as processors write them."""


def is_hf(name: str) -> bool:
    return name.lower().startswith(PREFIX)


def canonical(name: str) -> str:
    """In one spelling, a folder's path in full."""
    where = name[len(PREFIX) :]
    path = os.path.abspath(os.path.expanduser(where))
    local = where.startswith((".", "/", "~")) or os.path.isdir(path)
    return PREFIX + (path if local else where)


def folder_of(name: str) -> Path | None:
    """The folder that a canonical name means; None for one on the hub."""
    where = Path(name[len(PREFIX) :])
    return where if where.is_absolute() else None


def load(
    name: str, folder: Path | None, image_size: Size, global_pool: str | None, random: bool = False
) -> Backbone:
    """The backbone of a canonical name, its files in `folder` if they are not on the hub.

    `random` draws weights from a fixed seed instead, as costs do not depend on them.

    Raises:
        BackboneError: no transformers here, or a model that has no view, or not of that size or pooling.
        CheckpointError: files that are missing, cannot be fetched, or do not fill the model.
    """
    transformers = _library(name)
    home = folder or _fetched(name, random)
    config = config_in(home)
    kind = CLASSES.get(str(config.get("model_type")))
    if kind is None:
        raise BackboneError(
            f"{name} is a {config.get('model_type') or 'model that does not say its type'}, which vitgraft has no "
            f"view of. Of transformers' there are {', '.join(dict.fromkeys(CLASSES.values()))}."
        )
    made = getattr(transformers, kind)
    settings = made.config_class.from_pretrained(home)
    patch = settings.patch_size
    check_patches(image_size, (patch, patch) if isinstance(patch, int) else tuple(patch), name)
    model = _random(made, settings) if random else _filled(transformers, made, settings, home)
    backbone = wrap(model, name, image_size=sides_of(image_size), global_pool=global_pool)
    backbone.view.published = {**backbone.view.published, **processed(home)}
    return backbone


def _library(name: str) -> Any:
    try:
        import transformers
    except ImportError:
        raise BackboneError(
            f"{name} is built by transformers, which is not installed: pip install 'vitgraft[hf]'. Or take timm's "
            "model of the same weights (vitgraft backbones), which reads transformers' files as its checkpoint."
        ) from None
    return transformers


def _fetched(name: str, random: bool) -> Path:
    repository = name[len(PREFIX) :]
    home = hub.fetch_file(name, repository, (CONFIG,)).parent
    if not random:
        hub.fetch_file(name, repository)
    with suppress(CheckpointError):  # without one, the family's own preparation is taken
        hub.fetch_file(name, repository, (PROCESSOR,))
    return home


def _options(settings: Any) -> dict[str, bool]:
    return {"add_pooling_layer": False} if settings.model_type in POOLED else {}


def _random(kind: Any, settings: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind(settings, **_options(settings)).eval()


@contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Without the library's own reports and progress bars: what is wrong is told by what it returns."""
    logging = library.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _filled(transformers: Any, kind: Any, settings: Any, home: Path) -> Any:
    """The model, in eval mode. transformers reads tensors alone of a file, and runs no code of a repository's."""
    wishes: dict[str, Any] = {"dtype": torch.float32, "local_files_only": True, **_options(settings)}
    try:
        with _quiet(transformers):
            model, told = kind.from_pretrained(home, config=settings, output_loading_info=True, **wishes)
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{home}: transformers cannot load it as a {kind.__name__}: {error}") from error
    lacking = sorted([*told.get("missing_keys", ()), *(str(one) for one in told.get("mismatched_keys", ()))])
    if lacking:
        raise CheckpointError(
            f"{home} does not fill a {kind.__name__}: {len(lacking)} tensors are missing or of another shape, "
            f"such as {', '.join(lacking[:3])}. Fetch the files of one model anew."
        )
    return model.eval()


def processed(home: Path) -> Mapping[str, Any]:
    """What a folder's preprocessor_config.json says of pictures, in timm's words; nothing if there is none."""
    path = home / PROCESSOR
    if not path.is_file():
        return {}
    said = config_in(home, PROCESSOR)
    own = {"mean": "image_mean", "std": "image_std"}
    found: dict[str, Any] = {ours: tuple(said[theirs]) for ours, theirs in own.items() if said.get(theirs)}
    if said.get("resample") in RESAMPLING:
        found["interpolation"] = RESAMPLING[said["resample"]]
    size, crop = said.get("size"), said.get("crop_size")
    shortest = size.get("shortest_edge") if isinstance(size, Mapping) else size
    cropped = crop.get("height") if isinstance(crop, Mapping) else crop
    if said.get("do_center_crop") and isinstance(shortest, int) and isinstance(cropped, int):
        found |= {"crop_pct": cropped / shortest, "crop_mode": "center"}
    else:
        found |= {"crop_pct": 1.0, "crop_mode": "squash"}
    return found
