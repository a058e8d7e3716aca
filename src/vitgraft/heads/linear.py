"""Heads on the pooled vector: one linear layer, or an mlp before it."""

import torch
from torch import Tensor, nn

from vitgraft.core.backbone import Backbone, Features
from vitgraft.core.plan import Head

STD = 0.02
"""Standard deviation of a fresh classifier's weights (truncated normal), as in ViT's own initialisation."""


def fresh_classifier(width: int, classes: int) -> nn.Linear:
    """A linear layer D -> C: weights truncated normal (0.02), bias zero."""
    classifier = nn.Linear(width, classes)
    nn.init.trunc_normal_(classifier.weight, std=STD)
    nn.init.zeros_(classifier.bias)
    return classifier


class LinearHead(Head):
    """logits = W pooled + b."""

    reads = "pooled"
    stacks = True

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.classifier = fresh_classifier(width, classes)

    def forward(self, features: Features, backbone: Backbone) -> Tensor:
        logits: Tensor = self.classifier(features.pooled)
        return logits

    def plain_classifier(self) -> tuple[Tensor, Tensor | None]:
        """Weight (C, D) and bias (C,) of the one linear layer that this head is."""
        return self.classifier.weight, self.classifier.bias


class MlpHead(Head):
    """k - 1 layers [linear D -> D, ReLU, BatchNorm, dropout], then a linear classifier (VPT's MLP-k).

    Hidden weights are Kaiming normal over the outputs, biases zero.
    """

    reads = "pooled"

    def __init__(self, width: int, classes: int, layers: int, dropout: float) -> None:
        super().__init__()
        steps: list[nn.Module] = []
        for _ in range(layers - 1):
            linear = nn.Linear(width, width)
            nn.init.kaiming_normal_(linear.weight, mode="fan_out")
            nn.init.zeros_(linear.bias)
            steps += [linear, nn.ReLU(), nn.BatchNorm1d(width), nn.Dropout(dropout)]
        self.hidden = nn.Sequential(*steps)
        self.classifier = fresh_classifier(width, classes)

    def forward(self, features: Features, backbone: Backbone) -> Tensor:
        with torch.autocast(features.pooled.device.type, enabled=False):
            logits: Tensor = self.classifier(self.hidden(features.pooled.to(self.classifier.weight.dtype)))
        return logits
