"""Pictures of more than 8 bits: the right grey for every type and container, by a range that is the data set's."""

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import vitgraft
from tests.deep_files import png16, tiff
from tests.pictures import encoded
from tests.runs import arguments, call, done, measured, weights
from tests.tiny import vit
from vitgraft.data.pictures.decode import UnreadableImage, decode, read_image
from vitgraft.data.pictures.deep.samples import of_array
from vitgraft.data.pictures.depth import Extent, found
from vitgraft.data.pictures.ranges import OLD, TYPES, Ranges, asked
from vitgraft.data.preprocessing import Preprocessing
from vitgraft.data.reading.files import FileImages
from vitgraft.data.task import joined, ranges_of
from vitgraft.errors import ConfigError, DataError, Told

TWELVE: Ranges = (("uint16", 0.0, 4095.0),)
RNG = np.random.default_rng(0)


def seen(content: bytes, ranges: Ranges | None) -> NDArray[np.uint8]:
    return np.asarray(read_image(content, ranges=ranges))


def greys(values: NDArray[Any], low: float, high: float) -> NDArray[Any]:
    """The right answer, (H, W, 3)."""
    values = values if values.ndim == 3 else values[..., None]
    grey = np.floor(np.clip((values.astype(float) - low) / (high - low), 0, 1) * 255 + 0.5)
    return np.broadcast_to(grey, (*grey.shape[:2], 3))


def twelve_bits(*shape: int) -> NDArray[np.uint16]:
    return RNG.integers(0, 4096, shape).astype(np.uint16)


