"""Two processes train one model and get what one process gets."""

import multiprocessing
import os
import signal
import socket
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests import toy
from tests.test_resume import Watched, plain
from vitgraft.data.task import Split
from vitgraft.results import store
from vitgraft.runs.config import RunConfig
from vitgraft.runs.run import run
from vitgraft.train import loop
from vitgraft.train.loop import fit
from vitgraft.train.settings import Training

SETTINGS = Training(
    epochs=2,
    batch_size=9,
    lr=3e-3,
    accumulate=2,
    clip_norm=2.0,
    class_weights="balanced",
    device="cpu",
    snapshot_seconds=0.0,
)
"""Nothing divides by two here: 9 images a step, 30 in all, 13 to validate on."""


def uneven(n: int, seed: int) -> Split:
    """A toy split whose first half is of one class."""
    task = toy.split(n, seed)
    return Split(task.images, np.where(np.arange(n) < n // 2, 0, task.labels))


def train(method: str, settings: Training, folder: Path, stop_at: int | None = None) -> None:
    """Train, and leave the result in `folder`, one file a process.

    The last process gets a signal when it reads its image number `stop_at`.
    """
    rank = os.environ.get("RANK", "0")

    def look(read: int) -> None:
        if read == stop_at and rank == "1":
            signal.raise_signal(signal.SIGTERM)

    task = uneven(30, 0)
    task = task if stop_at is None else Split(Watched(task, look), task.labels)
    model = toy.model(method)
    preprocessing = toy.PREPROCESSING
    result: dict[str, Any] = {"interrupted": True}
    with suppress(KeyboardInterrupt, SystemExit):
        fitted = fit(model, task, uneven(13, 1), settings, preprocessing=preprocessing, out=folder, resume=True)
        result = {"values": model.state_dict(), "history": list(fitted.history), "interrupted": False}
    torch.save(result, folder / f"result{rank}.pt")


def _environment(rank: int, port: int) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }


def _process(rank: int, port: int, *arguments: Any) -> None:
    _environment(rank, port)
    train(*arguments)
    torch.distributed.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def in_two_processes(
    method: str, settings: Training, folder: Path, stop_at: int | None = None
) -> list[dict[str, Any]]:
    """The results of both processes, see `train`."""
    folder.mkdir(exist_ok=True)
    context, port = multiprocessing.get_context("fork"), _free_port()
    arguments = (port, method, settings, folder, stop_at)
    children = [context.Process(target=_process, args=(rank, *arguments)) for rank in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0, 0]
    return [torch.load(folder / f"result{rank}.pt", weights_only=True) for rank in range(2)]


def _sgd(model: nn.Module, settings: Training) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)


@pytest.mark.parametrize(("method", "device"), [("lora", "auto"), ("linear", "cpu")])
def test_two_processes__get_the_result_of_one(
    method: str, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the CPU was asked for, or is what the machine has."""
    if device == "auto" and torch.accelerator.is_available():
        pytest.skip("processes would each take an accelerator")
    monkeypatch.setattr(loop, "optimizer_of", _sgd)  # Adam would not see a gradient of another scale
    train(method, SETTINGS, tmp_path)
    alone = torch.load(tmp_path / "result0.pt", weights_only=True)
    first, second = in_two_processes(method, replace(SETTINGS, device=device), tmp_path / "two")
    for name, value in alone["values"].items():
        assert torch.equal(first["values"][name], second["values"][name]), f"{name} differs between processes"
        assert torch.allclose(first["values"][name], value, atol=2e-5), name
    assert first["history"][-1]["train_loss"] == second["history"][-1]["train_loss"]
    for mine, its in zip(alone["history"], first["history"], strict=True):
        for key in ("train_loss", "train_top1", "val_loss", "val_top1", "val_mean_per_class", "val_n"):
            assert its[key] == pytest.approx(mine[key], rel=1e-4), key
    assert len((tmp_path / "two" / "log.jsonl").read_text().splitlines()) == SETTINGS.epochs
    assert (tmp_path / "two" / "snapshot.pt").exists()


@pytest.mark.parametrize("method", ["vpt-deep", pytest.param("mlp", marks=pytest.mark.slow)])
def test_two_processes__stop_together_and_go_on(method: str, tmp_path: Path) -> None:
    settings = replace(SETTINGS, augment="flip", snapshot_seconds=1e6)
    whole = in_two_processes(method, settings, tmp_path / "whole")
    stopped = in_two_processes(method, settings, tmp_path / "parts", stop_at=25)
    assert [result["interrupted"] for result in stopped] == [True, True]
    reached = torch.load(tmp_path / "parts" / "snapshot.pt", weights_only=True)["state"]
    assert (reached["epoch"], reached["step"] > 0) == (1, True)
    again = in_two_processes(method, settings, tmp_path / "parts")
    for name, value in whole[0]["values"].items():
        assert torch.equal(again[0]["values"][name], value), name
        assert torch.equal(again[0]["values"][name], again[1]["values"][name])
    assert plain(again[0]["history"]) == plain(whole[0]["history"])


def _one_run(rank: int, port: int, digits: str, out: str) -> None:
    _environment(rank, port)
    run(RunConfig.of({"data": digits, "method": "linear", "epochs": 2, "batch_size": 20, "out": out}), tell=print)
    torch.distributed.destroy_process_group()


def test_two_processes__write_one_run(tmp_path: Path) -> None:
    """As `torchrun -m vitgraft fit` does, with the device that nobody named."""
    if torch.accelerator.is_available():
        pytest.skip("processes would each take an accelerator")
    digits = str(toy.some_digits(tmp_path / "digits", 60))
    alone = {"data": digits, "method": "linear", "epochs": 2, "batch_size": 20, "device": "cpu"}
    one = run(RunConfig.of({**alone, "out": str(tmp_path / "one")}))
    context, port = multiprocessing.get_context("fork"), _free_port()
    arguments = (port, digits, str(tmp_path / "two"))
    children = [context.Process(target=_one_run, args=(rank, *arguments)) for rank in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0, 0]
    two = store.read(tmp_path / "two" / store.FILE)
    assert len((tmp_path / "two" / "log.jsonl").read_text().splitlines()) == 2
    assert one.test is not None
    assert two.test is not None
    assert (two.test.top1, two.test.n) == (one.test.top1, one.test.n)
    assert two.history.train_loss == pytest.approx(one.history.train_loss, rel=1e-4)
    assert not (tmp_path / "two" / ".lock").exists()
