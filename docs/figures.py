"""Make the gallery's figures anew: run every command of gallery.md, in its order.

What needs files that are not there (pictures that `make demo-photos` fetches, published masks) is left out, told.

python docs/figures.py [WORD]     # only commands that have a word such as photos-errors
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

GALLERY = Path(__file__).parent / "gallery.md"
SCORES = "runs/gallery/scores"
"""Where sensitivities are kept, which are computed where they are not there."""


def commands() -> list[list[str]]:
    """The gallery's commands as words behind `vitgraft`."""
    blocks = re.findall(r"^```\n(.*?)^```\n", GALLERY.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [shlex.split(line)[1:] for block in blocks for line in block.splitlines() if line]


def lacking(words: list[str]) -> list[str]:
    """The files and runs that a command reads and that are not there."""
    named = [part.rpartition("=")[2] for word in words for part in word.split(",")]
    read = [one for one in named if "/" in one and one not in (words[words.index("--out") + 1], SCORES)]
    return [one for one in read if not Path(one).exists()]


def main(only: list[str]) -> int:
    """Run what is missing; returns the exit code of the first command that failed."""
    for words in commands():
        if only and not set(only) & set(words):
            continue
        if words[0] == "fit" and (Path(words[words.index("--out") + 1]) / "record.json").exists():
            continue
        if missing := lacking(words):
            print(f"left out, without {', '.join(missing)}: vitgraft {shlex.join(words)}", flush=True)
            continue
        print("vitgraft", shlex.join(words), flush=True)
        if code := subprocess.run([sys.executable, "-m", "vitgraft", *words]).returncode:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
