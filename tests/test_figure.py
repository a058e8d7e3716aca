"""Figures: one style, names beside points that stay readable, and files that belong together."""

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest

from vitgraft import methods
from vitgraft.errors import ArtefactError
from vitgraft.report.figure import SUFFIXES, Figure, check_free
from vitgraft.report.labels import name_points
from vitgraft.report.style import PALETTE, canvas, look, looks, rendered, shades, styled

POINTS = {
    "spread": lambda draw: (10 ** draw.uniform(3, 6), draw.uniform(50, 70)),
    "crowd": lambda draw: (10 ** draw.gauss(5, 0.15), draw.gauss(60, 0.4)),
    "right edge": lambda draw: (10 ** draw.gauss(5, 0.01), draw.uniform(50, 70)),
}


def figure(**changes: Any) -> Figure:
    given: dict[str, Any] = {
        "name": "curve",
        "title": "A curve",
        "caption": "It rises.",
        "command": "vitgraft analyze curve",
        "columns": ("block", "kept"),
        "rows": ((0, 1.5), (1, None)),
        "units": {"kept": "MiB"},
        "seeds": (0,),
    }
    return Figure(**{**given, **changes})


def drawing() -> Any:
    drawn, axes = canvas(3, 2)
    axes.plot([1, 2], [3, 4])
    return drawn


@pytest.mark.parametrize("kind", POINTS)
def test_names__cover_nothing_and_stay_inside(kind: str) -> None:
    draw = random.Random(0)
    points = {name: POINTS[kind](draw) for name in (*methods.names(), "lora:rank=16,places=qkv")}
    with styled():
        drawn, axes = canvas(7, 5)
        axes.plot(*zip(*points.values(), strict=True), "o")
        axes.set_xscale("log")
        name_points(axes, points)
        drawn.draw_without_rendering()
    boxes = {text.get_text(): text.get_window_extent() for text in axes.texts}
    assert set(boxes) == set(points)
    inside = axes.bbox
    for name, box in boxes.items():
        assert (inside.min <= box.min).all(), name
        assert (box.max <= inside.max).all(), name
        assert not [other for other, its in boxes.items() if other != name and box.overlaps(its)], name
        assert not [one for one in points.values() if box.contains(*axes.transData.transform(one))], name


def test_names__stand_beside_lines() -> None:
    points = {"low": (0.0, 0.0), "middle": (1.0, 1.0), "high": (2.0, 2.0)}
    with styled():
        drawn, axes = canvas(4, 4)
        (line,) = axes.plot(*zip(*points.values(), strict=True), "-")
        axes.margins(0.2)
        name_points(axes, points)
        drawn.draw_without_rendering()
    path = line.get_path().interpolated(200).transformed(axes.transData)
    assert len(axes.texts) == 3
    assert not [
        text.get_text() for text in axes.texts if path.intersects_bbox(text.get_window_extent(), filled=False)
    ]


def test_looks__are_of_a_method_and_differ() -> None:
    own = looks(methods.names())
    assert len(set(own.values())) == len(own)
    assert own["lora"] == look("lora") == looks(["synqt", "lora:rank=4", "bias"])["lora:rank=4"]
    variants = looks(["lora", "lora:rank=4", "lora:rank=16"])
    assert len(set(variants.values())) == 3
    assert {one.colour for one in variants.values()} == {own["lora"].colour}
    assert look("a method of tomorrow") == look("a method of tomorrow")
    assert look("a method of tomorrow") not in own.values()


def test_palette__is_told_apart_by_the_colour_blind() -> None:
    """Simulated as Machado and others (2009) do, full deficiency, in linear RGB: no two colours come close."""
    missing = {
        "protan": ((0.152, 1.053, -0.205), (0.115, 0.786, 0.099), (-0.004, -0.048, 1.052)),
        "deutan": ((0.367, 0.861, -0.228), (0.280, 0.673, 0.047), (-0.012, 0.043, 0.969)),
    }

    def linear(colour: str) -> list[float]:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        return [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]

    for rows in missing.values():
        seen = [[sum(a * b for a, b in zip(row, linear(one), strict=True)) for row in rows] for one in PALETTE]
        gaps = [sum(abs(a - b) for a, b in zip(x, y, strict=True)) for i, x in enumerate(seen) for y in seen[:i]]
        assert min(gaps) > 0.1


def test_shades__go_from_dark_to_light() -> None:
    found = shades(5)
    brightness = [sum(int(one[at : at + 2], 16) for at in (1, 3, 5)) for one in found]
    assert brightness == sorted(brightness)
    assert len(shades(1)) == 1


def test_style__changes_nothing_outside() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    with styled():
        first = rendered(drawing(), "svg", "A & B")
        assert rendered(drawing(), "svg", "A & B") == first
    assert dict(matplotlib.rcParams) == before
    assert b"A &amp; B" in first


def test_figure__writes_files_that_tell_what_they_are(tmp_path: Path) -> None:
    with styled():
        paths = figure(found={"rank": float("nan")}).write(drawing(), tmp_path / "new")
    assert [path.name for path in paths] == [f"curve{suffix}" for suffix in SUFFIXES]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(path.name for path in paths)
    assert list(csv.reader((tmp_path / "new/curve.csv").open())) == [["block", "kept"], ["0", "1.5"], ["1", ""]]
    card = json.loads((tmp_path / "new/curve.json").read_text())
    assert {"title": "A curve", "caption": "It rises.", "units": {"kept": "MiB"}}.items() <= card.items()
    assert {"torch", "vitgraft"} <= card["versions"].keys()
    assert card["found"] == {"rank": None}
    assert (tmp_path / "new/curve.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "new/curve.svg").read_bytes()


def test_figure__has_no_card_while_its_files_are_of_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with styled():
        figure().write(drawing(), tmp_path)
        monkeypatch.setattr("vitgraft.report.figure.Figure._csv", lambda self: "no bytes")
        with pytest.raises(TypeError):
            figure(title="Another").write(drawing(), tmp_path)
    assert not (tmp_path / "curve.json").exists()


def test_figure__of_another_command_stays(tmp_path: Path) -> None:
    check_free(tmp_path, "curve", "any", replace=False)
    with styled():
        figure().write(drawing(), tmp_path)
    check_free(tmp_path, "curve", "vitgraft analyze curve", replace=False)
    check_free(tmp_path, "curve", "another", replace=True)
    with pytest.raises(ArtefactError, match=r"curve\.png' is there already.*--force"):
        check_free(tmp_path, "curve", "vitgraft analyze curve --out there", replace=False)
    (tmp_path / "curve.json").write_text("[")
    with pytest.raises(ArtefactError, match="--force"):
        check_free(tmp_path, "curve", "vitgraft analyze curve", replace=False)
