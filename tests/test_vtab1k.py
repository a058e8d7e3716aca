"""VTAB-1k's table and names, and which folder is a task's. Names, sizes and slices are data."""

from pathlib import Path

import pytest

from tests.benchmark_copies import (
    COUNTS,
    SMALL,
    VTAB,
    VTAB_LISTS,
    noah,
    row,
    shrunk,
    synqt,
    task,
)
from tests.pictures import sizes, write
from vitgraft.data import source
from vitgraft.data.benchmarks.copy import look
from vitgraft.data.benchmarks.find import recognised
from vitgraft.data.benchmarks.names import TABLES, asked, mentioned, near
from vitgraft.data.benchmarks.vtab1k import VTAB1K
from vitgraft.errors import ConfigError, DataError
from vitgraft.runs.config import RunConfig

# The table


def test_table__is_the_benchmark() -> None:
    """Numbers of task_adaptation's tests, as the project's data sheet gives them."""
    rows = {one.key: one for one in VTAB1K.rows}
    natural = ["cifar100", "caltech101", "dtd", "flowers102", "pets", "svhn", "sun397"]
    specialized = ["camelyon", "eurosat", "resisc45", "retinopathy"]
    structured = ["clevr_count", "clevr_dist", "dmlab", "kitti_dist"]
    structured += ["dspr_loc", "dspr_ori", "snorb_azim", "snorb_ele"]
    assert list(rows) == natural + specialized + structured
    for group, keys in (("natural", natural), ("specialized", specialized), ("structured", structured)):
        assert [one.key for one in VTAB1K.rows if one.group == group] == keys
    classes = [100, 102, 47, 102, 37, 10, 397, 2, 10, 45, 5, 8, 6, 6, 4, 16, 16, 18, 9]
    assert [one.classes for one in VTAB1K.rows] == classes
    assert sum(one.counts["test"] for one in VTAB1K.rows) == 387_904
    assert {(one.counts["train"], one.counts["val"], one.expected("trainval")) for one in VTAB1K.rows} == {
        (800, 200, 1000)
    }
    for one in VTAB1K.rows:  # slices have the sizes that counts say
        assert one.export is not None
        assert str(one.export.train) == "train[0:800]"
        val = one.export.val
        assert val.stop is not None
        assert val.stop - val.start == 200


@pytest.mark.parametrize(
    ("key", "spellings"),
    [
        (
            "cifar100",
            ["cifar", "CIFAR-100", "cifar(num_classes=100)", "processed_vtab-cifar", "tfds_vtab-cifar100"],
        ),
        ("pets", ["oxford_pet", "oxford_iiit_pet", "Pets"]),
        ("flowers102", ["oxford_flowers102", "Flowers102"]),
        ("camelyon", ["patch_camelyon", "Patch Camelyon"]),
        ("retinopathy", ["diabetic_retinopathy", 'vtab-diabetic_retinopathy(config="btgraham-300")']),
        ("clevr_count", ["Clevr/count", 'clevr(task="count_all")', "Clevr-Count"]),
        ("clevr_dist", ['vtab-clevr(task="closest_object_distance")', "Clevr-Dist"]),
        ("kitti_dist", ["kitti", "KITTI-Dist", 'kitti(task="closest_vehicle_distance")']),
        ("dspr_loc", ["dsprites_loc", 'dsprites(predicted_attribute="label_x_position",num_classes=16)']),
        (
            "dspr_ori",
            ["dSpr-Ori", "dSpr-Orient", 'dsprites(predicted_attribute="label_orientation",num_classes=16)'],
        ),
        ("snorb_azim", ["sNORB-Azim", "SmallNORB/azi", 'smallnorb(predicted_attribute="label_azimuth")']),
        (
            "snorb_ele",
            ["sNORB-Ele", "sNORB-Elev", "smallnorb_ele", 'smallnorb(predicted_attribute="label_elevation")'],
        ),
    ],
)
def test_names__every_spelling_in_use(key: str, spellings: list[str]) -> None:
    for spelling in [key, *spellings]:
        mention = mentioned(f"VTAB-1k:{spelling}")
        assert mention is not None
        assert (mention.row.key, mention.retrain) == (key, False)


def test_names__no_spelling_is_two_tasks() -> None:
    for table in TABLES.values():
        spelled = [{table_row.key, table_row.folder, *table_row.aliases} for table_row in table.rows]
        found = [{spelling: table.by_spelling[_plain(spelling)].key for spelling in one} for one in spelled]
        assert [set(one.values()) for one in found] == [{table_row.key} for table_row in table.rows]


def _plain(text: str) -> str:
    return "".join(character for character in text.lower() if character.isascii() and character.isalnum())


@pytest.mark.parametrize(
    "text", ["photos", "./vtab1k:cifar100", "a/vtab1k:x", "lora:rank=8", "C:\\vtab1k", "vtab1k"]
)
def test_names__other_texts_are_no_mention(text: str) -> None:
    assert mentioned(text) is None


