"""Published numbers: every printed mean follows from its cells or is flagged, and every flag is still needed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vitgraft import methods
from vitgraft.core.shape import Shape
from vitgraft.errors import ConfigError
from vitgraft.report import reference
from vitgraft.report.reference import ALL, FGVC, GROUPS, Row

MEANS = reference.rows(kind="mean")
ALONE = {
    ("synqt-t4", "scale fixed to 1"),
    ("synqt-t5", "trainable KEM"),
}
"""Rows whose group means are printed and whose cells are nowhere."""

OFF = ("rounding", "unreconciled")
HEADS = {"no": (0,), "vtab": (38_045,), "fgvc": (180_407,), "both": (38_045, 180_407)}
"""Values of the mean classifiers that a size may hold."""


def name(row: Row) -> str:
    return "-".join(filter(None, (row.table, row.method, row.variant, row.task or row.unit)))


def of_cells(row: Row) -> float | None:
    """A printed mean from its cells: its table's, or those of the same rows in SynQT's table 2."""
    if row.table not in ("synqt-t4", "synqt-t5") or row.task == ALL:
        return reference.recomputed(row)
    if (row.table, row.variant) in ALONE:
        return None
    return reference.means(reference.rows(table="synqt-t2", method="SynQT", kind="cell")).groups[row.task]


def test_tables__are_all_there() -> None:
    found = {table: len(reference.rows(table=table)) for table in reference.tables()}
    assert found == {
        "noah-t1": 126,
        "spt-t1": 112,
        "spt-t2": 368,
        "synqt-t1": 19,
        "synqt-t2": 105,
        "synqt-t3": 60,
        "synqt-t4": 8,
        "synqt-t5": 8,
        "vpetl-vtab": 420,
    }
    assert len(MEANS) == 6 + 16 + 3 * 16 + 20 + 5 + 3 + 8 + 8
    assert len({(name(row), row.kind, row.unit) for row in reference.rows()}) == 1226, "no number stands twice"


def test_columns__hold_what_they_say() -> None:
    tasks = {task for group in GROUPS.values() for task in group} | set(FGVC)
    for row in reference.rows():
        assert row.source
        assert row.value >= 0
        assert row.selection in ("", "last epoch", "best on test", "not stated")
        assert bool(row.selection) == (row.unit == "%")
        assert bool(row.average) == (row.kind == "mean")
        assert bool(row.head) == (row.kind == "size")
        assert bool(row.reason) or not row.flag, f"{name(row)} has a flag and no reason"
        assert {"cell": row.task in tasks, "mean": row.task in (ALL, *GROUPS), "size": not row.task}[row.kind]
        if row.ours:
            assert methods.spec_of(methods.parse(row.ours)) == row.ours


@pytest.mark.parametrize("row", MEANS, ids=name)
def test_mean__follows_from_its_cells_or_is_flagged(row: Row) -> None:
    expected = of_cells(row)
    if expected is None:
        assert row.task in GROUPS
        return
    off = abs(row.value - expected)
    if off <= row.half_unit + 1e-9:
        assert row.flag not in OFF, f"the flag is not needed: {expected:.3f}"
        return
    assert row.flag == ("rounding" if off <= 2 * row.half_unit + 1e-9 else "unreconciled"), f"{expected:.3f}"
    said = row.reason.split("cells give ")[1].split()[0].rstrip(";,")
    assert float(said) == pytest.approx(expected, abs=0.006), row.reason


def test_means__the_average_of_every_kind() -> None:
    """Where a table prints means, they are of the kind that its rows say, and of no other."""
    for row in MEANS:
        if row.task != ALL or row.table in ("synqt-t4", "synqt-t5", "spt-t1"):
            continue
        cells = reference.rows(table=row.table, method=row.method, kind="cell")
        found = reference.means([one for one in cells if one.variant == row.variant])
        assert found.of_groups is not None
        other = found.of_tasks if row.average == "groups" else found.of_groups
        assert abs(row.value - other) > 1.0, f"{name(row)} may as well be of the other kind"


def test_synqts_table_3__mixes_two_kinds() -> None:
    (head2toe,) = reference.rows(table="synqt-t3", method="Head2Toe", kind="mean")
    assert (head2toe.average, head2toe.flag) == ("tasks", "convention")
    kinds = {row.average for row in reference.rows(table="synqt-t3", kind="mean") if row != head2toe}
    assert kinds == {"groups"}, "else there is nothing to flag"
    found = reference.means(reference.rows(table="synqt-t3", method="Head2Toe", kind="cell"))
    ours = reference.means(reference.rows(table="synqt-t3", method="SynQT", kind="cell"))
    assert found.of_groups == pytest.approx(66.83, abs=0.005)
    assert found.of_tasks == pytest.approx(63.28, abs=0.005)
    assert ours.of_groups is not None
    assert found.of_groups is not None
    assert ours.of_groups - found.of_groups == pytest.approx(4.5, abs=0.05)
    assert ours.of_tasks - found.of_tasks == pytest.approx(5.2, abs=0.05)


@pytest.mark.parametrize("row", [row for row in reference.flagged() if row.flag not in OFF], ids=name)
def test_flag__is_still_needed(row: Row) -> None:
    if row.flag == "repaired":
        assert row.printed not in ("", row.text)
    elif row.flag == "suspect":
        elsewhere = {
            one.value
            for one in reference.rows(ours=row.ours, task=row.task, unit="%", pretraining=row.pretraining)
            if one.kind == "cell" and one.table != row.table and not one.variant
        }
        own = reference.rows(table=row.table, method=row.method, kind="mean")
        contradicted = any(not reference.reconciles(one) for one in own)
        assert elsewhere - {row.value} or contradicted
    else:
        assert row.flag == "convention"
        assert row.kind == "mean"


def test_repairs__are_the_listed_ones() -> None:
    found = {name(row): row.printed for row in reference.rows(flag="repaired")}
    assert found == {
        "spt-t2-NOAH-cifar100": "69.69",
        "spt-t2-VPT-Shallow-specialized": "7.9.7",
        "spt-t2-Bias-structured": "4.1",
        "synqt-t2-VPT-Deep-300 tokens-flowers102": "82",
    }


def test_vpt_deep__is_the_same_in_three_papers() -> None:
    tables = ("synqt-t2", "spt-t2", "noah-t1", "vpetl-vtab")
    rows = [reference.rows(table=table, ours="vpt-deep", kind="cell") for table in tables]
    cells = [{row.task: row.value for row in some if not row.variant} for some in rows]
    assert all(len(one) == 19 for one in cells)
    assert cells[0] == cells[1] == cells[2] == cells[3]


def test_sizes__are_the_formulas_with_the_classifier_that_is_said() -> None:
    """Parts of the backbone to within a hundredth of a percent, numbers of values to within half of theirs."""
    sizes: dict[str, Any] = json.loads((Path(methods.__file__).parent / "vit_b16.json").read_text())
    del sizes["name"]
    shape = Shape(**{**sizes, "widths": {place: tuple(pair) for place, pair in sizes["widths"].items()}})
    checked = 0
    for row in reference.rows(kind="size"):
        method = methods.parse(row.ours) if row.ours else None
        settled = ("vpt-shallow", "vpt-deep", "adaptformer", "vqt", "synqt")  # their sizes are the paper's choice
        if row.head not in HEADS or method is None or method.name in settled or method.counts != "exactly":
            continue
        heads = HEADS[row.head]
        count = method.formula(shape) + sum(heads) / len(heads)
        if row.unit == "M values":
            assert abs(row.value - count / 1e6) <= max(row.half_unit, 0.005), name(row)
        else:
            assert abs(row.value - 100 * count / shape.parameters) <= 0.011, name(row)
        checked += 1
    assert checked > 20


def test_rows__mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match=r"no column of reference tables 'tabel'\. Did you mean 'table'"):
        reference.rows(tabel="spt-t2")
    with pytest.raises(ConfigError, match=r"no table in reference tables 'spt-t3'\. Did you mean 'spt-t"):
        reference.rows(table="spt-t3")


def test_means__refuse_what_is_no_whole_benchmark() -> None:
    cells = reference.rows(table="spt-t2", method="Full", kind="cell")
    assert reference.means(cells).of_groups == pytest.approx(68.97, abs=0.005)
    assert reference.means(cells).of_tasks == pytest.approx(65.57, abs=0.005)
    with pytest.raises(ConfigError, match=r"18 tasks are no whole benchmark of 19; it is about cifar100"):
        reference.means(cells[1:])
    with pytest.raises(ConfigError, match="one method's accuracies"):
        reference.means(reference.rows(table="spt-t2", kind="cell"))
    with pytest.raises(ConfigError, match="only a printed mean"):
        reference.recomputed(cells[0])
    alone = next(row for row in MEANS if (row.table, row.variant) in ALONE and row.task != ALL)
    with pytest.raises(ConfigError, match="prints neither cells nor groups"):
        reference.recomputed(alone)


def test_reading__needs_neither_torch_nor_pandas() -> None:
    code = "import sys, vitgraft.report.reference as r; r.rows(); print({'torch', 'pandas'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
