"""results/README.md says what the records say: tables are made anew, verdicts follow from differences."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vitgraft.cli import app

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "results" / "README.md").read_text()
MADE = re.findall(r"```sh\nvitgraft (.*?)\n```\n(.*?)(?=\n```sh\n|\n## |\Z)", TEXT, flags=re.DOTALL)
"""Each command, and what follows it."""

CELL = r" ([^|]+) \|"
CLAIM = re.compile(rf"^\| ?(\d*) \| [^|]+ \| (\S+) - (\S+) \|{CELL}{CELL}{CELL}$", flags=re.MULTILINE)
"""Number (none: the same as above), two methods, points, tasks ahead, verdict."""

ASKED = re.compile(r"^\| (\d+) \|.*\| (\w+)(?:\.toml)? \|$", flags=re.MULTILINE)
VERDICTS = {"better": "holds", "open": "open", "worse": "does not hold"}


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def said(command: str) -> str:
    result = CliRunner().invoke(app, command.split())
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize(("command", "text"), MADE, ids=[command for command, _ in MADE])
def test_tables__are_what_the_command_above_them_prints(command: str, text: str) -> None:
    lines = [line for line in text.splitlines() if line.startswith("|") or re.match(r"\d+ runs of ", line)]
    assert lines, "no table follows the command"
    printed = said(command).splitlines()
    for line in lines:
        assert line in printed


def test_claims__follow_from_the_records() -> None:
    """A claim that the first is better holds if `bench compare` says so of its suite."""
    suites = dict(ASKED.findall((ROOT / "studies" / "claims.md").read_text()))
    claims, number = CLAIM.findall(TEXT), ""
    assert len(claims) >= 9
    for stated, first, second, points, ahead, verdict in claims:
        number = stated or number
        suite = f"studies/{suites[number]}.toml" if suites[number] != "builtin" else "builtin"
        (row,) = (
            line
            for line in said(f"bench compare {suite} {first} {second} --out results").splitlines()
            if line.startswith(f"| {first} - {second} |")
        )
        _, difference, deviation, outcome, tasks, *_ = (cell.strip() for cell in row.strip("|").split("|"))
        assert (points, ahead) == (f"{difference} ± {deviation}", tasks), f"claim {number}: {first} - {second}"
        assert verdict == VERDICTS[outcome], f"claim {number}: {first} - {second}"
