"""Random views of a batch of source figures: symmetry, crop, colour; the mask follows the picture."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

GROUPS = 8  # a batch is cut into this many groups, one for each symmetry of the square
SMALLEST_CROP = 20  # pixels of 32


@dataclass(frozen=True)
class Batch:
    """Pixels (B, 3, 32, 32) in [-1, 1], masks (B, 1, 32, 32) in [0, 1], identities (B,) and spectra (B, 2)."""

    pixels: Tensor
    masks: Tensor
    identities: Tensor
    spectra: Tensor


def random_views(images: Tensor, masks: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pixels (B, 3, 32, 32) in [-1, 1] and masks (B, 1, 32, 32) from uint8 (B, 32, 32, 3) and (B, 32, 32).

    Every group of B / 8 pictures shares symmetry, crop and channel order; pictures are drawn at random, so
    which ones share them is random too. Colour changes are drawn for each picture.
    """
    stacked = torch.cat([images, masks.unsqueeze(-1)], dim=-1).permute(0, 3, 1, 2).float() / 255
    groups = [
        _crop(_symmetry(group, number), generator)[:, [*torch.randperm(3, generator=generator).tolist(), 3]]
        for number, group in enumerate(stacked.chunk(GROUPS))
    ]
    views = torch.cat(groups)
    return _recolour(views[:, :3], generator) * 2 - 1, views[:, 3:]


def _symmetry(group: Tensor, number: int) -> Tensor:
    if number & 1:
        group = group.flip(-1)
    if number & 2:
        group = group.flip(-2)
    return group.transpose(-1, -2) if number & 4 else group


def _crop(group: Tensor, generator: torch.Generator) -> Tensor:
    """A square part, enlarged to the full size; a third of the groups are only copied."""
    size = group.shape[-1]
    side = int(torch.randint(SMALLEST_CROP, size + size // 5, (), generator=generator))
    if side >= size:
        return group.contiguous()
    top, left = torch.randint(0, size - side + 1, (2,), generator=generator).tolist()
    part = group[..., top : top + side, left : left + side]
    return F.interpolate(part, size=(size, size), mode="bilinear", align_corners=False)


def _recolour(pixels: Tensor, generator: torch.Generator) -> Tensor:
    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(len(pixels), *(shape or (1, 1, 1)), generator=generator) * (high - low) + low

    def sometimes(chance: float, change: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
        return torch.where(uniform(0, 1) < chance, change(pixels), pixels)

    pixels = sometimes(0.2, lambda x: x.mean(dim=1, keepdim=True).expand_as(x), pixels)
    pixels = sometimes(0.25, lambda x: 1 - x, pixels)
    pixels = sometimes(0.5, lambda x: (x - 0.5) * uniform(0.5, 1.5) + 0.5 + uniform(-0.15, 0.15), pixels)
    noise = torch.randn(pixels.shape, generator=generator) * uniform(0, 0.06)
    return sometimes(0.3, lambda x: x + noise, pixels).clamp(0, 1)
