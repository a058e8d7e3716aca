"""A run that was killed, stopped or has ended goes on, and ends as if nothing had happened, bit for bit."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

import vitgraft
from tests import toy
from tests.test_records import record
from tests.tiny import backbone
from vitgraft.atomic import write_atomically
from vitgraft.core.tuned import Tuned
from vitgraft.data.task import Split
from vitgraft.errors import CheckpointError, ConfigError, TrainingError
from vitgraft.results import store
from vitgraft.runs.config import RunConfig
from vitgraft.runs.earlier import begin
from vitgraft.train import session, state
from vitgraft.train.loop import Fitted, fit
from vitgraft.train.probe import IMAGES
from vitgraft.train.session import POLL, Session
from vitgraft.train.settings import Training

EVERY_STEP = Training(
    epochs=6,
    batch_size=7,
    lr=3e-3,
    accumulate=2,
    select="best",
    augment="flip",
    device="cpu",
    snapshot_seconds=0.0,
)
TIMES = ("seconds", "images_per_second")
Values = dict[str, Tensor]


class Watched:
    """The toy task's images; `look` is called with the number of images read so far."""

    def __init__(self, split: Split, look: Callable[[int], None]) -> None:
        self.images, self.look, self.read = split.images, look, 0

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Image.Image:
        self.read += 1
        self.look(self.read)
        return self.images[index]

    def name(self, index: int) -> str:
        return self.images.name(index)

    def fingerprint(self) -> str:
        return self.images.fingerprint()


def train(
    method: str,
    folder: Path | None,
    settings: Training = EVERY_STEP,
    *,
    resume: bool = True,
    look: Callable[[int], None] | None = None,
) -> tuple[Fitted, Values]:
    """One session of the same run; `look` watches the training images as they are read."""
    model: Tuned = toy.model(method)
    images = toy.split(30)
    images = images if look is None else Split(Watched(images, look), images.labels)
    # Labels that fit the less the more is learned: the best epoch is an early one, and has to be remembered.
    val = toy.split(12, seed=5, shift=1)
    fitted = fit(model, images, val, settings, preprocessing=toy.PREPROCESSING, out=folder, resume=resume)
    return fitted, {name: value.detach().clone() for name, value in model.state_dict().items()}


@cache
def uninterrupted(method: str) -> tuple[Fitted, Values]:
    """What a run comes to if nothing happens to it."""
    return train(method, None)


def plain(history: Any) -> list[dict[str, Any]]:
    """A history without its wall-clock times."""
    return [{key: value for key, value in entry.items() if key not in TIMES} for entry in history]


def assert_same(found: tuple[Fitted, Values], expected: tuple[Fitted, Values], folder: Path) -> None:
    """Same values, history, selection and log."""
    for name, value in expected[1].items():
        assert torch.equal(found[1][name], value), f"{name} differs"
    first, second = found[0], expected[0]
    assert plain(first.history) == plain(second.history)
    assert (first.best_epoch, first.val, first.steps) == (second.best_epoch, second.val, second.steps)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert plain(lines) == plain(second.history)


@pytest.mark.parametrize("method", ["vpt-deep", "mlp"])
def test_sigkill__at_three_random_moments(method: str, tmp_path: Path) -> None:
    expected = uninterrupted(method)
    seed = random.SystemRandom().randrange(2**32)
    moments = random.Random(seed)
    reached = []
    for _ in range(3):
        child = multiprocessing.get_context("fork").Process(target=train, args=(method, tmp_path))
        child.start()
        _wait_for_another_snapshot(tmp_path, child)
        time.sleep(moments.uniform(0, 0.04))
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert child.exitcode == -signal.SIGKILL, "the run was over before it could be killed"
        saved = torch.load(tmp_path / state.FILE, weights_only=True)["state"]
        reached.append((saved["epoch"], saved["step"]))
    assert reached == sorted(set(reached)), f"no session went on: {reached}"
    assert_same(train(method, tmp_path), expected, tmp_path)


def _wait_for_another_snapshot(folder: Path, child: Any) -> None:
    def written() -> int:
        path = folder / state.FILE
        return path.stat().st_mtime_ns if path.exists() else 0

    before, until = written(), time.monotonic() + 60
    while written() == before:
        assert child.is_alive(), "the child died by itself"
        assert time.monotonic() < until, "the child wrote no snapshot"
        time.sleep(0.002)


