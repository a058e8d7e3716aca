"""What a full or closed disk refuses is told of a file that a person knows, and leaves all else as it was."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import toy
from vitgraft.atomic import write_atomically
from vitgraft.cli.guard import told_of
from vitgraft.train import journal, state


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Full:
    """A file on a disk that has room for `left` more bytes."""

    def __init__(self, file: Any, left: int) -> None:
        self.file, self.left = file, left

    def write(self, data: Any) -> int:
        self.left -= len(data)
        if self.left < 0:
            full()
        return int(self.file.write(data))

    def flush(self) -> None:
        self.file.flush()


def snapshot(folder: Path, seed: int = 0) -> None:
    model = toy.model()
    torch.manual_seed(seed)
    state.save(folder, {}, state.State(epoch=seed), model, torch.optim.AdamW(model.parameters()))


@pytest.mark.parametrize("left", [0, 10, 2000, 15_000])
def test_snapshot__on_a_full_disk(left: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot(tmp_path, 1)
    before = (tmp_path / state.FILE).read_bytes()
    assert len(before) > 15_000
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda content, file: save(content, Full(file, left)))
    with pytest.raises(OSError, match=r"No space left on device: '.*/snapshot\.pt'") as caught:
        snapshot(tmp_path, 2)
    assert caught.value.filename == str(tmp_path / state.FILE)
    assert (tmp_path / state.FILE).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [state.FILE], "no half a snapshot is left"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no disk that is always full")
def test_log__on_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / journal.LOG).symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device: '.*/log\.jsonl'"):
        journal.append_log(tmp_path, {"epoch": 1})


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_file__on_a_full_disk(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(b"before")
    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/record\.json'") as caught:
        write_atomically(path, b"after")
    assert path.read_bytes() == b"before"
    assert [one.name for one in tmp_path.iterdir()] == ["record.json"]
    assert told_of(caught.value) == f"No space left on device: '{path}'. Check permissions and free space."


@pytest.mark.parametrize(
    ("hidden", "told"),
    [
        ("/x/runs/a/.lock", "the folder '/x/runs/a'"),
        ("/x/runs/a/.record.json.0123", "the folder '/x/runs/a'"),
        ("/home/a/.cache/hub/.locks/models--vit/ab.lock", "the folder '/home/a/.cache/hub'"),
        ("/x/features/0123-45.lock", "the folder '/x/features'"),
        ("/home/a/.cache/x.npz", "'/home/a/.cache/x.npz'"),
    ],
)  # fmt: skip
def test_a_closed_folder__is_named_and_no_lock_that_nobody_knows(hidden: str, told: str) -> None:
    error = OSError(errno.EACCES, os.strerror(errno.EACCES), hidden)
    assert told_of(error) == f"Permission denied: {told}. Check permissions and free space."
    assert told_of(OSError(errno.ENOSPC, "No space left")) == "No space left. Check permissions and free space."
