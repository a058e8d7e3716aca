"""What a saved graft is measured on: all of other images, by the names of their classes, or a sentence."""

import shutil
import warnings
from pathlib import Path

import pytest

import vitgraft
from tests.pictures import write
from tests.runs import CHANNELS, arguments, done, measured, photo, photos, refused, weights
from vitgraft.data.source import load as load_task
from vitgraft.data.task import Split, Task
from vitgraft.errors import ConfigError, DataError, DivergedError, Told


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos, and a finished run on them that is not right about all others."""
    home = tmp_path_factory.mktemp("eval")
    photos(home / "photos")
    done("fit", home / "photos", *arguments(weights(home / "w.safetensors"), out=home / "run", epochs=1))
    return home


@pytest.fixture(scope="module")
def run(home: Path) -> Path:
    return home / "run"


def right(run: Path, folder: Path) -> float:
    """The share of images below class folders that the model is right about, in percent."""
    model = vitgraft.load(run)
    files = sorted(folder.rglob("*.png"))
    found = [model.class_names[index] for index in model.predict(files).argmax(1).tolist()]
    hits = [file.parent.name == name for file, name in zip(files, found, strict=True)]
    return 100 * sum(hits) / len(hits)


def few(root: Path, **counts: int) -> Path:
    """New photos, so many a class."""
    for name, count in counts.items():
        for number in range(count):
            photo(root / name / f"{number:02}.png", CHANNELS[name], 7000 + 100 * CHANNELS[name] + number)
    return root


@pytest.mark.parametrize(
    "counts", [{"red": 3, "green": 2, "blue": 2}, {"red": 4, "green": 3}, {"green": 7}, {"blue": 6, "red": 1}]
)
def test_eval__a_held_out_folder_is_measured_whole(run: Path, tmp_path: Path, counts: dict[str, int]) -> None:
    few(tmp_path / "new", **counts)
    shown = measured(run, tmp_path / "new")
    assert (shown["n"], shown["split"]) == (7, "all")
    assert shown["top1"] == pytest.approx(right(run, tmp_path / "new"))
    assert shown["classes_present"] == len(counts)
    assert shown["absent"] == sorted(set(CHANNELS) - set(counts))
    each = [right(run, tmp_path / "new" / name) for name in counts]
    assert shown["mean_per_class"] == pytest.approx(sum(each) / len(each))
    absent = [note for note in shown["notes"] if "have no image here" in note]
    assert len(absent) == (len(counts) < 3)
    if absent:
        assert absent[0].startswith(f"{3 - len(counts)} of 3 classes")
        shown_text = done("eval", run, tmp_path / "new").stdout
        assert f"over the {len(counts)} of 3 classes that are here" in shown_text


def test_eval__splits_of_their_own_are_kept_and_told(run: Path, tmp_path: Path) -> None:
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        few(tmp_path / "new" / split, red=count, green=count)
    shown = measured(run, tmp_path / "new")
    assert (shown["n"], shown["split"]) == (2, "test")
    assert (
        "new has splits of its own: test is measured; there is train (6 images), val (4 images), too."
        in shown["notes"]
    )
    assert measured(run, tmp_path / "new", "--split", "val")["n"] == 4
    assert measured(run, tmp_path / "new", "--split", "all")["n"] == 12
    shutil.rmtree(tmp_path / "new" / "test")
    assert measured(run, tmp_path / "new")["split"] == "val"
    assert "has no test split. Choose another (--split): train, val, all" in refused(
        "eval", run, tmp_path / "new", "--split", "test"
    )


@pytest.mark.parametrize("split", ["test", "val", "validation"])
def test_eval__a_folder_with_one_split(run: Path, tmp_path: Path, split: str) -> None:
    few(tmp_path / "new" / split, red=4, blue=3)
    shown = measured(run, tmp_path / "new")
    assert shown["n"] == 7
    assert shown["top1"] == pytest.approx(right(run, tmp_path / "new"))


@pytest.mark.parametrize("name", ["held.csv", "held.txt", "test.csv", "val.txt"])
def test_eval__lists_are_measured_whole(run: Path, tmp_path: Path, name: str) -> None:
    few(tmp_path, red=4, blue=3)
    rows = [f"{path.relative_to(tmp_path).as_posix()} {path.parent.name}" for path in tmp_path.rglob("*.png")]
    text = "\n".join(rows) + "\n"
    file = write(tmp_path / name, text if name.endswith("txt") else "path,label\n" + text.replace(" ", ","))
    shown = measured(run, file)
    assert shown["n"] == 7
    assert shown["top1"] == pytest.approx(right(run, tmp_path))


def test_eval__a_list_with_splits_and_columns_of_its_own(run: Path, tmp_path: Path) -> None:
    few(tmp_path, red=4, blue=3)
    rows = [
        f"{path.relative_to(tmp_path).as_posix()},{path.parent.name},{'test' if number % 2 else 'train'}"
        for number, path in enumerate(sorted(tmp_path.rglob("*.png")))
    ]
    file = write(tmp_path / "a.csv", "where,what,split\n" + "\n".join(rows) + "\n")
    options = ("--path-column", "where", "--label-column", "what")
    assert measured(run, file, *options)["n"] == 3
    assert measured(run, file, *options, "--split", "all")["n"] == 7
    assert measured(run, file, *options, "--split-column", "none")["n"] == 7


def test_eval__what_a_list_lacks_needs_a_word(run: Path, tmp_path: Path) -> None:
    few(tmp_path, red=2, blue=1)
    rows = [f"{path.relative_to(tmp_path).as_posix()},{path.parent.name}" for path in tmp_path.rglob("*.png")]
    file = write(tmp_path / "a.csv", "path,label\nred/gone.png,red\n" + "\n".join(rows) + "\n")
    assert "red/gone.png" in refused("eval", run, file)
    shown = measured(run, file, "--allow-missing")
    assert (shown["n"], shown["missing"]) == (3, 1)
    assert any("'red/gone.png' (there is no such file)" in note for note in shown["notes"])


def test_eval__what_cannot_be_read_needs_a_word(run: Path, tmp_path: Path) -> None:
    few(tmp_path / "new", red=2, blue=1)
    write(tmp_path / "new" / "red" / "broken.png", "no picture")
    assert "1 of 4 images cannot be read" in refused("eval", run, tmp_path / "new")
    shown = measured(run, tmp_path / "new", "--skip-unreadable")
    assert (shown["n"], shown["unreadable"]) == (3, 1)
    assert any("broken.png" in note for note in shown["notes"])


def test_eval__classes_are_matched_by_name(run: Path, tmp_path: Path) -> None:
    few(tmp_path / "new", red=3, blue=2)
    expected = right(run, tmp_path / "new")
    (tmp_path / "new" / "red").rename(tmp_path / "new" / "Red")
    shown = measured(run, tmp_path / "new")
    assert shown["top1"] == pytest.approx(expected)
    assert "Classes are taken by name: 'Red' as 'red'." in shown["notes"]
    (tmp_path / "new" / "Red").rename(tmp_path / "new" / "crimson")
    told = refused("eval", run, tmp_path / "new")
    assert "The model knows no class 'crimson' (3 images). Its classes are 'blue', 'green', 'red'." in told
    shown = measured(run, tmp_path / "new", "--ignore-unknown")
    assert (shown["n"], shown["unknown"]) == (2, {"crimson": 3})


def test_eval__numbers_are_no_names(run: Path, tmp_path: Path) -> None:
    """Classes are blue, green, red, in this order."""
    few(tmp_path, red=3, blue=2)
    rows = [
        f"{path.relative_to(tmp_path).as_posix()},{2 if path.parent.name == 'red' else 0}"
        for path in sorted(tmp_path.rglob("*.png"))
    ]
    file = write(tmp_path / "a.csv", "path,label\n" + "\n".join(rows) + "\n")
    assert "--by-index" in refused("eval", run, file)
    shown = measured(run, file, "--by-index")
    assert (shown["n"], shown["top1"]) == (5, pytest.approx(right(run, tmp_path)))
    assert any("'0' as 'blue', '2' as 'red'" in note for note in shown["notes"])


def test_eval__a_folder_above_the_class_folders_is_told(run: Path, tmp_path: Path) -> None:
    few(tmp_path / "new" / "photos", red=1, blue=1)
    assert "name the folder that holds the class folders" in refused("eval", run, tmp_path / "new")


def told(*arguments: object, model: vitgraft.Model, **options: object) -> tuple[object, list[str]]:
    """What `model.evaluate` gives and says."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        metrics = model.evaluate(*arguments, **options)  # type: ignore[arg-type]
    return metrics, [str(one.message) for one in caught if issubclass(one.category, Told)]


