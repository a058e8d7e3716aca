"""Decoding: every mode and format, and every broken file we thought of."""

from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from tests.deep_files import tiff
from tests.pictures import ORANGE, encoded, picture
from vitgraft.data.pictures.decode import UnreadableImage, read_image
from vitgraft.data.pictures.ranges import MAX_PIXELS
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
        (b"", r"it is empty \(0 bytes\)\. Copy it again from where it came, or leave it out"),
        (b"\0" * 900, "it begins with zeros only"),
        (b"hello, world", r"not an image of a known format; it begins with b'hello, world'"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", r"its content is PostScript, .*Draw it as a PNG: gs "),
        (b"\xff\xd8\xff\xe0" + b"x" * 40, "cut short or damaged"),
        (encoded(Image.effect_noise((64, 64), 90), "JPEG")[:900], "cut short or damaged"),
        (encoded(Image.effect_noise((64, 64), 90), "PNG")[:900], "cut short or damaged"),
        (encoded(Image.effect_noise((64, 64), 90), "TIFF")[:900], "cut short or damaged"),
    ],
    ids=["empty", "zeros", "text", "eps", "jpeg header", "jpeg", "png", "tiff"],
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


def test_read_image__large_pictures(monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder) -> None:
    """Ours is the limit, not Pillow's global, which stays as it is; and nothing of Pillow's is heard."""
    content = encoded(Image.new("RGB", (40, 35), ORANGE), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert read_image(content).getpixel((0, 0)) == ORANGE
    assert read_image(content, max_pixels=1400).size == (40, 35)
    with pytest.raises(DataError, match=r"40 x 35 pixels, and no more than 1,399 .*--max-pixels 1400"):
        read_image(content, max_pixels=1399)
    for kind in ("GIF", "WEBP", "TIFF"):  # their code looks at the global, too
        assert read_image(encoded(Image.new("RGB", (40, 35), ORANGE), kind)).size == (40, 35)
    assert Image.MAX_IMAGE_PIXELS == 100
    assert not recwarn.list


def test_read_image__beyond_pillows_limit_is_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    squares = np.kron(np.array([[0, 100], [200, 50]], np.uint8), np.ones((20, 20), np.uint8))
    content = encoded(Image.fromarray(squares), "PNG")
    assert read_image(content).size == (40, 40)
    monkeypatch.setattr("vitgraft.data.pictures.decode.LARGE", 1599)
    small = read_image(content)
    assert np.array_equal(np.asarray(small)[..., 0], squares[::2, ::2])
    assert MAX_PIXELS > 16384 * 12288, "phones take 200 MP"


def test_read_image__content_decides_not_the_suffix(tmp_path: Path) -> None:
    for kind, name in (("PNG", "a.jpg"), ("JPEG", "b"), ("WEBP", "c.txt"), ("TIFF", "d.heic")):
        (tmp_path / name).write_bytes(encoded(Image.new("RGB", (9, 8), ORANGE), kind))
        colour = read_image(tmp_path / name).getpixel((4, 4))
        assert np.abs(np.array(colour) - ORANGE).max() <= 5


def test_read_image__heic_under_a_jpegs_name(tmp_path: Path) -> None:
    plugin = pytest.importorskip("pillow_heif")
    plugin.register_heif_opener()
    Image.new("RGB", (64, 48), ORANGE).save(tmp_path / "a.heic", quality=95)
    (tmp_path / "IMG_1.jpg").write_bytes((tmp_path / "a.heic").read_bytes())
    image = read_image(tmp_path / "IMG_1.jpg")
    assert image.size == (64, 48)
    assert np.abs(np.array(image.getpixel((30, 20))) - ORANGE).max() <= 6


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (b"\0\0\0\x1cftypheic\0\0\0\0mif1heic", "its content is HEIC, .*pip install pillow-heif, or convert it"),
        (b"\xff\x0a\xfa\x1f", "its content is JPEG XL, .*pip install pillow-jxl-plugin"),
        (b"8BPS\0\1", "Photoshop document"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG.*rsvg-convert"),
        (b"%PDF-1.7", "PDF.*pdftoppm"),
        (b"\0" * 128 + b"DICM", "DICOM"),
        (b"II*\0\x10\0\0\0CR\2\0", "camera raw"),
        (b"\x93NUMPY\1\0", "NumPy array"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"<!DOCTYPE html><html>", "HTML page.*server answered"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer.*git lfs pull"),
    ],
)
def test_read_image__other_formats_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: bytes, told: str
) -> None:
    monkeypatch.setattr("vitgraft.data.pictures.signatures.find_spec", lambda name: None)  # no plugin is installed
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    (tmp_path / "a.jpg").write_bytes(head)
    with pytest.raises(UnreadableImage, match=told) as error:
        read_image(tmp_path / "a.jpg")
    assert "elete" not in str(error.value)


def test_read_image__bands_that_are_no_picture() -> None:
    for bands, kind in ((5, np.uint8), (2, np.uint16), (13, np.float32)):
        content = tiff(np.ones((4, 5, bands), kind), photometric=1)
        bits = np.dtype(kind).itemsize * 8
        with pytest.raises(UnreadableImage, match=f"a TIFF of {bands} bands of {bits} bits.*gdal_translate"):
            read_image(content)


def test_read_image__raw_preview_is_no_picture() -> None:
    file = BytesIO()
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[254], info[50706] = 1, b"\1\4\0\0"  # a reduced picture, in a DNG
    Image.new("RGB", (16, 12)).save(file, "TIFF", tiffinfo=info)
    with pytest.raises(UnreadableImage, match="its content is camera raw"):
        read_image(file.getvalue())


def test_unreadable__survives_the_way_from_a_worker() -> None:
    """PyTorch makes an exception of a worker anew, from its message alone."""
    error = UnreadableImage.of("a.jpg", "it is empty", "Copy it.")
    assert str(UnreadableImage(str(error))) == "Cannot read image 'a.jpg': it is empty. Copy it."
