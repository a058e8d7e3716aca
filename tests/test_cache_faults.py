"""The feature cache under kills, damage, full disks, little memory, and two processes at once."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.caching import SETTINGS, TRAIN, Session, at_logits, only, place, same, session, walked
from tests.test_resume import EVERY_STEP, Watched, assert_same, train
from vitgraft.data.task import Split
from vitgraft.errors import DataError
from vitgraft.features import cache, entries
from vitgraft.machine.progress import Display
from vitgraft.train import state

__all__ = ["place"]

SHORT = replace(SETTINGS, epochs=1)
FORK = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five chunks of the 20 images."""
    monkeypatch.setattr(cache, "CHUNK", 4)


def fill(look: Callable[[int], None] | None = None) -> Session:
    """A run that fills one entry; `look` is told how many images have been read."""
    images = TRAIN if look is None else Split(Watched(TRAIN, look), TRAIN.labels)
    return session("linear", SHORT, train=images, val=None)


def stuck(read: int) -> None:
    """After two chunks nothing goes on."""
    if read > 8:
        time.sleep(600)


def written(folder: Path) -> int:
    """Chunks that are there."""
    files = list(folder.glob("*/checksums"))
    return len(files[0].read_text().split("\n")) - 1 if files else 0


def wait_for(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until
        time.sleep(0.002)


def child(target: Callable[..., Any], *arguments: Any) -> Any:
    process = FORK.Process(target=target, args=arguments)
    process.start()
    return process


# Kills


def test_sigkill__while_an_entry_is_filled(place: Path) -> None:
    killed = child(fill, stuck)
    wait_for(lambda: written(place) == 2)
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert not only().complete
    with walked() as counts:
        found = fill()
    assert counts == [1, 2, 4, 4, 4]
    rows = only().rows.read_bytes()
    entries.remove([only().key])
    assert same(found, fill())
    assert only().rows.read_bytes() == rows


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, DataError])
def test_exception__while_an_entry_is_filled(error: type[BaseException]) -> None:
    def stop(read: int) -> None:
        if read == 11:
            raise error("stop")

    with pytest.raises(error):
        fill(stop)
    assert not only().complete
    with walked() as counts:
        found = fill()
    assert counts == [1, 2, 4, 4, 4]
    assert same(found, session("linear", replace(SHORT, cache="ram"), val=None))


def _dies(method: str, folder: Path, settings: Any, number: int) -> None:
    with at_logits(number, lambda: os.kill(os.getpid(), signal.SIGKILL)):
        train(method, folder, settings)


@pytest.mark.parametrize("method", ["mlp", "partial:k=1"])
def test_training__killed_and_resumed_is_bit_identical(method: str, tmp_path: Path) -> None:
    settings = replace(EVERY_STEP, epochs=4, augment="none", cache="disk")
    expected = train(method, None, settings)
    entries.remove([entry.key for entry in entries.entries()])
    reached = []
    for number in (5, 20):
        killed = child(_dies, method, tmp_path, settings, number)
        killed.join()
        assert killed.exitcode == -signal.SIGKILL
        saved = torch.load(tmp_path / state.FILE, weights_only=True)["state"]
        reached.append((saved["epoch"], saved["step"]))
    assert reached == sorted(set(reached))
    assert_same(train(method, tmp_path, settings), expected, tmp_path)


# Damage


def _flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


ROW = 24 * 4


