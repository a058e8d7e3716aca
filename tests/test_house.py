"""The house rules that a machine can hold: which way imports point, and what must not stand in the source."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

import vitgraft

HOUSE = Path(vitgraft.__file__).parent
ORDER = (
    "errors",
    "atomic",
    "kinds",
    "core",
    "search",
    "backbones",
    "grafts",
    "heads",
    "methods",
    "data",
    "machine",
    "features",
    "train",
    "results",
    "report",
    "models",
    "runs",
    "analyze",
    "advice",
    "bench",
    "selection",
    "cli",
    "__main__",
)
"""Rooms in the order in which they may be used: a file imports from its own room and those before it."""

FILES = sorted(HOUSE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(HOUSE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """Rooms that a file imports from when it is loaded or run; imports for the type checker alone do not count."""
    found = set()
    tree = ast.parse(path.read_text())
    for_types = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vitgraft."):
            found.add((node.module or "").split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "vitgraft":
            found |= {alias.name for alias in node.names if alias.name in ORDER}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("vitgraft.")}
    return found


def test_files__are_found() -> None:
    assert len(FILES) > 40


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_imports__point_one_way(path: Path) -> None:
    own = room(path)
    if own == "__init__":
        return
    assert own in ORDER, f"{own} has no place in the house's order"
    # Methods name the plan, grafts and heads that they use; data and training know no method but its recipe.
    for other in imported_rooms(path):
        assert ORDER.index(other) <= ORDER.index(own), (
            f"{path.name} in {own} imports {other}, which stands above it"
        )


FORBIDDEN = {
    "the sizes of one model": re.compile(r"(?<![\w.])(768|3072|197|2304)(?![\w.])"),
    "a device by name": re.compile(r"\.cuda\("),
    "parameters chosen by a part of their name": re.compile(r"[\"'][\w.]+[\"'] (not )?in (n|name|key|k)\b(?!s)"),
    "a swallowed error": re.compile(r"except( Exception)?:\s*(pass)?$"),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_source__does_not_hold(what: str) -> None:
    found = [
        f"{path.relative_to(HOUSE)}:{number}: {line.strip()}"
        for path in FILES
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if FORBIDDEN[what].search(line)
    ]
    assert not found, "\n".join(found)


def unpickles(source: str) -> list[int]:
    """Lines of calls that would run a pickle: advice in a message is no call."""
    flags = {"weights_only": False, "allow_pickle": True}
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            given = {word.arg: word.value.value for word in node.keywords if isinstance(word.value, ast.Constant)}
            if any(given.get(name) is value for name, value in flags.items()):
                found.append(node.lineno)
            if ast.unparse(node.func) in ("pickle.load", "pickle.loads"):
                found.append(node.lineno)
            if ast.unparse(node.func) == "torch.load" and given.get("weights_only") is not True:
                found.append(node.lineno)
    return found


def test_source__never_unpickles() -> None:
    assert unpickles("torch.load(p, weights_only=False)\npickle.loads(b)\ntorch.load(p)") == [1, 1, 2, 3]
    found = [f"{path.relative_to(HOUSE)}:{line}" for path in FILES for line in unpickles(path.read_text())]
    assert not found


def test_source__reads_pickles_at_one_place_with_stand_ins_alone() -> None:
    found = [path.relative_to(HOUSE) for path in FILES if "pickle.Unpickler" in path.read_text()]
    assert found == [Path("backbones/inert.py")]


def test_guard__finds_what_it_looks_for() -> None:
    examples = {
        "the sizes of one model": "width = 768",
        "a device by name": "x.cuda()",
        "parameters chosen by a part of their name": 'if "bias" in name:',
        "a swallowed error": "    except Exception:",
    }
    assert {what for what, line in examples.items() if FORBIDDEN[what].search(line)} == set(FORBIDDEN)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_files__can_be_read_in_one_sitting(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 320, f"{path.name} has {text.count(chr(10))} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= 60, f"{path.name}: {node.name} has {lines} lines"


def test_wheel__holds_what_is_no_python() -> None:
    root = HOUSE.parent.parent
    if not (root / "pyproject.toml").exists():
        pytest.skip("vitgraft is not run from its checkout")
    packed = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["vitgraft"]
    files = {path for path in HOUSE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    named = {path for pattern in packed for path in HOUSE.glob(pattern)}
    assert HOUSE / "report" / "page" / "style.css" in files
    assert not files - named
