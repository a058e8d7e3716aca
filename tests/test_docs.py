"""What the documents say is executed: the example method of CONTRIBUTING, and the README's Python."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def blocks(document: str, language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text(), flags=re.DOTALL)
    assert found, f"{document} has no {language} block"
    return found


def test_contributing__the_example_method_conforms(tmp_path: Path) -> None:
    """The file is written beside the others, in a copy of the package, and the suite is run on it alone."""
    import shutil

    (example,) = blocks("CONTRIBUTING.md", "python")
    copy = tmp_path / "src" / "vitgraft"
    shutil.copytree(ROOT / "src" / "vitgraft", copy, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "methods" / "parallel_adapter.py").write_text(example)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "parallel-adapter and plain"]
    run = subprocess.run(
        [*command, "tests/test_conformance.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "src"), "PATH": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed is not None, run.stdout[-2000:]
    assert int(passed[1]) >= 10


DOCUMENTS = ["README.md", "CONTRIBUTING.md", "docs/reproduce.md", "docs/gallery.md", "demo/README.md"]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents__links_lead_somewhere(document: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / document).read_text()):
        assert (ROOT / document).parent.joinpath(target).exists(), (
            f"{document} links to {target}, which is not there"
        )
