"""The model of time: what a run takes on this machine.

    start       what the command needs beside: interpreter, libraries, backbone and data, as it took here; counting
    looking     what a method does with training data before it has a plan
    caching     frozen walks of train and val, once, if a cache can hold them
    training    epochs x (images x a step's seconds + steps x an update's + validation)
    testing     test images x a walk

Pictures are decoded once where the cache or memory holds them, else in every epoch.
"""

from dataclasses import dataclass

from vitgraft.advice.probe import Speed
from vitgraft.data.task import Task
from vitgraft.train.settings import Training

HEAD_PASS = 1 / 3
"""A forward pass of what trains, as a part of its step."""


@dataclass(frozen=True)
class Counts:
    """Images of a task."""

    train: int
    val: int
    test: int

    @classmethod
    def of(cls, task: Task) -> "Counts":
        return cls(*(len(task.splits[name]) if name in task.splits else 0 for name in ("train", "val", "test")))


@dataclass(frozen=True)
class Seconds:
    """Of a run, by what they are spent on."""

    start: float
    looking: float
    caching: float
    training: float
    testing: float

    @property
    def total(self) -> float:
        return self.start + self.looking + self.caching + self.training + self.testing


@dataclass(frozen=True)
class Machine:
    """Seconds here: of starting, of decoding a picture, of an image's walk through the frozen backbone."""

    start: float
    read: float
    walk: float


@dataclass(frozen=True)
class Way:
    """How a run goes: whether the frozen part is cached, which is so much of the walk; whether decoded images
    stay; how many times as long a step takes because something is computed twice.
    """

    cached: bool
    frozen: float
    stay: bool
    slower: float = 1.0


def epoch_seconds(speed: Speed, counts: Counts, settings: Training, way: Way, walk: float) -> float:
    """An epoch, with its validation."""
    steps = -(-counts.train // settings.batch_size)
    passed = HEAD_PASS * speed.step if way.cached else walk
    return way.slower * speed.step * counts.train + speed.update * steps + passed * counts.val


def run_seconds(
    speed: Speed,
    counts: Counts,
    settings: Training,
    way: Way,
    here: Machine,
    looking: float = 0.0,
    counting: float = 0.0,
) -> Seconds:
    """A whole run; `counting` is what it takes to count its cost, before and after."""
    seen = counts.train * max(settings.views, 1) + counts.val
    caching = seen * (here.read + way.frozen * here.walk) if way.cached else 0.0
    reading = 0.0 if way.cached else here.read * seen * (1 if way.stay else settings.epochs)
    training = settings.epochs * epoch_seconds(speed, counts, settings, way, here.walk) + reading
    head = HEAD_PASS * speed.step if way.cached else 0.0
    testing = counts.test * (here.read + here.walk + head)
    return Seconds(here.start + counting, looking, caching, training, testing)
