"""A run keeps its split: whatever becomes of its data, it is measured on the images that it was not trained on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.deep_files import png16
from tests.pictures import write
from tests.runs import arguments, done, measured, photo, photos, refused, weights
from vitgraft.data.kept import FILE, Kept, put
from vitgraft.data.source import load
from vitgraft.data.task import ranges_of
from vitgraft.results import store
from vitgraft.runs.config import RunConfig, read_toml
from vitgraft.runs.kept_split import going_on, list_of, load_task, part_of_run
from vitgraft.runs.run import run as run_now
from vitgraft.runs.run import test_later as later


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos and a finished run on them, which tests copy."""
    home = tmp_path_factory.mktemp("kept")
    photos(home / "photos")
    done("fit", home / "photos", *arguments(weights(home / "w.safetensors"), out=home / "run"))
    return home


@pytest.fixture
def home(begun: Path, tmp_path: Path) -> Path:
    """The same, its own: the run says where its photos are."""
    shutil.copytree(begun / "photos", tmp_path / "photos")
    shutil.copytree(begun / "run", tmp_path / "run")
    kept = tmp_path / "run" / "run.toml"
    kept.write_text(kept.read_text().replace(str(begun / "photos"), str(tmp_path / "photos")))
    return tmp_path


def of_record(home: Path) -> dict[str, float]:
    """What the run's record says of its test images."""
    test = store.read(home / "run" / store.FILE).test
    assert test is not None
    return {"loss": pytest.approx(test.loss, rel=1e-5), "top1": pytest.approx(test.top1), "n": test.n}


def same(shown: dict[str, float], then: dict[str, float]) -> None:
    assert {key: shown[key] for key in then} == then


def members(home: Path, split: str) -> list[str]:
    kept = Kept.read(home / "run")
    assert kept is not None
    return [entry.path for entry in kept.entries if entry.split == split]


def test_fit__lists_its_images(home: Path) -> None:
    assert store.read(home / "run" / store.FILE).task.sizes == {
        name: len(members(home, name)) for name in ("train", "val", "test")
    }
    assert len(set(members(home, "train") + members(home, "val") + members(home, "test"))) == 30


def test_eval__of_a_folder_that_grew_is_what_the_record_says(home: Path) -> None:
    same(measured(home / "run"), of_record(home))
    photos(home / "photos", 1, first=50)
    for name in ("red", "green", "blue"):  # before all others, and so in another place of a new cut
        shutil.move(home / "photos" / name / "50.png", home / "photos" / name / "0.png")
    shown = measured(home / "run")
    same(shown, of_record(home))
    assert "3 images are new" in shown["notes"][0]
    assert "--split new" in shown["notes"][0]
    new = measured(home / "run", "--split", "new")
    assert (new["n"], new["split"], new["classes_present"]) == (3, "new", 3)
    assert measured(home / "run", "--split", "all")["n"] == 33
    assert measured(home / "run", "--split", "train")["n"] == len(members(home, "train"))
    assert "3 images are new" in done("eval", home / "run").stderr


def test_eval__a_class_that_came_later_is_not_in_the_test(home: Path) -> None:
    photo(home / "photos" / "mauve" / "0.png", 0, 777)
    same(measured(home / "run"), of_record(home))
    assert "no class 'mauve' (1 image)" in refused("eval", home / "run", "--split", "all")
    shown = measured(home / "run", "--split", "all", "--ignore-unknown")
    assert (shown["n"], shown["unknown"]) == (30, {"mauve": 1})


def test_eval__what_is_gone_is_counted_and_needs_a_word(home: Path) -> None:
    first, *rest = members(home, "test")
    (home / "photos" / first).unlink()
    told = refused("eval", home / "run")
    assert f"1 image is gone ('{first}')" in told
    assert f"measure the {len(rest)} that are left: allow_missing (--allow-missing)" in told
    shown = measured(home / "run", "--allow-missing")
    assert (shown["n"], shown["missing"]) == (len(rest), 1)
    assert measured(home / "run", "--split", "train")["n"] == len(members(home, "train"))
    options = ("--split", "test", "--format", "json")
    assert "allow_missing (--allow-missing)" in refused("predict", home / "run", *options)
    rows = json.loads(done("predict", home / "run", *options, "--allow-missing").stdout)
    assert [Path(row["image"]).name for row in rows] == [Path(path).name for path in rest]


def test_eval__a_copy_in_another_size_or_format_is_told(home: Path) -> None:
    for path in (home / "photos").rglob("*.png"):
        copy = home / "small" / path.relative_to(home / "photos").with_suffix(".bmp")
        copy.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).resize((24, 24)).save(copy)
    shown = measured(home / "run", home / "small")
    count = len(members(home, "train"))
    assert shown["n"] == 30
    assert f"{count} of these 30 images are called like images that the model was trained on" in shown["notes"][0]
    photos(home / "others", 2, first=60)
    assert not measured(home / "run", home / "others")["notes"]


