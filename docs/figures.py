"""Make the gallery's figures anew: run every command of gallery.md, in its order.

python docs/figures.py
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

GALLERY = Path(__file__).parent / "gallery.md"


def commands() -> list[list[str]]:
    """The gallery's commands as words behind `vitgraft`."""
    blocks = re.findall(r"^```\n(.*?)^```\n", GALLERY.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [shlex.split(line)[1:] for block in blocks for line in block.splitlines() if line]


def main() -> int:
    """Run what is missing; returns the exit code of the first command that failed."""
    for words in commands():
        if words[0] == "fit" and (Path(words[words.index("--out") + 1]) / "record.json").exists():
            continue
        print("vitgraft", shlex.join(words), flush=True)
        if code := subprocess.run([sys.executable, "-m", "vitgraft", *words]).returncode:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
