"""Entries on disk and room for them; and `vitgraft cache`, which lists and removes them without torch."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.caching import SETTINGS, only, place, session, walked
from tests.test_cli import HEAVY, call, home, options, refused
from vitgraft.errors import ConfigError, DataError
from vitgraft.features import cache, entries
from vitgraft.features.entries import Card, Entry

__all__ = ["home", "place"]

SHORT = replace(SETTINGS, epochs=1)


def entry(name: str = "one", complete: bool = True, days: float = 0.0) -> Entry:
    """Six rows of eight bytes in chunks of four, last used some days ago."""
    card = Card({"images": name}, [{"block": 0, "place": "out"}], 6, 8, 4, f"toy, 6 images of {name}")
    made = Entry.of(card)
    made.begin(card)
    made.write(0, bytes(range(32)))
    if complete:
        made.write(1, bytes(16))
        made.finish()
        then = made.used - days * 86_400
        os.utime(made.folder / entries.COMPLETE, (then, then))
    return made


def test_entry__is_complete_when_all_is_written() -> None:
    made = entry(complete=False)
    assert (made.complete, made.missing()) == (False, [1])
    made.write(1, bytes(16))
    assert made.missing() == []
    made.finish()
    assert made.complete
    made.write(1, bytes(16))
    assert not made.complete


def test_entry__a_cut_line_of_checksums_costs_one_chunk() -> None:
    made = entry(complete=False)
    path = made.folder / entries.CHECKSUMS
    path.write_text(path.read_text()[:-4])
    assert made.missing() == [0, 1]
    made.write(1, bytes(16))
    assert made.missing() == [0]


def test_entry__of_a_newer_version_is_not_read() -> None:
    card = Card({}, [], 1, 1, 1, "later", schema=entries.SCHEMA + 1)
    newer = Entry.of(card)
    newer.begin(card)
    assert newer.card is None
    assert not newer.complete


def test_key__stands_for_all_but_the_title() -> None:
    card = Card({"images": "a"}, [{"block": 0}], 6, 8, 4, "title")
    others = {
        "base": {"images": "b"},
        "columns": [{"block": 1}],
        "count": 7,
        "row_bytes": 4,
        "chunk": 2,
        "schema": 2,
    }
    keys = {replace(card, **{name: value}).key for name, value in others.items()}
    assert len(keys | {card.key}) == 7
    assert replace(card, title="other").key == card.key


def test_holding__prefers_the_smallest() -> None:
    columns = [{"block": 0}, {"block": 1}, {"block": 2}]
    for count in (3, 2):
        card = Card({}, columns[:count], 1, 4 * count, 4, "")
        made = Entry.of(card)
        made.begin(card)
        made.write(0, bytes(4 * count))
        made.finish()
    wanted = Card({}, columns[1:2], 1, 4, 4, "")
    found = entries.holding(wanted)
    assert found is not None
    assert found.size == 8
    assert entries.holding(replace(wanted, base={"images": "other"})) is None
    assert entries.holding(replace(wanted, count=2)) is None
    assert entries.holding(replace(wanted, columns=[{"block": 3}])) is None
    (found.folder / entries.COMPLETE).unlink()
    larger = entries.holding(wanted)
    assert larger is not None
    assert larger.size == 12


def test_place__is_as_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VITGRAFT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert entries.root() == tmp_path / "vitgraft" / "features"
    monkeypatch.setenv("VITGRAFT_CACHE", str(tmp_path / "mine"))
    assert entries.root() == tmp_path / "mine" / "features"


# The command line


def test_ls__shows_size_use_and_what(place: Path) -> None:
    assert call("cache", "ls").stdout == f"0 entries, 0 B, in {place}\n"
    old, half = entry("old", days=3), entry("half", complete=False)
    (place / "junk").mkdir()
    shown = call("cache", "ls").stdout
    assert "toy, 6 images of old" in shown
    assert "32 B, unfinished" in shown
    assert "unreadable" in shown
    assert f"3 entries, 80 B, in {place}" in shown
    listed = json.loads(call("cache", "ls", "--json").stdout)
    assert listed["place"] == str(place)
    assert {one["key"]: (one["bytes"], one["complete"], one["readings"]) for one in listed["entries"]} == {
        old.key: (48, True, 1),
        half.key: (32, False, 1),
        "junk": (0, False, 0),
    }
    assert listed["entries"][-1]["key"] == old.key


def test_rm__removes_what_is_named(place: Path) -> None:
    first, second, third = (entry(name) for name in ("a", "b", "c"))
    assert call("cache", "rm", first.key, first.key).stdout == "Removed 1 entry, 48 B.\n"
    assert not first.folder.exists()
    assert call("cache", "rm", second.key, third.key).stdout == "Removed 2 entries, 96 B.\n"
    assert entries.entries() == []


def test_rm__by_days_or_all(place: Path) -> None:
    fresh, _ = entry("fresh"), entry("old", days=8)
    (place / "junk").mkdir()
    assert call("cache", "rm", "--days", 7).stdout == "Removed 1 entry, 48 B.\n"
    assert fresh in entries.entries()
    assert call("cache", "rm", "--all").stdout == "Removed 2 entries, 48 B.\n"
    assert entries.entries() == []


def test_rm__unknown_key_removes_nothing() -> None:
    made = entry()
    said = refused("cache", "rm", made.key, made.key[:-1])
    assert f"There is no cache entry '{made.key[:-1]}'. Did you mean '{made.key}'?" in said
    assert made.complete
    assert "Nothing was named." in refused("cache", "rm")


def test_rm__leaves_what_a_run_is_writing() -> None:
    busy, other = entry("busy", complete=False), entry("other")
    with busy.lock(lambda: None):
        assert f"In use by a run, and left: {busy.key}." in refused("cache", "rm", "--all")
    assert entries.entries() == [busy]
    assert not other.folder.exists()
    call("cache", "rm", busy.key)


def test_fit__says_where_the_frozen_part_is(home: Path, tmp_path: Path) -> None:
    for number, said in enumerate(("KiB on disk, computed once in", "KiB on disk, found there")):
        out, records = tmp_path / str(number), tmp_path / "records"
        result = call("fit", *options(home, method="linear", cache="disk", out=out, records=records))
        assert said in result.stdout
    (record, *_) = [json.loads(path.read_text()) for path in records.rglob("*.json")]
    assert record["cost"]["cache_place"] == "disk"


def test_commands__import_no_torch(place: Path) -> None:
    made = entry()
    code = f"""
