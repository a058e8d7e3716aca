"""Elements of HTML and SVG, well nested and with every text escaped."""

import re
from collections.abc import Iterable
from html import escape

VOID = {"br", "col", "hr", "img", "input", "link", "meta", "wbr"}
"""Elements of HTML that hold nothing and have no end."""

CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
"""Characters that no page may hold; file names may."""


class Html(str):
    """Markup as it is to stand in a page. Any other text is escaped where it enters one."""

    __slots__ = ()


def h(name: str, /, *inside: object, **attributes: object) -> Html:
    """One element: `h("a", "a < b", href="#x")` is `<a href="#x">a &lt; b</a>`.

    What is inside is markup, text, numbers or None, which leaves nothing. Of an attribute's name a last underscore
    is dropped and others become dashes (`class_`, `aria_label`); its value True stands for its bare name, None and
    False for its absence.
    """
    start = name + "".join(_attribute(key, value) for key, value in attributes.items())
    if name in VOID:
        return Html(f"<{start}>")
    return Html(f"<{start}>{together(inside)}</{name}>")


def together(pieces: Iterable[object]) -> Html:
    """Pieces of markup and text one after the other."""
    return Html("".join(text(piece) for piece in pieces))


def text(value: object) -> Html:
    """Anything as markup: escaped, if it is none yet."""
    if isinstance(value, Html):
        return value
    return Html("" if value is None else escape(CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(value))))


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{text(str(value))}"'
