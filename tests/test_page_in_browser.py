"""The page in headless Chromium, as a person uses it: with a mouse, with keys, on a telephone, in the dark."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import Browser, needs_chromium
from tests.made import made, study
from tests.pages import LOCAL
from vitgraft.report.page import grouping
from vitgraft.report.page.material import Material, Run
from vitgraft.report.page.runs import page
from vitgraft.results import store

pytestmark = [pytest.mark.slow, needs_chromium]

METHODS = ("linear", "lora:rank=4", "vqt", "spt-lora:budget=36864,score=magnitude")
TASKS = ("digits", "flower", "road")
ROWS = "[...document.querySelectorAll('#accuracy-table tbody tr')]"
NAMES = f"{ROWS}.filter(row => !row.hidden).map(row => row.cells[0].textContent)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as one:
        yield one


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    records = [*study(METHODS, TASKS), made("bias", "digits", 0, 95.0)]
    names = grouping.rows(records)
    runs = [Run(one, store.file_name(one.config), name) for one, name in zip(records, names, strict=True)]
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page(Material.of("A study", runs)))
    return path


@pytest.fixture(autouse=True)
def nothing_goes_wrong(browser: Browser) -> Iterator[None]:
    yield
    assert browser.problems == []
    assert [url for url in browser.requests if not url.startswith(("file:", *LOCAL))] == []


def test_guard__hears_of_errors(browser: Browser, tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    broken.write_text("<!doctype html><script>nowhere()</script><img src='missing.png'>")
    browser.open(broken)
    assert len(browser.problems) == 2
    browser.problems.clear()


def test_headers__sort_by_mouse_and_by_key(browser: Browser, report: Path) -> None:
    browser.open(report)
    best = browser.get(f"{NAMES}[0]")
    heads = browser.get("[...document.querySelectorAll('#accuracy-table thead button')].map(b => b.textContent)")
    digits, flower = heads.index("digits"), heads.index("flower")
    click = "document.querySelectorAll('#accuracy-table thead button')[{}].click()"
    browser.get(click.format(digits))  # the highest first
    values = browser.get(f"{ROWS}.map(row => parseFloat(row.cells[{digits}].textContent))")
    assert values == sorted(values, reverse=True)
    assert values[0] == 95.0
    states = "[...document.querySelectorAll('#accuracy-table th[aria-sort]')].map(one => one.ariaSort)"
    assert [at for at, state in enumerate(browser.get(states)) if state != "none"] == [digits]
    browser.get(f"document.querySelectorAll('#accuracy-table thead button')[{flower}].focus()")
    browser.press("Enter", 13, text="\r")
    assert [at for at, state in enumerate(browser.get(states)) if state != "none"] == [flower]
    assert browser.get(states)[flower] == "descending"
    assert browser.get(f"{NAMES}.at(-1)") == "bias"  # it has no such task
    browser.press("Enter", 13, text="\r")
    assert browser.get(states)[flower] == "ascending"
    assert browser.get(f"{NAMES}.at(-1)") == "bias"
    browser.get(click.format(0))
    names = browser.get(NAMES)
    assert names == sorted(names)
    assert best in names


def test_filter__holds_for_the_charts(browser: Browser, report: Path) -> None:
    browser.open(report)
    browser.get("document.getElementById('accuracy-table-filter').focus()")
    browser.call("Input.insertText", text="LORA 4")
    assert browser.get(NAMES) == ["lora:rank=4", "spt-lora:budget=36864,score=magnitude"]
    assert browser.get("document.querySelector('.filter output').textContent") == "2 of 5 rows"
    clear = "[...document.querySelectorAll('.plane a:not(.off)')].map(one => one.textContent)"
    assert set(browser.get(clear)) == {"lora:rank=4", "spt-lora:budget=36864,score=magnitude"}
    shown = "[...document.querySelectorAll('#strip-0 tbody tr')].filter(row => !row.hidden).length"
    assert browser.get(shown) == 2
    browser.get("document.getElementById('accuracy-table-filter').value = ''")
    browser.call("Input.insertText", text=" ")
    assert browser.get(shown) == 5


def test_plane__moves_its_points_and_its_front(browser: Browser, report: Path) -> None:
    browser.open(report)
    browser.get("document.getElementById('tradeoff').scrollIntoView()")
    places = "[...document.querySelectorAll('.plane a > svg')].map(one => one.getAttribute('x'))"
    title = "[...document.querySelectorAll('.plane g[data-axis=x]')].filter(g => !g.hasAttribute('hidden')).length"
    before = browser.get(places)
    choose = (
        "(() => {{const one = document.querySelector('.plane select[data-axis={}]'); one.value = {};"
        "one.dispatchEvent(new Event('change', {{bubbles: true}}))}})()"
    )
    front = "document.querySelector('.plane polyline').getAttribute('points').split(' ').length"
    assert browser.get(title) == 1
    browser.get(choose.format("x", 5))
    assert browser.get(places) != before
    assert browser.get(title) == 1
    assert browser.get(front) >= 1
    shown = "[...document.querySelectorAll('.plane a')].filter(one => !one.hasAttribute('hidden')).length"
    assert browser.get(shown) == 4
    options = browser.get("[...document.querySelectorAll('.plane select[data-axis=y] option')].map(o => o.text)")
    browser.get(choose.format("y", options.index("digits")))
    assert browser.get(shown) == 5
    apart = """(() => {
      const boxes = [...document.querySelectorAll('.plane text')].filter(one => one.closest('a') &&
        !one.hasAttribute('hidden') && !one.closest('[hidden]')).map(one => one.getBoundingClientRect());
      return boxes.every((a, i) => boxes.every((b, j) => i >= j || a.right <= b.left || b.right <= a.left ||
        a.bottom - 3 <= b.top || b.bottom - 3 <= a.top))})()"""
    assert browser.get(apart)


def test_marks__tell_themselves_when_pointed_at_and_when_focused(browser: Browser, report: Path) -> None:
    browser.open(report)
    tip = "document.getElementById('tip').hidden ? null : document.getElementById('tip').textContent"
    assert browser.get(tip) is None
    browser.point_at(".plane a:not([hidden]) path")
    told = browser.get(tip)
    assert "trained values: " in told
    assert "% test accuracy, mean of 3 tasks" in told
    assert browser.get("document.querySelectorAll('#accuracy-table tr.lit').length") == 1
    browser.point_at("h1")
    assert browser.get(tip) is None
    browser.get("document.querySelector('#strip-1 a').focus()")
    first = browser.get(tip)
    assert ", flower, seed " in first
    browser.point_at("h1")
    assert browser.get(tip) == first
    browser.press("ArrowRight", 39)
    assert browser.get(tip) != first
    browser.press("Escape", 27)
    assert browser.get(tip) is None
    reached = browser.get("[...document.querySelectorAll('#strip-1 a')].filter(one => one.tabIndex === 0).length")
    assert reached == 1


def test_links__open_the_runs_that_they_lead_to(browser: Browser, report: Path) -> None:
    browser.open(report)
    opened = "[...document.querySelectorAll('details[open]')].map(one => one.id)"
    assert browser.get(opened) == []
    browser.get("[...document.querySelectorAll('#accuracy-table td a')].find(a => a.hash.includes('-')).click()")
    browser.get("new Promise(done => setTimeout(done, 100))")
    assert browser.get(opened) == ["r1", "r2", "r3", "r4"]  # three that count, then one that was tried
    browser.open(report, fragment="#r9")
    assert "r9" in browser.get(opened)
    assert browser.get("document.querySelector('#r9 pre').textContent").startswith("data = ")


@pytest.mark.parametrize("width", [390, 1280])
def test_links__lead_to_where_they_say(browser: Browser, report: Path, width: int) -> None:
    browser.open(report, width=width)
    for name in (
        *browser.get("[...document.querySelectorAll('nav a')].map(one => one.hash.slice(1))"),
        "r9",
        "m1",
    ):
        browser.get(f"scrollTo(0, 0); document.querySelector('a[href=\"#{name}\"]:not(svg a)').click()")
        browser.get("new Promise(done => setTimeout(done, 150))")
        seen = browser.get(f"document.getElementById('{name}').getBoundingClientRect().top")
        below = "document.documentElement.scrollHeight - innerHeight - scrollY"
        assert -1 <= seen <= 80 or browser.get(below) < 2, name


def test_curves__show_what_is_chosen(browser: Browser, report: Path) -> None:
    browser.open(report)
    shown = "[...document.querySelectorAll('[data-kind]')].filter(one => !one.hidden).map(one => one.dataset.kind)"
    assert browser.get(shown) == ["val_top1"]
    browser.get(
        "(() => {const one = document.querySelector('select[data-shows]'); one.value = 'train_loss';"
        "one.dispatchEvent(new Event('change'))})()"
    )
    assert browser.get(shown) == ["train_loss"]


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_page__fits_the_width(browser: Browser, report: Path, width: int) -> None:
    browser.open(report, width=width)
    for name in browser.get("[...document.querySelectorAll('main > section')].map(one => one.id)"):
        browser.get(f"document.getElementById('{name}').scrollIntoView({{behavior: 'instant'}})")
        browser.get("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert browser.get("document.documentElement.scrollWidth") <= width, name
    beyond = f"""[...document.querySelectorAll('body *')].filter(one => !one.closest('.scroll, nav, pre, .skip') &&
      one.getBoundingClientRect().right > {width + 1}).map(one => one.outerHTML.slice(0, 80))"""
    assert browser.get(beyond) == []


@pytest.mark.parametrize("dark", [False, True])
def test_colours__have_contrast(browser: Browser, report: Path, dark: bool) -> None:
    """WCAG 2.1: 4.5 for text; 3 for marks against the page."""
    browser.open(report, dark=dark)
    contrast = """(name) => {
      const of = (name) => {
        const probe = document.body.appendChild(document.createElement('i'));
        probe.style.color = `var(--${name})`;
        const [r, g, b] = getComputedStyle(probe).color.match(/[0-9.]+/g).map(Number).map((c) => c / 255)
          .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        probe.remove();
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const [a, b] = [of(name), of('paper')].sort((x, y) => y - x);
      return (a + 0.05) / (b + 0.05);
    }"""
    for name in ("ink", "quiet", "link", "focus"):
        assert browser.get(f"({contrast})('{name}')") >= 4.5, name
    for name in ("c0", "c1", "c2", "c6"):
        assert browser.get(f"({contrast})('{name}')") >= 3, name
    assert browser.get("getComputedStyle(document.body).backgroundColor") == (
        "rgb(20, 24, 29)" if dark else "rgb(255, 255, 255)"
    )


def test_print__holds_everything_but_what_is_to_be_pressed(browser: Browser, report: Path, tmp_path: Path) -> None:
    browser.open(report)
    browser.call("Emulation.setEmulatedMedia", media="print")
    seen = "[...document.querySelectorAll('nav, .filter, .choices')].filter(one => one.offsetParent).length"
    assert browser.get(seen) == 0
    assert browser.get("document.querySelector('#accuracy-table').getBoundingClientRect().width") > 100
    browser.printed(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    browser.call("Emulation.setEmulatedMedia", media="")
