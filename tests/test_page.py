"""Pieces of a page: nested and escaped, tables with headers that sort, pictures within."""

import pytest

from tests.pages import Checked
from vitgraft.report.page import Cell, Column, Page, Row, facts, figure, h, picture, section, table

NASTY = "</td><script>alert(1)</script>\"'&<b>\x00\udcff"


def page(*content: object) -> str:
    return Page(NASTY, NASTY, NASTY).add(section("one", NASTY, *content)).text()


def test_markup__nests_and_escapes() -> None:
    assert h("a", "a < b", href='#"x"', class_="y", hidden=True, title=None) == (
        '<a href="#&quot;x&quot;" class="y" hidden>a &lt; b</a>'
    )
    assert h("p", 1, None, h("br"), "&", aria_label="z") == '<p aria-label="z">1<br>&amp;</p>'


def test_page__shows_users_text_as_text() -> None:
    rows = [Row([NASTY, Cell(NASTY, link="#one", said=NASTY)], key=NASTY)]
    made = page(
        table("t", NASTY, [NASTY, NASTY], rows), facts({NASTY: NASTY}), figure(NASTY, NASTY, command=NASTY)
    )
    found = Checked(made)
    assert len(found.of("script")) == 1
    assert found.of("b") == []
    shown = NASTY.replace("\x00", "\ufffd").replace("\udcff", "\ufffd")
    assert "".join(found.text).count(shown) == 16
    assert [given["data-key"] for given in found.of("tr") if "data-key" in given] == [shown]
    made.encode()


def test_page__asks_for_nothing_from_outside() -> None:
    found = Checked(page(picture(b"\x89PNG", "png", "dots")))
    assert [given["src"] for given in found.of("img")] == ["data:image/png;base64,iVBORw=="]
    (policy,) = (given["content"] for given in found.of("meta") if given.get("http-equiv"))
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_table__has_headers_for_rows_and_columns_that_sort() -> None:
    columns = ["method", Column("kept", "MiB", number=True, said="of an image")]
    rows = [Row(["lora", Cell("1.2", 1.23456789, best=True)], key="0"), Row(["full", None], id="full")]
    made = table("costs", "What it costs.", columns, rows, filtered=True)
    found = Checked(page(made))
    assert [given["scope"] for given in found.of("th")] == ["col", "col", "row", "row"]
    assert [given.get("aria-sort") for given in found.of("th")] == ["none", "none", None, None]
    assert '<td class="number best" data-v="1.23457">1.2</td>' in made
    assert '<tr id="full"><th scope="row">full</th><td class="number">–</td></tr>' in made
    assert found.of("input")[0]["data-filters"] == "costs"


@pytest.mark.parametrize(
    "wrong",
    [
        h("a", "x", href="#nowhere"),
        h("img", src="https://x.org/a.png", alt=""),
        h("p", id="one"),
        h("img", src="data:,"),
        h("th", "x"),
        h("p", onclick="x"),
    ],
)
def test_check__finds_what_it_looks_for(wrong: str) -> None:
    with pytest.raises(AssertionError):
        Checked(page(wrong))


def test_script__is_short() -> None:
    found = page().partition("<script>")[2].partition("</script>")[0]
    assert 20 < found.count("\n") <= 200
