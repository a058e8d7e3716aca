"""Tables and plots: means as printed by hand, both kinds of mean told apart, what is missing left out."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from tests.test_records import record
from vitgraft.errors import ConfigError
from vitgraft.report import against as comparison
from vitgraft.report import beside, pairs, plots, reference, render
from vitgraft.report.summary import Origin, Spread, Summary, pareto, summarise
from vitgraft.results.record import Expense, Record, Scores, TaskFacts

GROUPS = {"a": "natural", "b": "natural", "c": "structured"}


def done(task: str, top1: float, seed: int) -> Record:
    facts = TaskFacts(task, "f", GROUPS[task], 3, {"train": 8})
    cost = Expense(100, 50, 2**20, 10**9, 3 * 10**9, 600, None, 4.0 + seed, None, cache_seconds=1.0)
    return record(task=facts, seed=seed, test=Scores(1.0, top1, None, top1, 10), cost=cost)


def summary() -> Summary:
    reached = {
        "good": {"a": (90.0, 92.0), "b": (80.0, 80.0), "c": (40.0, 50.0)},
        "plain": {"a": (70.0, 70.0), "b": (80.0, 80.0), "c": (60.0, 60.0)},
        "begun": {"a": (99.0, 99.0), "b": (99.0,)},
    }
    found = {
        name: {task: [done(task, top1, seed) for seed, top1 in enumerate(each)] for task, each in cells.items()}
        for name, cells in reached.items()
    }
    return summarise(found, ["a", "b", "c"], 2)


def test_summary__means_of_groups_and_of_tasks_differ() -> None:
    good, plain, begun = summary().rows
    assert good.tasks["a"].mean == 91.0
    assert good.tasks["a"].deviation == pytest.approx(2**0.5)
    assert good.groups == {"natural": 85.5, "structured": 45.0}
    assert good.mean_of_groups == 65.25
    assert good.mean_of_tasks == pytest.approx(72.0)
    assert (good.rank, plain.rank) == (pytest.approx((1 + 1.5 + 2) / 3), pytest.approx((2 + 1.5 + 1) / 3))
    assert good.cost is not None
    assert (good.cost.trained, good.cost.head, good.cost.seconds) == (100, 50, 5.5)
    assert begun.mean_of_tasks is None
    assert set(begun.tasks) == {"a"}
    assert [row.method for row in summary().complete] == ["good", "plain"]


def test_markdown__labels_both_means_and_marks_what_is_missing() -> None:
    lines = render.markdown(summary()).splitlines()
    assert lines[0] == (
        "| method | a | b | c | natural | structured | mean of groups | mean of tasks | mean rank |"
    )
    assert lines[2] == "| good | 91.0 ± 1.4 | 80.0 ± 0.0 | 45.0 ± 7.1 | 85.5 | 45.0 | 65.2 | 72.0 | 1.5 |"
    assert lines[4] == "| begun | 99.0 ± 0.0 | – | – | – | – | – | – | – |"
    assert lines[6] == "| method | trained | head | together | kept/image | GFLOPs/image | time |"
    assert lines[8] == "| good | 100 | 50 | 150 | 1.00 MiB | 1 | 6 s |"


def test_origin__tells_of_several_versions_of_the_code() -> None:
    some = [replace(done("a", 1.0, seed), commit=f"{seed}abcdef0123", device="card") for seed in range(6)]
    one = summarise({"m": {"a": some[:1]}}, ["a"], 1).origin
    assert render.origin(one).startswith("1 runs of figures by vitgraft 0abcdef, torch ")
    several = summarise({"m": {"a": [*some, replace(some[0], commit="9abcdef0123+")]}}, ["a"], 1).origin
    assert several.code[-1] == "9abcdef+"
    said = render.origin(several)
    assert said.startswith(
        "7 runs of figures by 7 versions of the code (vitgraft 0abcdef, 1abcdef, 2abcdef, 3abcdef, ..;"
    )
    assert said.endswith("on card.")


def test_origin__tells_of_runs_on_other_copies_of_the_data() -> None:
    """A JPEG copy and a lossless one are of the same sizes; train and val as one are of others."""
    one = done("a", 1.0, 0)
    one = replace(one, task=replace(one.task, sizes={"train": 8, "val": 2, "test": 5}))
    jpeg = replace(one, task=replace(one.task, fingerprint="g", copy="lists, JPEG"))
    joined = replace(one, task=replace(one.task, fingerprint="h", sizes={"train": 10, "test": 5}))
    said = render.origin(Origin.of([one, joined]))
    assert "copies" not in said
    said = render.origin(Origin.of([one, joined, jpeg]))
    assert said.endswith("Pictures: lists, JPEG. Not to be compared, as runs had different copies of the data: a.")
    grown = replace(one, task=replace(one.task, fingerprint="i", sizes={"train": 9, "val": 2, "test": 6}))
    assert "different copies of the data: a." in render.origin(Origin.of([one, grown]))


def test_difference__is_taken_seed_by_seed() -> None:
    reached = {
        "first": {"a": (90.0, 92.0), "b": (80.0, 80.0), "c": (40.0, 50.0)},
        "second": {"a": (70.0, 70.0), "b": (81.0, 81.0), "c": (30.0, 41.0)},
    }
    found = {
        name: {task: [done(task, top1, seed) for seed, top1 in enumerate(each)] for task, each in cells.items()}
        for name, cells in reached.items()
    }
    found["second"]["a"].reverse()
    one = pairs.difference(found, "first", "second", ["a", "b", "c"], 2)
    assert (one.all.mean, one.all.deviation) == (pytest.approx(29.5 / 3), pytest.approx(0.5**0.5 / 3))
    assert one.tasks == {"a": 21.0, "b": -1.0, "c": 9.5}
    assert one.groups == {"natural": 10.0, "structured": 9.5}
    assert (one.ahead, one.sign) == (2, 1)
    said = render.differences([one, pairs.difference(found, "second", "first", ["a", "b", "c"], 2)]).splitlines()
    assert said[0] == "| points | difference | deviation | outcome | tasks ahead | natural | structured |"
    assert said[2] == "| first - second | +9.83 | 0.24 | better | 2 of 3 | +10.0 | +9.5 |"
    assert said[3] == "| second - first | -9.83 | 0.24 | worse | 1 of 3 | -10.0 | -9.5 |"


def test_difference__is_open_within_its_deviation_and_needs_a_task() -> None:
    found = {
        "x": {"a": [done("a", 1.0, 0), done("a", 4.0, 1)]},
        "y": {"a": [done("a", 2.0, 0), done("a", 2.0, 1)]},
    }
    assert pairs.difference(found, "x", "y", ["a"], 2).sign == 0
    with pytest.raises(ConfigError, match="no task yet that x and y have both done"):
        pairs.difference(found, "x", "y", ["b"], 2)


def test_csv__is_not_rounded_and_read_back() -> None:
    rows = list(csv.DictReader(io.StringIO(render.table(summary()))))
    (cell,) = (row for row in rows if (row["method"], row["kind"], row["name"]) == ("good", "task", "c"))
    assert (float(cell["top1"]), float(cell["deviation"]), cell["seeds"]) == (45.0, pytest.approx(7.0710678), "2")
    means = {row["name"]: float(row["top1"]) for row in rows if row["method"] == "plain" and row["kind"] == "all"}
    assert means == {"mean of groups": 67.5, "mean of tasks": 70.0, "rank": 1.5}


def test_pareto__keeps_what_nothing_beats() -> None:
    points = {
        "cheap": (1.0, 50.0),
        "dear": (9.0, 60.0),
        "worse": (9.0, 55.0),
        "same": (1.0, 50.0),
        "low": (2.0, 50.0),
    }
    assert pareto(points) == {"cheap", "dear", "same"}


def test_plots__are_drawn_of_complete_methods(tmp_path: Path) -> None:
    paths = plots.draw(summary(), tmp_path / "new")
    assert {path.name for path in paths} == {"ranks.png", *(f"accuracy-{key}.png" for key in plots.AGAINST)}
    assert all(path.stat().st_size > 1_000 for path in paths)
    alone = summarise({"one": {"a": [done("a", 50.0, 0)]}}, ["a"], 1)
    with pytest.raises(ConfigError, match="1 methods are complete"):
        plots.draw(alone, tmp_path)


def published(task: str) -> float:
    (row,) = reference.rows(table="synqt-t2", ours="vpt-deep", variant="", task=task, kind="cell")
    return row.value


def whole(shift: float, names: str = "vtab1k:{}") -> Summary:
    """VPT-deep as published, and `shift` above that, on a whole VTAB-1k."""
    tasks = [(group, task) for group, own in reference.GROUPS.items() for task in own]
    GROUPS.update({names.format(task): group for group, task in tasks})
    found = {
        "mine": {names.format(task): [done(names.format(task), published(task) + shift, 0)] for _, task in tasks},
        "other": {names.format(task): [done(names.format(task), 50.0, 0)] for _, task in tasks},
    }
    return summarise(found, [names.format(task) for _, task in tasks], 1)


def shown(summary: Summary, kinds: dict[str, str], tables: list[str]) -> str:
    """The report's parts on published numbers."""
    return render.markdown(summary, beside.parts(summary, kinds, tables)).partition("Published")[2]


