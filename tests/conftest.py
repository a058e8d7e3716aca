"""What every test shares: one thread, a cache folder of its own, and a run that fails if it is empty."""

import os
from pathlib import Path

import pytest
import torch

from vitgraft.machine import placement


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start


@pytest.fixture
def bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """bf16 arithmetic, emulated where the processor has none."""
    monkeypatch.setattr(placement, "computes_bf16", lambda device: True)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("VITGRAFT_CACHE", str(folder))
    return folder
