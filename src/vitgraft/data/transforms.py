"""From an RGB picture to the tensor a backbone expects, for evaluation and for training: (3, H, W) float32."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vitgraft.data.augment import Step, augmentation
from vitgraft.data.pictures.given import Picture, taken
from vitgraft.data.pictures.ranges import MAX_PIXELS
from vitgraft.data.preprocessing import Preprocessing

Transform = Callable[[Image.Image], Tensor]  # an RGB picture of any size -> (3, H, W) float32


def evaluation(preprocessing: Preprocessing) -> Transform:
    """The transform of validation, test and serving: no randomness."""
    return training(preprocessing, "none")


def training(preprocessing: Preprocessing, augment: str) -> Transform:
    """The transform of training: one of `AUGMENTATIONS`, drawing from torch's global generator.

    Raises:
        ConfigError: no such augmentation.
    """
    return _Pipeline(augmentation(augment).steps(preprocessing), preprocessing.mean, preprocessing.std)


@dataclass(frozen=True)
class Serving:
    """Any picture as a model sees it, (3, H, W) float32: a path, bytes, a PIL image, an array, as `given` has it.

    It is `Model.transform`, and pickles for the workers of a `DataLoader`.
    """

    preprocessing: Preprocessing
    max_pixels: int = MAX_PIXELS

    def __call__(self, picture: Picture) -> Tensor:
        """One picture, whatever its size. Raises DataError."""
        found = taken(picture, self.max_pixels).picture(self.preprocessing.pixel_range)
        return evaluation(self.preprocessing)(found)


def to_tensor(image: Image.Image, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """RGB pixels 0..255 as (3, H, W) float32: (pixel / 255 - mean) / std."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    scaled = pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    return scaled.sub_(torch.tensor(mean).view(3, 1, 1)).div_(torch.tensor(std).view(3, 1, 1))


@dataclass(frozen=True)
class _Pipeline:
    """Steps from picture to picture, the first of which gives the size, then pixels to tensor. It pickles."""

    steps: tuple[Step, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, image: Image.Image) -> Tensor:
        image = image if image.mode == "RGB" else image.convert("RGB")
        for step in self.steps:
            image = step(image)
        return to_tensor(image, self.mean, self.std)
