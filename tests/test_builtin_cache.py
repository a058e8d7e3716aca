"""The built-in tasks' cache: read when whole, mended when damaged, never fatal."""

import io
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from vitgraft.data import builtin
from vitgraft.data.builtin import registry, store
from vitgraft.data.location import cache_root


def load(root: Path, **options: int) -> tuple[str, Path]:
    """A cheap task's fingerprint and its one cache file."""
    fingerprint = builtin.load("dspr_loc", size=8, test=10, root=root, **options).fingerprint()
    (file,) = (root / "builtin").glob("dspr_loc*seed0*.npz")
    return fingerprint, file


def test_load__gives_a_task() -> None:
    task = builtin.load("dspr_loc", size=16, test=30)
    assert (task.name, task.group, len(task.classes)) == ("dspr_loc", "structured", 16)
    assert {split: len(part) for split, part in task.splits.items()} == {"train": 800, "val": 200, "test": 30}
    image, label = task.splits["val"][3]
    assert image.size == (16, 16)
    assert image.mode == "RGB"
    assert 0 <= label < 16
    assert task.splits["val"].images.name(3) == "dspr_loc/val[3]"
    assert list((cache_root() / "builtin").glob("dspr_loc-*-16px-*")), "the cache folder comes from VITGRAFT_CACHE"


def test_cache__is_read_the_second_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, file = load(tmp_path)
    assert list(file.parent.iterdir()) == [file], "a draft was left behind"

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("drawn again")

    monkeypatch.setattr(store, "generate", fail)
    assert load(tmp_path) == (first, file)
    for changed in ({"seed": 1}, {"test": 11}, {"size": 9}):
        with pytest.raises(AssertionError, match="drawn again"):
            builtin.load("dspr_loc", root=tmp_path, **{"size": 8, "test": 10, **changed})
    newer = registry.TaskInfo(**{**vars(registry.TASKS["dspr_loc"]), "version": 99})
    monkeypatch.setitem(registry.TASKS, "dspr_loc", newer)
    with pytest.raises(AssertionError, match="drawn again"):
        load(tmp_path)


def _truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _garbage(file: Path) -> None:
    file.write_bytes(b"not a zip file")


def _empty(file: Path) -> None:
    file.write_bytes(b"")


def _one_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 4
    file.write_bytes(content)


def _changed(file: Path, **arrays: object) -> None:
    with np.load(file) as archive:
        content = dict(archive)
    np.savez(file, **{**content, **arrays})


def _pickled(file: Path) -> None:
    _changed(file, test_labels=np.array([object()] * 10))


def _short(file: Path) -> None:
    _changed(file, val_pixels=np.zeros((199, 8, 8, 3), np.uint8))


def _wrong_label(file: Path) -> None:
    _changed(file, test_labels=np.full(10, 16))


@pytest.mark.parametrize("damage", [_truncated, _garbage, _empty, _one_bit, _pickled, _short, _wrong_label])
def test_cache__a_damaged_file_is_drawn_again(
    damage: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert callable(damage)
    first, file = load(tmp_path)
    damage(file)
    with caplog.at_level(logging.WARNING):
        assert load(tmp_path) == (first, file)
    assert "is damaged" in caplog.text
    caplog.clear()
    assert load(tmp_path) == (first, file)
    assert not caplog.text, "the file was not mended"


def test_cache__a_broken_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full_disk(file: io.BufferedWriter, **_: object) -> None:
        file.write(b"half a file")
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez_compressed", full_disk)
    with caplog.at_level(logging.WARNING):
        task = builtin.load("dspr_loc", size=8, test=10, root=tmp_path)
    assert len(task.splits["test"]) == 10
    assert "no space left" in caplog.text
    assert list((tmp_path / "builtin").iterdir()) == []


def test_cache__a_folder_that_cannot_be_made_is_not_fatal(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    assert len(builtin.load("dspr_loc", size=8, test=10, root=blocked).splits["test"]) == 10


def test_cache__two_at_once_do_no_harm(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        both = list(
            pool.map(lambda _: builtin.load("dspr_loc", size=8, test=10, root=tmp_path).fingerprint(), "ab")
        )
    assert both == [load(tmp_path)[0]] * 2


def test_cache_root__follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VITGRAFT_CACHE", str(tmp_path / "mine"))
    assert cache_root() == tmp_path / "mine"
    monkeypatch.setenv("VITGRAFT_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "shared"))
    assert cache_root() == tmp_path / "shared" / "vitgraft"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/folder")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache" / "vitgraft"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress__shows_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store.generate(builtin.info("dspr_loc"), {"val": 2}, size=8, seed=0)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("TERM", "xterm")
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    store.generate(builtin.info("dspr_loc"), {"val": 2}, size=8, seed=0)
    assert "drawing dspr_loc" in terminal.getvalue()
