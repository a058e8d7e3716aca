"""What a file is by its first bytes, whatever it is called, and what can be done where it is not read as it is.

A name says little: phones write HEIC under `.jpg`, downloads have no suffix. `format_of` knows the formats that
are read, those that a plugin of Pillow reads, and those that have to be converted first.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

HEAD = 1 << 12
"""How many first bytes are looked at."""


@dataclass(frozen=True)
class Format:
    """A kind of file. `picture`: it shows something, so that it counts among the images of a folder.

    `opener` is Pillow's name of what reads it, if anything may; `plugin` are the package that brings it and the
    function of it that registers it, where Pillow alone does not. `fix` says how else to come to a picture.
    """

    name: str
    picture: bool = True
    opener: str | None = None
    plugin: tuple[str, str, str] | None = None
    fix: str = ""


EXPORT = "Export it as PNG or TIFF from the program that wrote it"
RAW = "Develop it to JPEG, PNG or TIFF first, as with darktable-cli, RawTherapee or Python's rawpy"
MANY = "It may hold many pictures: write each one as a PNG or TIFF file"
FETCH = "Fetch the file itself"

_KINDS = (
    Format("JPEG", opener="JPEG"),  # an MPO is a JPEG with others behind it
    Format("PNG", opener="PNG"),
    Format("GIF", opener="GIF"),
    Format("WebP", opener="WEBP"),
    Format("BMP", opener="BMP"),
    Format("TIFF", opener="TIFF"),
    Format("netpbm", opener="PPM"),
    Format("PFM", opener="PPM"),
    Format("JPEG 2000", opener="JPEG2000"),
    Format(
        "AVIF",
        opener="AVIF",
        plugin=("pillow-avif-plugin", "pillow_avif", ""),
        fix="convert it: avifdec in.avif out.png",
    ),
    Format(
        "HEIC",
        opener="HEIF",
        plugin=("pillow-heif", "pillow_heif", "register_heif_opener"),
        fix="convert it: heif-convert in.heic out.png",
    ),
    Format(
        "JPEG XL",
        opener="JXL",
        plugin=("pillow-jxl-plugin", "pillow_jxl", ""),
        fix="convert it: djxl in.jxl out.png",
    ),
    Format("JPEG XR", fix="Convert it: JxrDecApp -i in.jxr -o out.tif"),
    Format("Photoshop document", fix=f"{EXPORT}, with its layers as one"),
    Format("GIMP document", fix=f"{EXPORT}, with its layers as one"),
    Format("OpenEXR", fix="Convert it to a float TIFF: oiiotool in.exr -o out.tif"),
    Format("Radiance HDR", fix="Convert it to a float TIFF: oiiotool in.hdr -o out.tif"),
    Format("camera raw", fix=RAW),
    Format("DICOM", fix="Convert it to a 16-bit PNG: dcmj2pnm +on2 in.dcm out.png, or Python's pydicom"),
    Format("NIfTI", fix=f"{MANY}, as with Python's nibabel"),
    Format("FITS", fix="Convert it to a float TIFF, as with Python's astropy and tifffile"),
    Format("DirectDraw surface", fix=EXPORT),
    Format("QOI", fix=EXPORT),
    Format("icon", fix=EXPORT),
    Format("SVG", fix="Draw it as a PNG: rsvg-convert in.svg -o out.png"),
    Format("PostScript", fix="Draw it as a PNG: gs -sDEVICE=png16m -dEPSCrop -o out.png in.eps"),
    Format("PDF", picture=False, fix="Draw its pages as PNG: pdftoppm -png in.pdf out"),
    Format("NumPy array", picture=False, fix=f"{MANY}, or give the array itself to predict (in Python)"),
    Format("HDF5", picture=False, fix=f"{MANY}, as with Python's h5py"),
    Format("MATLAB file", picture=False, fix=f"{MANY}, as with Python's scipy.io.loadmat"),
    Format("Python pickle", picture=False, fix=f"{MANY}; a pickle can run code and is never opened here"),
    Format("ZIP archive", picture=False, fix="Unpack it"),
    Format("compressed archive", picture=False, fix="Unpack it"),
    Format("video", picture=False, fix="Write its frames as PNG: ffmpeg -i in.mp4 out%04d.png"),
    Format("HTML page", picture=False, fix=f"A server answered with a page instead of the picture. {FETCH}"),
    Format("Git LFS pointer", picture=False, fix="The picture itself is on the server: git lfs pull"),
    Format("git-annex pointer", picture=False, fix="The picture itself is elsewhere: git annex get"),
    Format("macOS resource file", picture=False, fix="It stands beside a picture and holds none. Leave it out"),
)
KINDS = {kind.name: kind for kind in _KINDS}
"""Every kind of file by its name."""

_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0\x10\0\0\0CR", "camera raw"),  # Canon's CR2 is a TIFF, but for what is in it
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"IIRO", "camera raw"),
    (b"IIRS", "camera raw"),
    (b"MMOR", "camera raw"),
    (b"IIU\0", "camera raw"),
    (b"FUJIFILMCCD-RAW", "camera raw"),
    (b"FOVb", "camera raw"),
    (b"\0MRM", "camera raw"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"II\xbc", "JPEG XR"),
    (b"8BPS", "Photoshop document"),
    (b"gimp xcf", "GIMP document"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"#?RGBE", "Radiance HDR"),
    (b"SIMPLE  =", "FITS"),
    (b"DDS ", "DirectDraw surface"),
    (b"qoif", "QOI"),
    (b"\0\0\1\0", "icon"),
    (b"icns", "icon"),
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript"),
    (b"%PDF-", "PDF"),
    (b"\x93NUMPY", "NumPy array"),
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"MATLAB 5.0 MAT-file", "MATLAB file"),
    (b"\x80\x02", "Python pickle"),
    (b"\x80\x03", "Python pickle"),
    (b"\x80\x04", "Python pickle"),
    (b"\x80\x05", "Python pickle"),
    (b"PK\x03\x04", "ZIP archive"),
    (b"\x1f\x8b", "compressed archive"),
    (b"BZh", "compressed archive"),
    (b"\xfd7zXZ\0", "compressed archive"),
    (b"7z\xbc\xaf\x27\x1c", "compressed archive"),
    (b"Rar!\x1a\x07", "compressed archive"),
    (b"\x28\xb5\x2f\xfd", "compressed archive"),
    (b"\x1a\x45\xdf\xa3", "video"),
    (b"\0\0\1\xba", "video"),
    (b"version https://git-lfs.github.com/spec/", "Git LFS pointer"),
    (b"/annex/objects/", "git-annex pointer"),
    (b"\0\x05\x16\x07", "macOS resource file"),
)
_BRANDS = (  # what an ISO media file says it is
    (re.compile(rb"avi[fs]"), "AVIF"),
    (re.compile(rb"crx "), "camera raw"),
    (re.compile(rb"hei[cxms]|hev[cx]|mif1|msf1"), "HEIC"),
)
_NETPBM = re.compile(rb"P[1-6]\s+[0-9#]|P7\s+[A-Z#]")
_PFM = re.compile(rb"P[Ff]\s+[0-9#]")
_BMP = re.compile(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL)  # BM, and a header's size
_SVG = re.compile(rb"<svg[\s>]")
_HTML = re.compile(rb"<(!doctype html|html|head|body)[\s>]")


def format_of(head: bytes) -> str | None:
    """The name of a file's kind, a key of `KINDS`, from its first bytes (up to `HEAD`); None if none fits."""
    for start, name in _STARTS:
        if head.startswith(start):
            return name
    for looks in (_media, _riff, _letters, _text, _elsewhere):
        if (found := looks(head)) is not None:
            return found
    return None


