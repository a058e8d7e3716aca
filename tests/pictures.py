"""Small pictures, folders and lists for the tests of data loading."""

from io import BytesIO
from pathlib import Path

from PIL import Image

from vitgraft.data.reading.files import FileImages
from vitgraft.data.task import Task

ORANGE = (204, 102, 51)  # of the web palette, so that palette images hold it


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def picture(file: Path, colour: tuple[int, int, int] = ORANGE) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (5, 4), colour).save(file)
    return file


def dataset(root: Path, counts: dict[str, int]) -> Path:
    """`counts["train/cat"]` pictures in root/train/cat, each of its own colour."""
    for number, (folder, count) in enumerate(counts.items()):
        for index in range(count):
            picture(root / folder / f"{index:02}.png", (number, index, 7))
    return root


def paths(task: Task, split: str) -> tuple[str, ...]:
    images = task.splits[split].images
    assert isinstance(images, FileImages)
    return images.paths


def sizes(task: Task) -> dict[str, int]:
    return {name: len(split) for name, split in task.splits.items()}


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file
