"""First values as other papers have them, in place of the plan's own, when a run begins."""

import math

import torch
from torch import nn

from vitgraft.core.tuned import Tuned
from vitgraft.grafts.bottleneck import Bottleneck
from vitgraft.grafts.low_rank import LowRank
from vitgraft.machine.seeds import INITIAL, derive
from vitgraft.train.settings import Training

PRIOR = 0.01
"""The probability that VPT's classifier gives each class at first."""

NOISE = 0.02
"""The deviation of ViT's own initialiser, which NOAH and SPT run over their grafts, too."""


def start(model: Tuned, settings: Training) -> None:
    """Give the classifier (`head_init`) and the grafts (`legacy_init`) the first values that the settings ask for.

    They depend on the seed and on shapes alone, wherever the model is.
    """
    generator = torch.Generator().manual_seed(derive(settings.seed, INITIAL))
    with torch.no_grad():
        if settings.head_init != "normal":
            _classifier(model.head.classifier, settings.head_init, generator)
        if settings.legacy_init:
            for module in model.grafts.modules():
                if isinstance(module, LowRank | Bottleneck):
                    _noise(module, generator)


def _classifier(classifier: nn.Linear, how: str, generator: torch.Generator) -> None:
    """Kaiming: normal over the outputs (fan out), biases the logit of `PRIOR`. Uniform: all within 1/√D."""
    weight, bias = torch.empty(classifier.weight.shape), torch.empty(classifier.bias.shape)
    if how == "kaiming":
        nn.init.kaiming_normal_(weight, mode="fan_out", generator=generator)
        nn.init.constant_(bias, -math.log((1 - PRIOR) / PRIOR))
    else:
        bound = classifier.in_features**-0.5
        nn.init.uniform_(weight, -bound, bound, generator=generator)
        nn.init.uniform_(bias, -bound, bound, generator=generator)
    classifier.weight.copy_(weight)
    classifier.bias.copy_(bias)


def _noise(graft: nn.Module, generator: torch.Generator) -> None:
    """Matrices truncated normal, so that the graft changes what it edits from the first step on; biases zero."""
    for value in graft.parameters():
        fresh = torch.zeros(value.shape)
        if value.ndim > 1:
            nn.init.trunc_normal_(fresh, std=NOISE, generator=generator)
        value.copy_(fresh)