@pytest.mark.parametrize("shape", [(7, 5), (7, 5, 2), (7, 5, 3), (7, 5, 4)], ids=["grey", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize(
    "write",
    [png16, tiff, lambda v, **k: tiff(v, order=">", **k), lambda v, **k: tiff(v, deflate=True, **k),
     lambda v, **k: tiff(v, planes=True, **k)],
    ids=["png", "tiff", "big endian", "deflate", "planes"],
)  # fmt: skip
def test_sixteen_bits__hold_twelve(write: Any, shape: tuple[int, ...]) -> None:
    """Of 0..4095 in colour, Pillow leaves sixteen greys."""
    values = twelve_bits(*shape)
    transparent = shape[-1] in (2, 4) and len(shape) == 3
    if transparent:
        values[..., -1] = 65535
        values[0, :, -1] = 0
    content = write(values) if write is png16 or not transparent else write(values, extra=2)
    colours = values[..., :-1] if transparent else values
    expected = greys(colours, 0, 4095).copy()
    if transparent:
        expected[0] = 255
    assert np.array_equal(seen(content, TWELVE), expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits__of_the_whole_type(kind: str) -> None:
    ramp = np.arange(256, dtype=np.uint16)[None].repeat(3, axis=0) * 257
    content = encoded(Image.fromarray(ramp), kind)
    for ranges in (TYPES, OLD, ()):  # a range that is not known is plain from the values
        assert np.array_equal(seen(content, ranges)[1, :, 1], np.arange(256))
    between = np.array([[128, 129, 385, 386]], np.uint16)  # 0.498, 0.502, 1.498, 1.502 of 257
    for ranges in (TYPES, OLD):
        assert seen(encoded(Image.fromarray(between), kind), ranges)[0, :, 0].tolist() == [0, 1, 1, 2]


def test_sixteen_bits__transparency_key_and_partial_alpha() -> None:
    values = np.array([[[0, 0, 4095], [4095, 4095, 4095], [1000, 2000, 3000]]], np.uint16)
    keyed = png16(values, (b"tRNS", np.array([0, 0, 4095], ">u2").tobytes()))
    assert seen(keyed, TWELVE)[0].tolist() == [[255] * 3, [255] * 3, [62, 125, 187]]
    grey = png16(np.array([[0, 1000]], np.uint16), (b"tRNS", np.array([1000], ">u2").tobytes()))
    assert seen(grey, TWELVE)[0, :, 0].tolist() == [0, 255]
    half = np.array([[[0, 0, 0, 32768]]], np.uint16)  # half of black over white
    assert seen(png16(half), TYPES)[0, 0].tolist() == [127, 127, 127]
    opaque = np.array([[[0, 1000, 4095, 4095]]], np.uint16)  # alpha of the data's range
    assert seen(png16(opaque), TWELVE)[0, 0].tolist() == [0, 62, 255]
    premultiplied = np.array([[[1000, 0, 2000, 32768]]], np.uint16)
    assert seen(tiff(premultiplied, extra=1), TYPES)[0, 0].tolist() == [131, 127, 135]


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("shape", [(7, 5), (7, 5, 3)])
def test_sixteen_bits__are_turned_upright(orientation: int, shape: tuple[int, ...]) -> None:
    values = twelve_bits(*shape)
    turned = np.rot90(greys(values, 0, 4095), {1: 0, 3: 2, 6: -1, 8: 1}[orientation])
    assert np.array_equal(seen(tiff(values, orientation=orientation), TWELVE), turned)
    assert np.array_equal(seen(tiff(values, orientation=orientation, planes=len(shape) == 3), TWELVE), turned)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = png16(values, (b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    assert np.array_equal(seen(content, TWELVE), turned)


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32, np.uint32, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("how", [{}, {"order": ">"}, {"deflate": True}], ids=["plain", "big", "deflate"])
def test_tiff__every_type(kind: Any, channels: int, how: dict[str, Any]) -> None:
    low, high = (0, 120) if kind is np.uint32 else (-100, 120)
    values = RNG.integers(low, high + 1, (6, 5, channels)).astype(kind)
    if channels == 4:
        values[..., 3] = 1 if np.dtype(kind).kind == "f" else np.iinfo(kind).max
    content = tiff(values, extra=2 if channels == 4 else None, **how)
    assert np.array_equal(seen(content, (("any", low, high),)), greys(values[..., : min(channels, 3)], low, high))
    name = "float" if np.dtype(kind).kind == "f" else np.dtype(kind).name
    assert decode(content).found.kind == name  # type: ignore[union-attr]


def test_tiff__small_is_white() -> None:
    values = twelve_bits(4, 5)
    assert np.array_equal(seen(tiff(values, photometric=0), TWELVE), 255 - greys(values, 0, 4095))
    deep = values.astype(np.float64)
    assert np.array_equal(seen(tiff(deep, photometric=0), (("any", 0, 4095),)), 255 - greys(values, 0, 4095))


def test_ct__values_of_hounsfield() -> None:
    values = np.array([[-1024, 0, 1024, 3071]], np.int16)
    assert found([Extent.of(of_array(values))]) == (("int16", -1024.0, 3071.0),)
    assert seen(tiff(values), (("int16", -1024.0, 3071.0),))[0, :, 0].tolist() == [0, 64, 128, 255]


def test_netpbm__what_the_header_says_and_what_it_does_not() -> None:
    values = twelve_bits(3, 4)
    assert np.array_equal(seen(b"P5 4 3 4095\n" + values.astype(">u2").tobytes(), ()), greys(values, 0, 4095))
    assert np.array_equal(seen(b"P5 4 3 65535\n" + values.astype(">u2").tobytes(), TWELVE), greys(values, 0, 4095))
    colours = twelve_bits(3, 4, 3)
    content = b"P6\n# made by hand\n4 3\n65535\n" + colours.astype(">u2").tobytes()
    assert np.array_equal(seen(content, TWELVE), greys(colours, 0, 4095))
    plain = b"P3 4 3 65535\n" + b" ".join(b"%d" % value for value in colours.flatten())
    assert np.array_equal(seen(plain, TWELVE), greys(colours, 0, 4095))
    floats = RNG.random((3, 4, 3))
    content = b"PF\n4 3\n-1.0\n" + floats[::-1].astype("<f4").tobytes()
    assert np.array_equal(seen(content, ()), greys(floats.astype(np.float32), 0, 1))
    big = b"Pf 4 3 1.0\n" + floats[::-1, :, 0].astype(">f4").tobytes()
    assert np.array_equal(seen(big, ()), greys(floats[..., :1].astype(np.float32), 0, 1))
    for cut in (content[:-5], b"P6 4 3 65535\n12", b"P2 4 3 1000\n1 2"):
        with pytest.raises(UnreadableImage, match="cut short or damaged"):
            read_image(cut)


def test_jpeg_2000__of_sixteen_bits() -> None:
    values = twelve_bits(40, 40)
    content = encoded(Image.fromarray(values), "JPEG2000", irreversible=False)
    assert np.array_equal(seen(content, TWELVE), greys(values, 0, 4095))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_floats__that_are_not_finite_are_told(value: float, tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(np.array([[0.5, value]], np.float32)))
    with pytest.raises(UnreadableImage, match=r"a\.tif': 1 of its 2 values are not finite .*nan_to_num"):
        read_image(tmp_path / "a.tif")


def of(*pictures: Any, kind: Any = np.uint16) -> tuple[float, float]:
    """The range of pictures, given as (rows of) values."""
    ((_, low, high),) = found(Extent.of(of_array(np.atleast_2d(np.asarray(one, kind)))) for one in pictures)
    return low, high


def test_found__integers_have_the_range_of_their_bits() -> None:
    for most, top in ((1, 1), (9, 15), (200, 255), (300, 1023), (3000, 4095), (16000, 16383), (50000, 65535)):
        assert of(np.arange(most + 1), [0, 0]) == (0, top)
    assert of([0, 4096], [5, 5]) == (0, 16383)
    assert of(np.linspace(0, 1e6, 500), kind=np.int32) == (0, 1e6)
    assert of([[-7, -7]], kind=np.int16) == (-7, -6)


def test_found__floats_have_the_range_of_their_set() -> None:
    for most, top in ((1.0, 1.0), (0.3, 1.0), (255.0, 255.0), (4000.0, 4095.0), (65535.0, 65535.0)):
        assert of(np.linspace(0, most, 500), kind=np.float32) == (0, top)
    assert of(np.linspace(0, 0.0625, 500), kind=np.float32) == (0, 0.0625)
    assert of(np.linspace(-1, 1, 500), kind=np.float64) == (-1, 1)
    assert of([[0.0, 0.0]], kind=np.float32) == (0, 1)
    assert of(np.linspace(-0.001, 1.002, 500), kind=np.float32) == (0, 1)  # arithmetic adds a little


def test_found__a_hot_pixel_darkens_nothing() -> None:
    plain = [RNG.integers(0, 256, (32, 32)) for _ in range(20)]
    hot = [*plain[:-1], plain[-1].copy()]
    hot[-1][3, 3] = 65535
    assert of(*hot) == of(*plain) == (0, 255)
    floats = [one / 255 for one in plain]
    floats[0][5, 5] = 1.0001
    assert of(*floats, kind=np.float32) == (0, 1)
    signed = [one - 1024.0 for one in plain]
    signed[1][0, 0], signed[2][0, 0] = 30000, -1024
    assert of(*signed, kind=np.int16) == (-1024, -769)
    each = [np.where(np.arange(1024).reshape(32, 32) == 7, 65535, one) for one in plain]
    assert of(*each) == (0, 255)  # a hot pixel in each small picture
    dead = [np.where(np.arange(1024).reshape(32, 32) == 7, -32768, one - 100) for one in plain]
    assert of(*dead, kind=np.int16) == (-100, 155)
    stars = [np.where(np.arange(1024).reshape(32, 32) % 256 == 7, 65535, one) for one in plain]
    assert of(*stars) == (0, 65535)  # four in a thousand are part of what is shown
    bright = [*plain[:-1], plain[-1] * 16]  # a picture that is bright belongs to the set
    assert of(*bright) == (0, 4095)


def test_found__types_are_apart() -> None:
    pair = [of_array(np.array([[0, 4000]], np.uint16)), of_array(np.array([[0.0, 0.9]], np.float32))]
    assert found(map(Extent.of, pair)) == (("float", 0, 1), ("uint16", 0, 4095))


def test_unknown__what_no_model_knows_is_plain_or_refused() -> None:
    """Of a single picture, with a model that was trained on 8 bits."""
    for values, expected in (
        (np.array([[0, 100, 250]], np.uint16), [0, 100, 250]),
        (np.array([[0, 100, 255]], np.int32), [0, 100, 255]),
        (np.array([[0, 257, 65535]], np.uint16), [0, 1, 255]),
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
    ):
        assert seen(tiff(values), ())[0, :, 0].tolist() == expected
    for values, told in (
        (np.array([[0, 4000]], np.uint16), r"uint16 values from 0 to 4000"),
        (np.array([[-5, 4000]], np.int16), r"int16 values from -5 to 4000"),
        (np.array([[0, 1.5]], np.float32), r"float values from 0 to 1\.5"),
    ):
        with pytest.raises(UnreadableImage, match=f"{told}, .*--pixel-range LOW:HIGH.*pixel_range="):
            seen(tiff(values), ())


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.0, 255.0], [0, 100, 255]),
        ([0.0, 2570.0, 65535.0], [0, 10, 255]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([0.0, 0.0, 0.0], [0, 0, 0]),
        ([-7.0, -7.0, -7.0], [0, 0, 0]),
    ],
)
def test_old__cards_without_a_range_read_as_they_did(values: list[float], expected: list[int]) -> None:
    assert (
        seen(encoded(Image.fromarray(np.array([values], np.float32)), "TIFF"), OLD)[0, :, 0].tolist() == expected
    )


@pytest.mark.parametrize("text", ["", "auto:", "1", "4095:0", "0:0", "a:b", "0:inf", "nan:1", "0:1:2"])
def test_asked__mistakes_are_told(text: str) -> None:
    with pytest.raises(
        ConfigError, match="expected auto, dtype, or the values that are black and white, as 0:4095"
    ):
        asked(text)
    with pytest.raises(ConfigError, match="expected auto, dtype"):
        vitgraft.load_task("digits", pixel_range=text)


def test_asked__values() -> None:
    assert asked("auto") is None
    assert asked("-1024:3071.5") == (("any", -1024.0, 3071.5),)
    assert ("uint16", 0.0, 65535.0) in (asked("dtype") or ())


def folder(root: Path, top: int = 4095, kind: Any = np.uint16, shallow: int = 0) -> Path:
    """Two classes: dark and bright pictures of values 0..top; test has brighter ones. `shallow` are of 8 bits."""
    for split, count in (("train", 6), ("val", 2), ("test", 2)):
        for label, share in (("dark", 0.4), ("bright", 1.0)):
            home = root / split / label
            home.mkdir(parents=True)
            for index in range(count):
                values = np.linspace(0, top * share * (2 if split == "test" else 1), 256).reshape(16, 16)
                (home / f"{index}.tif").write_bytes(tiff(values.astype(kind)))
            for index in range(shallow):
                Image.fromarray(np.full((16, 16), 9 * index, np.uint8)).save(home / f"s{index}.png")
    return root


def test_task__range_is_trains_and_is_told(tmp_path: Path) -> None:
    task = vitgraft.load_task(folder(tmp_path, shallow=1))
    assert ranges_of(task.splits["val"].images) == (("uint16", 0, 4095),)
    assert any(
        note.startswith("Pixel values 0 to 4095 in 20 16-bit pictures are mapped to 0..255, as found over train;")
        and note.endswith("6 of 8 bits are taken as they are.")
        for note in task.notes
    )
    assert "2 of 4 such test images have values outside, which are clipped." in task.notes
    bright = np.asarray(task.splits["train"].images[3])
    assert {0, 255} <= set(np.asarray(task.splits["train"].images[0]).flatten())
    assert bright.max() > 100


def test_task__range_can_be_asked_for(tmp_path: Path) -> None:
    task = vitgraft.load_task(folder(tmp_path, 4095), pixel_range="0:8190")
    assert np.asarray(task.splits["train"].images[0]).max() == 128
    assert any("0 to 8190 in 20 16-bit pictures" in note and "as asked for" in note for note in task.notes)
    typed = vitgraft.load_task(tmp_path, pixel_range="dtype")
    assert np.asarray(typed.splits["train"].images[0]).max() == 16
    assert typed.fingerprint() == task.fingerprint(), "the data are the same"


def test_task__dim_images_are_told(tmp_path: Path) -> None:
    folder(tmp_path, 65535)
    for index in range(3):
        (tmp_path / "train" / "dark" / f"dim{index}.png").write_bytes(
            png16(np.linspace(0, 4000, 256).reshape(16, 16))
        )
    told = [note for note in vitgraft.load_task(tmp_path).notes if "darkest" in note]
    assert [note[:64] for note in told] == ["3 of 15 such train images stay in the darkest 16th of that and t"]


def test_task__eight_bits_are_left_as_they_are(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        for index in range(8):
            Image.fromarray(np.full((8, 8, 3), index, np.uint8)).save(tmp_path / label / f"{index}.png")
    task = vitgraft.load_task(tmp_path)
    assert not any("ixel" in note for note in task.notes)
    assert ranges_of(task.splits["train"].images) == ()
    idle = vitgraft.load_task(tmp_path, pixel_range="0:9")
    assert "pixel_range 0:9 changes nothing: all images have 8 bits a channel." in idle.notes
    assert np.array_equal(np.asarray(idle.splits["train"].images[3]), np.asarray(task.splits["train"].images[3]))


def test_task__unreadable_and_large_images(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "train/dark/x.tif").write_bytes(tiff(np.full((4, 4), np.nan, np.float32)))
    with pytest.raises(DataError, match=r"x\.tif': 16 of its 16 values are not finite"):
        vitgraft.load_task(tmp_path)
    task = vitgraft.load_task(tmp_path, skip_unreadable=True)
    assert [name for name, _ in task.skipped] == ["train/dark/x.tif"]
    with pytest.raises(DataError, match="no more than 255 are read"):
        vitgraft.load_task(tmp_path, max_pixels=255)


def test_joined__keep_their_ranges(tmp_path: Path) -> None:
    task = vitgraft.load_task(folder(tmp_path))
    both = joined([task.splits["train"], task.splits["val"]]).images
    assert ranges_of(both) == (("uint16", 0, 4095),)
    wider = both.with_ranges((("uint16", 0.0, 8190.0),))  # type: ignore[attr-defined]
    assert np.asarray(wider[len(both) - 1]).max() == 128 or np.asarray(wider[0]).max() == 128


def fitted(task: Any, **more: Any) -> Any:
    model = vitgraft.graft(vit(), "linear", task.classes)
    vitgraft.fit(model, task.splits["train"], task.splits["val"], epochs=1, device="cpu", cache="off", **more)
    return model


def test_fit__a_model_keeps_the_range_and_uses_it(tmp_path: Path) -> None:
    task = vitgraft.load_task(folder(tmp_path / "data"))
    model = fitted(task)
    assert model.preprocessing.pixel_range == (("uint16", 0, 4095),)
    model.save(tmp_path / "run")
    card = json.loads((tmp_path / "run" / "graft.json").read_text())
    assert card["preprocessing"]["pixel_range"] == {"uint16": [0.0, 4095.0]}
    loaded = vitgraft.load(tmp_path / "run", backbone=vit())
    assert loaded.preprocessing == model.preprocessing
    file = tmp_path / "data/train/dark/0.tif"
    eight = Image.fromarray(greys(np.asarray(Image.open(file)), 0, 4095).astype(np.uint8))
    assert torch.equal(loaded.predict(file), loaded.predict(eight))
    # A held-out folder has a range of its own, and is read with the model's.
    other = vitgraft.load_task(folder(tmp_path / "other", top=16000)).splits["train"]
    assert ranges_of(other.images) == (("uint16", 0, 16383),)
    right = joined([other]).images.with_ranges(model.preprocessing.pixel_range)  # type: ignore[attr-defined]
    probabilities = model.predict([right[index] for index in range(len(other))])
    hits = (probabilities.argmax(1).numpy() == other.labels).mean()
    loss = -probabilities.log()[range(len(other)), other.labels].mean()
    metrics = model.evaluate(other)
    assert metrics.top1 == pytest.approx(100 * hits)
    assert metrics.loss == pytest.approx(float(loss), abs=1e-5)


def test_fit__refuses_another_range(tmp_path: Path) -> None:
    model = fitted(vitgraft.load_task(folder(tmp_path / "a")))
    other = vitgraft.load_task(folder(tmp_path / "b", top=16000))
    with pytest.raises(ConfigError, match=r"0 to 4095 of uint16 .* loaded with 0 to 16383.*--pixel-range 0:4095"):
        vitgraft.fit(model, other.splits["train"], epochs=1, device="cpu")
    again = vitgraft.load_task(tmp_path / "b", pixel_range="0:4095")
    vitgraft.fit(model, again.splits["train"], epochs=1, device="cpu", cache="off")
    assert model.preprocessing.pixel_range == (("uint16", 0, 4095),)


def test_predict__pictures_of_another_range_are_told(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    model = vitgraft.graft(vit(), "linear", 3)
    model.preprocessing = replace(model.preprocessing, pixel_range=TWELVE)
    ramp = np.linspace(0, 1, 1024).reshape(32, 32)
    colour = np.stack([ramp * 4095] * 3, -1).astype(np.uint16)
    (tmp_path / "c.png").write_bytes(png16(colour))
    halved = np.asarray(Image.open(tmp_path / "c.png"))  # the upper bytes, as Pillow has it
    plain = (ramp * 255).astype(np.uint8)
    for picture, says in (
        ((ramp * 65535).astype(np.uint16), "many values outside 0:4095, which are clipped"),
        ((ramp * 250).astype(np.uint16), "hardly a value above the darkest 16th of 0:4095"),
        (halved, "give the file itself, its path or its bytes"),
        ((ramp * 4095).astype(np.uint16), None),
        ((ramp * 4095).astype(np.int32), None),
        (plain, None),
    ):
        for ask in (model.predict, vitgraft.Bundle({"one": model}).predict):
            recwarn.clear()
            ask([picture, picture])
            told = [str(warning.message) for warning in recwarn if warning.category is Told]
            assert len(told) == (says is not None)
            assert all(says in line and "2 pictures" in line for line in told)
    with pytest.raises(vitgraft.VitgraftError, match="int16 values from -1000 to 1000"):
        model.predict((ramp * 2000 - 1000).astype(np.int16))


def test_predict__range_can_be_said(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png16(twelve_bits(16, 16, 3)))
    model = vitgraft.graft(vit(), "linear", 3)
    with pytest.raises(UnreadableImage, match="--pixel-range"):
        model.predict(tmp_path / "a.png")
    eight = Image.fromarray(seen((tmp_path / "a.png").read_bytes(), TWELVE))
    expected = model.predict(eight)
    assert torch.equal(model.predict(tmp_path / "a.png", pixel_range="0:4095"), expected)
    bundle = vitgraft.Bundle({"a": model, "b": model.with_pixel_range("0:4095")})
    with pytest.raises(UnreadableImage, match="--pixel-range"):
        bundle.predict(tmp_path / "a.png")
    told = bundle.predict(tmp_path / "a.png", pixel_range="0:4095")
    assert torch.equal(told["a"], expected)
    assert torch.equal(told["b"], expected)


def test_card__of_before_there_were_ranges() -> None:
    values = Preprocessing().to_json()
    assert values.pop("pixel_range") == {}
    old = Preprocessing.from_json(values)
    assert old.pixel_range is OLD
    assert old.to_json() == values
    assert Preprocessing().key() == values, "features of 8-bit images are found under the names that they have"
    assert repr(old) == repr(Preprocessing()), "so are snapshots"
    deep = Preprocessing(pixel_range=TWELVE)
    assert Preprocessing.from_json(deep.to_json()) == deep
    assert deep.key() != Preprocessing().key()
    for wrong in ([], {"uint16": [0]}, {"uint16": [5, 1]}, {"uint16": ["0", 1]}, 3):
        with pytest.raises(ConfigError):
            Preprocessing.from_json({**values, "pixel_range": wrong})


def test_images__of_files_carry_what_they_are_read_with(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png16(twelve_bits(8, 8)))
    images = FileImages(tmp_path, ("a.png",), TWELVE)
    assert images.fingerprint() == FileImages(tmp_path, ("a.png",)).fingerprint()
    assert np.array_equal(np.asarray(images[0]), seen((tmp_path / "a.png").read_bytes(), TWELVE))
    with pytest.raises(DataError, match="no more than 63 are read"):
        FileImages(tmp_path, ("a.png",), TWELVE, max_pixels=63)[0]
    with Image.open(BytesIO((tmp_path / "a.png").read_bytes())) as image:
        assert image.mode == "I;16"


def test_commands__read_with_the_range_of_training(tmp_path: Path) -> None:
    """fit finds the range over train, and eval and predict use it, whatever range their images have."""
    data, run = folder(tmp_path / "data"), tmp_path / "run"
    tiny = arguments(weights(tmp_path / "w.safetensors"), method="linear", epochs=1, device="cpu", cache="off")
    fit = done("fit", data, *tiny, "--out", run)
    assert "Pixel values 0 to 4095 in 20 16-bit pictures are mapped to 0..255, as found over train" in fit.output
    model = vitgraft.load(run)
    assert model.preprocessing.pixel_range == (("uint16", 0, 4095),)
    other = folder(tmp_path / "other", top=16000)
    for options, asked_for in (((), "0:4095"), (("--pixel-range", "0:32000"), "0:32000")):
        facts = measured(run, other, "--split", "test", "--device", "cpu", *options)
        split = vitgraft.load_task(other, pixel_range=asked_for).splits["test"]
        probabilities = model.predict([split.images[index] for index in range(len(split))])
        loss = -probabilities.log()[range(len(split)), split.labels].mean()
        assert facts["loss"] == pytest.approx(float(loss), abs=1e-5)
        assert any(f"Pixel values 0 to {asked_for[2:]} in 4 16-bit pictures" in note for note in facts["notes"])
        file = other / "test/dark/0.tif"
        told = done("predict", run, file, "--format", "json", "--top", 2, "--device", "cpu", *options)
        found = {one["label"]: one["probability"] for one in json.loads(told.stdout)[0]["classes"]}
        expected = model.predict(file, pixel_range=asked_for)[0]
        assert [found[name] for name in model.class_names] == pytest.approx(expected.tolist(), abs=1e-6)
    large = call("predict", run, file, "--max-pixels", 255)
    assert large.exit_code == 2
    assert "no more than 255 are read (--max-pixels)" in large.output
    wrong = call("fit", data, "--pixel-range", "4095:0", "--out", tmp_path / "b")
    assert (wrong.exit_code, (tmp_path / "b").exists()) == (2, False)
    assert "expected auto, dtype" in wrong.output


def test_resume__goes_on_with_its_range(tmp_path: Path) -> None:
    """Images that came since are brighter, and change nothing."""
    data, run = folder(tmp_path / "data"), tmp_path / "run"
    tiny = arguments(weights(tmp_path / "w.safetensors"), method="linear", epochs=1, device="cpu", cache="off")
    done("fit", data, *tiny, "--out", run)
    (run / "record.json").unlink()
    (data / "train/dark/new.tif").write_bytes(tiff(np.full((16, 16), 60000, np.uint16)))
    done("fit", data, *tiny, "--out", run, "--resume")
    assert vitgraft.load(run).preprocessing.pixel_range == (("uint16", 0, 4095),)
