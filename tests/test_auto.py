"""`vitgraft fit --method auto`: several methods within minutes, the best on validation kept as any other run."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import vitgraft
from tests.runs import SIZE, done, photo, photos, refused, weights
from vitgraft.errors import ConfigError
from vitgraft.results import store
from vitgraft.results.record import Record, Tried
from vitgraft.runs.config import RunConfig
from vitgraft.selection import candidates
from vitgraft.selection.candidates import Group, groups
from vitgraft.selection.ledger import Ledger
from vitgraft.selection.prices import Prices
from vitgraft.selection.question import Question
from vitgraft.selection.race import Race

SMALL = {
    "settings": {"batch_size": 8, "epochs": 2},
    "methods": {
        "linear": {"grid": {"lr_times": [1, 4]}},
        "lora": {"method": "lora:rank=2", "grid": {"lr_times": [1, 1e30]}},
    },
}
"""Three candidates that train, two of them at once, and one that diverges."""


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Photos, and weights of a small backbone."""
    home = tmp_path_factory.mktemp("auto")
    return photos(home / "photos", 8), weights(home / "w.safetensors")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(candidates, "declared", lambda: json.loads(json.dumps(SMALL)))
    monkeypatch.setenv("VITGRAFT_CACHE", str(tmp_path / "cache"))


def words(there: tuple[Path, Path], out: Path, *more: object) -> tuple[object, ...]:
    data, file = there
    options = ("--method", "auto", "--backbone", "test_vit", "--checkpoint", file, "--image-size", SIZE)
    return ("fit", data, *options, "--out", out, *more)


def record_in(folder: Path) -> Record:
    return store.read(folder / store.FILE)


# A whole search


