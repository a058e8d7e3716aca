"""`vitgraft data check`: what it says of right and wrong copies, to people and to programs."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from tests.benchmark_copies import SMALL, cifar_export, flowers_export, noah, small, synqt, vpt
from tests.pictures import encoded, picture, write
from vitgraft.cli import app
from vitgraft.data import source
from vitgraft.data.benchmarks.check import Finding, Report, check
from vitgraft.data.benchmarks.names import Tables
from vitgraft.data.benchmarks.vtab1k import VTAB1K
from vitgraft.errors import DataError


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def looked(root: Path, *names: str, deep: bool = False, tables: Tables = SMALL) -> Report:
    return check(root, names, deep=deep, tables=tables)


def one(report: Report, key: str) -> Finding:
    return next(finding for finding in report.findings if finding.copy.row.key == key)


def states(report: Report) -> dict[str, str]:
    return {finding.copy.row.key: finding.copy.state for finding in report.findings}


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """Lists of two tasks, JSON of a third, an export of a fourth, and one FGVC task."""
    for name in ("dtd", "svhn"):
        noah(tmp_path / name, ".png")
    synqt(tmp_path / "oxford_iiit_pet")
    cifar_export(tmp_path)
    vpt(tmp_path / "CUB_200_2011", "images")
    return tmp_path


def test_check__every_layout_in_one_folder(copies: Path) -> None:
    names = ("dtd", "svhn", "pets", "cifar100", "cub200")
    report = looked(copies, *names)
    assert report.right
    assert states(report) == dict.fromkeys(names, "complete")
    layouts = [finding.copy.layout for finding in report.findings]
    assert layouts == ["lists", "lists", "JSON", "TFDS", "JSON"]
    for finding in report.findings:
        assert [finding.found(part) for part in ("train", "val", "test")] == [8, 4, 6]
        assert finding.opened == 18
        assert finding.majority == pytest.approx(100 / 3)
    assert one(report, "cub200").labels == [1, 2, 3]


def test_check__a_label_below_zero_is_told(copies: Path) -> None:
    """NABirds by its own lists, whose test has a class -1."""
    folder = copies / "nabirds"
    folder.mkdir()
    (folder / "images.txt").write_text("a x/a.jpg\nb x/b.jpg\n")
    (folder / "image_class_labels.txt").write_text("a 1\nb -1\n")
    (folder / "train_test_split.txt").write_text("a 1\nb 0\n")
    assert one(looked(copies, "nabirds"), "nabirds").copy.state == "corrupt"


def test_check__without_names_everything_of_a_benchmark_is_expected(copies: Path) -> None:
    report = looked(copies)
    assert not report.right
    assert len(report.findings) == 24
    found = {key for key, state in states(report).items() if state != "missing"}
    assert found == {"dtd", "svhn", "pets", "cifar100", "cub200"}
    (problem,) = one(report, "kitti_dist").copy.problems
    assert (problem.kind, problem.fetch) == ("missing", "all of kitti/")
    assert "has no folder kitti" in problem.what


def test_check__a_tasks_own_folder(copies: Path) -> None:
    assert states(looked(copies / "dtd")) == {"dtd": "complete"}
    (copies / "dtd").rename(copies / "unknown")
    with pytest.raises(DataError, match=r"lists of a VTAB-1k task, but its name does not say which\. Name it: "):
        looked(copies / "unknown")
    assert states(looked(copies / "unknown", "vtab1k:dtd")) == {"dtd": "complete"}


def test_check__a_name_and_a_list_that_two_benchmarks_share(tmp_path: Path) -> None:
    """OxfordFlowers is a name of VTAB-1k's task, oxford_flowers102 one of FGVC's, and test.json a list of both."""
    fgvc, vtab = tmp_path / "fgvc", tmp_path / "vtab"
    for one_row in SMALL["fgvc"].rows:
        vpt(fgvc / one_row.folder, one_row.images)
    assert states(looked(fgvc)) == {one_row.key: "complete" for one_row in SMALL["fgvc"].rows}
    assert states(looked(fgvc / "OxfordFlowers")) == {"flowers": "complete"}
    assert states(looked(fgvc, "vtab1k:flowers102")) == {"flowers102": "missing"}
    synqt(vtab / "oxford_flowers102")
    assert {finding.copy.row.benchmark for finding in looked(vtab).findings} == {"vtab1k"}
    assert states(looked(vtab / "oxford_flowers102")) == {"flowers102": "complete"}
    both = vpt(noah(tmp_path / "flowers102"))
    assert states(looked(both)) == {"flowers102": "complete", "flowers": "complete"}
    (fgvc / "OxfordFlowers" / "train.json").unlink()  # damaged, it is still FGVC's
    assert states(looked(fgvc / "OxfordFlowers")) == {"flowers": "incomplete"}


@pytest.mark.parametrize("make", [noah, synqt, lambda folder: flowers_export(folder.parent)])
def test_check__both_benchmarks_in_one_folder(make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path / "oxford_flowers102")
    vpt(tmp_path / "OxfordFlowers")
    found = states(looked(tmp_path))
    assert (len(found), found["flowers102"], found["flowers"]) == (24, "complete", "complete")


def test_check__states_tell_the_worst(copies: Path) -> None:
    (copies / "dtd" / "images/val200/000001.png").unlink()
    assert one(looked(copies, "dtd"), "dtd").copy.state == "incomplete"
    (copies / "dtd" / "test.txt").write_text((copies / "dtd" / "val200.txt").read_text())
    assert one(looked(copies, "dtd"), "dtd").copy.state == "wrong"
    (copies / "dtd" / "train800.txt").write_bytes(b"\xff\xfe")
    assert one(looked(copies, "dtd"), "dtd").copy.state == "corrupt"


def test_check__only_deep_opens_every_picture(tmp_path: Path) -> None:
    """The 3rd of 30 pictures is not among the 16 that a look opens."""
    counts = {"train": 8, "val": 4, "test": 30}
    tables = {"vtab1k": small(VTAB1K, counts=counts)}
    folder = noah(tmp_path / "dtd", ".png")
    lines = []
    for index in range(30):
        file = f"images/test/{index:06d}.png"
        (folder / file).write_bytes(encoded(Image.new("RGB", (6, 6)), "PNG"))
        lines.append(f"{file} {index % 3}\n")
    (folder / "test.txt").write_text("".join(lines))
    assert looked(tmp_path, "dtd", tables=tables).right
    (folder / "images/test/000003.png").write_bytes(b"\x89PNG no more")
    shallow, deep = looked(tmp_path, "dtd", tables=tables), looked(tmp_path, "dtd", deep=True, tables=tables)
    assert (shallow.right, shallow.findings[0].opened) == (True, 8 + 4 + 16)
    assert (deep.right, deep.findings[0].opened) == (False, 42)
    (problem,) = deep.findings[0].copy.problems
    assert problem.what.startswith("1 of test's pictures cannot be read: ")
    assert problem.fetch.endswith("000003.png")


def test_check__resized_pictures_are_told(copies: Path) -> None:
    tables = {"vtab1k": small(VTAB1K, pixels=(32, 48))}
    report = looked(copies, "svhn", tables=tables)
    assert report.right  # they can be used, but compared with their like alone
    assert "pictures are 6 x 6, the originals 48 x 32: they were resized before." in report.findings[0].copy.notes


def test_check__one_tasks_lists_copied_over_anothers(tmp_path: Path) -> None:
    for name in ("dsprites_loc", "dsprites_ori", "svhn"):
        noah(tmp_path / name, ".png")
    report = looked(tmp_path, "dspr_loc", "dspr_ori", "svhn")
    assert states(report) == {"dspr_loc": "wrong", "dspr_ori": "wrong", "svhn": "complete"}
    (problem,) = one(report, "dspr_ori").copy.problems
    assert problem.what == "its test labels are those of vtab1k:dspr_loc: one was copied over the other."


def test_check__traps_are_told_of_the_tasks_that_are_there(tmp_path: Path) -> None:
    noah(tmp_path / "smallnorb_azi")
    notes = one(looked(tmp_path, "snorb_azim", "retinopathy"), "snorb_azim").copy.notes
    assert any("200 pictures of the test's toys" in note for note in notes)
    assert any("JPEG files, encoded again" in note for note in notes)
    assert one(looked(tmp_path, "retinopathy"), "retinopathy").copy.notes == ()
    assert any("73.6 %" in note for note in VTAB1K.rows[10].notes)


def test_check__nothing_to_look_at(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no folder '.*nowhere'"):
        looked(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"holds no copy of VTAB-1k or FGVC: it has no folders\. A copy has"):
        looked(tmp_path)
    picture(tmp_path / "photos" / "cat" / "1.png")
    with pytest.raises(DataError, match=r"there is only photos\. A copy has files such as cifar/train800\.txt"):
        looked(tmp_path)
    (tmp_path / "photos" / "dtd").mkdir()
    with pytest.raises(DataError, match=r"there is only photos\. Did you mean '.*photos'"):
        looked(tmp_path)
    write(tmp_path / "photos" / "flowers102" / "test.json", "{}")
    with pytest.raises(DataError, match=r"folders called like tasks \(dtd, flowers102\), but none holds the"):
        looked(tmp_path / "photos")
    assert states(looked(tmp_path / "photos", "dtd")) == {"dtd": "missing"}
    with pytest.raises(DataError, match=r"no benchmark task 'dtt'\. Did you mean 'vtab1k:dtd'"):
        looked(tmp_path, "dtt")


# The command line, on a copy of full size


@pytest.fixture(scope="module")
def kitti(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole copy of the smallest task: 800 + 200 + 711 pictures, which are all the same."""
    root = tmp_path_factory.mktemp("vtab-1k")
    content = encoded(Image.new("RGB", (4, 2)), "PNG")
    lists = {"train800": range(800), "val200": range(800, 1000), "train800val200": range(1000), "test": range(711)}
    for name, members in lists.items():
        (root / "kitti" / "images" / name).mkdir(parents=True)
        lines = []
        for number, label in enumerate(members):
            file = f"images/{name}/{number:06d}.png"
            (root / "kitti" / file).write_bytes(content)
            lines.append(f"{file} {label % 4}\n")
        (root / "kitti" / f"{name}.txt").write_text("".join(lines))
    return root