def test_eval__renamed_files_stay_in_their_split(home: Path) -> None:
    for path in members(home, "test"):
        (home / "photos" / path).rename((home / "photos" / path).with_stem("aaa" + Path(path).stem))
    shown = measured(home / "run")
    same(shown, of_record(home))
    assert not shown["notes"]


def test_eval__another_content_or_class_is_told(home: Path) -> None:
    first, second = members(home, "test")[:2]
    photo(home / "photos" / first, 0, 77)
    other = "blue" if not second.startswith("blue") else "red"
    (home / "photos" / second).rename(home / "photos" / other / "moved.png")
    shown = measured(home / "run")
    assert shown["n"] == of_record(home)["n"]
    assert f"1 image has another content ('{first}')" in shown["notes"][0]
    assert f"1 image has another class ('{second}')" in shown["notes"][0]


def test_eval__moved_data_are_recognised(home: Path) -> None:
    shutil.move(home / "photos", home / "elsewhere")
    photos(home / "elsewhere", 1, first=50)
    told = refused("eval", home / "run")
    assert f"Name the images: vitgraft eval {home / 'run'} DATA" in told
    shown = measured(home / "run", home / "elsewhere")
    same(shown, of_record(home))
    assert "the split that it kept is measured" in shown["notes"][0]
    assert measured(home / "run", home / "elsewhere", "--split", "new")["n"] == 3


def test_eval__the_own_folder_by_name_is_the_own_split(home: Path) -> None:
    for number, path in enumerate((home / "photos").rglob("*.png")):  # none has a content that is known
        photo(path, 1, 5000 + number)
    shown = measured(home / "run", f"{home / 'photos'}/")
    assert shown["n"] == of_record(home)["n"]
    assert f"{shown['n']} images have another content" in shown["notes"][0]


def test_eval__other_data_with_training_images_tell_it(home: Path) -> None:
    photos(home / "more", 4, first=50)
    for path in (members(home, "train")[0], members(home, "val")[0]):
        shutil.copy(home / "photos" / path, home / "more" / Path(path).parent / f"copy-{Path(path).name}")
    shown = measured(home / "run", home / "more")
    assert (shown["n"], shown["split"]) == (14, "all")
    assert "trained or selected on 2 of these 14 images" in shown["notes"][0]
    assert measured(home / "run", home / "more", "--split", "new")["n"] == 12


