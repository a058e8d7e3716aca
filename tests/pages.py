"""What every page of ours must be: well nested, whole in itself, and told to those who cannot see it."""

from html.parser import HTMLParser

from vitgraft.report.page.markup import VOID

LOCAL = ("#", "data:")
"""How addresses begin that lead nowhere outside a page."""

ADDRESSES = {"href", "src", "srcset", "action", "poster", "xlink:href"}
REFERENCES = ("for", "aria-labelledby", "aria-describedby", "aria-controls")


class Checked(HTMLParser):
    """A page taken apart. Raises AssertionError for what is wrong with it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open, f"never closed: {self.open}"
        self._check()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        assert len(given) == len(attrs), f"an attribute of <{tag}> stands there twice: {attrs}"
        self.elements.append((tag, given))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>, at {self.getpos()}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)

    def of(self, tag: str) -> list[dict[str, str]]:
        """The attributes of all elements of a name."""
        return [given for name, given in self.elements if name == tag]

    def _check(self) -> None:
        ids = [given["id"] for _, given in self.elements if "id" in given]
        assert len(set(ids)) == len(ids), f"ids twice: {sorted({one for one in ids if ids.count(one) > 1})}"
        for tag, given in self.elements:
            for key in ADDRESSES & given.keys():
                assert given[key].startswith(LOCAL), f"<{tag} {key}={given[key]!r}> leads out of the page"
            if given.get("href", "").startswith("#"):
                assert given["href"][1:] in ids, f"<{tag} href={given['href']!r}> leads nowhere"
            for key in REFERENCES:
                assert all(one in ids for one in given.get(key, "").split()), (
                    f"{key}={given.get(key)!r}: no such id"
                )
            assert not any(key.startswith("on") for key in given), f"<{tag}> has a handler of its own: {given}"
        assert all("alt" in given for given in self.of("img")), "a picture that says nothing"
        assert all("scope" in given for given in self.of("th")), "a header of nothing"
        assert len(self.of("table")) == len(self.of("caption")), "a table without a caption"
        assert [given["lang"] for given in self.of("html")] == ["en"]
        assert len(self.of("h1")) == 1
