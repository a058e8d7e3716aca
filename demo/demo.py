"""Tune the built-in backbone on two tasks with six methods, and print what each reached and what it cost.

Records and logs are below runs/demo.
"""

import sys
from pathlib import Path

import series

TASKS = {"digits": {"epochs": 2}, "dspr_loc": {"epochs": 3}}
METHODS = ("linear", "bias", "vpt-deep", "adaptformer", "ssf", "lora")
SETTINGS = {"batch_size": 16, "lr": 5e-3}
"""Few epochs of small batches and large steps: what three minutes allow. The defaults are for longer runs."""

FOLDER = Path("runs/demo")
COMMAND = "make demo"


def runs() -> series.Series:
    """What this demo consists of."""
    return series.Series(
        "The built-in backbone, tuned on 800 images a task",
        COMMAND,
        FOLDER,
        ("accuracy", "trained + head", "kept/image", "peak", "training"),
        ("trained", "kept"),
        tuple(
            series.run_of(FOLDER, task, method, **SETTINGS, **own)
            for task, own in TASKS.items()
            for method in METHODS
        ),
    )


if __name__ == "__main__":
    sys.exit(series.main(lambda: series.do(runs()), COMMAND))
