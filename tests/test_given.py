"""One picture, one answer: whatever way it comes to `predict`; and what is no picture is told."""

import pickle
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import vitgraft
from tests.deep_files import png16, tiff
from tests.pictures import encoded, picture
from tests.tiny import vit
from vitgraft.data.pictures.decode import UnreadableImage, read_image
from vitgraft.data.pictures.given import opened, taken
from vitgraft.data.pictures.ranges import OLD, Ranges
from vitgraft.errors import DataError
from vitgraft.models.model import Model

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (40, 30, 3), dtype=np.uint8)
TWELVE: Ranges = (("uint16", 0.0, 4095.0), ("int16", -1024.0, 3071.0), ("float", 0.0, 2.0))


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.fromarray(COLOURS), "JPEG", exif=exif)


def keyed_palette() -> bytes:
    return encoded(Image.fromarray(COLOURS).quantize(16), "PNG", transparency=3)


def several() -> bytes:
    frames = [Image.fromarray(COLOURS[..., order]) for order in ([0, 1, 2], [2, 1, 0])]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def alpha(mode: str) -> Image.Image:
    image = Image.fromarray(COLOURS).convert(mode)
    image.putalpha(Image.fromarray(COLOURS[..., 1]))
    return image


TWELVE_BITS = RNG.integers(0, 4096, (20, 16, 4)).astype(np.uint16)
FILES: dict[str, Callable[[], bytes]] = {
    "exif": turned,
    "exif png": lambda: png16(
        TWELVE_BITS[..., 0], (b"eXIf", b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0")
    ),
    "palette": keyed_palette,
    "animated": several,
    "cmyk": lambda: encoded(Image.fromarray(COLOURS).convert("CMYK"), "JPEG"),
    "grey": lambda: encoded(Image.fromarray(COLOURS).convert("L"), "PNG"),
    "one bit": lambda: encoded(Image.fromarray(COLOURS).convert("1"), "PNG"),
    "alpha": lambda: encoded(alpha("RGB"), "PNG"),
    "grey alpha": lambda: encoded(alpha("L"), "PNG"),
    "webp": lambda: encoded(alpha("RGB"), "WEBP", lossless=True),
    "tiff": lambda: encoded(Image.fromarray(COLOURS), "TIFF", compression="tiff_lzw"),
    "16 bits": lambda: png16(TWELVE_BITS[..., 0]),
    "16 bits, colour": lambda: png16(TWELVE_BITS[..., :3]),
    "16 bits, alpha": lambda: png16(TWELVE_BITS),
    "16 bits, tiff": lambda: tiff(TWELVE_BITS[..., 0], order=">"),
    "16 bits, colour tiff": lambda: tiff(TWELVE_BITS[..., :3], deflate=True),
    "signed": lambda: tiff(TWELVE_BITS[..., 0].astype(np.int16) - 1024),
    "float": lambda: tiff(TWELVE_BITS[..., 0].astype(np.float32) / 2048),
}


@pytest.mark.parametrize("ranges", [TWELVE, OLD], ids=["ranges", "old"])
@pytest.mark.parametrize("kind", FILES)
def test_opened__all_ways_to_one_file_are_one(kind: str, ranges: Ranges | None, tmp_path: Path) -> None:
    content = FILES[kind]()
    file = tmp_path / "a"
    file.write_bytes(content)
    expected = np.asarray(read_image(file, ranges=ranges))
    assert len(np.unique(expected)) > 1
    loaded = Image.open(file)
    loaded.load()
    with file.open("rb") as stream, Image.open(file) as lazy, Image.open(BytesIO(content)) as held:
        ways: list[Any] = [str(file), content, bytearray(content), stream, BytesIO(content), lazy, held, loaded]
        ways += [read_image(file, ranges=ranges), expected, torch.tensor(expected).movedim(-1, 0)]
        for way, found in zip(ways, opened(ways, ranges), strict=True):
            assert found.mode == "RGB"
            assert np.array_equal(np.asarray(found), expected), way
        lazy.load()  # it is still what it was
        assert lazy.size == loaded.size
        assert lazy.tobytes() == loaded.tobytes()


def test_opened__what_was_done_to_an_image_counts(tmp_path: Path) -> None:
    file = picture(tmp_path / "a.png", (9, 9, 9))
    with Image.open(file) as image:
        image.putpixel((0, 0), (255, 0, 0))
        assert taken(image).picture().getpixel((0, 0)) == (255, 0, 0)
    content = several()
    with Image.open(BytesIO(content)) as image:
        image.seek(1)
        second = np.asarray(image.convert("RGB"))
        assert np.array_equal(np.asarray(taken(image).picture()), second)
    large = encoded(Image.fromarray(np.kron(COLOURS[..., 0], np.ones((8, 8), np.uint8))), "JPEG")
    with Image.open(BytesIO(large)) as image:
        image.draft("L", (60, 80))  # a JPEG can be decoded at a fraction of its size
        assert taken(image).picture().size == image.size == (60, 80)
    changed = Image.open(BytesIO(png16(TWELVE_BITS[..., :3])))
    changed.putpixel((0, 0), (255, 0, 0))
    assert taken(changed).picture().getpixel((0, 0)) == (255, 0, 0)


def test_opened__images_made_in_memory() -> None:
    deep = Image.fromarray(np.array([[0, 4095]], np.uint16))
    assert np.asarray(taken(deep).picture(TWELVE))[0, :, 0].tolist() == [0, 255]
    floats = Image.fromarray(np.array([[0, 1, 2]], np.float32))
    assert np.asarray(taken(floats).picture(TWELVE))[0, :, 0].tolist() == [0, 128, 255]
    clear = Image.new("RGBA", (2, 2), (0, 0, 0, 0))
    assert taken(clear).picture().getpixel((0, 0)) == (255, 255, 255)
    exif = Image.Exif()
    exif[0x0112] = 6
    tall = Image.open(BytesIO(turned()))
    assert taken(tall.copy()).picture().size == taken(tall).picture().size == (40, 30)


def test_opened__arrays() -> None:
    grey = COLOURS[..., 0]
    for array, expected in (
        (COLOURS, COLOURS),
        (COLOURS[::-1, ::2], COLOURS[::-1, ::2]),
        (grey, np.repeat(grey[..., None], 3, -1)),
        (grey[..., None], np.repeat(grey[..., None], 3, -1)),
        (grey > 99, np.repeat((grey > 99)[..., None] * 255, 3, -1)),
        (COLOURS.astype(np.int64), COLOURS),
        (COLOURS / 255, COLOURS),
        ((COLOURS / 255).astype(np.float32), COLOURS),
    ):
        (found,) = opened(array)
        assert np.array_equal(np.asarray(found), expected)
    assert [image.size for image in opened(np.stack([COLOURS, COLOURS]))] == [(30, 40)] * 2
    assert [image.size for image in opened([COLOURS, grey])] == [(30, 40)] * 2
    clear = np.dstack([COLOURS, np.zeros_like(grey)])
    assert np.asarray(next(opened(clear))).min() == 255
    deep = TWELVE_BITS[..., :3]
    assert np.array_equal(
        np.asarray(next(opened(deep, TWELVE))), np.asarray(read_image(png16(deep), ranges=TWELVE))
    )
    assert np.asarray(next(opened(np.array([[0.0, 2.0]]), TWELVE)))[0, :, 0].tolist() == [0, 255]


def test_opened__tensors() -> None:
    first = torch.tensor(COLOURS).movedim(-1, 0)
    for tensor in (first, first[None], first / 255, (first / 255).double(), (first / 255).requires_grad_()):
        (found,) = opened(tensor)
        assert np.array_equal(np.asarray(found), COLOURS)
    (grey,) = opened(first[:1])
    assert np.array_equal(np.asarray(grey)[..., 2], COLOURS[..., 0])
    assert len(list(opened(torch.stack([first, first, first])))) == 3


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (None, "None is no picture. Give a path"),
        (5, "5 is no picture"),
        ({"a": 1}, "'a'"),
        ([None], "None is no picture"),
        (np.zeros((3, 40, 30), np.uint8), r"\(3, 40, 30\) of uint8 is no picture.*numpy.moveaxis"),
        (np.zeros((2, 3, 40, 30), np.uint8), "numpy.moveaxis"),
        (np.zeros((40, 30, 5), np.uint8), r"Arrays are \(H, W\)"),
        (np.zeros((0, 30, 3), np.uint8), r"Arrays are \(H, W\)"),
        (np.zeros(7), r"Arrays are \(H, W\)"),
        (np.array([["a"]]), "is no picture"),
        (np.zeros((4, 4), complex), "complex128 is no picture"),
        (np.full((4, 4, 3), 1.5), "float values from 1.5 to 1.5"),
        (np.full((4, 4, 3), -0.5), "float values from -0.5 to -0.5"),
        (np.full((4, 4), np.nan), "16 of its 16 values are not finite"),
        (np.full((4, 4), 4000, np.uint16), "uint16 values from 4000 to 4000"),
        (torch.zeros(40, 30, 3), r"Channels come first in tensors: tensor.movedim\(-1, -3\)"),
        (torch.zeros(40, 30), r"Tensors are \(3, H, W\)"),
        (torch.full((3, 8, 8), -2.1), r"values from -2.1 to -2.1.*model\(tensor\)"),
        (torch.full((2, 3, 8, 8), 255.0), r"values from 255 to 255"),
        (torch.full((3, 8, 8), float("nan")), "values from nan"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), "of a type without a range"),
        (b"hello", "it is not an image of a known format"),
        ("nowhere.jpg", "there is no such file"),
    ],
)
def test_predict__what_is_no_picture_is_told(wrong: Any, told: str) -> None:
    model = vitgraft.graft(vit(), "linear", 3)
    for ask in (model.predict, vitgraft.Bundle({"a": model}).predict):
        with pytest.raises(vitgraft.VitgraftError, match=told):
            ask(wrong)
    if not isinstance(wrong, dict | list):
        with pytest.raises(DataError, match=told):
            model.transform(wrong)