def test_auto__keeps_the_best_as_any_other_run(
    there: tuple[Path, Path], tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    said = done(*words(there, out, "--minutes", 5, "--records", tmp_path / "records"))
    record = record_in(out)
    chosen = record.selection
    assert chosen is not None
    assert (chosen.by, chosen.minutes) == ("auto", 5.0)
    assert 0 < chosen.seconds < 300
    linear, again, lora, diverged = chosen.tried
    assert [one.method for one in chosen.tried] == ["linear", "linear", "lora:rank=2", "lora:rank=2"]
    assert (linear.together, again.together, lora.together) == (2, 2, 1)
    assert again.settings["lr"] == 4 * linear.settings["lr"]
    assert diverged.val_top1 is None
    assert "diverged" in str(diverged.left_out)
    scores = [one.val_top1 for one in (linear, again, lora)]
    assert record.val is not None
    assert record.val.top1 == max(score for score in scores if score is not None)
    assert record.test is not None
    assert record.test.n == 3
    assert record.config["epochs"] == 2
    assert record.config["minutes"] is None
    assert "3 of 4 candidates were trained" in said.stdout
    assert "In place a run takes" in said.stderr
    assert chosen.told
    assert chosen.told[0] in said.stderr
    assert {one.name for one in out.iterdir()} >= {"graft.safetensors", "graft.json", "run.toml", "split.csv"}
    assert not (out / store.SEARCH).exists()
    assert not (out / store.NEXT).exists()
    assert RunConfig.of({"method": record.method.spec, "data": str(there[0])}).method == record.method.spec
    assert store.read_all(tmp_path / "records").rows()[0]["selection.by"] == "auto"
    measured = json.loads(done("eval", out, "--json").stdout)
    assert measured["top1"] == pytest.approx(record.test.top1)
    done("predict", out, there[0] / "red" / "00.png")
    done("report", out, "--out", tmp_path / "page.html")
    monkeypatch.setattr(Race, "_run", None)  # nothing is trained any more
    assert "finished already" in done(*words(there, out, "--resume")).stderr
    assert "finished already" in done("fit", "--resume", "--out", out).stderr
    assert record_in(out) == record
    assert "holds a finished run" in refused(*words(there, out))
    assert "epochs is 3, was 30" in refused(*words(there, out, "--resume", "--epochs", 3))


def test_auto__goes_on_and_repeats_nothing(
    there: tuple[Path, Path], tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, ran, train = tmp_path / "run", [], Race._run
    stop = ["linear"]

    def counted(race: Race, configs: Sequence[RunConfig]) -> Any:
        found = train(race, configs)
        ran.append((configs[0].method, len(configs)))
        return found

    def stopped(race: Race, configs: Sequence[RunConfig]) -> Any:
        if ran == [(stop[0], 2)]:
            raise KeyboardInterrupt
        return counted(race, configs)

    monkeypatch.setattr(Race, "_run", stopped)
    monkeypatch.setattr(Prices, "of", lambda *_: None)  # looking for prices is another test's
    monkeypatch.setattr(Prices, "seconds", lambda *_: 1.0)
    result = vitgraft_call(words(there, out, "--minutes", 5))
    assert result.exit_code == 130
    assert f"vitgraft fit --resume --out {out}" in result.stderr
    first = json.loads((out / store.SEARCH / "tried.json").read_text())
    assert first["seconds"] > 0
    assert len(first["tried"]) == 2
    assert "holds a search (--method auto) that was stopped" in refused(*words(there, out))
    other = ("fit", there[0], "--method", "linear", "--out", out, "--resume")
    assert "Go on with it as it is" in refused(*other)
    assert "epochs is 9, was 30" in refused(*words(there, out, "--resume", "--epochs", 9))
    photo(there[0] / "red" / "new.png", 0, 5)
    try:
        monkeypatch.setattr(Race, "_run", counted)
        said = done("fit", "--resume", "--out", out)
    finally:
        (there[0] / "red" / "new.png").unlink()
    assert "has grown since the run began" in said.stderr
    assert ran == [("linear", 2), ("lora:rank=2", 1)]  # and the one that diverged never came back
    chosen = record_in(out).selection
    assert chosen is not None
    assert chosen.seconds > first["seconds"]
    assert chosen.tried[0] == Tried(**first["tried"][next(iter(first["tried"]))])


def vitgraft_call(arguments: Sequence[object]) -> Any:
    from tests.runs import call

    return call(*arguments)


@pytest.mark.slow
def test_auto__from_python(there: tuple[Path, Path], tmp_path: Path, small: None) -> None:
    data, file = there
    out = tmp_path / "run"
    options: dict[str, Any] = {"checkpoint": str(file), "image_size": SIZE, "lr": 0.02, "augment": "crop-flip"}
    model = vitgraft.auto(data, "test_vit", minutes=5, out=out, **options)
    assert len(model.predict([data / "red" / "00.png"])) == 1
    chosen = record_in(out).selection
    assert chosen is not None
    assert chosen.told[0].startswith(
        "Each candidate computes the frozen part for itself: augmentation 'crop-flip'"
    )
    assert {one.settings["lr"] for one in chosen.tried} == {0.02}  # it was given, and not chosen
    assert len(chosen.tried) == 2
    with pytest.raises(ConfigError, match="holds a finished run"):
        vitgraft.auto(data, "test_vit", out=out, **options)


def test_auto__too_little_time_is_refused_and_says_how_much(
    there: tuple[Path, Path], tmp_path: Path, small: None
) -> None:
    told = refused(*words(there, tmp_path / "run", "--minutes", 0.001))
    assert "--minutes" in told
    assert "by prediction" in told


# What is asked


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train_on": "trainval"}, "chooses on validation images, and there are none"),
        ({"start_from": "runs/x"}, "begins with another one's values"),
        ({"minutes": 0.0}, "minutes=0.0: expected a number above 0"),
        ({"minutes": float("nan")}, "minutes=nan: expected a number above 0"),
        ({"epoch": 3}, "There is no option 'epoch'. Did you mean 'epochs'"),
    ],
)
def test_question__what_cannot_be_asked(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Question.of({"data": "digits", **given})


def test_config__auto_is_no_method_of_one_run() -> None:
    with pytest.raises(ConfigError, match=r"tries several: vitgraft fit digits --method auto"):
        RunConfig.of({"data": "digits", "method": "auto"})
    with pytest.raises(ConfigError, match=r"minutes=3 limits the search of --method auto"):
        RunConfig.of({"data": "digits", "method": "linear", "minutes": 3.0}).check_choosing()


def test_print_config__is_read_again(tmp_path: Path) -> None:
    asked = ("--method", "auto", "--minutes", 3, "--epochs", 7, "--lr", "none")
    printed = done("fit", "digits", *asked, "--print-config").stdout
    (tmp_path / "auto.toml").write_text(printed)
    assert done("fit", "--config", tmp_path / "auto.toml", "--print-config").stdout == printed
    assert 'method = "auto"' in printed
    assert "minutes = 3.0" in printed


def test_candidates__are_what_the_file_declares() -> None:
    found = groups(Question.of({"data": "digits"}))
    sizes = [(one.entry, len(one.configs), one.first, one.in_place) for one in found]
    assert sizes == [
        ("linear", 6, True, False),
        ("mlp", 1, True, False),
        ("mlp", 1, False, False),
        ("head2toe", 1, True, False),
        ("head2toe", 1, False, False),
        ("vqt", 4, True, False),
        ("vqt", 4, False, False),
        ("synqt", 1, True, False),
        ("synqt", 1, False, False),
        ("lora", 1, True, True),
        ("lora", 1, False, True),
        ("spt-lora", 1, True, True),
        ("spt-lora", 1, False, True),
    ]
    firsts = [one.configs[0].table() for one in found if one.first]
    assert all(
        one["lr"] == RunConfig.of({"data": "digits", "method": one["method"]}).table()["lr"] for one in firsts
    )
    assert len({config.folder for one in found for config in one.configs}) == 24


def test_candidates__what_is_given_holds_for_all() -> None:
    found = groups(Question.of({"data": "digits", "epochs": 5, "lr": 0.1, "precision": "bf16", "seed": 3}))
    configs = [config for one in found for config in one.configs]
    assert {config.training.epochs for config in configs} == {5}
    assert {config.training.lr for config in configs} == {0.1}
    assert {config.training.precision for config in configs} == {"bf16"}
    assert {config.training.seed for config in configs} == {3}
    assert all(len(one.configs) == 1 for one in found)  # bf16 is not stacked
    assert len(configs) == 2 + 1 + 1 + 4 + 1 + 1 + 1


def test_question__candidates_read_no_test_images() -> None:
    asked = Question.of({"data": "digits", "legacy_test": True})
    assert asked.told == ("legacy-test is not used: candidates that are chosen among read no test images.",)


# The order


class Fixed(Prices):
    """Prices that are given."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.known = seconds

    def seconds(self, group: Group, count: int | None = None) -> float:
        return self.known[group.entry] * (len(group.configs) if count is None else count)

    def of(self, config: RunConfig) -> Any:
        return None

    def took(self, group: Group, predicted: float, seconds: float) -> None:
        pass

    def testing(self) -> float:
        return 5.0


def race(
    folder: Path, limit: float, seconds: dict[str, float], accuracy: dict[str, float]
) -> tuple[Race, list[tuple[str, int]], Callable[[], dict[str, Tried]]]:
    """A race in which nothing is trained, what it took, and its ledger."""
    found = [one for one in groups(Question.of({"data": "digits", "out": str(folder)})) if one.entry in seconds]
    (folder / store.SEARCH).mkdir(parents=True)
    ledger, took = Ledger(folder / store.SEARCH), []
    clock = [0.0]

    class Unreal(Race):
        def used(self) -> float:
            return clock[0]

        def _train(self, group: Group, configs: Sequence[RunConfig]) -> None:
            took.append((group.entry, len(configs)))
            clock[0] += self.prices.seconds(group, len(configs))
            for config in configs:
                one = Tried(group.entry, {}, accuracy[group.entry], 0.5, 1.0)
                ledger.put(config.folder.name, one)

    made = Unreal(found, None, Fixed(seconds), ledger, limit, 0.0, print)  # type: ignore[arg-type]
    return made, took, lambda: ledger.tried


def test_race__every_method_once_then_the_best_ones_rest(tmp_path: Path) -> None:
    seconds = {"mlp": 10.0, "head2toe": 5.0, "lora": 100.0}
    made, took, tried = race(tmp_path, 1000.0, seconds, {"mlp": 50.0, "head2toe": 40.0, "lora": 60.0})
    made.go()
    assert took == [("mlp", 1), ("head2toe", 1), ("lora", 1), ("lora", 1), ("mlp", 1), ("head2toe", 1)]
    assert len(tried()) == 6
    took.clear()
    made.go()  # as a search does that goes on
    assert took == []


def test_race__nothing_is_begun_that_cannot_be_done(tmp_path: Path) -> None:
    seconds = {"linear": 10.0, "mlp": 20.0, "lora": 100.0}
    made, took, tried = race(tmp_path, 55.0, seconds, {"linear": 50.0, "mlp": 60.0, "lora": 0.0})
    made.go()
    assert took == [("linear", 5)]  # five of the six that train at once; the test images take 5 s
    left = [one.left_out for one in tried().values() if one.left_out]
    assert left == ["would take 60 s by prediction, and 50 s were left", *["no time was left"] * 4]
    assert made.told[0].endswith("vitgraft advise digits --backbone figures --method lora")
    made.limit = 100.0  # as a search does that goes on with more time
    made.go()
    assert took[1:] == [("linear", 1), ("mlp", 1)]
    left = [one.left_out for one in tried().values() if one.left_out]
    assert left[0] == "would take 100 s by prediction, and 15 s were left"


def test_ledger__ties_go_to_the_smaller_loss(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.put("a", Tried("mlp", {}, 90.0, 0.5, 1.0))
    ledger.put("b", Tried("lora", {}, 90.0, 0.4, 1.0))
    ledger.put("c", Tried("vqt", {}, left_out="no time"))
    ledger.put("d", Tried("vqt", {}, 90.0, float("nan"), 1.0))
    assert ledger.best() == "b"
    ledger.save(3.5)
    read = Ledger.read(tmp_path)
    assert read.seconds == 3.5
    assert list(read.tried) == ["a", "b", "c", "d"]
    assert (read.done("a"), read.done("c"), read.done("e")) == (True, False, False)
    (tmp_path / "tried.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"is damaged .* --force"):
        Ledger.read(tmp_path)
