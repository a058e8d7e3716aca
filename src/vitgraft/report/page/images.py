"""Pictures in a page: their bytes in the page itself, their captions below."""

import base64

from vitgraft.report.page.markup import Html, h

KINDS = {"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "svg": "image/svg+xml"}
"""Pictures that browsers show, by the suffix of their files, lower-case and without its dot."""


def picture(content: bytes, kind: str, alt: str, **attributes: object) -> Html:
    """A picture whose bytes the page holds; `kind` is one of KINDS, `alt` says what it is where it cannot be seen.

    An SVG is shown as a picture, too, so that its scripts never run, and its ids meet no others.
    """
    source = f"data:{KINDS[kind]};base64,{base64.b64encode(content).decode()}"
    return h("img", src=source, alt=alt, **attributes)


def figure(content: object, caption: object, *, command: str | None = None, **attributes: object) -> Html:
    """A chart or picture with what it shows said below, and the command that makes it, if there is one."""
    told = h("pre", h("code", command)) if command else None
    return h("figure", content, h("figcaption", caption, told), **attributes)
