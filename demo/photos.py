"""Tune DINOv2-S/14 on real photographs with four methods, and print what each reached and what it cost.

Weights and pictures come from the package index (packages.py, README.md) into data/photos; records, logs and the
picture are below runs/demo-photos.
"""

import sys
from pathlib import Path

import packages
import series

DATA = Path("data/photos")
FOLDER = Path("runs/demo-photos")
COMMAND = "make demo-photos"

TASKS = ("solar_grades", "textiles")
METHODS = {
    "linear": {"epochs": 60},
    "vqt": {"epochs": 20},
    "synqt": {"epochs": 12},
    "lora": {"epochs": 5, "lr": 2e-3},
}
SETTINGS = {
    "backbone": packages.NAME,
    "checkpoint": str(DATA / packages.WEIGHTS),
    "image_size": 112,
    "precision": "bf16",
    "batch_size": 32,
}

PICTURE = FOLDER / "accuracy.png"


def runs() -> series.Series:
    """What this demo consists of."""
    return series.Series(
        "DINOv2-S/14, tuned on 800 pictures a task",
        COMMAND,
        FOLDER,
        ("accuracy", "per class", "trained + head", "kept/image", "training", "frozen part"),
        ("seconds", "kept"),
        tuple(
            series.run_of(FOLDER, str(DATA / f"{task}.csv"), method, **SETTINGS, **own)
            for task in TASKS
            for method, own in METHODS.items()
        ),
    )


def main() -> int:
    """Lay out what is tuned, do what is missing, print the table and draw; returns the exit code."""
    packages.lay_out(DATA)
    series.console.print(_arithmetic())
    if code := series.do(runs()):
        return code
    from picture import draw

    draw(runs(), PICTURE)
    series.console.print(f"The same as a picture: {PICTURE}")
    return 0


def _arithmetic() -> str:
    """How long this machine will take, by whether it computes in bf16."""
    from vitgraft.machine.placement import computes_bf16, device_named

    if computes_bf16(device_named("auto")):
        return "This machine computes in bf16: about ten minutes on two CPU cores."
    return "This machine has no bf16 arithmetic, so all is computed in fp32: about 25 minutes on two CPU cores."


if __name__ == "__main__":
    sys.exit(series.main(main, COMMAND))
