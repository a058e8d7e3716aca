"""The best epoch on test, as many papers report it: measured as they did, recorded apart, and without effect."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import pictures, test_resume, toy
from vitgraft.cli.fit import summary
from vitgraft.errors import ConfigError, DataError
from vitgraft.results import store
from vitgraft.runs.config import RunConfig
from vitgraft.runs.run import run
from vitgraft.train import legacy
from vitgraft.train.loop import Fitted, evaluate, fit
from vitgraft.train.settings import Training

SETTINGS = Training(epochs=4, batch_size=10, lr=3e-3, select="best", device="cpu", legacy_test=True)
TEST = toy.split(30, seed=9, shift=1)
"""Labels that fit the less the more is learned: the best epoch on test is an early one."""


@pytest.mark.parametrize(
    ("rule", "epochs", "expected"),
    [
        ("every", 4, [1, 2, 3, 4]),
        ("noah", 100, [1, 11, 21, 31, 41, 51, 61, 71, 81, 91, 100]),
        ("spt", 100, [1, 11, 21, 31, 41, 51, 61, 71, 81, *range(91, 101)]),
        ("synqt", 50, [10, 20, 30, 40, 50]),
        ("noah", 3, [1, 3]),
        ("synqt", 9, []),
    ],
)
def test_epochs__are_those_that_papers_measured(rule: str, epochs: int, expected: list[int]) -> None:
    assert [epoch for epoch in range(1, epochs + 1) if legacy.measured(rule, epoch, epochs)] == expected


def test_best__is_the_first_of_equals() -> None:
    entries: list[dict[str, Any]] = [
        *({"epoch": 1, legacy.KEY: 50.0}, {"epoch": 2}, {"epoch": 3, legacy.KEY: 60.0}),
        {"epoch": 4, legacy.KEY: 60.0},
    ]
    assert legacy.best(entries) == (60.0, 3)
    assert legacy.best([{"epoch": 1}]) is None


def trained(method: str = "lora", **keywords: Any) -> tuple[Fitted, dict[str, torch.Tensor]]:
    model = toy.model(method)
    settings = keywords.pop("settings", SETTINGS)
    options = {"preprocessing": toy.PREPROCESSING, **keywords}
    fitted = fit(model, toy.split(), toy.split(12, seed=1), settings, **options)
    values = {name: value.clone() for name, value in model.state_dict().items()}
    if "legacy" in keywords:
        assert evaluate(model, TEST, toy.PREPROCESSING, device="cpu").top1 in scores(fitted)
    return fitted, values


def scores(fitted: Fitted) -> list[float | None]:
    return [entry.get(legacy.KEY) for entry in fitted.history]


@pytest.mark.parametrize("method", ["lora", "linear"])
def test_fit__is_the_same_run_with_it(method: str) -> None:
    """Of methods that are walked and that are read from the cache."""
    plain, values = trained(method)
    measured, same = trained(method, legacy=TEST)
    assert all(torch.equal(value, same[name]) for name, value in values.items())
    assert scores(plain) == [None] * 4
    assert None not in scores(measured)
    left = [{key: value for key, value in entry.items() if key != legacy.KEY} for entry in measured.history]
    assert test_resume.plain(left) == test_resume.plain(plain.history)
    assert (plain.best_epoch, plain.val, plain.stopped_early) == (measured.best_epoch, measured.val, False)


def test_fit__measures_the_epochs_of_the_rule() -> None:
    found = scores(trained(legacy=TEST, settings=replace(SETTINGS, legacy_epochs="noah"))[0])
    assert [score is None for score in found] == [False, True, True, False]


def test_fit__goes_on_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(SETTINGS, snapshot_seconds=0.0)
    expected = trained(legacy=TEST, settings=settings)
    options: dict[str, Any] = {"legacy": TEST, "settings": settings, "out": tmp_path, "resume": True}
    with monkeypatch.context() as patched:
        patched.setattr(*test_resume._bomb("os.replace"))
        with pytest.raises(test_resume.Killed):
            trained(**options)
    test_resume.assert_same(trained(**options), expected, tmp_path)


def test_fit__labels_of_the_split_are_checked() -> None:
    with pytest.raises(DataError, match="The test split is empty"):
        trained(legacy=toy.split(0))


@pytest.mark.slow
def test_run__records_it_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = {f"{split}/{name}": 4 for split in ("train", "val", "test") for name in ("cat", "dog")}
    photos = str(pictures.dataset(tmp_path / "photos", counts))
    values = {"data": photos, "method": "linear", "epochs": 3, "lr": 0.01, "device": "cpu", "cache": "off"}
    config = RunConfig.of({**values, "legacy_test": True, "out": str(tmp_path / "with")})
    record = run(config, tell=lambda _: None)
    history = record.history
    assert record.test is not None
    assert history.legacy_best_on_test is not None
    assert history.legacy_best_on_test >= record.test.top1
    assert history.legacy_best_epoch in (1, 2, 3)
    assert store.read(tmp_path / "with" / store.FILE) == record
    summary(record, tmp_path)
    assert f"after epoch {history.legacy_best_epoch}: chosen on test" in " ".join(capsys.readouterr().out.split())
    plain = run(RunConfig.of({**values, "out": str(tmp_path / "without")}), tell=lambda _: None)
    assert (plain.test, plain.val) == (record.test, record.val)
    assert (plain.history.legacy_best_on_test, plain.history.legacy_best_epoch) == (None, None)
    assert store.file_name(plain.config) != store.file_name(record.config)


def test_asked__without_a_test_split() -> None:
    assert legacy.asked(replace(SETTINGS, legacy_test=False), TEST) is None
    assert legacy.asked(SETTINGS, TEST) is TEST
    with pytest.raises(ConfigError, match="there is none"):
        legacy.asked(SETTINGS, None)