def test_against__pairs_the_same_tasks_and_both_means() -> None:
    found = comparison.pairs(whole(0.5), {"mine": "vpt-deep", "other": "full"}, "synqt-t2")
    plain = [pair for pair in found if pair.row.variant == ""]
    assert len(plain) == 19 + 3 + 2
    assert {pair.method for pair in plain} == {"mine"}
    assert all(pair.difference == pytest.approx(0.5) for pair in plain)
    assert {"vtab1k:cifar100", "natural", "mean of groups", "mean of tasks"} <= {pair.name for pair in plain}
    text = shown(whole(0.5), {"mine": "vpt-deep"}, ["synqt-t2"])
    assert "| mine | vtab1k:cifar100 | 79.3 | 78.8 | +0.5 | – | VPT-Deep | last epoch | – |" in text


def test_against__fields_choose_the_row() -> None:
    def rows(method: str) -> set[str]:
        return {pair.row.method for pair in comparison.pairs(whole(0.0), {"mine": method}, "spt-t2")}

    assert rows("lora:rank=16") == {"LoRA-16"}
    assert rows("lora:rank=8") == {"LoRA-8"}
    assert rows("spt-lora:budget=0.6M") == {"SPT-LoRA"}
    assert rows("adapter:hidden=32") == {"Adapter-32"}


