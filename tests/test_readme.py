"""The README's five lines are run, and its table of methods is the one the code tells."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from vitgraft import methods
from vitgraft.bench.suite import load
from vitgraft.core.shape import Shape

README = (Path(__file__).parent.parent / "README.md").read_text()
HEADER = "| method | trains | where | gradients cross | merges | values on ViT-B/16 |\n|---|---|---|---|---|---|"


def rows() -> list[str]:
    """The table's rows as the code would write them, by the number of trained values."""
    sizes: dict[str, Any] = json.loads((Path(methods.__file__).parent / "vit_b16.json").read_text())
    del sizes["name"]
    shape = Shape(**{**sizes, "widths": {place: tuple(pair) for place, pair in sizes["widths"].items()}})
    found = []
    for method in map(methods.parse, methods.names()):
        count = method.formula(shape)
        merges = "yes" if method.merges else "no"
        values = f"{'≤ ' if method.counts == 'at most' else ''}{count:,}"
        cells = (f"`{method.name}`", method.trains, method.where, method.crosses, merges, values)
        found.append((count, f"| {' | '.join(cells)} |"))
    return [row for _, row in sorted(found)]


def test_python__runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert "epochs=5" in block
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(block.replace("epochs=5", "epochs=1"), names)
    assert (tmp_path / "runs" / "digits" / "graft.safetensors").is_file()
    assert type(names["plain"]).__name__ == "VisionTransformer"


def test_suite__is_read(tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", README, flags=re.DOTALL)
    path = tmp_path / "mine.toml"
    path.write_text(block)
    suite = load(str(path))
    assert (len(suite.tasks), len(suite.seeds), set(suite.entries)) == (2, 3, {"linear", "lora-16", "fixed"})
    assert [len(entry.choices("digits")) for entry in suite.entries.values()] == [3, 3, 1]


def test_methods__the_table_is_the_codes() -> None:
    expected = "\n".join([HEADER, *rows()])
    assert expected in README, f"the README's table of methods should be\n{expected}"
