"""`vitgraft predict`, and what it shares with other commands: what goes in, what comes out, and when."""

import io
import sys
from pathlib import Path

import pytest

from vitgraft.cli import asking
from vitgraft.cli.asking import Format
from vitgraft.errors import ArtefactError, ConfigError, DataError, VitgraftError, command


@pytest.mark.parametrize(
    ("given", "paths"),
    [
        (b"a.jpg\nb c.jpg\n", ["a.jpg", "b c.jpg"]),
        (b"a.jpg\r\nb.jpg", ["a.jpg", "b.jpg"]),
        (b"a\nb.jpg\0c.jpg\0", ["a\nb.jpg", "c.jpg"]),
        (b"caf\xe9.jpg\n", ["caf\udce9.jpg"]),
    ],
)
def test_stdin__names_paths(given: bytes, paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    assert asking.standard_input() == paths


def test_stdin__without_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n\n")))
    with pytest.raises(DataError, match="names no images"):
        asking.standard_input()


def test_format__is_asked_for_or_the_suffix_says_it() -> None:
    assert asking.format_of(None, None) == Format.table
    assert asking.format_of(None, Path("x.CSV")) == Format.csv
    assert asking.format_of(None, Path("x.ndjson")) == Format.jsonl
    assert asking.format_of(Format.json, Path("x.csv")) == Format.json
    with pytest.raises(ConfigError, match=r"'x\.txt' ends in none of \.csv.*--format"):
        asking.format_of(None, Path("x.txt"))


def test_results__are_there_when_all_are(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "r.csv"
    with asking.results(out) as file:
        file.write("caf\udce9\n")
        assert not out.exists()
    assert out.read_bytes() == b"caf\xe9\n"
    with pytest.raises(ArtefactError, match="replace it with --replace"), asking.results(out):
        pass
    with asking.results(out, replace=True) as file:
        file.write("new")
    assert [path.name for path in out.parent.iterdir()] == ["r.csv"]
    assert out.read_text() == "new"


def test_results__what_was_written_before_a_failure_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "r.csv"
    out.write_text("old")

    def interrupted() -> None:
        with asking.results(out, replace=True) as file:
            file.write("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"r.csv": "old", "r.csv.part": "half"}
    assert f"'{out}.part'" in capsys.readouterr().err


def test_runs_on__no_device_of_that_name() -> None:
    with pytest.raises(VitgraftError, match="device='gpu' is not known"):
        asking.runs_on(device="gpu")
    assert asking.runs_on(workers=None).workers >= 1


def test_command__is_quoted_for_a_shell() -> None:
    assert command("eval", Path("runs/with space")) == "vitgraft eval 'runs/with space'"