def test_predict__images_that_cannot_be_read_any_more(tmp_path: Path) -> None:
    file = picture(tmp_path / "a.png")
    with file.open("rb") as stream:
        closed = Image.open(stream)
    model = vitgraft.graft(vit(), "linear", 3)
    with pytest.raises(UnreadableImage, match="Open it again, or give its path"):
        model.predict(closed)
    cut = Image.open(BytesIO(turned()[:700]))
    with pytest.raises(UnreadableImage, match="cut short"):
        model.predict(cut)


@pytest.fixture(scope="module")
def model() -> Model:
    return vitgraft.graft(vit(), "linear", 3)


@pytest.mark.parametrize("kind", FILES)
def test_predict__one_answer(kind: str, model: Model, tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(FILES[kind]())
    asked = {"pixel_range": "-1024:4095"}
    expected = model.predict(file, **asked)  # type: ignore[arg-type]
    bundle = vitgraft.Bundle({"a": model})
    for way in (file, str(file), file.read_bytes(), Image.open(file)):
        assert torch.equal(model.predict(way, **asked), expected)  # type: ignore[arg-type]
        assert torch.equal(bundle.predict(way, **asked)["a"], expected)  # type: ignore[arg-type]
    with torch.no_grad():
        logits = model(model.with_pixel_range("-1024:4095").transform(file)[None])
    assert torch.equal(logits.softmax(1), expected)


def test_predict__items_of_a_task_are_its_files(model: Model, tmp_path: Path) -> None:
    for index, kind in enumerate(("exif", "palette", "alpha", "cmyk") * 4):
        home = tmp_path / "ab"[index % 2]
        home.mkdir(exist_ok=True)
        (home / f"{index}.png").write_bytes(FILES[kind]())
    task = vitgraft.load_task(tmp_path)
    images = task.splits["train"].images
    for index in range(4):
        assert torch.equal(model.predict(images[index]), model.predict(images.name(index)))
        assert images[index].info == {}


def test_split__tensors_can_be_collated(model: Model, tmp_path: Path) -> None:
    for index in range(20):
        size = (12 + index, 30)
        home = tmp_path / "ab"[index % 2]
        home.mkdir(exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (*size, 3), dtype=np.uint8)).save(home / f"{index}.png")
    train = vitgraft.load_task(tmp_path).splits["train"]
    data = train.tensors(model.transform)
    assert len(data) == len(train)
    pictures, labels = next(iter(DataLoader(data, batch_size=5)))
    assert pictures.shape == (5, 3, *model.preprocessing.size)
    assert labels.tolist() == train.labels[:5].tolist()
    with torch.no_grad():
        expected = model.predict([train.images[index] for index in range(5)])
        assert torch.allclose(model(pictures).softmax(1), expected, atol=1e-6)
    assert torch.equal(pickle.loads(pickle.dumps(data))[3][0], data[3][0])


def test_split__tensors_are_read_with_the_models_range(model: Model, tmp_path: Path) -> None:
    for index in range(12):
        home = tmp_path / "ab"[index % 2]
        home.mkdir(exist_ok=True)
        (home / f"{index}.png").write_bytes(png16(TWELVE_BITS[..., :3] * 4))
    train = vitgraft.load_task(tmp_path).splits["train"]
    other = model.with_pixel_range("0:32760")
    file = train.images.name(0)
    assert torch.equal(train.tensors(other.transform)[0][0], other.transform(file))
    assert torch.equal(train.tensors(model.transform)[0][0], model.with_pixel_range("0:16383").transform(file))


@pytest.mark.parametrize("tensor", [torch.zeros(3, 8, 8).to_sparse(), torch.zeros(3, 8, 8, device="meta")])
def test_predict__tensors_without_dense_values(tensor: torch.Tensor) -> None:
    with pytest.raises(DataError, match="is sparse or has no values"):
        taken(tensor)
