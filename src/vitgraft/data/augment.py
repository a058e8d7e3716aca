"""What training does to pictures: named sequences of steps, the first of which gives a picture its size.

"none" is what evaluation does: timm's resizing and cropping, bit for bit (a test compares them). Pictures are
resized by Pillow, which always filters when it shrinks (antialiasing). Randomness comes from torch's global
generator, which a data loader seeds in every worker.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from vitgraft.data.preprocessing import FILTERS, Preprocessing
from vitgraft.errors import ConfigError, unknown

Step = Callable[[Image.Image], Image.Image]
SLACK = 256 / 224  # how much larger than the crop a picture is resized before a random crop
ELONGATED = 64  # a picture longer than this many times the target's aspect loses its ends before resizing


def _centre(p: Preprocessing, image: Image.Image) -> Image.Image:
    """Fit to `size / crop`, keep the centre."""
    height, width = p.size
    image = _pad(p, _fit(p, image, (math.floor(height / p.crop), math.floor(width / p.crop))), p.size)
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def _fit(p: Preprocessing, image: Image.Image, target: tuple[int, int]) -> Image.Image:
    """Scale to `target` (H, W) as the mode says: to cover it, to its very shape, or to lie within."""
    height, width = target
    to = width, height
    if p.mode == "crop":
        image = _trim(image, width / height)
        short = min(image.size)
        if height == width:  # torchvision rounds down here; for other shapes timm rounds
            to = int(height * image.width / short), int(height * image.height / short)
        else:
            ratio = min(image.height / height, image.width / width)
            to = round(image.width / ratio), round(image.height / ratio)
    elif p.mode == "pad":
        ratio = max(image.height / height, image.width / width)
        to = max(1, round(image.width / ratio)), max(1, round(image.height / ratio))
    return image.resize(to, FILTERS[p.interpolation])


def _pad(p: Preprocessing, image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The picture in the middle of the mean colour, where it is smaller than `size` (H, W)."""
    height, width = max(size[0], image.height), max(size[1], image.width)
    if image.size == (width, height):
        return image
    canvas = Image.new("RGB", (width, height), _mean_colour(p))
    canvas.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
    return canvas


def _trim(image: Image.Image, aspect: float) -> Image.Image:
    """Cut the ends off a picture so elongated that scaling its short side would fill the memory."""
    across = max(0, image.width - math.ceil(image.height * aspect * ELONGATED)) // 2
    down = max(0, image.height - math.ceil(image.width / aspect * ELONGATED)) // 2
    # As much from either end, so that the centre stays where it was.
    return image.crop((across, down, image.width - across, image.height - down)) if across or down else image


def _window(p: Preprocessing, image: Image.Image) -> Image.Image:
    """A random crop of `size` from the picture fitted to 256/224 of it.

    The window is cut and scaled in one step, so its place is not rounded to pixels, and nothing large is made.
    """
    height, width = p.size
    if p.mode == "pad":
        canvas = round(height * SLACK), round(width * SLACK)
        image = _pad(p, _fit(p, image, canvas), canvas)
    across, down = image.width / width, image.height / height
    if p.mode == "crop":
        across = down = min(across, down)
    box_width, box_height = width * across / SLACK, height * down / SLACK
    x, y = torch.rand(2).tolist()
    left, top = x * (image.width - box_width), y * (image.height - box_height)
    box = (left, top, min(left + box_width, image.width), min(top + box_height, image.height))
    return image.resize((width, height), FILTERS[p.interpolation], box=box)


def _flip(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if torch.rand(()) < 0.5 else image


def _inception(p: Preprocessing) -> Step:
    """8 % to 100 % of the picture's area at an aspect of 3/4 to 4/3, brought to `size`."""
    mode = InterpolationMode(p.interpolation)
    step: Step = v2.RandomResizedCrop(p.size, scale=(0.08, 1.0), interpolation=mode, antialias=True)
    return step


def _randaugment(p: Preprocessing) -> Step:
    step: Step = v2.RandAugment(num_ops=2, magnitude=9, fill=list(_mean_colour(p)))
    return step


def _mean_colour(p: Preprocessing) -> tuple[int, ...]:
    return tuple(round(255 * value) for value in p.mean)


@dataclass(frozen=True)
class Augmentation:
    """What training does to pictures: steps, the first of which gives them their size."""

    description: str
    steps: Callable[[Preprocessing], tuple[Step, ...]]
    deterministic: bool = False


AUGMENTATIONS: dict[str, Augmentation] = {
    "none": Augmentation("as in evaluation", lambda p: (partial(_centre, p),), deterministic=True),
    "flip": Augmentation("as in evaluation, mirrored half of the time", lambda p: (partial(_centre, p), _flip)),
    "crop-flip": Augmentation(
        "a random window of the picture at 256/224 of the size, mirrored half of the time",
        lambda p: (partial(_window, p), _flip),
    ),
    "inception": Augmentation(
        "8 % to 100 % of the picture, at another aspect, mirrored half of the time",
        lambda p: (_inception(p), _flip),
    ),
    "randaugment": Augmentation(
        "inception, then two random changes of colour or shape at magnitude 9",
        lambda p: (_inception(p), _flip, _randaugment(p)),
    ),
}


def augmentation(name: str) -> Augmentation:
    """The augmentation called `name`.

    Raises:
        ConfigError: no such augmentation.
    """
    if name not in AUGMENTATIONS:
        raise ConfigError(unknown("augmentation", name, AUGMENTATIONS))
    return AUGMENTATIONS[name]


def deterministic(augment: str) -> bool:
    """Whether an augmentation gives a picture the same tensor every time, so that features can be cached.

    Raises:
        ConfigError: no such augmentation.
    """
    return augmentation(augment).deterministic
