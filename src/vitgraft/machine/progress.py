"""What a person sees of long work: on a terminal a bar with speed and remaining time, elsewhere a line an epoch.

Both are on standard error.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

WORK_SECONDS = 15.0
"""At least so long between two lines about work beside training, where there is no bar."""

Entry = Mapping[str, Any]


class Meter:
    """Images a second through training steps, without pauses. Start and stop it while the device is idle."""

    def __init__(self, images: int = 0, seconds: float = 0.0) -> None:
        self.images, self.seconds = images, seconds
        self._since: float | None = None

    def start(self) -> None:
        """Begin to count."""
        self._since = perf_counter()

    def count(self, images: int) -> None:
        """More images are through, if the meter runs."""
        if self._since is not None:
            self.images += images

    def stop(self) -> None:
        """Pause."""
        self.seconds, self._since = self._elapsed(), None

    def rate(self) -> float | None:
        """Images a second, if any were counted."""
        seconds = self._elapsed()
        return self.images / seconds if self.images and seconds else None

    def _elapsed(self) -> float:
        return self.seconds + (0.0 if self._since is None else perf_counter() - self._since)


class Display:
    """Shows progress; `shown` is False in all processes but one. Without steps only work beside training has a
    bar."""

    def __init__(self, epochs: int, steps: int, shown: bool = True) -> None:
        self.epochs, self.steps = epochs, steps
        self.shown = shown
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._began: tuple[float, int] | None = None
        if shown and sys.stderr.isatty():
            self._bar, self._task = _bar(epochs * steps)
            self._bar.start()

    def step(self, done: int, rate: float | None) -> None:
        """`done` steps of all are over, at `rate` images a second."""
        if self._began is None:
            self._began = perf_counter(), done
        if self._bar is not None and self._task is not None:
            speed = "" if rate is None else f"{rate:,.0f} img/s  {self._left(done)}"
            self._bar.update(self._task, completed=done, speed=speed)

    def epoch(self, entry: Entry) -> None:
        """An epoch is over."""
        self.say(f"{_line(entry, self.epochs)}  {self._left(entry['epoch'] * self.steps)}".rstrip())

    @contextmanager
    def work(self, title: str, total: int, unit: str = "images") -> Iterator[Callable[[int], None]]:
        """A bar, or a few lines, for work on `total` images beside training; gives what tells of more done."""
        began, said = perf_counter(), perf_counter()
        done = 0
        task = None if self._bar is None else self._bar.add_task(title, total=total, unit=unit, speed="")

        def advance(more: int) -> None:
            nonlocal done, said
            done, now = done + more, perf_counter()
            rate = done / max(now - began, 1e-9)
            speed = f"{rate:,.1f} {'img' if unit == 'images' else unit}/s"
            ahead = f"{speed}  {_clock((total - done) / rate)} left" if done < total else ""
            if self._bar is not None and task is not None:
                self._bar.update(task, completed=done, speed=ahead)
            elif now - said >= WORK_SECONDS and done < total:
                said = now
                self.say(f"{title}: {done:,} of {total:,} {unit}  {ahead}")

        yield advance
        if self._bar is not None and task is not None:
            self._bar.remove_task(task)
        self.say(f"{title}: {done:,} {unit} in {_clock(perf_counter() - began)}")

    def say(self, text: str) -> None:
        """One line for a person."""
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        elif self.shown:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _left(self, done: int) -> str:
        """The time that the remaining steps will take, validation included, if they go on like those so far."""
        ahead = self.epochs * self.steps - done
        if self._began is None or done <= self._began[1] or not ahead:
            return ""
        since, first = self._began
        return f"{_clock((perf_counter() - since) / (done - first) * ahead)} left"


@contextmanager
def counted(title: str, total: int, shown: bool) -> Iterator[Callable[[], None]]:
    """A bar over `total` images if it is `shown` and there is a terminal; gives what tells of one more done."""
    if not (shown and sys.stderr.isatty()):
        yield lambda: None
        return
    bar, task = _bar(total, title, "images")
    began, done = perf_counter(), 0

    def advance() -> None:
        nonlocal done
        done += 1
        rate = done / max(perf_counter() - began, 1e-9)
        bar.update(task, completed=done, speed=f"{rate:,.1f} img/s  {_clock((total - done) / rate)} left")

    with bar:
        yield advance


MAIN = {"val_top1": "top-1", "val_map": "mAP", "val_r2": "R²"}
"""What decides on validation, as a log has it, and as it is called."""

OF_ONE = ("val_r2",)
"""Those that are no percentages."""


def _bar(total: int, title: str = "training", unit: str = "steps") -> "tuple[Progress, TaskID]":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TextColumn("{task.fields[speed]}"),
    )
    console = Console(stderr=True)  # standard output is left alone: it may be a file of results
    bar = Progress(*columns, console=console, transient=True, refresh_per_second=4, redirect_stdout=False)
    return bar, bar.add_task(title, total=total, unit=unit, speed="", visible=total > 0)


def _line(entry: Entry, epochs: int) -> str:
    parts = [f"epoch {entry['epoch']}/{epochs}", f"loss {entry['train_loss']:.4f}"]
    for key, name in MAIN.items():
        if entry.get(key) is not None:
            share = 100 * entry[key] if key in OF_ONE else entry[key]
            parts.append(f"val loss {entry['val_loss']:.4f}, {name} {share:.2f} %")
    if entry.get("images_per_second"):
        parts.append(f"{entry['images_per_second']:,.0f} img/s")
    return "  ".join(parts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
