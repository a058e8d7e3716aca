"""How large a report of many runs is, and how soon headless Chromium has opened it.

    python benchmarks/report_page.py                 # 720 runs of 20 methods on 9 tasks
    python benchmarks/report_page.py results/records # any records

Opening is from the request to the end of the load event, by the page's own clock; `busy` is what the page's main
thread computed for it, which other work of the machine leaves as it is. Medians over several openings.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.browser import Browser
from tests.made import kept, study

from vitgraft.report.page.gather import gather
from vitgraft.report.page.runs import page, reported

BYTES, SECONDS = 3_000_000, 1.0
"""Bars: of a page of 700 records."""

RESULTS = Path(__file__).parent / "results"


def openings(path: Path, count: int) -> list[dict[str, float]]:
    """Seconds of each opening of a page, all but the first, in which the browser itself is warming up."""
    found = []
    with Browser() as browser:
        browser.call("Performance.enable", timeDomain="threadTicks")
        for _ in range(count + 1):
            browser.open(path)
            told = browser.call("Performance.getMetrics")["metrics"]
            busy = next(one["value"] for one in told if one["name"] == "TaskDuration")
            clock = "performance.getEntriesByType('navigation')[0].loadEventEnd"
            paint = "performance.getEntriesByType('paint')[0]?.startTime ?? NaN"
            opened, painted = browser.get(clock) / 1000, browser.get(paint) / 1000
            found.append({"opened": opened, "painted": painted, "busy": busy})
    return found[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", nargs="?", type=Path, help="a folder of records; none: 720 made up")
    parser.add_argument("--openings", type=int, default=9)
    parser.add_argument("--out", type=Path, default=RESULTS / "report_page.json")
    asked = parser.parse_args()
    before = {"cores": os.cpu_count(), "load_before": round(os.getloadavg()[0], 2)}
    with tempfile.TemporaryDirectory() as name:
        methods, tasks = [f"lora:rank={rank}" for rank in range(1, 21)], [f"task{number}" for number in range(9)]
        records = asked.records or kept(Path(name) / "records", study(methods, tasks))
        began = time.perf_counter()
        material = reported(gather([records]))
        text = page(material).encode()
        written = time.perf_counter() - began
        path = Path(name) / "report.html"
        path.write_bytes(text)
        each = openings(path, asked.openings)
    medians = {key: round(statistics.median(one[key] for one in each), 3) for key in each[0]}
    bars = {"bytes": len(text) <= BYTES, "opened": medians["opened"] < SECONDS}
    found = {
        "runs": len(material.runs),
        "bytes": len(text),
        "written": round(written, 3),
        **medians,
        "holds": bars,
    }
    print(json.dumps(found, indent=1))
    asked.out.write_text(json.dumps({**found, "machine": before}, indent=1) + "\n")


if __name__ == "__main__":
    main()