def test_evaluate__a_folder_is_what_the_command_line_measures(run: Path, tmp_path: Path) -> None:
    few(tmp_path / "new", red=4, green=3)
    model = vitgraft.load(run)
    found, said = told(tmp_path / "new", model=model)
    shown = measured(run, tmp_path / "new")
    assert (found.n, found.top1) == (7, pytest.approx(shown["top1"]))  # type: ignore[attr-defined]
    assert not said
    with pytest.raises(DataError, match="has no test split"):
        model.evaluate(str(tmp_path / "new"), "test")
    with pytest.raises(ConfigError, match="is a part of a task"):
        model.evaluate(load_task(tmp_path / "new").splits["train"], "test")


def test_evaluate__the_own_task_is_never_cut_again(home: Path, run: Path, tmp_path: Path) -> None:
    model = vitgraft.load(run)
    then = measured(run)
    grown = shutil.copytree(home / "photos", tmp_path / "grown")
    photos(grown, 2, first=60)
    for data in (grown, load_task(grown)):
        found, said = told(data, model=model)
        assert (found.n, found.loss) == (then["n"], pytest.approx(then["loss"]))  # type: ignore[attr-defined]
        assert "the split that it kept is measured" in said[0]
    found, _ = told(grown, "new", model=model)
    assert found.n == 6  # type: ignore[attr-defined]
    assert model.kept is not None
    test = load_task(grown).splits["test"]
    seen = model.kept.digests("train") | model.kept.digests("val")
    count = sum(digest in seen for _, digest in test.images.listed())  # type: ignore[attr-defined]
    assert 0 < count < len(test)
    _, said = told(test, model=model)
    assert f"on {count:,} of these {len(test)} images" in said[0]


