"""From a method and a number of classes to a tuned model, and what must not come through on the way."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256

import torch
from torch import Tensor, nn

from vitgraft.backbones.families import wrap
from vitgraft.backbones.loading import load_backbone
from vitgraft.core.backbone import Backbone
from vitgraft.core.tuned import Tuned
from vitgraft.data.class_names import as_whole, names_in_order
from vitgraft.data.labelling import CLASS, labelling
from vitgraft.data.preprocessing import Preprocessing
from vitgraft.errors import ConfigError
from vitgraft.kinds import shown
from vitgraft.methods import Method, spec_of
from vitgraft.methods.base import Findings

MOST_CLASSES, RGB = 1_000_000, 3


def class_names(classes: object, kind: str = CLASS.name) -> tuple[str, ...]:
    """Names from a number of classes (or of labels of another `kind`), from names, or from a mapping of both.

    Raises:
        ConfigError: what is none of these, too few, or two of one name.
    """
    fewest = labelling(kind).fewest
    number = None if isinstance(classes, float) else as_whole(classes)
    if number is not None and number > MOST_CLASSES:
        raise ConfigError(f"{shown(classes)} classes: a classifier has at most {MOST_CLASSES:,}.")
    names = names_in_order(classes) if number is None else tuple(map(str, range(number)))
    if len(names) < fewest == 1:
        raise ConfigError("No number is named that is to be predicted: give the names of one or several.")
    if len(names) < fewest:
        raise ConfigError(f"{len(names)} classes: a classifier needs at least two.")
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise ConfigError(f"Class {', '.join(map(repr, twice))} is named twice. Give every class its own name.")
    return names


def as_backbone(backbone: str | Backbone | nn.Module, for_pictures: bool = False) -> Backbone:
    """A backbone by its name, or of a library's model object.

    Raises:
        ConfigError: it is `for_pictures`, and reads other channels than they have.
    """
    if isinstance(backbone, Backbone):
        found = backbone
    elif isinstance(backbone, str):
        found = load_backbone(backbone)
    else:
        found = wrap(backbone, type(backbone).__name__)
    if for_pictures:
        check_pictures(found)
    return found


def planted(backbone: Backbone, method: Method, classes: int, seed: int, findings: Findings) -> Tuned:
    """A method's plan on a backbone. Initial values depend on `seed` and the plan alone.

    Raises:
        ConfigError: a field that does not fit the backbone, or sizes that no memory holds.
    """
    with seeded(seed), sizes_told(backbone, method, classes):
        return Tuned(backbone, method.plan(backbone, classes, findings))


@contextmanager
def sizes_told(backbone: Backbone, method: Method, classes: int) -> Iterator[None]:
    """Turn what torch says of sizes that no memory holds, within the block, into a ConfigError."""
    try:
        yield
    except (OverflowError, MemoryError, TypeError, RuntimeError) as error:
        told = str(error) or type(error).__name__
        if not isinstance(error, MemoryError) and not any(
            word in told.lower() for word in ("overflow", "allocate", "out of memory")
        ):
            raise  # torch has no kind of error for sizes
        raise ConfigError(
            f"{spec_of(method)} with {classes} classes does not fit into memory on {backbone.name} "
            f"({told.splitlines()[0]}). Choose smaller sizes."
        ) from error


def digest_of(method: Method, findings: Findings) -> str:
    """A method's spec, and a digest of what it found if it looked."""
    if not findings:
        return spec_of(method)
    found = sha256()
    for name, value in sorted(findings.items()):
        found.update(f"{name}:{tuple(value.shape)}:{value.dtype}".encode())
        found.update(value.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return f"{spec_of(method)} {found.hexdigest()[:12]}"


def own_preprocessing(backbone: Backbone) -> Preprocessing:
    """What the backbone was published with, at the image size it was built for."""
    cfg = dict(backbone.view.published)
    if backbone.view.channels != RGB:  # then no picture is ever prepared
        cfg.pop("input_size", None)
        return replace(Preprocessing(), size=backbone.view.image_size)
    published = Preprocessing.from_timm(cfg)
    return replace(published, size=backbone.view.image_size)


def check_pictures(backbone: Backbone) -> None:
    """Raise ConfigError if a backbone reads other channels than pictures have."""
    channels = backbone.view.channels
    if channels != RGB:
        raise ConfigError(
            f"{backbone.name} reads {channels} channel{'s' if channels > 1 else ''}, and pictures are prepared "
            "here as red, green and blue, of 8 bits. Call the model with tensors of your own, "
            f"(B, {channels}, height, width), and train model.tuned in a loop of your own; or take a backbone of "
            "three channels and choose bands: gdal_translate -b 3 -b 2 -b 1 in.tif out.tif."
        )


def check_size(backbone: Backbone, preprocessing: Preprocessing) -> None:
    """Raise ConfigError if pictures are made of a size that the backbone does not take.

    Where sizes differ the library is asked, by a blank picture: some backbones take several.
    """
    view, size = backbone.view, preprocessing.size
    if tuple(size) == tuple(view.image_size):
        return
    some = next(backbone.parameters())
    try:
        with torch.no_grad():
            backbone(torch.zeros(1, view.channels, *size, device=some.device, dtype=some.dtype))
    except (AssertionError, RuntimeError):
        made, taken = (" x ".join(map(str, one)) for one in (size, view.image_size))
        raise ConfigError(
            f"The preprocessing makes pictures of {made} pixels, and this {backbone.name} takes {taken}: build "
            "the backbone for that size (image_size), or leave the preprocessing's size to it."
        ) from None


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's generator for the length of a block."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # accelerators' generators are the caller's
        yield


@contextmanager
def check_images(backbone: Backbone, images: object) -> Iterator[None]:
    """Tell in a sentence if a pass fails within the block because of the images' kind or shape.

    Raises:
        ConfigError: no floating-point tensor (B, 3, H, W), or one of a size that the backbone does not take.
    """
    view = backbone.view
    right = (view.channels, *view.image_size)
    told = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else shown(images)
    refused = ConfigError(
        f"images={told}: expected preprocessed images, a floating-point tensor (B, "
        f"{', '.join(map(str, right))}). `predict` takes pictures and image files as they are."
    )
    if not isinstance(images, Tensor) or not images.is_floating_point() or images.dim() != 4:
        raise refused
    try:
        yield
    except (AssertionError, RuntimeError) as error:
        if images.shape[1:] == right:
            raise
        raise refused from error  # the library knows which other sizes it takes
