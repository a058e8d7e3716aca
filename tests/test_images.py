"""Decoding: every mode and format, and every broken file we thought of."""

import re
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.pictures import ORANGE, encoded, picture
from vitgraft.data.decode import UnreadableImage, read_image
from vitgraft.errors import DataError


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("RGB", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("RGB", "BMP"), ("RGB", "PPM"), ("RGB", "TIFF"),
        ("CMYK", "TIFF"), ("YCbCr", "TIFF"), ("RGBA", "TIFF"), ("RGB", "JPEG"), ("CMYK", "JPEG"),
        ("P", "GIF"), ("RGB", "WEBP"), ("RGBA", "WEBP"),
    ],
)  # fmt: skip
def test_read_image__colour_modes(mode: str, kind: str) -> None:
    image = read_image(encoded(Image.new("RGB", (8, 6), ORANGE).convert(mode), kind))
    assert (image.mode, image.size) == ("RGB", (8, 6))
    off = np.asarray(image).astype(int) - np.array(ORANGE)
    assert np.abs(off).max() <= 5  # of lossy formats


@pytest.mark.parametrize(
    ("mode", "kind"), [("L", "PNG"), ("L", "JPEG"), ("LA", "PNG"), ("L", "TIFF"), ("1", "PNG")]
)
def test_read_image__grey_modes(mode: str, kind: str) -> None:
    ramp = Image.fromarray(np.repeat(np.array([[0, 255]], np.uint8), 8, axis=1).repeat(8, axis=0))
    image = np.asarray(read_image(encoded(ramp.convert(mode), kind)))
    assert np.array_equal(image[:, :, 0], np.asarray(ramp))
    assert np.array_equal(image[:, :, 0], image[:, :, 2])


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_read_image__sixteen_bits_are_scaled_not_clipped(kind: str) -> None:
    ramp = np.arange(256, dtype=np.uint16)[None].repeat(3, axis=0) * 257
    image = np.asarray(read_image(encoded(Image.fromarray(ramp), kind)))
    assert np.array_equal(image[1, :, 1], np.arange(256))
    between = np.array([[128, 129, 385, 386]], np.uint16)  # 0.498, 0.502, 1.498, 1.502 of 257
    assert np.asarray(read_image(encoded(Image.fromarray(between), kind)))[0, :, 0].tolist() == [0, 1, 1, 2]


def test_read_image__big_endian_sixteen_bits() -> None:
    ramp = np.array([[0, 257 * 10, 65535]], ">u2")
    pgm = b"P5 3 1 65535\n" + ramp.tobytes()
    assert np.asarray(read_image(pgm))[0, :, 0].tolist() == [0, 10, 255]
    tiff = encoded(Image.frombytes("I;16B", (3, 1), ramp.tobytes()), "TIFF")
    assert np.asarray(read_image(tiff))[0, :, 0].tolist() == [0, 10, 255]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.0, 255.0], [0, 100, 255]),
        ([0.0, 2570.0, 65535.0], [0, 10, 255]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([0.0, 1.0, float("nan")], [0, 255, 0]),
        ([float("nan")] * 3, [0, 0, 0]),
        ([0.0, 0.0, 0.0], [0, 0, 0]),
        ([-7.0, -7.0, -7.0], [0, 0, 0]),
    ],
)
def test_read_image__floats(values: list[float], expected: list[int]) -> None:
    image = read_image(encoded(Image.fromarray(np.array([values], np.float32)), "TIFF"))
    assert np.asarray(image)[0, :, 0].tolist() == expected


def test_read_image__integers_of_32_bits() -> None:
    image = read_image(encoded(Image.fromarray(np.array([[0, 100, 255]], np.int32)), "TIFF"))
    assert np.asarray(image)[0, :, 0].tolist() == [0, 100, 255]