def test_evaluate__a_split_of_other_classes_is_matched_by_name(run: Path, tmp_path: Path) -> None:
    few(tmp_path / "new", red=4, blue=3)
    split = load_task(tmp_path / "new", to_measure=True).splits["all"]
    assert split.classes == ("blue", "red")
    found, _ = told(split, model=vitgraft.load(run))
    assert found.top1 == pytest.approx(right(run, tmp_path / "new"))  # type: ignore[attr-defined]
    few(tmp_path / "more", red=2)
    (tmp_path / "more" / "red").rename(tmp_path / "more" / "mauve")
    with pytest.raises(DataError, match="no class 'mauve'"):
        vitgraft.load(run).evaluate(load_task(tmp_path / "more", to_measure=True).splits["all"])


def reordered(task: Task, classes: tuple[str, ...]) -> Task:
    """The same images and names under other numbers."""
    index = [classes.index(name) for name in task.classes]
    splits = {
        name: Split(split.images, [index[label] for label in split.labels])  # type: ignore[arg-type]
        for name, split in task.splits.items()
    }
    return Task(task.name, classes, splits)


def test_fit__labels_are_matched_by_name(home: Path, tmp_path: Path) -> None:
    task = load_task(home / "photos")
    turned = reordered(task, ("red", "blue", "green"))
    frozen = vitgraft.load_backbone("test_vit", checkpoint=home / "w.safetensors", image_size=32)
    found = []
    for train, val in ((task, task), (turned, task), (task, turned)):
        model = vitgraft.graft(frozen, "linear", task.classes)
        vitgraft.fit(model, train.splits["train"], val.splits["val"], epochs=1, batch_size=8)
        found.append(model.evaluate(task.splits["test"]))
        assert model.class_names == task.classes
    assert found[0] == found[1] == found[2]


def test_fit__a_model_that_knows_numbers_takes_the_names(home: Path, tmp_path: Path) -> None:
    task = load_task(home / "photos")
    frozen = vitgraft.load_backbone("test_vit", checkpoint=home / "w.safetensors", image_size=32)
    model = vitgraft.graft(frozen, "linear", 3)
    vitgraft.fit(model, task.splits["train"], epochs=1, batch_size=8)
    assert model.class_names == ("blue", "green", "red")
    model.save(tmp_path / "mine")
    again = vitgraft.load(tmp_path / "mine", backbone=frozen)
    assert again.evaluate(reordered(task, ("red", "green", "blue")).splits["test"]) == model.evaluate(
        task.splits["test"]
    )
    assert again.kept == model.kept is not None
    assert again.kept is not None
    assert again.kept.sizes() == {"train": len(task.splits["train"])}
    shown = measured(tmp_path / "mine", home / "photos", "--checkpoint", home / "w.safetensors")
    assert (shown["n"], shown["split"]) == (30 - len(task.splits["train"]), "new")
    with pytest.raises(DataError, match="Build it with these"):
        vitgraft.fit(vitgraft.graft(frozen, "linear", 5), task.splits["train"], epochs=1)
    with pytest.raises(DataError, match="no class 'blue'"):
        vitgraft.fit(vitgraft.graft(frozen, "linear", ("a", "b", "c")), task.splits["train"], epochs=1)


def test_evaluate__answers_that_are_not_finite_are_no_result(run: Path, tmp_path: Path) -> None:
    few(tmp_path / "new", red=1)
    model = vitgraft.load(run)
    for value in model.tuned.parameters():
        value.data.fill_(float("inf"))
    with pytest.raises(DivergedError, match="not finite"):
        model.evaluate(tmp_path / "new")


def test_evaluate__takes_what_it_is_computed_with(run: Path, tmp_path: Path) -> None:
    few(tmp_path / "new", red=3, blue=2)
    model = vitgraft.load(run)
    alone = model.evaluate(tmp_path / "new", batch_size=1, device="cpu", workers=1)
    assert alone.loss == pytest.approx(model.evaluate(tmp_path / "new").loss)
    for wrong in ({"batch_size": 0}, {"precision": "fp8"}, {"device": "tpu"}, {"workers": -1}, {"batchsize": 2}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            model.evaluate(tmp_path / "new", **wrong)
