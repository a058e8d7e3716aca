"""Where the values of an allocation went: as data to draw, and as a map to print."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from vitgraft.core.sites import PLACES
from vitgraft.search.allocation import Allocation, Rule

MARKS = {"structured": "■", "whole": "■", "frozen": "·"}


def pattern(allocation: Allocation, rule: Rule, scores: Sequence[Tensor] = ()) -> list[dict[str, Any]]:
    """One row a candidate: block, operation, kind, values, how many are among the best, its form, values trained.

    How many are among the best is None where a published selection does not say it. With `scores` a row also has
    the sum of its candidate's.
    """
    rows = []
    for number, candidate in enumerate(allocation.candidates):
        row = {
            "block": candidate.site[0],
            "operation": candidate.site[1],
            "kind": candidate.kind,
            "values": candidate.size,
            "chosen": allocation.chosen(number),
            "form": allocation.form(number),
            "trained": allocation.trained(number, rule),
        }
        rows.append({**row, "score": float(scores[number].double().sum())} if scores else row)
    return rows


def drawn(allocation: Allocation, rule: Rule, module: str, budget: int | None = None) -> list[str]:
    """A map of blocks by operations: ■ for a `module` or whole vector, a number of sparse entries, · for nothing.

    The weight's mark stands before the bias's.
    """
    cells: dict[tuple[int, str], list[str]] = {}
    for number, candidate in enumerate(allocation.candidates):
        form = allocation.form(number)
        mark = f"{len(allocation.sparse[number]):,}" if form == "sparse" else MARKS[form]
        cells.setdefault(candidate.site, []).append(mark)
    blocks = sorted({block for block, _ in cells})
    places = [place for place in (*PLACES, "norm") if any(site[1] == place for site in cells)]
    table = [["block", *places]]
    table += [[str(block), *(" ".join(cells.get((block, place), ())) for place in places)] for block in blocks]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
    ]
    return [*lines, *_sums(allocation, rule, module, budget)]


def _sums(allocation: Allocation, rule: Rule, module: str, budget: int | None) -> list[str]:
    trained = dict.fromkeys(("structured", "whole", "sparse"), 0)
    for number in range(len(allocation.candidates)):
        form = allocation.form(number)
        if form != "frozen":
            trained[form] += allocation.trained(number, rule)
    parts = [
        f"{len(allocation.structured)} matrices by {module} ({trained['structured']:,} values)",
        f"{len(allocation.whole)} whole vectors ({trained['whole']:,})",
        f"{trained['sparse']:,} sparse entries",
    ]
    parts += [f"the class token ({allocation.always:,})"] if allocation.always else []
    total = allocation.total(rule)
    asked = "" if budget is None else f" of {budget:,} asked for"
    level = allocation.level
    considered = "a published selection" if level is None else f"the best {level:,} entries were considered"
    return [
        f"■ {module} or whole vector, numbers are sparse entries, weight before bias.",
        f"{', '.join(parts)}.",
        f"{total:,} values{asked}; {considered}.",
    ]
