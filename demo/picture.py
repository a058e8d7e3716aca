"""Draw what a demo's records say: accuracy against what it costs, a row of panels a task.

python demo/picture.py demo docs/demo.png
python demo/picture.py photos docs/demo-photos.png
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from series import Series

from vitgraft.atomic import write_atomically
from vitgraft.report.labels import name_points
from vitgraft.report.plots import AGAINST
from vitgraft.report.style import WIDE, canvas, looks, rendered, styled
from vitgraft.report.summary import Cost
from vitgraft.results.record import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEMOS = ("demo", "photos")
HEIGHT = 2.9
"""Of a panel, in inches."""


def main(arguments: list[str]) -> int:
    """Read a demo's records, draw, write; returns the exit code."""
    if len(arguments) != 2 or arguments[0] not in DEMOS:
        print(__doc__)
        return 2
    runs: Series = import_module(arguments[0]).runs()
    if not runs.done():
        print(f"No records of it below {runs.folder}. Run `{runs.command}` first.")
        return 1
    draw(runs, Path(arguments[1]))
    return 0


def draw(runs: Series, path: Path) -> None:
    """Write a PNG of the runs that are finished; there is one at least."""
    with styled():
        write_atomically(path, rendered(figure_of(runs), "png", runs.title))


def figure_of(runs: Series) -> "Figure":
    """The runs that are finished: accuracy against each cost that is to be drawn, a row a task."""
    records = runs.done()
    tasks = list(dict.fromkeys(record.task.name for record in records))
    with styled():
        figure, panels = canvas(
            WIDE, HEIGHT * len(tasks), len(tasks), len(runs.drawn), squeeze=False, sharey="row"
        )
        named = []
        for row, task in zip(panels, tasks, strict=True):
            row[0].set(title=task, ylabel="test accuracy, %")
            own = [record for record in records if record.task.name == task]
            named += [(panel, _points(panel, own, cost)) for panel, cost in zip(row, runs.drawn, strict=True)]
        for panel, points in named:  # once all else is there
            name_points(panel, points)
    return figure


def _points(panel: Any, records: list[Record], cost: str) -> dict[str, tuple[float, float]]:
    """Draw a point a method; returns them, by the method's name."""
    title, of = AGAINST[cost]
    points = {}
    for record in records:
        assert record.test is not None, "the tasks of demos have test splits"
        points[record.method.spec] = (of(Cost.of([record])), record.test.top1)
    for name, look in looks(list(points)).items():
        panel.plot(*points[name], **look.point())
    panel.set(xscale="log", xlabel=title)
    panel.margins(x=0.2, y=0.2)
    _round_numbers(panel)
    return points


def _round_numbers(panel: Any) -> None:
    """Few numbers, such as 20k, along the logarithmic axis, some also where it is shorter than a power of ten."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    low, high = panel.get_xlim()
    panel.xaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 100 * low else (1.0, 2.0, 5.0)))
    panel.xaxis.set_major_formatter(EngFormatter(sep=""))
    panel.xaxis.set_minor_formatter(NullFormatter())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
