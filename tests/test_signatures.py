"""What files are by their first bytes: every format of Pillow that is read, and those that are only named."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.pictures import encoded
from vitgraft.data.pictures.signatures import (
    HEAD,
    KINDS,
    format_of,
    head_of,
    looks_like_picture,
    opener_of,
    unread,
)

NAMES = {"PPM": "netpbm", "WEBP": "WebP", "JPEG2000": "JPEG 2000", "PDF": "PDF", "EPS": "PostScript"}


@pytest.mark.parametrize(
    "kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "PDF", "EPS"]
)
def test_format_of__what_pillow_writes(kind: str) -> None:
    for mode in ("L", "RGB"):
        assert format_of(encoded(Image.new(mode, (9, 7), 40), kind)[:HEAD]) == NAMES.get(kind, kind)


def npy() -> bytes:
    file = BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


EXAMPLES = {
    "HEIC": [b"\0\0\0\x24ftypheic\0\0\0\0mif1heic", b"\0\0\0\x1cftypmif1\0\0\0\0mif1heic"],
    "AVIF": [b"\0\0\0\x20ftypavif\0\0\0\0avifmif1", b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif"],
    "JPEG XL": [b"\xff\x0a\xfa\x1f", b"\0\0\0\x0cJXL \r\n\x87\n"],
    "camera raw": [
        b"II*\0\x10\0\0\0CR\x02\0",
        b"\0\0\0\x18ftypcrx \0\0\0\1",
        b"FUJIFILMCCD-RAW 0201",
        b"IIRO\x08",
    ],
    "Photoshop document": [b"8BPS\0\1"],
    "SVG": [b'<?xml version="1.0"?>\n<!-- made by hand --><svg xmlns="x">', b"\xef\xbb\xbf\n<SVG >"],
    "HTML page": [b"<!DOCTYPE html>\n<html>", b"\n <html lang='en'>", b"<head><svg >"],
    "DICOM": [b"\0" * 128 + b"DICM\2\0"],
    "NIfTI": [b"\x5c\1\0\0" + b"\0" * 340 + b"n+1\0"],
    "NumPy array": [npy()],
    "HDF5": [b"\x89HDF\r\n\x1a\n\0"],
    "Git LFS pointer": [b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"],
    "video": [b"\0\0\0\x18ftypmp42\0\0\0\0isommp42", b"RIFF\0\0\0\0AVI LIST", b"\x1a\x45\xdf\xa3"],
    "ZIP archive": [b"PK\x03\x04\x14"],
    "PFM": [b"PF\n3 2\n-1.0\n", b"Pf 3 2 1.0\n"],
    "TIFF": [b"II+\0\x08\0\0\0", b"MM\0*"],  # BigTIFF has a +
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_format_of__what_is_only_named(name: str) -> None:
    assert [format_of(head) for head in EXAMPLES[name]] == [name] * len(EXAMPLES[name])


@pytest.mark.parametrize(
    "head",
    [b"", b"hello", b"BMI,age\n21.2,40\n", b"P1 patient\n", b"P5", b"<?xml version='1.0'?><rss>", b"\0" * 400],
)
def test_format_of__text_and_nothing(head: bytes) -> None:
    assert format_of(head) is None


def test_looks_like_picture__content_decides_not_the_name(tmp_path: Path) -> None:
    for name, content, expected in (
        ("IMG_0001", encoded(Image.new("RGB", (5, 4)), "JPEG"), True),
        ("IMG_0002.txt", EXAMPLES["HEIC"][0], True),
        ("labels.png", b"path,label\n", False),
        ("doc.jpg", b"%PDF-1.7", False),
        ("empty", b"", False),
    ):
        (tmp_path / name).write_bytes(content)
        assert looks_like_picture(tmp_path / name) is expected, name
    assert not looks_like_picture(tmp_path / "nothing")
    assert not looks_like_picture(tmp_path)


def test_head_of__leaves_an_open_file_where_it_was(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(range(100)))
    with (tmp_path / "a").open("rb") as file:
        file.seek(7)
        assert head_of(file) == bytes(range(100))
        assert file.tell() == 7


def test_unread__every_kind_that_is_not_read_says_what_to_do() -> None:
    for name, kind in KINDS.items():
        why, fix = unread(name)
        assert name in why
        assert kind.opener is not None or kind.fix, name
        assert not {"delete", "Delete"} & set(fix.split()), "a picture that cannot be read here is still a picture"
    assert unread("HEIC") == (
        "its content is HEIC, which Pillow reads with pillow-heif only",
        "pip install pillow-heif, or convert it: heif-convert in.heic out.png.",
    )


def test_opener_of__plugins_are_registered_where_they_are_installed() -> None:
    assert opener_of("JPEG") == "JPEG"
    assert opener_of("Photoshop document") is None
    assert opener_of(None) is None
    pytest.importorskip("pillow_heif")
    assert opener_of("HEIC") == "HEIF"
