"""A backbone by its name."""

import os
import warnings
from pathlib import Path

from vitgraft.backbones import hf
from vitgraft.backbones.catalogue import spelled_out
from vitgraft.backbones.create import create_model
from vitgraft.backbones.families import wrap
from vitgraft.backbones.sizes import Size, canonical_size
from vitgraft.backbones.sources import canonical, folder_of
from vitgraft.core.backbone import Backbone
from vitgraft.errors import BackboneError, Told
from vitgraft.kinds import checked, whole


@checked
def load_backbone(
    name: str,
    *,
    checkpoint: Path | str | None = None,
    image_size: int | str | tuple[int, int] | None = None,
    global_pool: str | None = None,
    in_chans: int | None = None,
) -> Backbone:
    """A frozen backbone by its name, to share among several grafts: timm's, a short one, or `figures`, built in.

    timm's may have a source: `hf-hub:owner/name` or `local-dir:FOLDER`, whose config.json says what is built. With
    `hf:owner/name` or `hf:FOLDER` the model is transformers' own, which the extra `hf` installs.

    A short name (`dinov2-s`) brings an image size, unless one is given; its full name and size are what is kept.
    `checkpoint` is a local weight file (.safetensors, .pth, .npz), or a folder as the hub has it. `image_size`,
    pixels a side or (height, width) or "192x256", resamples the position embedding; `global_pool` is timm's
    pooling, such as "avg"; `in_chans` are the channels that it reads, if not red, green and blue: then it takes
    tensors (B, channels, H, W), and no pictures. Which of a file's weights were taken, and what was left out, a
    warning says (`Told`), and `LoadReport`, the `report` in the backbone's `config`.

    Raises:
        BackboneError: an unknown name, or a model without a view.
        CheckpointError: weights that are missing or do not fit.
    """
    if hf.is_hf(name):
        if in_chans is not None:
            raise BackboneError(
                f"in_chans={in_chans}: a model of transformers reads the channels that its config.json says "
                "(num_channels). Take timm's model of the same weights, which is built for any number."
            )
        return _of_transformers(hf.canonical(name), checkpoint, canonical_size(image_size), global_pool)
    name, size = spelled_out(canonical(name), canonical_size(image_size))
    path = folder_of(name) if checkpoint is None else Path(checkpoint)
    channels = None if in_chans is None else whole("in_chans", in_chans, least=1)
    model, report = create_model(
        name, checkpoint=path, image_size=size, global_pool=global_pool, in_chans=channels
    )
    if report is not None and (told := report.notes()):
        warnings.warn(told, Told, stacklevel=3)
    source = {
        "name": name,
        "checkpoint": None if path is None else os.path.abspath(path),
        "image_size": size,
        "global_pool": global_pool,
    }
    if channels is not None:
        source["in_chans"] = channels
    return wrap(model, name, {"source": source, "report": report})


def _of_transformers(
    name: str, checkpoint: Path | str | None, image_size: Size, global_pool: str | None
) -> Backbone:
    folder = hf.folder_of(name) if checkpoint is None else Path(checkpoint)
    backbone = hf.load(name, folder, image_size, global_pool)
    source = {
        "name": name,
        "checkpoint": None if folder is None else os.path.abspath(folder),
        "image_size": image_size,
        "global_pool": global_pool,
    }
    backbone.config.update(source=source, report=None)
    return backbone


def random_backbone(name: str, image_size: Size = None, global_pool: str | None = None) -> Backbone:
    """A backbone by its name with random weights, drawn from a fixed seed. Nothing of timm's is downloaded.

    Raises:
        BackboneError: an unknown name or size, or a model without a view.
    """
    if hf.is_hf(name):
        full = hf.canonical(name)
        return hf.load(full, hf.folder_of(full), canonical_size(image_size), global_pool, random=True)
    model, _ = create_model(name, pretrained=False, image_size=image_size, global_pool=global_pool)
    return wrap(model, name)
