"""The gallery shows what its commands make: they are understood, and each figure's card names its command."""

import importlib.util
import json
import re
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from vitgraft.cli import app

DOCS = Path(__file__).parent.parent / "docs"
SHOWN = re.findall(r"!\[.+\]\((figures/.+\.png)\)", (DOCS / "gallery.md").read_text())


def _script() -> ModuleType:
    found = importlib.util.spec_from_file_location("figures", DOCS / "figures.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


COMMANDS: list[list[str]] = _script().commands()


def test_gallery__has_every_figure_of_analyze() -> None:
    named = {words[1] for words in COMMANDS if words[0] == "analyze"}
    assert named >= {"memory", "sensitivity", "features", "importance", "embedding", "samples", "errors"}
    assert len(SHOWN) >= len(named)


@pytest.mark.parametrize("words", COMMANDS, ids=shlex.join)
def test_commands__are_understood(words: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    command.make_context(command.name, rest)  # which raises if an option or an argument is none


@pytest.mark.parametrize("figure", SHOWN)
def test_figures__are_of_the_commands_above_them(figure: str) -> None:
    card = json.loads((DOCS / figure).with_suffix(".json").read_text())
    assert sorted(shlex.split(card["command"])[1:]) in [sorted(words) for words in COMMANDS]
    assert (DOCS / figure).with_suffix(".csv").exists()
    assert (DOCS / figure).stat().st_size < 400_000