def test_names__mistakes_are_told_with_what_is_near() -> None:
    with pytest.raises(
        DataError, match=r"no VTAB-1k task 'cifer100'\. Did you mean 'vtab1k:cifar100'\? Tasks: cif"
    ):
        mentioned("vtab1k:cifer100")
    with pytest.raises(DataError, match=r"'trainvla' follows the task\. Only 'trainval' may"):
        mentioned("vtab1k:cifar100:trainvla")
    with pytest.raises(
        DataError, match=r"no task 'cifar100'.*Did you mean 'vtab1k:cifar100'.*vitgraft data tasks"
    ):
        source.load("cifar100")
    for text in ("vtab1k/dtd", "vtab-1k/dtd", "VTAB/DTD"):
        with pytest.raises(DataError, match=rf"no task '{text}'.*Did you mean 'vtab1k:dtd'"):
            source.load(text)
    assert near("nothing like it at all") == []


def test_asked__tasks_groups_and_benchmarks() -> None:
    assert [one.key for one in asked(("specialized", "dtd", "eurosat"))][-2:] == ["retinopathy", "dtd"]
    assert len(asked(("vtab1k", "fgvc", "natural"))) == 24
    with pytest.raises(
        DataError, match=r"'flowers102' is a task of several benchmarks\. Write vtab1k:fl.* or fgvc:"
    ):
        asked(("flowers102",))
    with pytest.raises(DataError, match=r"no benchmark task 'naturals'.*groups: natural, specialized, structured"):
        asked(("naturals",))


def test_run__a_task_names_its_folder() -> None:
    config = RunConfig.of({"data": "vtab1k:dSpr-Ori:trainval", "root": "x"})
    assert config.data == "vtab1k:dspr_ori:trainval"
    assert config.folder == Path("runs/vtab1k-dspr_ori-trainval-lora-figures")


# Folders


def test_find__of_several_folders_the_one_with_lists(tmp_path: Path) -> None:
    (tmp_path / "cifar").mkdir()
    synqt(tmp_path / "cifar100")
    found = look(row("cifar100"), VTAB, tmp_path)
    assert (found.folder, found.layout, found.state) == (tmp_path / "cifar100", "JSON", "complete")
    write(tmp_path / "cifar" / "test.txt", "a.png 0\n")
    assert look(row("cifar100"), VTAB, tmp_path).folder == tmp_path / "cifar100"
    for name in ("CIFAR-100", "cifar"):
        noah(tmp_path / name)
    assert look(row("cifar100"), VTAB, tmp_path).folder == tmp_path / "cifar"


def test_find__another_tasks_folder_is_not_taken(tmp_path: Path) -> None:
    noah(tmp_path / "dtd")
    with pytest.raises(DataError, match="has no folder cifar"):
        task("vtab1k:cifar100", tmp_path / "dtd")
    assert sizes(task("vtab1k:dtd", tmp_path / "dtd")) == COUNTS


def test_recognised__a_folder_is_a_source(tmp_path: Path) -> None:
    noah(tmp_path / "cifar")
    mention = recognised(tmp_path / "cifar", SMALL)
    assert mention is not None
    assert mention.row.key == "cifar100"
    with pytest.raises(
        DataError, match=r"(?s)copy of vtab1k:cifar100 in .*train800\.txt holds 8 images, expected 800"
    ):
        source.load(tmp_path / "cifar")
    with pytest.raises(ConfigError, match=r"is the copy of vtab1k:cifar100 itself: remove root"):
        source.load(tmp_path / "cifar", root=tmp_path)
    with pytest.raises(DataError, match=r"holds tasks of VTAB-1k, not classes: vtab1k:cifar100\. Name one"):
        source.load(tmp_path)
    (tmp_path / "cifar").rename(tmp_path / "mine")
    with pytest.raises(DataError, match=r"holds lists of VTAB-1k, but its name is no task's"):
        source.load(tmp_path / "mine")


def test_recognised__other_folders_stay_what_they_are(tmp_path: Path) -> None:
    for name in ("svhn/cat", "svhn/dog"):
        (tmp_path / name).mkdir(parents=True)
    write(tmp_path / "cars" / "train.txt", "a.png 0\n")
    assert recognised(tmp_path, SMALL) is None
    assert recognised(tmp_path / "svhn", SMALL) is None
    assert recognised(tmp_path / "cars", SMALL) is None


def test_notes__classes_that_occur_are_compared_with_the_official_copy(tmp_path: Path) -> None:
    noah(tmp_path / "sun397")
    for counted, told in ((3, False), (2, True)):
        one = shrunk(row("sun397"), occurring={"train": counted})
        notes = look(one, VTAB, tmp_path).notes
        assert any("3 classes occur in train800; 2 were counted" in note for note in notes) == told


def test_lists__names_are_the_ones_of_the_table() -> None:
    assert VTAB1K.lists == VTAB_LISTS
