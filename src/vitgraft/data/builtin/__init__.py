"""Sixteen image tasks that need no download: fifteen drawn on demand and scikit-learn's digits.

They imitate the groups of VTAB-1k ("natural", "specialized", "structured") at a size that a CPU can train on:
800 training, 200 validation and 1,000 test pictures of 32 x 32 pixels. `info` describes a task and `load` makes
it; importing this package imports neither torch nor numpy.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from vitgraft.data.builtin.registry import DEFAULT_SUITE, TaskInfo, info, names

if TYPE_CHECKING:
    from vitgraft.data.task import Task

__all__ = ["DEFAULT_SUITE", "TaskInfo", "info", "load", "names"]


def load(name: str, *, size: int = 32, seed: int = 0, test: int = 1000, root: Path | None = None) -> "Task":
    """A built-in task with splits "train" (800), "val" (200) and "test" (`test`; digits has at most 797).

    Pictures are `size` x `size` RGB, and the same for the same `seed`; another seed draws other pictures of the
    same classes. The first use draws the task, a few seconds, and keeps it under `root` (default: `cache_root()`).

    Raises: ConfigError for an unknown name, or a size, seed or test count out of range.
    """
    from vitgraft.data.builtin import store

    return store.load(name, size=size, seed=seed, test=test, root=root)
