"""Content decides what is an image; what is left out is counted, told, recorded; twins; what was seen is kept."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import vitgraft
from tests.pictures import ORANGE, dataset, encoded, paths, picture, sizes, write
from vitgraft.cli import app
from vitgraft.cli.fit import _images
from vitgraft.data.location import cache_root
from vitgraft.data.pictures.decode import Decoded
from vitgraft.data.reading import digests, files, left_out
from vitgraft.data.reading.digests import FOLDER
from vitgraft.data.reading.folder import load_folder
from vitgraft.data.source import expand_images, load
from vitgraft.errors import ConfigError, DataError, Told

JXL = b"\xff\x0a" + bytes(30)
PSD = b"8BPS\0\1" + bytes(30)


def put(file: Path, content: bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def image(kind: str, number: int) -> bytes:
    return encoded(Image.new("RGB", (5, 4), (9, 9, number)), kind)


def mixed(root: Path) -> Path:
    """Two classes of ten: six named, four images by their content; among them nine files that are not read."""
    dataset(root, {"a": 6, "b": 6})
    for number, (name, kind) in enumerate({"x": "PNG", "y.dat": "JPEG", "z.v2": "WEBP", "w.txt": "GIF"}.items()):
        for folder in "ab":
            put(root / folder / name, image(kind, number + 50 * (folder == "b")))
    for name in ("1.jxl", "2.JXL", "3"):
        put(root / "a" / name, JXL)
    put(root / "a" / "raw.nef", encoded(Image.new("RGB", (5, 4)), "TIFF"))
    put(root / "b" / "blob", bytes(range(256)))
    put(root / "b" / "gone.heic", b"no such thing")
    write(root / "b" / "notes.txt", "Grüße")
    write(root / "labels.csv", "a,b\n")
    for name in ("b/.DS_Store", "Thumbs.db", "b/.hidden.png"):
        put(root / name, b"\0")
    return root


def test_load_folder__content_decides(tmp_path: Path) -> None:
    task = load_folder(mixed(tmp_path / "photos"), val_fraction=0.0, test_fraction=0.0)
    assert sizes(task) == {"train": 20}
    assert {Path(path).name for path in paths(task, "train")} >= {"x", "y.dat", "z.v2", "w.txt"}
    index = paths(task, "train").index("a/y.dat")
    assert task.splits["train"][index][0].size == (5, 4)
    assert task.left_out.by_suffix() == {".jxl": 2, "": 2, ".nef": 1, ".heic": 1, ".txt": 1, ".csv": 1}
    assert task.left_out.missed == 6
    text = "\n".join(task.notes)
    assert "Read as images by their content, not their name: 2 .txt, 2 without a suffix, 2 .dat, 2 .v2." in text
    assert "Left out: 2 .jxl, 2 without a suffix, " in text
    assert "Hidden files are not read: 1 called like images, such as 'b/.hidden.png'." in text
    assert "3 are JPEG XL, which Pillow reads with pillow-jxl-plugin only: pip install pillow-jxl-plugin" in text
    assert "1 is camera raw, which is not read here: Develop it" in text


def test_fit__records_what_is_left_out(tmp_path: Path) -> None:
    from vitgraft.results import store
    from vitgraft.runs.config import RunConfig
    from vitgraft.runs.run import run

    mixed(tmp_path / "photos")
    config = {"data": str(tmp_path / "photos"), "method": "linear", "epochs": 1, "device": "cpu"}
    told: list[str] = []
    run(RunConfig.of({**config, "out": str(tmp_path / "run"), "test_fraction": 0.0}), tell=told.append)
    record = store.read(tmp_path / "run" / store.FILE)
    facts = record.task
    assert _images(record) == "16 trained, 4 validated; 6 left out"
    assert (facts.sizes, facts.skipped) == ({"train": 16, "val": 4}, 6)
    assert facts.left_out == {".jxl": 2, "no suffix": 2, ".nef": 1, ".heic": 1, ".txt": 1, ".csv": 1}
    assert any(line.startswith("Left out: 2 .jxl, 2 without a suffix") for line in told)
    assert [line for line in told if line in facts.notes] == facts.notes


def test_load_folder__a_class_of_one_foreign_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(left_out, "opener_of", lambda kind: None)
    root = dataset(tmp_path, {"a": 3, "b": 3})
    for name, content, advice in (
        ("1.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "1 is HEIC.*pip install pillow-heif, or convert it"),
        ("1.jxl", JXL, "pip install pillow-jxl-plugin"),
        ("1.heic", b"0", "pip install pillow-heif"),
        ("1.psd", PSD, "Photoshop document, which is not read here: Export it as PNG"),
        ("1.xyz", bytes(9), r"Put images into it, or take the folder away"),
    ):
        file = put(root / "c" / name, content)
        with pytest.raises(DataError, match=rf"c' holds no images that are read, only 1 \..*{advice}") as error:
            load_folder(root)
        assert "delete" not in str(error.value)
        file.unlink()


def test_load_folder__beside_the_splits(tmp_path: Path) -> None:
    root = dataset(
        tmp_path, {"train/a": 6, "train/b": 6, "holdout/a": 2, "holdout/b": 2, "eval/a": 1, "extra/z": 3}
    )
    picture(root / "stray.png", (1, 2, 3))
    task = load_folder(root, val_fraction=0.4, test_fraction=0.4, seed=1)
    assert sizes(task) == {"train": 12, "val": 1, "test": 4}
    text = "\n".join(task.notes)
    for part in (
        "holdout/ is taken as test.",
        "eval/ is taken as val.",
        "Not read, since it is no split: extra/.",
        "Left out: 1 .png.",
        "val_fraction = 0.4 (--val-fraction) has no effect: the data have a val of their own (1 image)",
        "test_fraction = 0.4 (--test-fraction) has no effect",
        "split_seed = 1 (--split-seed) has no effect",
    ):
        assert part in text, part
    classes = load_folder(dataset(tmp_path / "langs", {"tr": 3, "dev": 3}))
    assert classes.classes == ("dev", "tr")
    with pytest.raises(ConfigError, match=r"is no list.*leave out path_column \(--path-column\), classes"):
        load(root, path_column="x", classes=["a", "b"])


def test_load_folder__what_may_be_meant_otherwise(tmp_path: Path) -> None:
    years = load_folder(
        dataset(tmp_path / "years", {f"{year}/{name}": 2 for year in (2019, 2020) for name in "ab"})
    )
    assert years.classes == ("2019", "2020")
    assert "The classes are '2019', '2020', and not 'a', 'b', which are folders in each of them." in years.notes
    root = dataset(tmp_path / "one", {"images": 3})
    write(root / "labels.csv", "id,label\n00,a\n01,b\n02,a\n")
    with pytest.raises(DataError, match=r"one class only, 'images'\. If '.*labels\.csv' lists the images"):
        load_folder(root)
    with pytest.raises(
        DataError, match=r"holds 2 images but no class folders.*are for predict: move '.*test' away"
    ):
        load_folder(dataset(tmp_path / "two", {"train/a": 2, "train/b": 2, "test": 2}))


def test_twins__are_told(tmp_path: Path) -> None:
    root = dataset(tmp_path, {"train/a": 4, "train/b": 4, "test/a": 2, "test/b": 2})
    assert load_folder(root).notes == ("The data have no val: val (15 %) is cut from train, class by class.",)
    for name in ("5", "6"):
        put(root / "test" / "a" / f"{name}.png", (root / "train" / "a" / "00.png").read_bytes())
    put(root / "train" / "b" / "7.png", (root / "train" / "a" / "01.png").read_bytes())
    notes = load_folder(root, val_fraction=0.0).notes
    assert notes == (
        "2 images of test are byte for byte in train, too, such as 'test/a/5.png' and 'train/a/00.png'. "
        "Remove one of each.",
        "1 image is there under two labels: 'train/a/01.png' (a) and 'train/b/7.png' (b).",
    )


def test_twins__of_large_files_are_compared_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = dataset(tmp_path, {"train/a": 2, "train/b": 2, "test/a": 1})
    monkeypatch.setattr(digests, "WHOLE", 10)
    monkeypatch.setattr(digests, "CHUNK", 4)
    whole = bytearray((root / "train" / "a" / "00.png").read_bytes())
    put(root / "test" / "a" / "9.png", bytes(whole))
    assert len(load_folder(root, val_fraction=0.0).notes) == 1
    whole[40] ^= 1  # neither at the start nor in the middle nor at the end
    put(root / "test" / "a" / "9.png", bytes(whole))
    assert load_folder(root, val_fraction=0.0, check=False).notes == ()


def test_expand_images__tells_what_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixed(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    found = expand_images(["photos"])
    assert len(found) == 20
    assert found.left_out.by_suffix() == {".jxl": 2, "": 2, ".nef": 1, ".heic": 1, ".txt": 1, ".csv": 1}
    assert len(found) + len(found.left_out.files) == 29  # with a hidden one
    assert "photos/a/1.jxl" in [file.path for file in found.left_out.files]
    globbed = expand_images(["photos/a/*", "photos/b/*.txt"])
    assert len(globbed) == 11
    assert globbed.left_out.missed == 4
    with pytest.raises(DataError, match=r"matches no images, only other files \(2 \.jxl\)\. 2 are JPEG XL"):
        expand_images(["photos/a/*.[jJ]*"])
    put(tmp_path / "heic" / "1.jxl", JXL)
    with pytest.raises(DataError, match=r"Folder 'heic' holds no images, only other files \(1 \.jxl\)\..*plugin"):
        expand_images(["heic"])


def test_load_task__warns_of_what_it_left_out(tmp_path: Path) -> None:
    put(mixed(tmp_path / "photos") / "b" / "broken.png", b"")
    with pytest.warns(Told) as told:
        task = vitgraft.load_task(tmp_path / "photos", skip_unreadable=True)
    lines = [str(one.message) for one in told]
    assert tuple(lines[:-1]) == task.notes
    assert lines[-1].startswith("1 images cannot be read and are left out")
    assert told[0].filename == __file__


# What was seen


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Names of files as they are decoded; files count as settled at once, and each test has its own cache."""
    monkeypatch.setenv("VITGRAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "SETTLED", 0)
    found: list[str] = []
    real = files.decode

    def read(path: Path, *rest: object, **more: object) -> Decoded:
        found.append(path.name)
        return real(path, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(files, "decode", read)
    return found


def again(found: list[str]) -> None:
    """As a later process would start."""
    found.clear()
    digests._memory.cache_clear()


def test_seen__files_are_decoded_once(tmp_path: Path, seen: list[str]) -> None:
    root = dataset(tmp_path / "photos", {"a": 4, "b": 4})
    first = load_folder(root)
    assert len(seen) == 8
    again(seen)
    second = load_folder(root)
    assert seen == []
    assert second.fingerprint() == first.fingerprint()
    picture(root / "a" / "00.png", ORANGE)
    picture(root / "a" / "new.png", (1, 1, 1))
    again(seen)
    assert sorted((load_folder(root), seen)[1]) == ["00.png", "new.png"]
    assert load_folder(root).fingerprint() != first.fingerprint()


def test_seen__same_size_and_time_are_not_enough(tmp_path: Path, seen: list[str]) -> None:
    root = dataset(tmp_path / "photos", {"a": 3, "b": 3})
    load_folder(root)
    file = root / "a" / "00.png"
    before = os.stat(file)
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"\0")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    again(seen)
    load_folder(root)
    assert seen == ["00.png"]  # its inode's own time of change cannot be set
    file.write_bytes(b"")
    again(seen)
    with pytest.raises(DataError, match=r"00\.png': it is empty"):
        load_folder(root)
    with pytest.raises(DataError, match="1 of 6"):
        load_folder(root)  # a file that cannot be read is looked at each time


def test_seen__fresh_files_are_not_trusted(
    tmp_path: Path, seen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "SETTLED", 10**12)
    root = dataset(tmp_path / "photos", {"a": 3, "b": 3})
    load_folder(root)
    again(seen)
    load_folder(root)
    assert len(seen) == 6
    assert not (cache_root() / FOLDER).exists()


def test_seen__other_rules_decode_again(tmp_path: Path, seen: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    root = dataset(tmp_path / "photos", {"a": 3, "b": 3})
    load_folder(root)
    again(seen)
    load_folder(root, max_pixels=10**9)
    assert len(seen) == 6


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign", "gone", "unwritable"])
def test_seen__damage_is_harmless(
    tmp_path: Path, seen: list[str], damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = dataset(tmp_path / "photos", {"a": 3, "b": 3})
    expected = load_folder(root).fingerprint()
    (kept,) = (cache_root() / FOLDER).iterdir()
    content = kept.read_bytes()
    if damage == "unwritable":
        monkeypatch.setenv("VITGRAFT_CACHE", str(write(tmp_path / "a file", "")))
    elif damage == "gone":
        kept.unlink()
    elif damage == "flipped":
        digest = json.loads(json.loads(content)["files"])["a/00.png"][4]
        kept.write_bytes(content.replace(digest.encode(), digest[::-1].encode()))
    else:
        kept.write_bytes({"cut": content[:90], "empty": b"", "foreign": b"[1]"}[damage])
    again(seen)
    assert load_folder(root).fingerprint() == expected
    assert len(seen) == 6


def test_seen__is_forgotten_with_the_cache(tmp_path: Path, seen: list[str]) -> None:
    load_folder(dataset(tmp_path / "photos", {"a": 3, "b": 3}))
    assert digests.kept_bytes() > 0
    result = CliRunner().invoke(app, ["cache", "rm", "--all"])
    assert result.exit_code == 0, result.output
    assert digests.kept_bytes() == 0
    load_folder(tmp_path / "photos")
    assert len(seen) == 12


def test_seen__writers_keep_what_others_wrote(tmp_path: Path, seen: list[str]) -> None:
    root = dataset(tmp_path / "photos", {"a": 3, "b": 3})
    one, other = digests.memory(root), digests.Memory(root, digests.memory(root).file)
    one.digest("a/00.png", "r")
    other.digest("b/00.png", "r")
    one.keep()
    other.keep()
    again(seen)
    both = digests.memory(root)
    seen_of = {name: both.known(name) for name in ("a/00.png", "b/00.png", "b/01.png")}
    assert [one and one.rules for one in seen_of.values()] == ["r", "r", None]