def test_against__a_method_of_other_fields_is_told_from_the_published_one() -> None:
    """Rows of 300 tokens are of methods with 300; LoRA of rank 4 stands beside LoRA-8 as the nearest there is."""
    for spec, variant in (("vqt", ""), ("vqt:tokens=300", "300 tokens"), ("vpt-deep:tokens=300", "300 tokens")):
        found = comparison.pairs(whole(0.0), {"mine": spec}, "synqt-t2")
        assert {(pair.row.variant, pair.exact) for pair in found} == {(variant, True)}
    assert "| LoRA-8 (nearest) |" in shown(whole(0.0), {"mine": "lora:rank=4"}, ["spt-t2"])
    assert "(nearest)" not in shown(whole(0.0), {"mine": "lora"}, ["spt-t2"])


def test_against__is_in_every_form_and_tells_the_backbones() -> None:
    found, kinds = whole(0.5), {"mine": "vpt-deep"}
    said = shown(found, kinds, ["synqt-t2"])
    assert "(synqt-t2), of ViT-B/16, IN-21k. Ours: of figures." in said
    text = render.table(found, beside.lines(found, kinds, ["synqt-t2"]))
    rows = {(row["kind"], row["name"]): float(row["top1"]) for row in csv.DictReader(io.StringIO(text))}
    assert rows["published in synqt-t2", "vtab1k:cifar100"] == 78.8
    assert rows["difference to synqt-t2", "vtab1k:cifar100"] == pytest.approx(0.5)
    assert rows["difference to synqt-t2", "mean of tasks"] == pytest.approx(0.5)


def test_legacy__stands_apart() -> None:
    def with_legacy(task: str, top1: float, seed: int) -> Record:
        plain = done(task, top1, seed)
        history = replace(plain.history, legacy_best_on_test=top1 + 1, legacy_best_epoch=1)
        return replace(plain, history=history)

    tasks = {"a": (90.0, 92.0), "b": (80.0, 80.0), "c": (40.0, 50.0)}
    found = {
        "both": {
            task: [with_legacy(task, top1, seed) for seed, top1 in enumerate(each)] for task, each in tasks.items()
        },
        "some": {"a": [with_legacy("a", 50.0, 0), with_legacy("a", 50.0, 1)], "b": [done("b", 1.0, 0)] * 2},
        "none": {task: [done(task, 60.0, seed) for seed in (0, 1)] for task in tasks},
    }
    made = summarise(found, list(tasks), 2)
    both, some, none = made.rows
    assert (both.mean_of_tasks, both.mean_of_groups) == (pytest.approx(72.0), 65.25)
    assert both.legacy is not None
    assert (both.legacy.mean_of_tasks, both.legacy.mean_of_groups) == (pytest.approx(73.0), 66.25)
    assert some.legacy is not None
    assert (some.legacy.tasks.keys(), some.legacy.mean_of_tasks) == ({"a"}, None)
    assert none.legacy is None
    text = render.markdown(made)
    table = text.split("\n\n")[1].splitlines()
    columns = "| best on test (legacy) | a | b | c | natural | structured | mean of groups | mean of tasks |"
    assert table[0] == columns
    assert table[2] == "| both | 92.0 ± 1.4 | 81.0 ± 0.0 | 46.0 ± 7.1 | 86.5 | 46.0 | 66.2 | 73.0 |"
    assert [line.split(" | ")[0] for line in table[2:]] == ["| both", "| some"]
    rows = list(csv.DictReader(io.StringIO(render.table(made))))
    legacy = [row for row in rows if row["kind"] == "all, best on test (legacy)" and row["method"] == "both"]
    assert {row["name"]: float(row["top1"]) for row in legacy} == {
        "mean of groups": 66.25,
        "mean of tasks": pytest.approx(73.0),
    }
    assert "legacy" not in render.markdown(summary())


