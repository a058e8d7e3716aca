"""A toy task and a toy backbone on which training takes milliseconds."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from tests.tiny import backbone
from vitgraft import methods
from vitgraft.bench.cell import Job
from vitgraft.bench.runner import Outcome, work
from vitgraft.core.backbone import Backbone
from vitgraft.core.tuned import Tuned
from vitgraft.data import builtin
from vitgraft.data.preprocessing import Preprocessing
from vitgraft.data.task import ArrayImages, Split
from vitgraft.methods import Method
from vitgraft.train.calibrate import Calibrator
from vitgraft.train.settings import Training

CLASSES = 3
PREPROCESSING = Preprocessing(size=(16, 16), crop=1.0)


def split(n: int = 40, seed: int = 0, shift: int = 0) -> Split:
    """Noise whose class tints one channel; `shift` moves every label on, so that learning makes it worse."""
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % CLASSES
    pixels = generator.integers(0, 160, (n, 16, 16, 3), dtype=np.uint8)
    for index, label in enumerate(labels):
        pixels[index, ..., label] += 90
    return Split(ArrayImages(pixels, "toy"), ((labels + shift) % CLASSES).astype(np.int64))


def some_digits(folder: Path, n: int = 120) -> Path:
    """A folder of real digits for whole runs: few, and enough that models differ in accuracy."""
    digits = builtin.load("digits").splits["train"]
    for index in range(n):
        image, label = digits[index]
        place = folder / str(label)
        place.mkdir(parents=True, exist_ok=True)
        image.save(place / f"{index}.png")
    return folder


def model(method: str = "lora", frozen: Backbone | None = None, classes: int = CLASSES) -> Tuned:
    """A fresh model, always with the same initial values."""
    frozen = frozen or backbone()
    torch.manual_seed(0)
    return Tuned(frozen, methods.parse(method).plan(frozen, classes))


FOUND: dict[tuple[str, str, str, int], dict[str, torch.Tensor]] = {}


def findings(frozen: Backbone, method: Method, classes: int) -> dict[str, torch.Tensor]:
    """What a method finds in a few images of the toy task within an epoch, once for equal weights."""
    key = (frozen.name, frozen.fingerprint(), methods.spec_of(method), classes)
    if key not in FOUND:
        settings = Training(epochs=1, batch_size=12, device="cpu")
        images = split(24)
        preprocessing = Preprocessing(size=frozen.view.image_size, crop=1.0)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            looking = Calibrator(method, frozen, classes, images, preprocessing, settings, val=split(12, seed=1))
            FOUND[key] = looking.find()
    return FOUND[key]


@contextmanager
def in_process(workers: int) -> Iterator[Callable[[Job], "Future[Outcome]"]]:
    """Runs of a sweep in this process, one after the other."""

    def submit(job: Job) -> "Future[Outcome]":
        done: Future[Outcome] = Future()
        done.set_result(work(job.config, job.test, 1, job.others))
        return done

    yield submit
