"""Measuring a model on labelled images, and asking it about pictures."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

import torch
from PIL import Image
from torch import Tensor

from vitgraft.core.tuned import Tuned
from vitgraft.data.preprocessing import Preprocessing
from vitgraft.data.task import Split
from vitgraft.data.transforms import evaluation
from vitgraft.errors import DivergedError
from vitgraft.features.feed import Feed, Reader, check_labels, moved
from vitgraft.machine.placement import Placement, place
from vitgraft.train.batches import in_order
from vitgraft.train.metrics import Metrics, Tally


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
) -> Metrics:
    """Loss and accuracies of `model`, whose logits are divided by `divisor`, on a split; it moves to `device`.

    Raises:
        DataError: an empty split, a label that the model has no class for, or an unreadable image.
        DivergedError: answers that are not finite.
    """
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
    batches = in_order(len(split), batch_size)
    feed = Reader(preprocessing, workers=workers).feed(split.images, limit=0)
    found = []
    with evaluating(model), here.autocast(precision):
        for images in feed.stream((0, part) for part in batches):
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
) -> Metrics:
    """Loss and accuracies on images from a feed; `labels` (n,) are on the CPU. Processes share the work."""
    batches = in_order(len(labels), batch_size, here.rank, here.processes)
    tally = Tally(model.classes, here.device)
    with evaluating(model), here.autocast(precision):
        for indices, images in zip(batches, feed.stream((0, part) for part in batches), strict=True):
            tally.add(model(moved(images, here.device)) / divisor, labels[indices].to(here.device))
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
) -> Tensor:
    """Probabilities (n, C) of pictures, on the CPU; pictures are taken from the iterable batch by batch.

    Logits are divided by `divisor` first.
    """
    here = Placement(place(device).device)
    model.to(here.device)
    transform = evaluation(preprocessing)
    tensors = (transform(image) for image in images)
    found = [torch.empty(0, model.classes)]
    with evaluating(model), here.autocast(precision):
        while batch := list(islice(tensors, batch_size)):
            logits = model(torch.stack(batch).to(here.device))
            found.append((logits.float() / divisor).softmax(1).cpu())
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