def test_command__a_right_copy(kitti: Path) -> None:
    result = call("data", "check", kitti, "kitti", "--deep")
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.stdout.splitlines() if line.lstrip().startswith("vtab1k:kitti_dist")]
    assert " ".join(line.split()) == "vtab1k:kitti_dist complete lists 800 200 711 4 of 4 0 to 3 1,711"
    assert "1 of 1 tasks are complete and right." in result.stdout
    assert "the test holds 711 images" in result.stdout
    assert "--preprocessing vtab" in result.stdout
    assert "To fetch" not in result.stdout
    task = source.load("vtab1k:KITTI-Dist", root=kitti)
    assert {part: len(split) for part, split in task.splits.items()} == {"train": 800, "val": 200, "test": 711}
    assert source.load(kitti / "kitti").fingerprint() == task.fingerprint()


def test_command__a_copy_that_is_not_whole(kitti: Path) -> None:
    result = call("data", "check", kitti)
    assert result.exit_code == 1
    assert "1 of 19 tasks are complete and right." in result.stdout
    assert "To fetch" in result.stdout
    assert "  cifar100: all of cifar/ (TFDS: cifar100:3.0.2)" in result.stdout
    assert "NOAH's get_vtab1k.py writes it" in result.stdout
    assert "--preprocessing vtab" not in result.stdout