def test_read_image__transparent_is_white() -> None:
    half = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    half.putpixel((1, 0), (200, 0, 0, 128))
    assert [read_image(encoded(half, "PNG")).getpixel((x, 0)) for x in (0, 1)] == [
        (255, 255, 255),
        (227, 127, 127),
    ]
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    image = read_image(encoded(palette, "PNG", transparency=0))
    assert [image.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (40, 50, 60)]
    keyed = read_image(encoded(Image.new("RGB", (2, 2), ORANGE), "PNG", transparency=ORANGE))
    assert keyed.getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_read_image__exif_orientation(kind: str, orientation: int) -> None:
    upright = Image.new("L", (32, 48), 0)
    upright.paste(255, (0, 0, 16, 24))  # white at the top left
    stored = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # the inverse of each turn
    image = upright if stored is None else upright.transpose(Image.Transpose(stored))
    exif = Image.Exif()
    exif[0x0112] = orientation
    back = read_image(encoded(image.convert("RGB"), kind, exif=exif))
    assert back.size == (32, 48)
    assert [back.getpixel(xy)[0] > 128 for xy in ((4, 4), (28, 4), (4, 44), (28, 44))] == [
        True,
        False,
        False,
        False,
    ]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_read_image__damaged_exif_is_no_damaged_image() -> None:
    assert read_image(encoded(Image.new("RGB", (9, 8)), "JPEG", exif=b"Exif\0\0MM\0*garbage")).size == (9, 8)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_read_image__first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    colour = read_image(encoded(frames[0], kind, save_all=True, append_images=frames[1:])).getpixel((1, 1))
    assert isinstance(colour, tuple)
    assert colour[0] > 240 > 20 > colour[2]


def test_read_image__open_file_and_text_path(tmp_path: Path) -> None:
    file = picture(tmp_path / "a.png")
    with file.open("rb") as stream:
        assert read_image(stream).getpixel((0, 0)) == ORANGE
        assert not stream.closed
    assert read_image(str(file)).getpixel((0, 0)) == ORANGE


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"it is empty \(0 bytes\)\. Copy it again or delete it"),
        (b"hello, world", r"not an image of a known format; it begins with b'hello, world'"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not an image of a known format"),
        (b"\xff\xd8\xff\xe0" + b"x" * 40, "cut short or damaged"),
        (encoded(Image.effect_noise((64, 64), 90), "JPEG")[:900], "cut short or damaged"),
        (encoded(Image.effect_noise((64, 64), 90), "PNG")[:900], "cut short or damaged"),
        (encoded(Image.effect_noise((64, 64), 90), "TIFF")[:900], "cut short or damaged"),
    ],
    ids=["empty", "text", "eps", "jpeg header", "jpeg", "png", "tiff"],
)
def test_read_image__broken_files(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "broken.jpg"
    file.write_bytes(content)
    for source, name in ((file, str(file)), (content, "<bytes>"), (BytesIO(content), "<bytes>")):
        with pytest.raises(UnreadableImage, match=reason) as error:
            read_image(source)
        assert f"Cannot read image '{name}'" in str(error.value)
    with pytest.raises(DataError, match=r"Cannot read image 'upload\.png'"):
        read_image(content, name="upload.png")


@pytest.mark.filterwarnings("ignore")
def test_read_image__flipped_bytes_never_escape() -> None:
    """Whatever a damaged file does to Pillow, it is a DataError or an image."""
    rng = np.random.RandomState(0)
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM"):
        good = np.frombuffer(encoded(Image.effect_noise((24, 24), 60), kind), np.uint8)
        for _ in range(25):
            bad = good.copy()
            where = rng.randint(0, min(len(bad), 200), 4)
            bad[where] = rng.randint(0, 256, 4)
            with suppress(DataError):
                assert read_image(bad.tobytes()).mode == "RGB"


def test_read_image__no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nope\.jpg': there is no such file\. Check the path"):
        read_image(tmp_path / "nope.jpg")
    with pytest.raises(DataError, match=r"it is a folder\. Name an image file"):
        read_image(tmp_path)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("limit", [1000, 600])  # Pillow warns above the limit and raises above twice the limit
def test_read_image__decompression_bomb(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    content = encoded(Image.new("RGB", (40, 35)), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(DataError) as error:
        read_image(content)
    assert re.search(r"more pixels than is safe \(.*(40 x 35|1400) pixels", str(error.value))
    assert "Shrink it first; if you trust it, raise PIL.Image.MAX_IMAGE_PIXELS." in str(error.value)
