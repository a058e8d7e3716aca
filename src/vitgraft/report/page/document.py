"""The page as a whole: what surrounds its sections, its style and its script."""

import base64
import hashlib
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path

from vitgraft.report.page.markup import Html, h, together
from vitgraft.report.style import PALETTE

FIRST = "top"
"""The id of a page's beginning."""

MAKER = "vitgraft"
"""By which a page is known as one of ours."""

HEAD = 4096
"""Bytes of a file in which that stands."""


@dataclass(frozen=True)
class Section:
    """A part of a page with a title, that its list of contents names."""

    id: str
    title: str
    content: Html


def section(name: str, title: str, *content: object) -> Section:
    """A part of a page; `name` is its id, which no other element of the page has."""
    return Section(name, title, together(content))


@dataclass
class Page:
    """A page that grows by sections: `about` is said below its title, `foot` at its end."""

    title: str
    about: object = None
    foot: object = None
    sections: list[Section] = field(default_factory=list)

    def add(self, *sections: Section) -> "Page":
        """Put sections at its end; returns the page."""
        self.sections += sections
        return self

    def text(self) -> str:
        """The page as HTML, which needs no other file and no network."""
        style, script = _resource("style.css"), _resource("script.js")
        head = h(
            "head",
            h("meta", charset="utf-8"),
            h("meta", http_equiv="Content-Security-Policy", content=_policy(script)),
            h("meta", name="viewport", content="width=device-width, initial-scale=1"),
            h("meta", name="color-scheme", content="light dark"),
            h("meta", name="generator", content=MAKER),
            h("title", self.title),
            h("style", _palette(), style),
        )
        skip = h("a", "Skip to the content", href="#content", class_="skip")
        links = (h("li", h("a", one.title, href=f"#{one.id}")) for one in self.sections)
        contents = h("nav", h("ul", *links), aria_label="Contents")
        header = h("header", h("h1", self.title), h("div", self.about, class_="about") if self.about else None)
        main = h("main", *(_section(one) for one in self.sections), id="content")
        foot = h("footer", self.foot, " ", h("a", "Back to the top", href=f"#{FIRST}"))
        body = h("body", skip, header, contents, main, foot, h("script", script), id=FIRST)
        return f"<!doctype html>\n{h('html', head, body, lang='en')}\n"


def is_page(path: Path) -> bool:
    """True for a file that is a page of ours, and may be replaced by a later one."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return f'name="generator" content="{MAKER}"'.encode() in file.read(HEAD)


def _section(one: Section) -> Html:
    return h(
        "section",
        h("h2", one.title, id=f"{one.id}-title"),
        one.content,
        id=one.id,
        aria_labelledby=f"{one.id}-title",
    )


def _policy(script: str) -> str:
    """What browsers let the page do: show what it holds, and run its own script and no other."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def _palette() -> Html:
    """The colours of the project's figures, as --c0 and so on."""
    return Html(f":root {{ {' '.join(f'--c{index}: {colour};' for index, colour in enumerate(PALETTE))} }}\n")


@cache
def _resource(name: str) -> Html:
    return Html(files("vitgraft.report.page").joinpath(name).read_text(encoding="utf-8"))