def test_command__a_wrong_copy(kitti: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(kitti, root)
    lines = (root / "kitti" / "test.txt").read_text().splitlines(keepends=True)
    (root / "kitti" / "test.txt").write_text("".join([lines[0].replace(" 0", " 4"), *lines[1:-1]]))
    (root / "kitti" / "images/val200/000007.png").unlink()
    result = call("data", "check", root, "vtab1k:kitti")
    assert result.exit_code == 1
    output = " ".join(result.stdout.split())
    assert "vtab1k:kitti_dist wrong lists 800 200 710 of 711 5 of 4 0 to 4" in output
    assert "test.txt holds 710 images, expected 711." in output
    assert "test.txt has labels up to 4, but the classes are 0 to 3" in output
    assert "1 picture of 200 in images/val200/ are not there: 000007.png." in output
    assert "kitti_dist: test.txt; 1 picture of images/val200/ (000007.png)" in output
    told = call("data", "check", root, "vtab1k:kitti", "--json")
    assert told.exit_code == 1
    (facts,) = json.loads(told.stdout)["tasks"]
    assert [problem["kind"] for problem in facts["problems"]] == ["wrong", "wrong", "missing"]


def test_command__json(kitti: Path) -> None:
    told: dict[str, Any] = json.loads(call("data", "check", kitti, "kitti", "--json").stdout)
    assert (told["folder"], told["right"], list(told["sources"])) == (str(kitti), True, ["vtab1k"])
    (facts,) = told["tasks"]
    assert facts["task"] == "vtab1k:kitti_dist"
    assert (facts["state"], facts["layout"], facts["group"]) == ("complete", "lists", "structured")
    assert facts["images"]["test"] == {"found": 711, "expected": 711}
    assert (facts["classes"], facts["labels"]) == ({"found": 4, "expected": 4}, [0, 3])
    assert facts["majority"] == pytest.approx(100 * 178 / 711)
    assert (facts["opened"], facts["problems"]) == (48, [])


def test_command__mistakes_are_told(tmp_path: Path) -> None:
    for arguments, message in (
        ((tmp_path / "nowhere",), "There is no folder"),
        ((tmp_path, "kiti"), "no benchmark task 'kiti'. Did you mean 'vtab1k:kitti_dist'?"),
        ((tmp_path,), "holds no copy of VTAB-1k or FGVC"),
    ):
        result = call("data", "check", *arguments)
        assert result.exit_code == 2
        assert message in " ".join(result.stderr.split())


def test_command__tasks() -> None:
    told = json.loads(call("data", "tasks", "--json").stdout)
    assert [len([one for one in told if one["name"].startswith(name)]) for name in ("vtab1k:", "fgvc:")] == [19, 5]
    assert told[0]["tfds"] == "cifar100:3.0.2"
    table = call("data", "tasks").stdout
    assert all(one["name"] in table for one in told)


def test_commands__import_no_torch() -> None:
    code = """
import sys, vitgraft.cli
sys.argv = ["vitgraft", "data", *sys.argv[1:]]
try:
    vitgraft.cli.main()
except SystemExit:
    print([name for name in ("torch", "timm", "scipy", "sklearn") if name in sys.modules])
"""
    for arguments in (["check", "--help"], ["tasks"], ["check", "/", "kitti", "--json"]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
        assert done.stdout.splitlines()[-1] == "[]", done.stderr
