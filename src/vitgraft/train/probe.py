"""Before the first epoch: does every trained value learn, and does the backbone stay? A few images tell."""

import torch
from torch import Tensor

from vitgraft.core.tuned import Inputs, Tuned, perturbed
from vitgraft.errors import TrainingError
from vitgraft.features.feed import moved
from vitgraft.machine.placement import Placement
from vitgraft.machine.seeds import own_randomness, seed_all
from vitgraft.train.optim import adamw
from vitgraft.train.targets import Loss

IMAGES = 8
"""Images of the probe: enough for a BatchNorm, few enough to cost nothing."""


def probe(model: Tuned, images: Inputs, labels: Tensor, objective: Loss, here: Placement, precision: str) -> None:
    """Take one step on images (b, 3, H, W) or readings of them, check its gradients, and undo it without a trace.

    Raises:
        TrainingError: trained tensors without a finite, non-zero gradient.
    """
    training = model.training
    try:
        with own_randomness(here.device), perturbed(model):
            seed_all(0, here.device)
            model.train()
            with here.autocast(precision):
                logits = model(moved(images, here.device))
            loss = objective(logits, labels.to(here.device)) / objective.mass(labels)
            torch.autograd.backward(loss)
            _check_gradients(model)
            adamw(model, lr=1e-3, weight_decay=1e-2).step()
    finally:
        model.train(training)
        for value in model.parameters():
            value.grad = None


def check_backbone(model: Tuned, before: str) -> None:
    """Raise TrainingError unless the backbone still has the fingerprint `before`."""
    if model.backbone.fingerprint() != before:
        raise TrainingError(
            f"The weights of the backbone {model.backbone.name} changed in training, though it is frozen, so this "
            "result and every other model on it are worth nothing. Load it anew; the method's code writes to it."
        )


def _check_gradients(model: Tuned) -> None:
    trained = [(name, value.grad) for name, value in model.named_parameters() if value.requires_grad]
    wild = [name for name, grad in trained if grad is not None and not grad.isfinite().all()]
    dead = [name for name, grad in trained if grad is None or not grad.any()]
    if wild:
        raise TrainingError(
            f"On the first images, the gradient of {_some(wild)} is not finite. Check the images' preprocessing "
            "and the backbone's weights, or use precision=fp32."
        )
    if dead:
        raise TrainingError(
            f"{_some(dead)} would never learn: the loss has no gradient there. The method's plan trains what the "
            "head does not read."
        )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more