def test_eval__its_own_training_images_under_another_name_are_told(home: Path) -> None:
    for path in members(home, "train"):
        (home / "held" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(home / "photos" / path, home / "held" / path)
    count = len(members(home, "train"))
    shown = measured(home / "run", home / "held")
    assert shown["n"] == count
    assert f"on {count} of these {count} images" in shown["notes"][0]
    assert "no image that the run has not seen" in refused("eval", home / "run", home / "held", "--split", "new")


def test_eval__a_damaged_list_is_refused(home: Path) -> None:
    (home / "run" / FILE).write_text("path,label\n")
    assert "is damaged" in refused("eval", home / "run")


def test_eval__a_run_without_a_list_is_cut_again_only_if_nothing_changed(home: Path) -> None:
    (home / "run" / FILE).unlink()
    same(measured(home / "run"), of_record(home))
    shutil.copytree(home / "photos", home / "elsewhere")
    same(measured(home / "run", home / "elsewhere"), of_record(home))
    photos(home / "elsewhere", 1, first=50)
    shown = measured(home / "run", home / "elsewhere")
    assert shown["n"] == 33
    assert "keeps no list of its images" in shown["notes"][-1]
    photos(home / "photos", 1, first=50)
    told = refused("eval", home / "run")
    assert "is not what" in told
    assert "Cut again, the data would test it on what it was trained on" in told


def test_part__drawn_images_that_changed_are_told(home: Path) -> None:
    run, digits = home / "run", load("digits")
    (run / FILE).unlink()
    write(run / "run.toml", 'data = "digits"\n')
    values = json.loads((run / store.FILE).read_text())
    values["task"] |= {"name": "digits", "fingerprint": digits.fingerprint()}
    write(run / store.FILE, json.dumps(values))
    part = part_of_run(run)
    assert not part.notes
    assert part.split.images.fingerprint() == digits.splits["test"].images.fingerprint()
    values["task"]["fingerprint"] = "0" * 16
    write(run / store.FILE, json.dumps(values))
    assert "digits is not what" in part_of_run(run).notes[0]


def test_fit__anew_lists_anew(home: Path, begun: Path) -> None:
    photos(home / "photos", 2, first=50)
    done("fit", home / "photos", *arguments(begun / "w.safetensors", out=home / "run", epochs=1), "--force")
    kept = Kept.read(home / "run")
    assert kept is not None
    assert len(kept.entries) == 36
    put(list_of(config_of(home), load("digits"), resume=False), home / "run")
    assert not (home / "run" / FILE).exists()


def config_of(home: Path, **changes: object) -> RunConfig:
    return RunConfig.of({**read_toml(home / "run" / "run.toml"), "out": str(home / "run"), **changes})


def test_resume__goes_on_with_the_images_that_it_began_with(home: Path) -> None:
    config = config_of(home)
    fingerprint = store.read(home / "run" / store.FILE).task.fingerprint
    told: list[str] = []
    assert going_on(config, told.append).fingerprint() == fingerprint
    photos(home / "photos", 1, first=50)
    photo(home / "photos" / "mauve" / "0.png", 0, 777)
    assert going_on(config, told.append).fingerprint() == fingerprint
    assert len(told) == 1
    assert "4 images are new" in told[0]
    first = members(home, "train")[0]
    photo(home / "photos" / first, 0, 99)
    with pytest.raises(Exception, match=r"began: 1 image has another content"):
        going_on(config, told.append)


def test_resume__a_run_that_was_stopped_keeps_its_list(home: Path, begun: Path) -> None:
    (home / "run" / store.FILE).unlink()
    before = (home / "run" / FILE).read_bytes()
    photos(home / "photos", 1, first=50)
    done("fit", "--resume", "--out", home / "run")
    assert (home / "run" / FILE).read_bytes() == before
    assert store.read(home / "run" / store.FILE).task.sizes == {
        name: len(members(home, name)) for name in ("train", "val", "test")
    }


@pytest.mark.slow
def test_later__tests_what_was_kept(home: Path, begun: Path) -> None:
    config = config_of(home, epochs=1)
    run_now(config, force=True, test=False, tell=lambda line: None)
    path = home / "run" / store.FILE
    untested = path.read_bytes()
    told: list[str] = []
    right = later(config, told.append, None).test
    assert right is not None
    assert not told
    path.write_bytes(untested)
    photos(home / "photos", 1, first=50)
    assert later(config, told.append, None).test == right
    assert "3 images are new" in told[0]
    path.write_bytes(untested)
    (home / "photos" / members(home, "test")[0]).unlink()
    with pytest.raises(Exception, match="1 image is gone"):
        later(config, told.append, None)


def test_lists__are_kept_too(tmp_path: Path) -> None:
    photos(tmp_path / "images", 8)
    rows = sorted(path.relative_to(tmp_path / "images") for path in (tmp_path / "images").rglob("*.png"))
    table = "path,label\n" + "".join(f"{row},{row.parent}\n" for row in rows)
    file = write(tmp_path / "all.csv", table)
    options = arguments(weights(tmp_path / "w.safetensors"), out=tmp_path / "run", root=tmp_path / "images")
    done("fit", file, *options)
    photos(tmp_path / "images", 1, first=50)
    write(file, table.replace("path,label\n", "path,label\nred/50.png,red\n"))
    same(measured(tmp_path / "run"), of_record(tmp_path))
    write(file, table.replace(f"{members(tmp_path, 'test')[0]},", "red/gone.png,"))
    assert "1 image is gone" in refused("eval", tmp_path / "run")


def test_resume__the_range_of_deep_pictures_is_that_of_the_beginning(tmp_path: Path) -> None:
    """A brighter picture that came later must not darken those that were trained on."""
    for name in ("red", "blue"):
        for number in range(8):
            file = tmp_path / "deep" / name / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            values = np.random.default_rng(len(name) * 100 + number).integers(0, 4000, (6, 6))
            file.write_bytes(png16(values.astype(np.uint16)))
    config = RunConfig.of({"data": str(tmp_path / "deep"), "out": str(tmp_path / "run")})
    task = load_task(config)
    kept = list_of(config, task, resume=False)
    put(kept, tmp_path / "run")
    (tmp_path / "deep" / "red" / "new.png").write_bytes(png16(np.full((6, 6), 65535, np.uint16)))
    again = going_on(config, lambda line: None)
    for name, split in task.splits.items():
        assert ranges_of(again.splits[name].images) == ranges_of(split.images) != ()
        assert [np.asarray(one).max() for one, _ in again.splits[name]] == [
            np.asarray(one).max() for one, _ in split
        ]


def test_from__what_the_other_run_was_trained_on_stays_known(home: Path, begun: Path) -> None:
    photos(home / "second", 6, first=50)
    done("fit", home / "second", "--from", home / "run", "--epochs=1", "--batch-size=8", "--out", home / "warm")
    kept = Kept.read(home / "warm")
    assert kept is not None
    assert sum(kept.sizes().values()) == 18
    then = len(members(home, "train") + members(home, "val"))
    assert sum(entry.split == "before" for entry in kept.entries) == then
    shown = measured(home / "warm", home / "photos")
    assert f"on {then} of these 30 images" in shown["notes"][0]
    assert measured(home / "warm")["n"] == kept.sizes()["test"]
    assert measured(home / "warm", home / "photos", "--split", "new")["n"] == 30 - then
