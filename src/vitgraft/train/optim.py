"""The optimizer and its learning rate: AdamW, linear warm-up, cosine, or as other papers have published them."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vitgraft.core.tuned import Tuned
from vitgraft.train.settings import Training


def optimizer_of(model: Tuned, settings: Training) -> torch.optim.Optimizer:
    """The settings' optimizer over everything that trains."""
    assert settings.lr is not None, "the method's recipe fills it in"
    token = _class_token(model) if settings.decay == "timm" else None
    groups = _groups(model, settings.weight_decay, settings.decay == "all", token)
    fused = _fused(groups)
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, fused=fused)
    kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=settings.lr, fused=fused)


def adamw(model: nn.Module, lr: float, weight_decay: float | None) -> torch.optim.AdamW:
    """AdamW over everything that trains; vectors and scalars (biases, scales, normalisations) do not decay."""
    groups = _groups(model, weight_decay)
    return torch.optim.AdamW(groups, lr=lr, fused=_fused(groups))


def _groups(
    model: nn.Module, weight_decay: float | None, everything: bool = False, spared: Tensor | None = None
) -> list[dict[str, Any]]:
    """What decays and what does not: values of one axis or none, and `spared`, do only if everything does."""
    trained = [value for value in model.parameters() if value.requires_grad]
    decays = [everything or (value.ndim > 1 and value is not spared) for value in trained]
    groups: list[dict[str, Any]] = [
        {
            "params": [value for value, yes in zip(trained, decays, strict=True) if yes],
            "weight_decay": weight_decay,
        },
        {"params": [value for value, yes in zip(trained, decays, strict=True) if not yes], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _fused(groups: list[dict[str, Any]]) -> bool | None:
    """True where that is known to work; None leaves the choice to torch, where False would forbid others, too."""
    device: torch.device = groups[0]["params"][0].device
    return True if device.type in ("cpu", "cuda") else None


def _class_token(model: Tuned) -> Tensor | None:
    """The class token, if it is trained: one vector, though it has three axes."""
    name = model.backbone.view.class_token
    return None if name is None else dict(model.values.items()).get(name.replace(".", "/"))


@dataclass(frozen=True)
class Schedule:
    """The learning rate of every step, as `settings` say; an epoch has `steps`.

    It rises linearly over the warm-up, then falls along a cosine towards `min_lr`. Without `warmup_lr` the peak is
    reached in the last step of warm-up, and no step is spent at 0; with it, the first step has that rate and the
    peak comes when warm-up is over. With the cosine over the whole run, warm-up only hides its beginning.
    """

    settings: Training
    steps: int

    def at(self, epoch: int, step: int = 0) -> float:
        """The rate of a step (from 0) of an epoch (from 0)."""
        settings = self.settings
        assert settings.lr is not None, "the method's learning rate has been filled in"
        unit, now = 1, epoch - settings.lag_epochs
        if settings.lr_changes == "step":
            unit, now = self.steps, now * self.steps + step
        now = max(now, 0)
        warmup, end = round(settings.warmup * unit), settings.epochs * unit
        if now < warmup:
            if settings.warmup_lr is None:
                return settings.lr * (now + 1) / warmup
            return settings.warmup_lr + (settings.lr - settings.warmup_lr) * now / warmup
        begin = 0 if settings.cosine == "whole-run" else warmup
        progress = (now - begin) / (end - begin)
        return settings.min_lr + (settings.lr - settings.min_lr) * (1 + math.cos(math.pi * progress)) / 2


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
