"""TIFF files that Pillow does not know, or of which it keeps a part, by tifffile: floats, planes, signed bytes."""

import logging
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vitgraft.data.pictures.deep.samples import NoPicture, Samples, of_array

if TYPE_CHECKING:
    from tifffile import TiffPage

MIN_IS_WHITE, MIN_IS_BLACK, RGB = 0, 1, 2
COLOURS = {MIN_IS_WHITE: 1, MIN_IS_BLACK: 1, RGB: 3}
"""Bands of colour by TIFF's photometric interpretation."""
ASSOCIATED, UNASSOCIATED = 1, 2
ORIENTATION = 274
CHOOSE = "Write those bands that make a picture: gdal_translate -b 3 -b 2 -b 1 -co PHOTOMETRIC=RGB in.tif out.tif."


def samples(file: BinaryIO) -> Samples:
    """The first page's numbers.

    Raises:
        NoPicture: bands that make no picture, numbers that are none, a compression that is not read.
        Exception: whatever a damaged file makes of tifffile's code.
    """
    page = first_page(file)
    colours = _check(page)
    values = _values(page)
    extras = [int(extra) for extra in page.extrasamples]
    if page.photometric == RGB and page.samplesperpixel == 4 and not extras:
        extras = [UNASSOCIATED]  # as Pillow has it
    alpha = values[..., colours] if extras and extras[0] in (ASSOCIATED, UNASSOCIATED) else None
    orientation = page.tags.get(ORIENTATION)
    return of_array(
        values[..., :colours],
        alpha,
        inverted=page.photometric == MIN_IS_WHITE,
        premultiplied=bool(extras) and extras[0] == ASSOCIATED,
        declared=(0.0, 255.0) if values.dtype == np.uint8 else None,
        orientation=1 if orientation is None else int(orientation.value),
    )


def size(file: BinaryIO) -> tuple[int, int]:
    """Width and height of the first page."""
    page = first_page(file)
    return page.imagewidth, page.imagelength


def first_page(file: BinaryIO) -> "TiffPage":
    """What tifffile says of a file's first page."""
    import tifffile

    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it logs is raised, too
    file.seek(0)
    page = tifffile.TiffFile(file).pages.first
    assert isinstance(page, tifffile.TiffPage), "the first page is read whole"
    return page


def _check(page: "TiffPage") -> int:
    """The bands of colour. Raises NoPicture."""
    bands, bits = page.samplesperpixel, page.bitspersample
    colours = COLOURS.get(int(page.photometric))
    what = f"it is a TIFF of {bands} {'band' if bands == 1 else 'bands'} of {bits} bits"
    if page.imagedepth > 1:
        raise NoPicture(f"{what} and {page.imagedepth} layers", "Write each layer as a TIFF of its own.")
    if colours is None or page.dtype is None or page.dtype.kind not in "uif":
        name = getattr(page.photometric, "name", page.photometric)
        raise NoPicture(
            f"{what}, {name}, which is not read here", "Convert it to RGB or grey: magick in.tif out.png."
        )
    alpha = bands == colours + 1 and (colours == 3 or (page.extrasamples and int(page.extrasamples[0]) > 0))
    if bands != colours and not alpha and colours == 1:
        raise NoPicture(f"{what}, and which of them are shown is not said", CHOOSE)
    return colours


def _values(page: "TiffPage") -> NDArray[Any]:
    """Numbers (H, W, bands). Raises NoPicture if they are compressed in a way that is not read."""
    try:
        values = np.asarray(page.asarray())
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        raise NoPicture(
            f"it is a TIFF that is compressed ({getattr(page.compression, 'name', page.compression)}) in a form "
            "that is not read here",
            "Write it without: tiffcp -c none in.tif out.tif, or pip install imagecodecs.",
        ) from None
    shape = page.imagelength, page.imagewidth
    planes = page.planarconfig == 2 and page.samplesperpixel > 1
    values = values.reshape((page.samplesperpixel, *shape) if planes else (*shape, page.samplesperpixel))
    return np.moveaxis(values, 0, -1) if planes else values