def test_legacy__is_compared_with_what_was_published_so() -> None:
    made = whole(0.0)
    lines = {row.method: row for row in made.rows}
    legacy = replace(lines["mine"], tasks={task: Spread(99.0, None, 1) for task in made.tasks}, mean_of_tasks=98.0)
    told = replace(made, rows=(replace(lines["mine"], legacy=legacy),))
    text = shown(told, {"mine": "vpt-deep"}, ["spt-t2"])
    assert "| – | VPT-Deep" not in text
    assert "| 99.0 | VPT-Deep | last epoch |" in text
    text = shown(told, {"mine": "lora"}, ["spt-t2"])
    (one,) = (line for line in text.splitlines() if line.startswith("| mine | vtab1k:cifar100 |"))
    assert "| 99.0 (+31.9) | LoRA-8 | best on test |" in one
    assert "98.0 (" in text


def test_against__other_tasks_are_compared_by_their_order() -> None:
    summary = whole(0.5, "{}")  # a drawn task may have a published one's name
    kinds = {"mine": "vpt-deep", "other": "synqt"}
    assert comparison.pairs(summary, kinds, "synqt-t2") == []
    order = comparison.order(summary, kinds, "synqt-t2")
    assert order is not None
    assert order.places("all") == {"mine": (1, 2), "other": (2, 1)}
    assert order.correlation("all") is None, "two methods have no order that says something"
    text = shown(summary, kinds, ["synqt-t2"])
    assert "only the order can be compared" in text
    assert comparison.order(summary, {}, "synqt-t2") is None


def test_order__is_compared_group_by_group() -> None:
    """Of three methods: the same order of natural tasks, the reverse of structured ones."""
    row = reference.rows(table="spt-t2", kind="cell")[0]
    natural = {"a": (50.0, 70.0), "b": (60.0, 80.0), "c": (70.0, 90.0)}
    structured = {"a": (50.0, 70.0), "b": (60.0, 65.0), "c": (70.0, 60.0)}
    order = comparison.Order({"natural": natural, "structured": structured}, dict.fromkeys("abc", (row, True)))
    assert order.places("structured") == {"a": (3, 1), "b": (2, 2), "c": (1, 3)}
    assert order.correlation("natural") == pytest.approx(1)
    assert order.correlation("structured") == pytest.approx(-1)


def test_against__a_table_that_there_is_not_is_told() -> None:
    with pytest.raises(ConfigError, match=r"'spt-t22'.*'spt-t2'"):
        comparison.chosen("spt-t22")
    assert set(comparison.chosen("paper")) >= {"spt-t1", "spt-t2", "synqt-t2", "noah-t1"}


def test_against__a_table_of_means_alone_is_paired_by_them() -> None:
    """SynQT's ablations print three groups and their mean."""
    found = comparison.pairs(whole(0.0), {"mine": "synqt:scales=one"}, "synqt-t4")
    names = [pair.name for pair in found if pair.row.variant == "scale fixed to 1"]
    assert names == ["natural", "specialized", "structured", "mean of groups"]
    published = {pair.name: pair.published for pair in found}
    assert (published["natural"], published["mean of groups"]) == (77.7, 70.5)


def test_ties__are_no_matter_of_rounding() -> None:
    """Equal hits give means that differ by their order of adding up."""
    scores = {"x": (0.1, 0.2, 0.3), "y": (0.3, 0.2, 0.1)}
    found = {
        name: {task: [done(task, top1, seed) for seed, top1 in enumerate(each)] for task in "ab"}
        for name, each in scores.items()
    }
    noise = pairs.Difference("x", "y", Spread.of([0.0, 0.0]), {"a": 2e-15, "b": 1.0}, {})
    assert noise.ahead == 1
    assert {row.rank for row in summarise(found, ["a", "b"], 3).rows} == {1.5}
