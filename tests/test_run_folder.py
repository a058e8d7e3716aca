"""A run's folder: nothing in it is lost or mixed up, whoever writes there, and whenever that is ended."""

import json
import multiprocessing
import os
import re
import shlex
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import vitgraft
from tests import tiny, toy
from tests.test_artefact import Killed, first_value, graft
from tests.test_cli import call, home, options, refused
from tests.test_records import record
from vitgraft.data.kept import Kept
from vitgraft.errors import ArtefactError, ConfigError, DivergedError
from vitgraft.models import artefact, folder
from vitgraft.models.artefact import CARD, TENSORS
from vitgraft.results import store
from vitgraft.train import session, state

__all__ = ["home"]  # the folder with photos and weights of the tests of the command line


def contents(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def fit(home: Path, out: Path, *words: str, **changes: object) -> Any:
    """`vitgraft fit` of the cheapest run."""
    return call("fit", *options(home, out=out, method="linear", **{"epochs": 1, **changes}), *words)


@pytest.fixture(scope="module")
def finished(home: Path) -> Path:
    result = fit(home, home / "finished")
    assert result.exit_code == 0, result.output
    return home / "finished"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A finished run of the test's own."""
    return shutil.copytree(finished, tmp_path / "run")


def stopped(home: Path, out: Path, monkeypatch: pytest.MonkeyPatch, *words: str, **changes: object) -> None:
    """A run that is stopped by Ctrl-C in its second epoch."""
    end = session.Session.end_epoch
    with monkeypatch.context() as patched:

        def interrupt(self: session.Session, val: Any) -> None:
            end(self, val)
            self.interrupt.asked = True

        patched.setattr(session.Session, "end_epoch", interrupt)
        result = fit(home, out, *words, **{"epochs": 3, **changes})
    assert result.exit_code == 130, result.output


# --- --force ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checkpoint": "nowhere.safetensors"}, "nowhere.safetensors"),
        ({"backbone": "test_vitt"}, "There is no backbone"),
        ({"method": "lora:places=zz"}, "zz"),
        ({"image_size": 33}, "33"),
        ({"select": "best", "val_fraction": 0}, "needs a validation split"),
        ({"method": "noah", "val_fraction": 0}, "chooses by validation accuracy"),
    ],
)
def test_force__a_mistake_costs_nothing(
    changes: dict[str, object], message: str, home: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    before = contents(run)
    said = refused("fit", *options(home, **{"out": run, "epochs": 1, **changes}), "--force")
    assert message in said
    after = contents(run)
    assert {name: content for name, content in after.items() if not name.startswith(store.NEXT)} == before
    assert refused("fit", str(home / "photoos"), "--out", run, "--force")
    assert json.loads(call("eval", run, "--json").stdout)["n"] == 6


def test_force__a_stop_leaves_the_old_run_and_the_new_one_goes_on(
    home: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(run)
    stopped(home, run, monkeypatch, "--force", lr=0.002)
    after = contents(run)
    assert {name: after[name] for name in before} == before, "the old run is as it was"
    assert json.loads(call("eval", run, "--json").stdout)["n"] == 6
    assert "holds a finished run, and one that was to replace it" in refused(
        "fit", *options(home, out=run, method="linear", epochs=1)
    )
    again = call("fit", "--resume", "--out", run)
    assert again.exit_code == 0, again.output
    assert "Going on after epoch 1" in again.stderr
    expected = fit(home, tmp_path / "alone", lr=0.002, epochs=3)
    assert expected.exit_code == 0
    assert contents(run).keys() == contents(tmp_path / "alone").keys(), "nothing is left of the old one"
    first, second = (load_file(place / TENSORS) for place in (run, tmp_path / "alone"))
    assert all(torch.equal(first[name], value) for name, value in second.items())
    found = store.read(run / store.FILE)
    assert found.config["lr"] == 0.002
    assert found.graft == artefact.read_card(run).digest
    assert len((run / "log.jsonl").read_text().splitlines()) == 3
    assert f'out = "{run}"' in (run / "run.toml").read_text()


def test_force__the_same_command_with_resume_finds_the_old_run_while_the_new_one_is_not_finished(
    home: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(home, run, monkeypatch, "--force", lr=0.002)
    assert "finished already" in fit(home, run, "--resume").stderr
    assert "lr is 0.05, was 0.002" in refused("fit", *options(home, out=run, method="linear", lr=0.05), "--resume")


def test_force__a_run_that_was_stopped_stays_until_it_is_replaced(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    stopped(home, out, monkeypatch)
    snapshot = (out / state.FILE).read_bytes()
    stopped(home, out, monkeypatch, "--force", lr=0.002)
    assert (out / state.FILE).read_bytes() == snapshot
    assert fit(home, out, "--force", lr=0.003).exit_code == 0
    assert {path.name for path in out.iterdir()} == {"run.toml", "log.jsonl", store.FILE, CARD, TENSORS} | (
        {"split.csv"} & {path.name for path in out.iterdir()}
    )
    assert store.read(out / store.FILE).config["lr"] == 0.003


def moment(calls: Iterator[int], when: int, then: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **more: Any) -> Any:
        if next(calls) == when:
            raise Killed
        return then(*arguments, **more)

    return call


CHANGES = ((os, "replace"), (os, "unlink"), (Path, "unlink"), (os, "rmdir"), (shutil, "rmtree"))


def _two_runs(place: Path) -> None:
    """A finished run, and in .next a finished one that was not moved yet; their grafts tell them apart."""
    for where, offset in ((place, 0.25), (place / store.NEXT, 0.75)):
        card = graft(offset).keep(where)
        store.write(where / store.FILE, replace(record(), graft=card.digest))
        (where / "run.toml").write_text(str(offset))
        (where / "log.jsonl").write_text(str(offset))
    (place / "pattern.json").write_text("of the old run")
    (place / "stages").mkdir()
    (place / "stages" / "x").write_text("of the old run")
    (place / store.NEXT / "architecture.toml").write_text("of the new run")
    (place / "mine.txt").write_text("the user's own")


def _moved(place: Path, when: int) -> bool:
    """Move a finished run into the place of another, and be killed at one moment; False if it was over before."""
    calls = iter(range(1000))
    with pytest.MonkeyPatch.context() as patched:
        for owner, name in CHANGES:
            patched.setattr(owner, name, moment(calls, when, getattr(owner, name)))
        try:
            folder.complete(place)
        except Killed:
            return True
    return False


def test_move__a_kill_at_any_moment_leaves_one_run_or_the_other(tmp_path: Path) -> None:
    _two_runs(tmp_path / "runs")
    seen, when, killed = set(), 0, True
    while killed:
        place = shutil.copytree(tmp_path / "runs", tmp_path / str(when))
        killed = _moved(place, when)
        seen.add(first_value(place))
        if (place / store.FILE).exists():
            told = store.read(place / store.FILE).graft
            assert told == artefact.read_card(place).digest, "never a new graft beside an old record"
        folder.complete(place)
        assert first_value(place) == 0.75
        assert store.read(place / store.FILE).graft == artefact.read_card(place).digest
        own = ("run.toml", "log.jsonl", store.FILE, CARD, TENSORS, "architecture.toml", "mine.txt")
        assert {path.name for path in place.iterdir()} == set(own)
        assert (place / "run.toml").read_text() == (place / "log.jsonl").read_text() == "0.75"
        when += 1
    assert seen == {0.25, 0.75}
    assert when > 15


# --- saved grafts and runs -------------------------------------------------------------------------------------


def test_fit__into_a_saved_graft_needs_force(home: Path, tmp_path: Path) -> None:
    graft(0.25).save(tmp_path / "a")
    before = contents(tmp_path / "a")
    arguments = options(home, out=tmp_path / "a", method="linear", epochs=1)
    assert "holds a saved graft. Replace it with a run (--force)" in refused("fit", *arguments)
    assert "holds a saved graft, and no run to go on with" in refused("fit", *arguments, "--resume")
    assert contents(tmp_path / "a") == before
    assert call("fit", *arguments, "--force").exit_code == 0
    assert vitgraft.load(tmp_path / "a").class_names == ("blue", "green", "red")


def test_save__into_a_run_is_refused_or_replaces_all_of_it(run: Path) -> None:
    before = contents(run)
    model = graft(0.25)
    with pytest.raises(ArtefactError, match=r"holds a finished run of `vitgraft fit`.*overwrite=True"):
        model.save(run)
    assert contents(run) == before
    model.save(run, overwrite=True)
    assert set(contents(run)) == {CARD, TENSORS}
    assert first_value(run) == 0.25
    model.save(run)  # it is a saved graft now, and replaced as often as one likes


def test_save__again_and_again_into_one_folder(tmp_path: Path) -> None:
    for offset in (0.25, 0.5, 0.75):
        model = vitgraft.graft(tiny.backbone(), "lora", toy.CLASSES)
        vitgraft.fit(model, toy.split(), out=tmp_path, epochs=1, device="cpu", cache="off", lr=offset / 100)
        model.save(tmp_path)
        loaded = vitgraft.load(tmp_path, backbone=tiny.backbone())
        assert all(torch.equal(loaded.tuned.state_dict()[k], v) for k, v in model.tuned.state_dict().items())


def test_python_fit__leaves_runs_alone(run: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(run)
    model = vitgraft.graft(tiny.backbone(), "lora", toy.CLASSES)
    given: dict[str, Any] = {"out": run, "epochs": 1, "device": "cpu", "cache": "off"}
    for more in ({}, {"resume": True}):
        with pytest.raises(ConfigError, match=r"holds a finished run of `vitgraft fit`\. Train in another folder"):
            vitgraft.fit(model, toy.split(), **given, **more)
    with pytest.raises(ConfigError, match="holds a finished run"):
        vitgraft.graft(tiny.backbone(), "head2toe", toy.CLASSES, data=toy.split(), out=run)
    assert contents(run) == before
    other = run.parent / "other"
    stopped(home, other, monkeypatch)
    with pytest.raises(ConfigError, match=r"holds a run that was stopped.*go on with it \(resume=True\)"):
        vitgraft.fit(model, toy.split(), **{**given, "out": other})


def test_python_fit__what_was_stopped_is_not_thrown_away(tmp_path: Path) -> None:
    def train(stop: bool, **more: Any) -> Any:
        model = vitgraft.graft(tiny.backbone(), "lora", toy.CLASSES)
        options = {"epochs": 3, "device": "cpu", "cache": "off", **more}
        with pytest.MonkeyPatch.context() as patched:
            if stop:
                patched.setattr(session.Session, "_asked", lambda self: self.state.epoch == 1)
            return vitgraft.fit(model, toy.split(), out=tmp_path, **options)

    with pytest.raises(KeyboardInterrupt):
        train(stop=True)
    snapshot = (tmp_path / state.FILE).read_bytes()
    with pytest.raises(ConfigError, match=r"stopped after epoch 1 of 3, step 1\. Go on with it \(resume=True\)"):
        train(stop=False, lr=0.5)
    assert (tmp_path / state.FILE).read_bytes() == snapshot
    assert len(train(stop=False, resume=True).history) == 3
    assert len(train(stop=False, epochs=1).history) == 1, "what has ended is replaced"


def test_resume__a_record_beside_another_graft_is_refused(run: Path, tmp_path: Path) -> None:
    graft(0.5).save(tmp_path / "other")
    for name in (CARD, TENSORS):
        shutil.copy(tmp_path / "other" / name, run)
    assert "are of two different runs" in refused("fit", "--resume", "--out", run)


# --- two processes ---------------------------------------------------------------------------------------------


def _hold(place: Path, ready: Any) -> None:
    with folder.held(place):
        ready.set()
        time.sleep(60)


def test_lock__the_same_run_twice_is_refused_and_a_kill_frees_it(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    other = context.Process(target=_hold, args=(out, ready))
    other.start()
    try:
        assert ready.wait(30)
        said = refused("fit", *options(home, out=out, method="linear", epochs=1))
        assert f"{out} is in use: process {other.pid} on " in said
        assert [path.name for path in out.iterdir()] == [folder.LOCK]
        (out / state.FILE).write_bytes(b"of the run that is there")
        for more in ((), ("--resume",), ("--force",)):  # what is in use is not called stopped
            assert f"{out} is in use" in refused("fit", *options(home, out=out, method="linear"), *more)
        (out / state.FILE).unlink()
        model = vitgraft.graft(tiny.backbone(), "lora", toy.CLASSES)
        with pytest.raises(ConfigError, match="is in use: process"):
            vitgraft.fit(model, toy.split(), out=out, epochs=1, device="cpu", cache="off")
    finally:
        other.kill()
        other.join()
    assert fit(home, out).exit_code == 0
    assert folder.LOCK not in contents(out)


def test_lock__is_held_by_a_thread_and_again_by_the_same(tmp_path: Path) -> None:
    told: list[str] = []

    def other() -> None:
        try:
            with folder.held(tmp_path):
                told.append("free")
        except ConfigError as error:
            told.append(str(error))

    def ask() -> str:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        return told[-1]

    with folder.held(tmp_path):
        with folder.held(tmp_path), folder.held(tmp_path / store.NEXT):
            assert "is in use" in ask()
        assert "is in use" in ask()
    assert ask() == "free"
    assert not list(tmp_path.iterdir())


def test_lock__a_closed_folder_is_named(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(self: Any, **_: Any) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path / "run" / folder.LOCK))

    monkeypatch.setattr(folder.FileLock, "acquire", closed)
    said = refused("fit", *options(home, out=tmp_path / "run", method="linear", epochs=1))
    assert f"The folder {tmp_path / 'run'} cannot be written to (Permission denied)" in said
    assert ".lock" not in said


def test_lock__a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(self: Any, **_: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(folder.FileLock, "acquire", none)
    with pytest.warns(UserWarning, match="a file system without locks"), folder.held(tmp_path):
        pass


def test_lock__a_run_that_fails_lets_go(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(self: session.Session) -> None:
        raise DivergedError("The loss is no longer finite.")

    with monkeypatch.context() as patched:
        patched.setattr(session.Session, "_check_finite", diverge)
        assert "no longer finite" in refused("fit", *options(home, out=tmp_path / "run", method="linear"))
    assert folder.LOCK not in contents(tmp_path / "run")


# --- --resume --------------------------------------------------------------------------------------------------


def test_resume__a_mistyped_folder_is_told(home: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    assert fit(home, runs / "photos").exit_code == 0
    same = options(home, method="linear", epochs=1)
    said = refused("fit", *same, "--resume", "--out", runs / "phtoos")
    assert f"{runs / 'phtoos'} holds no run to go on with. Did you mean --out {runs / 'photos'}?" in said
    assert f"Did you mean --out {runs / 'photos'}?" in refused(
        "fit", *same, "--resume", "--out", tmp_path / "rusn" / "photos"
    )
    assert f"Did you mean --out {runs / 'photos'}?" in refused("fit", "--resume", "--out", runs / "phtoos")
    assert "Name the folder of a run" in refused("fit", "--resume", "--out", tmp_path / "q" / "else")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]
    assert [path.name for path in runs.iterdir()] == ["photos"]


def test_resume__begins_runs_of_a_sweep_whose_names_are_alike(home: Path, tmp_path: Path) -> None:
    assert fit(home, tmp_path / "photos-lr1", "--resume", lr=0.01).exit_code == 0
    result = fit(home, tmp_path / "photos-lr2", "--resume", lr=0.02)
    assert result.exit_code == 0
    assert f"{tmp_path / 'photos-lr2'} holds no run to go on with: a new one begins." in result.stderr
    again = fit(home, tmp_path / "photos-lr2", "--resume", lr=0.02)
    assert "finished already" in again.stderr
    assert "a new one begins" not in again.stderr


def test_resume__one_path_has_many_spellings(home: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    rest = options(home, out=run, method="linear", epochs=1)[1:]
    for photos in ("photos", "photos/", "./photos", "../" + home.name + "/photos", str(home / "photos") + "/"):
        assert "finished already" in call("fit", photos, *rest, "--resume").stderr, photos
    shutil.copytree(home / "photos", home / "others")
    assert re.search(r"data is 'others', was '.*photos'", refused("fit", "others", *rest, "--resume"))
    assert "data is 'digits'" in refused("fit", "digits", *rest, "--resume"), "a name is no path"


# --- --from ----------------------------------------------------------------------------------------------------


def test_from__begins_with_the_values_of_a_run(home: Path, run: Path, tmp_path: Path) -> None:
    longer = refused("fit", *options(home, out=run, method="linear", epochs=5), "--resume")
    assert f"under a schedule of its own: vitgraft fit --from {run} --epochs 5 --out OTHER" in longer
    still = tmp_path / "still"
    said = call("fit", "--from", run, "--out", still, "--epochs", 1, "--lr", 1e-12, "--weight-decay", 0)
    assert said.exit_code == 0, said.output
    assert f"Begins with the values of {run}." in said.stderr
    before, after = load_file(run / TENSORS), load_file(still / TENSORS)
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[name], value, atol=1e-7) for name, value in after.items())
    found = store.read(still / store.FILE)
    assert found.origin is not None
    assert (found.origin.run, found.origin.graft) == (str(run), artefact.read_card(run).digest)
    assert (found.method.spec, found.backbone.name) == ("linear", "test_vit")
    assert found.task.sizes == store.read(run / store.FILE).task.sizes, "of the same data, as nobody named others"
    assert not (still / folder.START).exists()


def test_from__goes_on_when_the_other_run_is_gone(
    home: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for out in ("whole", "parts"):
        if out == "whole":
            assert fit(home, tmp_path / out, f"--from={run}", epochs=3, lr=0.002).exit_code == 0
        else:
            stopped(home, tmp_path / out, monkeypatch, f"--from={run}", lr=0.002)
    shutil.rmtree(run)
    again = call("fit", "--resume", "--out", tmp_path / "parts")
    assert again.exit_code == 0, again.output
    first, second = (load_file(tmp_path / name / TENSORS) for name in ("whole", "parts"))
    assert all(torch.equal(first[name], value) for name, value in second.items())
    assert contents(tmp_path / "parts").keys() == contents(tmp_path / "whole").keys()
    origins = [store.read(tmp_path / name / store.FILE).origin for name in ("whole", "parts")]
    assert origins[0] == origins[1] is not None


def test_from__what_does_not_fit_is_told(home: Path, run: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out")
    assert "holds no graft.json" in refused("fit", home / "photos", "--from", tmp_path / "nowhere", *out)
    assert "nowhere' holds no run and no saved graft" in refused("fit", "--from", tmp_path / "nowhere", *out)
    assert "holds values of linear, and the method is ssf" in refused(
        "fit", "--from", run, "--method", "ssf", *out
    )
    assert "saw its pictures in another way: mean is" in refused(
        "fit", "--from", run, "--preprocessing", "clip-norm", *out
    )
    shutil.copytree(home / "photos", tmp_path / "photos")
    (tmp_path / "photos" / "red").rename(tmp_path / "photos" / "mauve")
    assert "photos adds 'mauve' and lacks 'red'" in refused("fit", tmp_path / "photos", "--from", run, *out)
    assert not (tmp_path / "out").exists()


def test_from__images_that_were_learned_are_not_tested_on(home: Path, run: Path, tmp_path: Path) -> None:
    said = refused("fit", home / "photos", "--from", run, "--split-seed", 5, "--out", tmp_path / "out")
    assert re.search(r"\d+ (val|test) images of photos are among those that .*run was trained on", said)
    advice = shlex.split(said[said.index("vitgraft fit") :])[1:]
    assert call(*advice, "--out", tmp_path / "out", "--epochs", 1).exit_code == 0
    before, after = (Kept.read(folder) for folder in (run, tmp_path / "out"))
    assert before is not None
    assert after is not None
    assert all(before.digests(name) == after.digests(name) for name in ("train", "val", "test"))


def test_from__where_nobody_knows_what_was_learned_it_is_told(home: Path, run: Path, tmp_path: Path) -> None:
    """Earlier versions kept no list of images: the same ones are split as they were, others may have been seen."""
    (run / "split.csv").unlink()
    same, other = (
        fit(home, tmp_path / name, "--from", run, "--split-seed", seed)
        for name, seed in (("same", 0), ("other", 5))
    )
    assert (same.exit_code, other.exit_code) == (0, 0), same.output + other.output
    assert "keeps no list" not in same.stderr
    assert "run keeps no list of its images (split.csv): if it was trained on" in " ".join(other.stderr.split())
    assert any("keeps no list" in note for note in store.read(tmp_path / "other" / store.FILE).task.notes)


def test_resume__values_that_were_written_out_are_those_left_open(home: Path, run: Path) -> None:
    """Earlier versions wrote fractions and seed of a split into run.toml where they were nobody's choice."""
    toml = (run / store.KEPT).read_text()
    for key, value in (("val_fraction", 0.15), ("test_fraction", 0.15), ("split_seed", 0)):
        toml, count = re.subn(rf"(?m)^# {key} = \S+", f"{key} = {value}", toml)
        assert count == 1
    (run / store.KEPT).write_text(toml)
    result = fit(home, run, "--resume")
    assert result.exit_code == 0, result.output
    assert "finished already" in result.stderr


def test_from__classes_are_matched_by_name(home: Path, run: Path, tmp_path: Path) -> None:
    """A list may have them in another order than the run: its labels are the run's all the same."""
    from vitgraft.data.task import Task
    from vitgraft.runs import warm
    from vitgraft.runs.config import RunConfig

    split = toy.split(6)
    task = Task("toy", ("red", "green", "blue"), {"train": split})
    config = RunConfig.of({"data": "digits", "start_from": str(run), "out": str(tmp_path)})
    found = warm.task_of(config, task)
    assert found.classes == ("blue", "green", "red")
    assert [found.classes[label] for label in found.splits["train"].labels] == [
        task.classes[label] for label in split.labels
    ]


def test_from__a_graft_that_was_saved_in_python(home: Path, tmp_path: Path) -> None:
    frozen = vitgraft.load_backbone("test_vit", checkpoint=home / "weights.safetensors", image_size=32)
    model = vitgraft.graft(frozen, "lora:rank=2", ["blue", "green", "red"])
    model.save(tmp_path / "saved")
    result = call(
        *("fit", home / "photos", "--from", tmp_path / "saved", "--out", tmp_path / "out"),
        *("--epochs", 1, "--lr", 1e-12, "--batch-size", 8),
    )
    assert result.exit_code == 0, result.output
    assert store.read(tmp_path / "out" / store.FILE).method.spec == "lora:rank=2"
    before, after = (load_file(tmp_path / name / TENSORS) for name in ("saved", "out"))
    assert all(torch.allclose(before[name], value, atol=1e-6) for name, value in after.items())


def test_python__a_loaded_model_is_trained_on_from_its_values(tmp_path: Path) -> None:
    given: dict[str, Any] = {"epochs": 1, "device": "cpu", "cache": "off", "weight_decay": 0.0}
    model = vitgraft.graft(tiny.backbone(), "lora", toy.CLASSES)
    vitgraft.fit(model, toy.split(), **given, lr=0.01)
    model.save(tmp_path)
    loaded = vitgraft.load(tmp_path, backbone=tiny.backbone())
    vitgraft.fit(loaded, toy.split(), **given, lr=1e-12)
    for name, value in model.tuned.state_dict().items():
        assert torch.allclose(loaded.tuned.state_dict()[name], value, atol=1e-6), name