def _media(head: bytes) -> str | None:
    """Boxes of ISO media: HEIC, AVIF, Canon's CR3, else a film."""
    if head[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(head[:4], "big"), HEAD) or HEAD
    brands = head[8:12] + b" " + head[16:end]  # the major one, then those that it is compatible with
    return next((name for brand, name in _BRANDS if brand.search(brands)), "video")


def _riff(head: bytes) -> str | None:
    kinds = {b"WEBP": "WebP", b"AVI ": "video"}
    return kinds.get(head[8:12]) if head.startswith(b"RIFF") else None


def _letters(head: bytes) -> str | None:
    """Formats whose mark is two letters, which a text may begin with, too: a little more is looked at."""
    if _BMP.match(head):
        return "BMP"
    return "netpbm" if _NETPBM.match(head) else "PFM" if _PFM.match(head) else None


def _text(head: bytes) -> str | None:
    """Markup, which may begin with a mark of its encoding, blanks and comments."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not text.startswith(b"<"):
        return None
    return "HTML page" if _HTML.match(text) else "SVG" if _SVG.search(text) else None


def _elsewhere(head: bytes) -> str | None:
    """Formats whose mark is not at the start."""
    if head[128:132] == b"DICM":
        return "DICOM"
    if head[344:348] in (b"n+1\0", b"ni1\0"):
        return "NIfTI"
    return "compressed archive" if head[257:262] == b"ustar" else None


def head_of(source: str | os.PathLike[str] | bytes | BinaryIO) -> bytes:
    """The first `HEAD` bytes of a file. An open one is left where it was. Raises OSError."""
    if isinstance(source, bytes):
        return source[:HEAD]
    if isinstance(source, str | os.PathLike):
        with Path(source).open("rb") as file:
            return file.read(HEAD)
    where = source.tell()
    try:
        source.seek(0)
        return source.read(HEAD)
    finally:
        source.seek(where)


def looks_like_picture(path: str | os.PathLike[str]) -> bool:
    """Whether a file holds a picture by its content, be it one that is read here or not; False if it cannot tell.

    SVG, DICOM, HEIC, camera raw and others count, for they are pictures that a user would miss; `unread` says
    what to do with them. PDF, archives and arrays do not.
    """
    try:
        name = format_of(head_of(path))
    except OSError:
        return False
    return name is not None and KINDS[name].picture


def opener_of(name: str | None) -> str | None:
    """Pillow's name of what reads a format, None if nothing here does. An installed plugin is registered."""
    from PIL import Image

    kind = None if name is None else KINDS[name]
    if kind is None or kind.opener is None:
        return None
    Image.init()
    if kind.opener not in Image.OPEN and kind.plugin is not None and find_spec(kind.plugin[1]) is not None:
        _registered(kind.plugin[1], kind.plugin[2])
    return kind.opener if kind.opener in Image.OPEN else None


def readable() -> list[str]:
    """The kinds of files that are read on this machine, with the plugins that are installed."""
    return [name for name in KINDS if opener_of(name) is not None]


def _registered(module: str, function: str) -> None:
    """Import a plugin, which registers itself, or by a call of `function`."""
    plugin = import_module(module)
    register: Callable[[], None] | None = getattr(plugin, function, None) if function else None
    if register is not None:
        register()


def unread(name: str) -> tuple[str, str]:
    """Why a file of this kind is not read, and what to do about it, for a message."""
    kind = KINDS[name]
    what = f"its content is {kind.name}"
    if kind.plugin is not None:
        return (
            f"{what}, which Pillow reads with {kind.plugin[0]} only",
            f"pip install {kind.plugin[0]}, or {kind.fix}.",
        )
    return f"{what}, which is not read here", f"{kind.fix or EXPORT}."
