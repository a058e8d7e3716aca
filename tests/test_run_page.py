"""The report of runs: every number leads to its runs, what is skipped is told, users' texts stay texts."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.made import kept, made, study
from tests.pages import Checked
from tests.runs import done, refused
from vitgraft.errors import ConfigError
from vitgraft.report.page import grouping, scales
from vitgraft.report.page.gather import gather
from vitgraft.report.page.material import Material, Run
from vitgraft.report.page.runs import page, reported
from vitgraft.report.page.scales import Scale
from vitgraft.results import store
from vitgraft.results.record import Record

METHODS, TASKS = ("linear", "lora:rank=4", "vqt"), ("digits", "flower", "road")


def whole(records: list[Record], folder: Path) -> tuple[str, Material]:
    material = reported(gather([kept(folder, records)]))
    return page(material), material


def test_page__has_a_place_for_every_run_and_a_way_there_from_every_number(tmp_path: Path) -> None:
    records = study(METHODS, TASKS)
    text, material = whole(records, tmp_path)
    found = Checked(text)
    sections = [given["id"] for given in found.of("section")]
    assert sections == ["summary", "accuracy", "costs", "tradeoff", "seeds", "curves", "runs", "records"]
    places = {given["id"] for given in found.of("details")}
    assert places == {f"r{number}" for number in range(1, len(records) + 1)}
    linked = {given["href"][1:] for given in found.of("a")}
    assert places <= linked
    assert {material.anchor(row, task) for row in METHODS for task in TASKS} <= linked
    cell = "".join(f"{one.test.top1:.1f} " for one in records if one.test and one.method.name == "vqt")
    for told in cell.split():
        assert f"test {told} %" in text


def test_page__tells_settings_once_and_what_differs_at_each_run(tmp_path: Path) -> None:
    text, material = whole(study(METHODS, TASKS), tmp_path)
    assert text.count("backbone = &quot;figures&quot;") == 1
    assert text.count("lr = 0.004") == len(METHODS) * len(TASKS)
    assert "runs/a" not in text  # where a run was kept
    alone = page(Material.of("one", [material.runs[0]]))
    assert alone.count("backbone = &quot;figures&quot;") == 1
    assert "Settings of all runs" not in alone
    assert [given.get("open") for given in Checked(alone).of("details")] == [""]


def test_page__has_means_of_what_is_complete_and_marks_the_best(tmp_path: Path) -> None:
    records = [made("linear", task, seed, 50 + seed) for task in TASKS for seed in (0, 2)]
    records += [made("bias", "digits", seed, 60.0) for seed in (0, 2)] + [
        made("bias", "road", 0, 10.0, tried=True)
    ]
    text, material = whole(records, tmp_path)
    assert material.rows == ("linear", "bias")
    assert "51.0<small> ± 1.4</small>" in text
    assert 'class="number best" data-v="60"' in text
    assert "6 runs" not in text
    assert "8 runs with test accuracy; 1 more were only tried" in text
    assert "1 method of 2 lack" not in text  # one complete method is compared with none
    assert "(n = 1)" not in text


def test_page__of_runs_without_a_test_split_tells_that_it_shows_validation(tmp_path: Path) -> None:
    text, material = whole([made(name, "digits", 0, tried=True) for name in METHODS], tmp_path)
    assert material.split == "val"
    assert "No run has read a test split: accuracies are of validation" in text
    assert "val accuracy, digits (%)" in text
    Checked(text)


def test_page__warns_of_cells_that_mix_settings_and_of_tasks_with_other_images(tmp_path: Path) -> None:
    first, second = made("linear", "digits", 0), made("linear", "digits", 1, lr=0.5)
    other = replace(second, task=replace(second.task, fingerprint="others"))
    text, _ = whole([first, other], tmp_path)
    assert "Runs had different images of: digits. Their numbers are not to be compared." in text
    assert "Runs of linear on digits differ in more than their seeds: lr." in text
    text, _ = whole(
        [first, replace(second, config={**second.config, "lr": first.config["lr"]})], tmp_path / "same"
    )
    assert "Beware" not in text


def called(name: str) -> str:
    """A page on a run all of whose texts are one."""
    one = made("linear", "digits", 0)
    odd = replace(
        one,
        task=replace(one.task, name=name, notes=[name], copy=name),
        device=name,
        config={**one.config, "data": name},
        method=replace(one.method, spec=name, fields={name: name}),
    )
    return page(replace(Material.of(name, [Run(odd, name, name)]), skipped={name: name}, about=name))


def test_page__shows_users_texts_as_texts() -> None:
    nasty = "</details><script>alert(1)</script>'&<b>"
    plain, found = Checked(called("plain")), Checked(called(nasty))
    assert [tag for tag, _ in found.elements if tag != "wbr"] == [tag for tag, _ in plain.elements]
    assert "".join(found.text).count(nasty) == "".join(plain.text).count("plain") > 10


def test_page__is_small_with_many_runs() -> None:
    records = study([f"lora:rank={rank}" for rank in range(1, 21)], [f"task{n}" for n in range(9)], seeds=3)
    assert len(records) == 720
    names = grouping.rows(records)
    runs = [Run(one, store.file_name(one.config), name) for one, name in zip(records, names, strict=True)]
    text = page(Material.of("many", runs))
    assert len(text.encode()) < 3 * 2**20
    Checked(text)


def test_rows__are_told_apart_by_what_tells_runs_of_one_seed_apart() -> None:
    plain = [made("lora", task, seed, lr=lr) for task, lr in (("a", 0.1), ("b", 0.2)) for seed in (0, 1)]
    assert set(grouping.rows(plain)) == {"lora"}
    longer = [replace(one, config={**one.config, "epochs": 50, "lr": 0.3}) for one in plain]
    assert grouping.rows([*plain, *longer]) == ["lora (epochs=none)"] * 4 + ["lora (epochs=50)"] * 4
    other = [replace(one, backbone=replace(one.backbone, name="tiny")) for one in plain]
    assert set(grouping.rows([*plain, *other])) == {"lora on figures", "lora on tiny"}
    # a key that came later says what was done before, and tells nothing apart
    later = [replace(one, config={**one.config, "optimizer": "adamw"}) for one in plain[:1]]
    assert set(grouping.rows([*plain[1:], *later])) == {"lora"}
    assert grouping.mixed([*plain[1:2], *later]) == []
    assert grouping.mixed([plain[0], replace(plain[1], config={**plain[1].config, "lr": 9})]) == ["lr"]


def test_gather__skips_what_is_no_record_and_tells(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = tmp_path / "runs" / "mine"
    store.write(run / store.FILE, made("linear", "digits", 0))
    (run / "log.jsonl").write_text('{"epoch": 1, "val_loss": 2.0}\n{"epoch": 2, "val_loss": 1.0}\n')
    begun = tmp_path / "runs" / "begun"
    begun.mkdir()
    (begun / "log.jsonl").write_text("")
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "empty").mkdir()
    found = gather([tmp_path / "runs", tmp_path / "bad.json", tmp_path / "empty"])
    assert [len(found.records), len(found.logs)] == [1, 1]
    assert set(found.skipped) == {"begun", "bad.json", "empty"}
    assert "--resume" in found.skipped["begun"]
    assert f"Skipped '{tmp_path / 'bad.json'}'" in caplog.text
    text = page(reported(found))
    assert "bad.json was skipped: " in text
    assert str(tmp_path) not in text
    assert "validation loss" in text  # from the log
    assert "<code>mine/record.json</code>" in text
    with pytest.raises(ConfigError, match=r"There is no '.*nowhere'"):
        gather([tmp_path / "runs", tmp_path / "nowhere"])
    with pytest.raises(ConfigError, match=r"no record of a finished run here\. empty: There is no record"):
        gather([tmp_path / "empty"])


def test_gather__counts_a_run_once_and_looks_into_a_bench(tmp_path: Path) -> None:
    one = made("linear", "digits", 0)
    kept(tmp_path / "bench" / "records", [one])
    later = replace(one, ended="2026-01-01T00:00:00+00:00")
    store.write(tmp_path / "run" / store.FILE, later)
    found = gather([tmp_path / "bench", tmp_path / "run"])
    assert list(found.records.values()) == [later]
    assert "the last of each counts" in found.notes[0]


def test_gather__finds_figures_among_records(tmp_path: Path) -> None:
    kept(tmp_path, [made("linear", "digits", 0)])
    card = {
        "title": "Memory <1>",
        "caption": "What is kept.",
        "command": "vitgraft analyze memory",
        "n": 4,
        "of": "images",
        "seeds": [0],
    }
    (tmp_path / "memory.json").write_text(json.dumps({**card, "units": {"kept": "MiB"}, "notes": ["A note."]}))
    (tmp_path / "memory.svg").write_text("<svg/>")
    (tmp_path / "memory.csv").write_text("block,kept\nfirst,1.5\nsecond,2\n")
    (tmp_path / "lost.json").write_text(json.dumps(card))
    found = gather([tmp_path])
    assert set(found.skipped) == {"lost.json"}
    text = page(reported(found))
    checked = Checked(text)
    assert checked.of("img")[0]["alt"] == "Memory <1>. What is kept."
    assert {"Memory <1>", "n = 4 images; seeds 0", "A note.", "vitgraft analyze memory", " MiB"} <= set(
        checked.text
    )


def test_command__writes_a_page_and_replaces_no_other_file(tmp_path: Path) -> None:
    folder = kept(tmp_path / "records", study(("linear", "bias"), ("a", "bb"), seeds=2))
    out = tmp_path / "report.html"
    for _ in range(2):
        said = done("report", folder, "--out", out, "--title", "Ours & theirs").stderr
    assert re.search(r"12 runs are in .*report.html, \d+\.\d KiB", said)
    assert "Ours & theirs" in Checked(out.read_text()).text
    out.write_text("mine")
    assert "--force" in refused("report", folder, "--out", out)
    done("report", folder, "--out", out, "--force")
    assert "tables 'nothing'" in refused("report", folder, "--out", out, "--against", "nothing")


def test_scale__has_a_place_for_zero_and_round_ticks() -> None:
    counts = Scale.of([0, 1000, 37_000, 1_600_000], logarithmic=True)
    assert counts.zero
    assert 0 < counts.at(0) < 0.08 < counts.at(1000) < counts.at(1_600_000) < 1
    assert [scales.counted(tick) for tick in counts.ticks()] == ["0", "1k", "10k", "100k", "1M"]
    assert Scale(30.0, 61.0).ticks() == [30.0, 40.0, 50.0, 60.0]
    assert Scale(1.0, 4.0, whole=True).ticks() == [1.0, 2.0, 3.0, 4.0]
    alone = Scale.of([5.0])
    assert (alone.at(5.0), alone.ticks() != []) == (pytest.approx(0.5), True)
    assert Scale.of([0.0, 0.0], logarithmic=True).at(0.0) == 0.0
    size = Scale.of([2.0**12, 2.0**30], logarithmic=True)
    assert next(scales.sized(tick) for tick in size.ticks(base=2)) in ("4 KiB", "8 KiB")


@pytest.mark.parametrize(
    ("told", "value", "text"),
    [
        (scales.counted, 36_864, "36.9k"),
        (scales.counted, 999_900, "1000k"),
        (scales.sized, 999.9 * 2**10, "1000 KiB"),
        (scales.sized, 512, "512 B"),
        (scales.timed, 130, "2.17 min"),
        (scales.timed, 0.25, "0.25 s"),
        (scales.plain, 0.30000000000000004, "0.3"),
    ],
)
def test_numbers__are_short(told: scales.Format, value: float, text: str) -> None:
    assert told(value) == text
