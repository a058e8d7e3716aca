"""How well a model does on labelled images, added up batch by batch."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

TOP = 5


@dataclass(frozen=True)
class Metrics:
    """Measured on `n` images: `loss` is the mean cross-entropy in nats, accuracies are percentages of 0 to 100.

    `top5` is None where there are no more than five classes. `mean_per_class` averages the accuracies of the
    classes that have images.
    """

    loss: float
    top1: float
    top5: float | None
    mean_per_class: float
    n: int

    @property
    def main(self) -> float:
        """What decides between two models."""
        return self.top1


class Tally:
    """Sums from which `Metrics` follow. Sums of several processes add up, so no image counts twice."""

    def __init__(self, classes: int, device: torch.device) -> None:
        self.classes = classes
        real = torch.float32 if device.type == "mps" else torch.float64
        # loss, top-1 hits, top-5 hits, images; then hits a class, images a class
        self.sums = torch.zeros(4 + 2 * classes, dtype=real, device=device)

    def add(self, logits: Tensor, labels: Tensor, places: Tensor | None = None) -> None:
        """Count logits (B, C) of images with labels (B,); which ones these are does not matter."""
        logits = logits.float()
        hit = (logits.argmax(1) == labels).to(self.sums.dtype)
        self.sums[0] += F.cross_entropy(logits, labels, reduction="sum")
        self.sums[1] += hit.sum()
        if self.classes > TOP:
            self.sums[2] += (logits.topk(TOP, dim=1).indices == labels[:, None]).sum()
        self.sums[3] += len(labels)
        one = torch.ones_like(hit)
        self.sums[4 : 4 + self.classes].index_add_(0, labels, hit)
        self.sums[4 + self.classes :].index_add_(0, labels, one)

    def metrics(self) -> Metrics:
        """The result. At least one image must have been counted."""
        sums = self.sums.cpu().double()
        loss, top1, top5, n = sums[:4].tolist()
        hits, images = sums[4:].view(2, self.classes)
        present = images > 0
        return Metrics(
            loss=loss / n,
            top1=100 * top1 / n,
            top5=100 * top5 / n if self.classes > TOP else None,
            mean_per_class=100 * float((hits[present] / images[present]).mean()),
            n=round(n),
        )