class Killed(BaseException):
    """Ends a session where it stands, like a kill that leaves the interpreter alive."""


@pytest.mark.parametrize("where", ["os.replace", "log", "snapshot file"])
def test_kill__between_the_writes_of_an_epochs_end(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = uninterrupted("vpt-deep")
    with monkeypatch.context() as patched:
        patched.setattr(*_bomb(where))
        with pytest.raises(Killed):
            train("vpt-deep", tmp_path)
    assert_same(train("vpt-deep", tmp_path), expected, tmp_path)


def _bomb(where: str) -> tuple[str, Callable[..., Any]]:
    """What to replace, by what, to end a session in the middle of a write during its second epoch."""
    calls = iter(range(1000))
    if where == "log":
        from vitgraft.train.journal import append_log

        def log(*arguments: Any) -> None:
            if next(calls) == 1:
                raise Killed
            append_log(*arguments)

        return "vitgraft.train.journal.append_log", log
    if where == "os.replace":
        rename = os.replace

        def replace_some(*arguments: Any) -> None:
            if next(calls) == 7:
                raise Killed
            rename(*arguments)

        return "vitgraft.atomic.os.replace", replace_some
    write = torch.save

    def half(content: Any, file: Any) -> None:
        if next(calls) == 6:
            file.write(b"half a snapshot")
            file.flush()
            raise Killed
        write(content, file)

    return "vitgraft.train.state.torch.save", half


@pytest.fixture
def plain_signals() -> Iterator[None]:
    """Signals as a program has them that set none: Ray, in a test before, leaves a handler of its own."""
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {one: signal.signal(one, handler) for one, handler in handlers.items()}
    yield
    for one, handler in before.items():
        signal.signal(one, handler)


@pytest.mark.usefixtures("plain_signals")
@pytest.mark.parametrize(
    ("number", "ends"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)], ids=["INT", "TERM"]
)
def test_interrupt__saves_and_says_how_to_go_on(
    number: signal.Signals,
    ends: type[BaseException],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    expected = uninterrupted("vpt-deep")
    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    settings = replace(EVERY_STEP, snapshot_seconds=1e6)
    capsys.readouterr()
    with pytest.raises(ends) as stopped:
        train(
            "vpt-deep", tmp_path, settings, look=lambda read: signal.raise_signal(number) if read == 50 else None
        )
    if ends is SystemExit:
        assert stopped.value.args == (143,)
    reached = torch.load(tmp_path / state.FILE, weights_only=True)["state"]
    assert reached["epoch"] == 1
    assert 0 < reached["step"] < expected[0].steps // EVERY_STEP.epochs
    assert f"The snapshot is in {tmp_path}; to go on" in capsys.readouterr().err
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert_same(train("vpt-deep", tmp_path), expected, tmp_path)


def test_interrupt__during_the_last_validation_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No step comes after it, and the loop of a caller must not go on all the same."""
    measure = session.measure

    def interrupted(*arguments: Any, **more: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return measure(*arguments, **more)

    monkeypatch.setattr(session, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train("lora", tmp_path, replace(EVERY_STEP, epochs=1))
    monkeypatch.undo()
    assert torch.load(tmp_path / state.FILE, weights_only=True)["state"]["epoch"] == 1
    expected = train("lora", None, replace(EVERY_STEP, epochs=1))
    assert_same(train("lora", tmp_path, replace(EVERY_STEP, epochs=1)), expected, tmp_path)


def test_interrupt__a_handler_of_the_program_is_called_and_fit_does_not_return(tmp_path: Path) -> None:
    told: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    try:
        with pytest.raises(SystemExit):
            train(
                "lora",
                tmp_path,
                look=lambda read: signal.raise_signal(signal.SIGTERM) if read == 50 else None,
            )
    finally:
        signal.signal(signal.SIGTERM, before)
    assert told == [signal.SIGTERM]


LOOP = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
import vitgraft
from tests import tiny, toy
from tests.test_resume import Watched
from vitgraft.data.task import Split

home, stop = Path(sys.argv[1]), len(sys.argv) > 2
def look(read):
    if stop and read == 50:
        signal.raise_signal(signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
for name in ("a", "b"):
    split = toy.split(30)
    model = vitgraft.graft(tiny.backbone(), "lora", toy.CLASSES)
    try:
        split = Split(Watched(split, look), split.labels)
        vitgraft.fit(
            model, split, out=home / name, resume=True, epochs=3, batch_size=7, device="cpu", augment="flip"
        )
    except Exception:
        pass  # as loops that must not stop do
    model.save(home / name)
"""


@pytest.mark.slow
def test_interrupt__ends_a_loop_of_fit_and_save(tmp_path: Path) -> None:
    def loop(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", LOOP, str(tmp_path), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    stopped = loop("stop")
    assert stopped.returncode in (130, -signal.SIGINT), stopped.stderr
    assert f"KeyboardInterrupt: Stopped after epoch 1, step 2. The snapshot is in {tmp_path}/a" in stopped.stderr
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["log.jsonl", "snapshot.pt"]
    again = loop()
    assert again.returncode == 0, again.stderr
    assert "Going on after epoch 1, step 2." in again.stderr
    values = [load_file(tmp_path / name / "graft.safetensors") for name in "ab"]
    assert values[0].keys() == values[1].keys()
    assert all(torch.equal(values[0][name], value) for name, value in values[1].items())


def test_interrupt__a_second_one_ends_the_run_at_once(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    def twice(read: int) -> None:
        if read == 50:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    # A shell's background job has SIGINT ignored, and would go on.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with pytest.raises(KeyboardInterrupt):
        train("vpt-deep", tmp_path, look=twice)


def test_interrupt__without_a_folder_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        train("lora", None, look=_interrupt_at(50))
    assert "Nothing was saved" in capsys.readouterr().err


def test_fit__in_a_thread_leaves_signals_alone(tmp_path: Path) -> None:
    done: list[Fitted] = []
    worker = threading.Thread(target=lambda: done.append(train("lora", tmp_path)[0]))
    worker.start()
    worker.join()
    assert len(done[0].history) == EVERY_STEP.epochs


def test_resume__a_finished_run_is_finished(tmp_path: Path) -> None:
    expected = train("vpt-deep", tmp_path)

    def no_image(read: int) -> None:
        raise AssertionError("a finished run reads no training image")

    again = train("vpt-deep", tmp_path, look=no_image)
    assert_same(again, expected, tmp_path)
    assert again[0].seconds == pytest.approx(expected[0].seconds, abs=0.5)
    assert again[0].images_per_second == expected[0].images_per_second


def test_resume__without_a_snapshot_starts(tmp_path: Path) -> None:
    assert_same(train("vpt-deep", tmp_path / "new"), uninterrupted("vpt-deep"), tmp_path / "new")


def test_resume__not_asked_for_starts_anew(tmp_path: Path) -> None:
    train("vpt-deep", tmp_path, replace(EVERY_STEP, epochs=1))
    assert_same(train("vpt-deep", tmp_path, resume=False), uninterrupted("vpt-deep"), tmp_path)


def test_start__anew_leaves_nothing_to_resume(tmp_path: Path) -> None:
    """A run that is killed before its first snapshot must not go on as the one that was there before."""
    train("lora", tmp_path, replace(EVERY_STEP, epochs=1))

    def die(read: int) -> None:
        if read > IMAGES:
            raise Killed

    with pytest.raises(Killed):
        train("lora", tmp_path, resume=False, look=die)
    assert not (tmp_path / state.FILE).exists()
    assert (tmp_path / "log.jsonl").read_text() == ""


def test_resume__other_settings_are_named(tmp_path: Path) -> None:
    train("lora", tmp_path, replace(EVERY_STEP, epochs=1))
    with pytest.raises(ConfigError) as caught:
        train("lora", tmp_path, replace(EVERY_STEP, epochs=1, lr=1e-4, seed=3))
    text = str(caught.value)
    assert "cannot go on with other settings: lr is 0.0001, was 0.003; seed is 3, was 0." in text
    with pytest.raises(ConfigError, match="trained tensors is"):
        train("bias", tmp_path, replace(EVERY_STEP, epochs=1))


def test_resume__settings_that_had_another_name_are_the_same(tmp_path: Path) -> None:
    """`recompute` was called `checkpoint`: what was stopped then goes on."""
    train("lora", tmp_path, replace(EVERY_STEP, epochs=1))
    content = torch.load(tmp_path / state.FILE, weights_only=True)
    content["same"]["checkpoint"] = content["same"].pop("recompute")
    torch.save(content, tmp_path / state.FILE)
    train("lora", tmp_path, replace(EVERY_STEP, epochs=1))
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1, "it was finished then"
    content["same"]["checkpoint"] = "mlp"
    torch.save(content, tmp_path / state.FILE)
    with pytest.raises(ConfigError, match=r"other settings: recompute is 'none', was 'mlp'\. "):
        train("lora", tmp_path, replace(EVERY_STEP, epochs=1))


def test_resume__is_possible_when_inputs_are_moved(tmp_path: Path) -> None:
    told = {"data": "vtab1k:cifar100", "root": "/here/vtab-1k", "checkpoint": "weights/model.safetensors"}
    here = RunConfig.of({**told, "out": str(tmp_path)})
    write_atomically(here.kept, here.toml().encode())
    done = record()
    store.write(tmp_path / store.FILE, done)
    there = replace(here, root="copies", checkpoint="/there/model.safetensors")
    assert begin(there, resume=True, force=False).done == done
    other = replace(there, checkpoint="weights/other.safetensors")
    with pytest.raises(
        ConfigError, match=r"another configuration: checkpoint is 'other\.safetensors', was 'model"
    ):
        begin(other, resume=True, force=False)


def test_resume__other_workers_are_no_matter(tmp_path: Path) -> None:
    first = train("lora", tmp_path, replace(EVERY_STEP, epochs=1))
    more = replace(EVERY_STEP, epochs=1, workers=1, eval_batch_size=3, snapshot_seconds=9.0)
    assert_same(train("lora", tmp_path, more), first, tmp_path)


def test_resume__patience_remembers(tmp_path: Path) -> None:
    settings = replace(EVERY_STEP, epochs=30, patience=2)
    expected = train("vpt-deep", None, settings)
    assert expected[0].stopped_early
    for stop in (50, 25):
        with pytest.raises(KeyboardInterrupt):
            train("vpt-deep", tmp_path, settings, look=_interrupt_at(stop))
    assert_same(train("vpt-deep", tmp_path, settings), expected, tmp_path)


def _interrupt_at(stop: int) -> Callable[[int], None]:
    return lambda read: signal.raise_signal(signal.SIGINT) if read == stop else None


def test_resume__a_damaged_snapshot_is_named(tmp_path: Path) -> None:
    (tmp_path / state.FILE).write_bytes(b"PK nothing")
    with pytest.raises(CheckpointError, match=rf"The snapshot {tmp_path}/{state.FILE} is damaged"):
        train("lora", tmp_path)


def test_snapshot__is_never_written_with_broken_values(tmp_path: Path) -> None:
    model = toy.model()
    optimizer = torch.optim.AdamW(model.parameters())
    state.save(tmp_path, {}, state.State(), model, optimizer)
    before = (tmp_path / state.FILE).read_bytes()
    with torch.no_grad():
        next(model.parameters())[0] = float("nan")
    with pytest.raises(TrainingError, match="1 trained tensors are no longer finite"):
        state.save(tmp_path, {}, state.State(), model, optimizer)
    assert (tmp_path / state.FILE).read_bytes() == before


def test_resume__another_method_of_the_same_shapes_is_told(tmp_path: Path) -> None:
    """From Python, where no configuration is kept beside the snapshot."""
    given = {"out": tmp_path, "epochs": 1, "device": "cpu", "cache": "off"}
    first, other = (vitgraft.graft(backbone(), f"lora:rank=2,alpha={alpha}", toy.CLASSES) for alpha in (2.0, 64.0))
    vitgraft.fit(first, toy.split(), **given)
    with pytest.raises(ConfigError, match=r"method is 'lora:rank=2,alpha=64\.0', was 'lora:rank=2,alpha=2"):
        vitgraft.fit(other, toy.split(), **given, resume=True)


def test_interrupt__is_seen_by_several_processes_on_accelerators() -> None:
    """Their host looks every so many steps of the run, however few an epoch has."""
    here, layout = SimpleNamespace(processes=2, blocking=False), SimpleNamespace(steps=16)
    asked = [
        Session._asked(
            SimpleNamespace(  # type: ignore[arg-type]
                here=here, layout=layout, state=SimpleNamespace(epoch=epoch, step=step), _sums=torch.ones(3)
            )
        )
        for epoch in range(5)
        for step in range(1, 17)
    ]
    assert sum(asked) == 5 * 16 // POLL
