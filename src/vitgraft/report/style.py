"""How every figure of this project looks: colours, markers, type, sizes.

The colours are Okabe and Ito's (2008), which people with any common kind of colour vision tell apart; its yellow
is left out, as it is hardly seen on white. A method has the same colour and marker in every figure, and colour
alone means nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal
from zlib import crc32

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9"
INK, MUTED, FAINT, PAPER = "#1A1A1A", "#6B6B6B", "#D9D9D9", "#FFFFFF"
PALETTE = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, INK)
"""Colours of things that have no order, the first for what is alone."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
"""One more than colours: so many methods differ in both, or in one of them."""

SEQUENTIAL, DIVERGING = "cividis", "PuOr"
"""matplotlib's maps for what has an order, and for what has a middle."""

WIDE, NARROW = 7.2, 3.6
"""Widths of a figure in inches: over a page, and half of one."""

DPI = 144
"""Dots an inch of a PNG: sharp where a page is 10 inches wide."""

METHODS = (
    *("linear", "lora", "synqt", "vqt", "bias", "vpt-deep", "full", "adapter", "ssf", "spt-lora", "adaptformer"),
    *("vpt-shallow", "head2toe", "lst", "partial", "spt-adapter", "noah", "mlp", "frozen"),
)
"""The methods that have looks of their own; another one gets, by its name, one of those that are left."""

FAMILY = ["DejaVu Sans", "Verdana", "Bitstream Vera Sans", "sans-serif"]
"""matplotlib brings the first; readers of an SVG without it mostly have the second, which is as wide."""

SETTINGS: Mapping[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": FAMILY,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "svg.fonttype": "none",  # text stays text: small, and read by search and screen readers
    "svg.hashsalt": "vitgraft",  # the same figure is the same file
}


@dataclass(frozen=True)
class Look:
    """A colour as #RRGGBB and a matplotlib marker; a variant of a method is drawn hollow."""

    colour: str
    marker: str
    hollow: bool = False

    def point(self) -> dict[str, Any]:
        """Arguments of `axes.plot` for a point that looks so."""
        face = PAPER if self.hollow else self.colour
        return {"color": self.colour, "marker": self.marker, "markerfacecolor": face, "linestyle": "none"}


def look(method: str) -> Look:
    """The look of a method, the same in every figure; `method` is its name, or a text with fields behind it."""
    name = method.partition(":")[0]
    free = len(PALETTE) * len(MARKERS) - len(METHODS)
    place = METHODS.index(name) if name in METHODS else len(METHODS) + crc32(name.encode()) % free
    return Look(PALETTE[place % len(PALETTE)], MARKERS[place % len(MARKERS)])


def looks(methods: Sequence[str]) -> dict[str, Look]:
    """Looks of the methods of one figure: variants of one method have its colour, and other markers."""
    found: dict[str, Look] = {}
    for method in methods:
        own, tries = look(method), 0
        while own in found.values() and tries < 2 * len(MARKERS):
            tries += 1
            marker = MARKERS[(MARKERS.index(own.marker) + 1) % len(MARKERS)]
            own = replace(own, hollow=True, marker=own.marker if tries == 1 else marker)
        found[method] = own
    return found


def shades(count: int) -> list[str]:
    """So many colours with an order, from dark to light, as #RRGGBB."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    taken = colormaps[SEQUENTIAL]
    return [to_hex(taken(index / max(1, count - 1))) for index in range(count)]


@contextmanager
def styled() -> Iterator[None]:
    """Make what is drawn within look like the rest. Nothing of matplotlib's settings changes for others."""
    import matplotlib

    with matplotlib.rc_context(dict(SETTINGS)):
        yield


def blank(width: float = WIDE, height: float = 4.0) -> Any:
    """A figure of so many inches without axes. Call it within `styled`.

    No window and no global state: pyplot knows nothing of it, and nobody must close it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def canvas(width: float = WIDE, height: float = 4.0, rows: int = 1, columns: int = 1, **more: Any) -> Any:
    """A figure of so many inches, and its axes as `subplots` gives them. Call it within `styled`."""
    figure = blank(width, height)
    return figure, figure.subplots(rows, columns, **more)


def rendered(figure: "Figure", form: Literal["png", "svg"], title: str = "") -> bytes:
    """A figure as the bytes of a file. The same figure gives the same bytes. Call it within `styled`."""
    file = BytesIO()
    known: dict[str, Any] = {"Title": title} if title else {}
    metadata = {**known, "Date": None} if form == "svg" else known
    figure.savefig(file, format=form, dpi=DPI, metadata=metadata)
    return file.getvalue()
