"""What every test shares: one thread, a cache folder of its own, and a run that fails if it is empty."""

from pathlib import Path

import pytest
import torch

from vitgraft.train import placement


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """bf16 arithmetic, emulated where the processor has none."""
    monkeypatch.setattr(placement, "computes_bf16", lambda device: True)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("VITGRAFT_CACHE", str(folder))
    return folder
