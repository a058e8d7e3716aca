"""The optimizer and its learning rate: AdamW, linear warm-up, cosine."""

import math
from typing import Any

import torch
from torch import nn


def adamw(model: nn.Module, lr: float | None, weight_decay: float | None) -> torch.optim.AdamW:
    """AdamW over everything that trains; vectors and scalars (biases, scales, normalisations) do not decay."""
    assert lr is not None, "the method's recipe fills it in"
    trained = [value for value in model.parameters() if value.requires_grad]
    matrices = [value for value in trained if value.ndim > 1]
    vectors = [value for value in trained if value.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    fused = trained[0].device.type in ("cpu", "cuda")
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=lr, fused=fused)


def lr_at(step: int, *, steps: int, warmup: int, peak: float, floor: float = 0.0) -> float:
    """The learning rate of step `step` (from 0) of `steps`.

    It rises linearly over `warmup` steps and reaches `peak` in the last of them, then falls along a cosine
    towards `floor`. No step is spent at a rate of 0.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / (steps - warmup)
    return floor + (peak - floor) * (1 + math.cos(math.pi * progress)) / 2


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
