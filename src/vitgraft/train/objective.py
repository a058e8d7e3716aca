"""What training minimises: cross-entropy, smoothed and weighted by class if asked, exact over parts of a batch."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Objective:
    """Cross-entropy as a sum over images; divided by the `mass` of a whole batch it is the batch's mean.

    Parts of a batch (micro-batches, processes) then add up to the same gradient, however uneven they are.
    `weights` is (C,) or None.
    """

    weights: Tensor | None = None
    smoothing: float = 0.0

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The summed loss of logits (B, C) and labels (B,)."""
        weights = None if self.weights is None else self.weights.to(logits.device)
        return F.cross_entropy(
            logits.float(), labels, weight=weights, label_smoothing=self.smoothing, reduction="sum"
        )

    def mass(self, labels: Tensor) -> float:
        """The number of images in `labels` (B,), each counted with its class's weight."""
        return float(len(labels)) if self.weights is None else float(self.weights[labels].double().sum())


def balanced_weights(labels: Tensor, classes: int) -> Tensor:
    """n / (C n_c) for each class (C,); 0 for a class without images."""
    counts = torch.bincount(labels, minlength=classes).double()
    weights = len(labels) / (classes * counts)
    return torch.where(counts > 0, weights, 0.0).float()