import sys, vitgraft.cli
for line in sys.stdin.read().splitlines():
    sys.argv = ["vitgraft", *line.split()]
    try:
        vitgraft.cli.main()
    except SystemExit as done:
        heavy = [name for name in {HEAVY!r} if name in sys.modules]
        print(f"{{line}}: exit {{done.code}}, imported {{heavy}}", file=sys.stderr)
"""
    commands = ["cache ls", "cache ls --json", f"cache rm {made.key}", "cache rm --days 1", "cache rm --all"]
    done = subprocess.run(
        [sys.executable, "-c", code], input="\n".join(commands), capture_output=True, text=True, timeout=60
    )
    assert done.stderr.splitlines() == [f"{command}: exit 0, imported []" for command in commands]


# Room


def test_limit__sends_auto_to_memory_and_refuses_disk() -> None:
    small = replace(SHORT, cache_limit=1e-6)
    found = session("linear", replace(small, cache="auto"), val=None)
    assert found.fitted is not None
    assert found.fitted.cached.place == "ram"
    with pytest.raises(ConfigError, match=r"need 0\.00 MiB on disk, .* has room for 0\.00 MiB .*--cache-limit"):
        session("linear", small, val=None)
    assert entries.entries() == []


@pytest.mark.usefixtures("bf16")
def test_limit__counts_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    session("linear", SHORT, val=None)
    size = only().size
    monkeypatch.setattr(entries, "SPARE", 0)
    assert entries.room(3 * size) == 2 * size
    tight = replace(SHORT, cache_limit=size / 2**30)
    session("linear", tight, val=None)  # an entry that is there needs no more room
    with pytest.raises(ConfigError, match="Remove entries"):
        session("mlp", replace(tight, precision="bf16"), val=None)


def test_memory__too_little(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cache.psutil, "virtual_memory", lambda: SimpleNamespace(available=100))
    found = session("linear", replace(SHORT, cache="auto", cache_limit=0.0), val=None)
    said = capsys.readouterr().err
    assert "Nothing is cached: the features need 0.00 MiB, and there is room for 0.00 MiB on disk" in said
    assert found.fitted is not None
    assert (found.fitted.cached.place, found.fitted.cached.size) == ("off", 0)
    with pytest.raises(ConfigError, match=r"of memory, and 0\.00 MiB may be used"):
        session("linear", replace(SHORT, cache="ram"), val=None)
    assert entries.entries() == []


def test_place__that_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VITGRAFT_CACHE", str(tmp_path / "file"))
    found = session("linear", replace(SHORT, cache="auto"), val=None)
    assert found.fitted is not None
    assert found.fitted.cached.place == "ram"
    with pytest.raises(ConfigError, match=r"has room for 0\.00 MiB"):
        session("linear", SHORT, val=None)


def test_disk__full_while_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "CHUNK", 4)
    opened, calls = Path.open, iter(range(100))

    def full(self: Path, mode: str = "r", *arguments: Any, **keywords: Any) -> Any:
        if self.name == entries.ROWS and "+" in mode and next(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        return opened(self, mode, *arguments, **keywords)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full)
        with pytest.raises(DataError, match=r"cannot be changed: No space left on device\. .*VITGRAFT_CACHE"):
            session("linear", SHORT, val=None)
    with walked() as counts:
        session("linear", SHORT, val=None)
    assert counts == [1, 2, 4, 4, 4]
