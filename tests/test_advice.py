"""Advice in messages can be followed: what they name exists, in each command that may print them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import vitgraft
from vitgraft.cli import app
from vitgraft.errors import ConfigError, option
from vitgraft.runs.config import keys

HOUSE = Path(vitgraft.__file__).parent
OTHERS = {"--head", "--error-unmatch", "--porcelain", "--untracked-files", "--no-", "--", "--c"}
"""Options of other programs (ray, git), beginnings of ours, and colours of a page's style."""

MEASURING = {"--by-index", "--split", "--ignore-unknown", "--allow-missing"}
"""Options of eval alone: a finished model has classes that data must match."""


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Every text of a file but docstrings, by line."""
    tree = ast.parse(path.read_text())
    kept = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docs = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, kept)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in docs:
            yield node.lineno, node.value


def named(path: Path) -> set[str]:
    """The options that a file's messages name, by themselves or by `errors.option`."""
    found = {word for _, text in texts(path) for word in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text)}
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) == "option"
            and isinstance(node.args[0], ast.Constant)
        ):
            found.add(f"--{str(node.args[0].value).replace('_', '-')}")
    return found - OTHERS


def commands() -> dict[str, set[str]]:
    """The options of every command, by the words that call it."""
    found: dict[str, set[str]] = {}

    def walk(command: object, words: tuple[str, ...]) -> None:
        inner = getattr(command, "commands", None)
        for name, one in (inner or {}).items():
            walk(one, (*words, name))
        options = {text for one in command.params for text in (*one.opts, *one.secondary_opts)}  # type: ignore[attr-defined]
        found[" ".join(words)] = {text for text in options if text.startswith("--")} | {"--help"}

    walk(typer.main.get_command(app), ())
    return found


FILES = [path for path in sorted(HOUSE.rglob("*.py")) if named(path)]
OPTIONS = commands()


def test_commands__are_found() -> None:
    assert {
        "fit",
        "eval",
        "predict",
        "merge",
        "sensitivity",
        "bench run",
        "cache rm",
        "data check",
    } <= OPTIONS.keys()
    assert "--skip-unreadable" in OPTIONS["fit"]
    assert len(FILES) > 20
    assert "--checkpoint" in named(HOUSE / "backbones" / "hub.py")
    assert "--cache-limit" in named(HOUSE / "features" / "cache.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_options__that_messages_name_exist(path: Path) -> None:
    assert named(path) <= set().union(*OPTIONS.values())


@pytest.mark.parametrize("command", ["fit", "sensitivity"])
def test_options__about_data_are_those_of_each_command_that_reads_them(command: str) -> None:
    asked = set().union(*(named(path) for path in (HOUSE / "data").rglob("*.py"))) - MEASURING
    of_runs = {"--preprocessing", "--augment"}  # how papers train on a benchmark
    assert {"--root", "--skip-unreadable"} <= asked
    assert asked - of_runs <= OPTIONS[command]


@pytest.mark.parametrize("command", ["eval", "predict", "merge", "export", "sensitivity", "fit", "import"])
def test_options__about_weights_are_those_of_each_command_that_loads_them(command: str) -> None:
    assert named(HOUSE / "backbones" / "hub.py") | named(HOUSE / "models" / "published.py") <= OPTIONS[command]


def test_commands__that_messages_name_exist() -> None:
    """`vitgraft word` in a text names a command, with the options that follow it."""
    seen = 0
    for path in HOUSE.rglob("*.py"):
        for line, text in texts(path):
            for words in re.findall(r"(?:`|: |\()vitgraft ((?:[a-z]+ ?)+)", text):
                first = " ".join(words.split()[:2])
                known = first in OPTIONS or first.split()[0] in OPTIONS
                seen += 1
                assert known, f"{path.relative_to(HOUSE)}:{line} names vitgraft {words!r}"
    assert seen > 10


def test_option__names_both_worlds() -> None:
    assert option("cache_limit") == "--cache-limit (in Python, cache_limit)"
    assert option("cache", "ram") == "--cache ram (in Python, cache='ram')"
    assert option("views", 4) == "--views 4 (in Python, views=4)"


def test_python__advice_names_what_python_has(tmp_path: Path) -> None:
    with pytest.raises(vitgraft.VitgraftError, match=r"--root FOLDER \(in Python, root='FOLDER'\)"):
        vitgraft.load_task("vtab1k:cifar100")
    assert "root" in keys()
    with pytest.raises(ConfigError):
        vitgraft.load_task("digits", root="here")