@pytest.mark.parametrize(
    ("damage", "walks"),
    [
        (lambda entry: _flip(entry.rows, 5 * ROW), [2, 4]),
        (lambda entry: _flip(entry.rows, 20 * ROW - 1), [2, 4]),
        (lambda entry: os.truncate(entry.rows, 9 * ROW + 7), [2, 4, 4, 4]),
        (lambda entry: os.truncate(entry.rows, 0), [4] * 5),
        (lambda entry: entry.rows.write_bytes(entry.rows.read_bytes() + b"more"), [2]),
        (lambda entry: entry.rows.unlink(), [4] * 5),
        (lambda entry: (entry.folder / entries.COMPLETE).unlink(), [2]),
        (lambda entry: (entry.folder / entries.CARD).write_text("{"), [4] * 5),
        (lambda entry: (entry.folder / entries.CARD).write_text("[1]"), [4] * 5),
        (lambda entry: _flip(entry.folder / entries.CARD, 60), [4] * 5),
        (lambda entry: (entry.folder / entries.CARD).unlink(), [4] * 5),
        (lambda entry: (entry.folder / entries.CHECKSUMS).write_bytes(b"\xff\n0 x\n\xc2\xb2 y"), [4] * 5),
        (lambda entry: (entry.folder / entries.CHECKSUMS).unlink(), [4] * 5),
    ],
)
def test_damage__is_mended(damage: Callable[[Any], Any], walks: list[int]) -> None:
    first = fill()
    rows = only().rows.read_bytes()
    damage(only())
    with walked() as counts:
        second = fill()
    assert counts == [1, *walks]
    assert same(first, second)
    assert only().complete
    assert only().rows.read_bytes() == rows
    with walked() as counts:
        fill()
    assert counts == [1, 2]


def test_damage__of_any_byte_of_the_card_is_seen() -> None:
    """All but the title stands in the entry's name."""
    fill()
    entry = only()
    path = entry.folder / entries.CARD
    good = path.read_bytes()
    title = good.index(b'"title"'), good.index(b'"schema"')
    for position in range(0, len(good), 7):
        if title[0] < position < title[1] or good[position : position + 1].isspace():
            continue
        _flip(path, position)
        assert entry.card is None, good[position - 20 : position + 20]
        path.write_bytes(good)
    assert entry.card is not None


# Two at once


def _counted(folder: Path, name: str) -> None:
    reads: list[int] = []

    def look(read: int) -> None:
        reads.append(read)
        time.sleep(0.005)

    found = fill(look)
    torch.save({"reads": len(reads), "values": found.values}, folder / name)


def test_two_processes__fill_one_entry_once(tmp_path: Path) -> None:
    both = [child(_counted, tmp_path, name) for name in ("a", "b")]
    for one in both:
        one.join(60)
    assert [one.exitcode for one in both] == [0, 0]
    first, second = (torch.load(tmp_path / name, weights_only=True) for name in ("a", "b"))
    assert sorted((first["reads"], second["reads"])) == [2, 20]
    for name, value in first["values"].items():
        assert torch.equal(value, second["values"][name])
    assert only().complete


def test_two_processes__one_goes_on_where_the_other_was_killed(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = child(fill, stuck)
    wait_for(lambda: written(place) == 2)

    def say(self: Display, text: str) -> None:
        if text == "Waiting for another process, which is writing the features of train.":
            os.kill(killed.pid, signal.SIGKILL)

    monkeypatch.setattr(Display, "say", say)
    with walked() as counts:
        found = fill()
    killed.join(0)
    assert killed.exitcode == -signal.SIGKILL
    assert counts == [1, 2, 4, 4, 4]
    assert same(found, session("linear", replace(SHORT, cache="ram"), val=None))


def test_removed__while_a_run_reads() -> None:
    """A run that has its rows keeps them; the next one makes them anew."""
    expected = fill()
    with at_logits(3, lambda: entries.remove([only().key])):
        assert same(fill(), expected)
    assert entries.entries() == []
    assert same(fill(), expected)


def test_removed__between_its_being_found_and_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    session("vqt", SHORT, val=None)
    (larger,) = entries.entries()
    holding, calls = entries.holding, iter(range(10))

    def gone(card: Any) -> Any:
        found = holding(card)
        if next(calls) == 1:  # the first call asks how much room is needed
            assert found == larger
            found.discard()
        return found

    expected = session("synqt", replace(SHORT, cache="ram"), val=None)
    monkeypatch.setattr(entries, "holding", gone)
    assert same(session("synqt", SHORT, val=None), expected)
    assert only() != larger
    assert only().complete
