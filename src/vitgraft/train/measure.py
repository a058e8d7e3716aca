"""Measuring a model on labelled images, and asking it about pictures."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

import torch
from PIL import Image
from torch import Tensor

from vitgraft.core.tuned import Tuned
from vitgraft.data.labelling import check_kind
from vitgraft.data.preprocessing import Preprocessing
from vitgraft.data.task import Split
from vitgraft.data.transforms import evaluation
from vitgraft.errors import DivergedError
from vitgraft.features.feed import Feed, Reader, check_labels, moved, sent
from vitgraft.machine.placement import Placement, place
from vitgraft.train.batches import in_order
from vitgraft.train.targets import CLASSES, Measured, Target, target_of


def evaluate(
    model: Tuned,
    split: Split,
    preprocessing: Preprocessing,
    *,
    batch_size: int = 128,
    precision: str = "fp32",
    workers: int = 0,
    device: str = "auto",
    divisor: float = 1.0,
    target: Target | None = None,
) -> Measured:
    """What `target` measures of `model`, whose logits are divided by `divisor`, on a split; it moves to `device`.

    Without a target it is that of the split's kind of labels, as it is before it has seen any.

    Raises:
        DataError: an empty split, a label that the model has no class for, or an unreadable image.
        DivergedError: answers that are not finite.
    """
    target = target_of(split.kind) if target is None else target
    check_kind(target.kind, split)
    check_labels("given", split, model.classes)
    here = place(device)
    model.to(here.device)
    feed = Reader(preprocessing, workers=workers).feed(split.images, limit=0)
    found = measure(
        model,
        feed,
        torch.tensor(split.labels),
        here,
        batch_size=batch_size,
        precision=precision,
        divisor=divisor,
        target=target,
    )
    if not math.isfinite(found.loss):
        raise DivergedError(
            f"The model's answers to some of these {found.n:,} images are not finite: nothing can be measured. "
            "Compute in fp32 (precision), or train again with a lower lr or clip_norm=1."
        )
    return found


def answers(
    model: Tuned,
    split: Split,
    preprocessing: Preprocessing,
    *,
    batch_size: int = 128,
    precision: str = "fp32",
    workers: int = 0,
    device: str = "auto",
    done: Callable[[int], None] = lambda images: None,
) -> Tensor:
    """Logits (n, C) of a split's images, float32 on the CPU; `done` is told how many more there are.

    Raises:
        DataError: an empty split, a label that the model has no class for, or an unreadable image.
    """
    check_labels("given", split, model.classes)
    here = Placement(place(device).device)
    model.to(here.device)
    feed = Reader(preprocessing, workers=workers).feed(split.images, limit=0)
    return outputs(model, feed, len(split), here, batch_size=batch_size, precision=precision, done=done)


def outputs(
    model: Tuned,
    feed: Feed,
    n: int,
    here: Placement,
    *,
    batch_size: int,
    precision: str,
    done: Callable[[int], None] = lambda images: None,
) -> Tensor:
    """Outputs (n, C) of all images of a feed, float32 on the CPU, computed by this process alone."""
    found = []
    with evaluating(model), here.autocast(precision):
        for images in feed.stream((0, part) for part in in_order(n, batch_size)):
            found.append(model(moved(images, here.device)).float().cpu())
            done(len(found[-1]))
    return torch.cat(found)


def measure(
    model: Tuned,
    feed: Feed,
    labels: Tensor,
    here: Placement,
    *,
    batch_size: int,
    precision: str,
    divisor: float = 1.0,
    target: Target = CLASSES,
) -> Measured:
    """What `target` measures on images from a feed; `labels` (n, ...) are on the CPU. Processes share the work."""
    batches = in_order(len(labels), batch_size, here.rank, here.processes)
    tally = target.tally(labels, model.classes, here.device)
    with evaluating(model), here.autocast(precision):
        for indices, images in zip(batches, feed.stream((0, part) for part in batches), strict=True):
            tally.add(model(moved(images, here.device)) / divisor, sent(labels[indices], here.device), indices)
    tally.sums = here.total(tally.sums)
    return tally.metrics()


def predict(
    model: Tuned,
    images: Iterable[Image.Image],
    preprocessing: Preprocessing,
    *,
    batch_size: int = 64,
    precision: str = "fp32",
    device: str = "auto",
    divisor: float = 1.0,
    target: Target = CLASSES,
) -> Tensor:
    """What `target` says of pictures (n, C), such as probabilities, on the CPU.

    Pictures are taken from the iterable batch by batch. Logits are divided by `divisor` first.
    """
    here = Placement(place(device).device)
    model.to(here.device)
    transform = evaluation(preprocessing)
    tensors = (transform(image) for image in images)
    found = [torch.empty(0, model.classes)]
    with evaluating(model), here.autocast(precision):
        while batch := list(islice(tensors, batch_size)):
            logits = model(torch.stack(batch).to(here.device))
            found.append(target.answers(logits.float() / divisor))
    return torch.cat(found)


@contextmanager
def evaluating(model: Tuned) -> Iterator[None]:
    """Eval mode without autograd, for the length of a block."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
