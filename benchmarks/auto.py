"""Whether `--method auto` finds in a few minutes what the best single method reaches.

    python benchmarks/auto.py                                  # a task of each group, 3 minutes each
    python benchmarks/auto.py --tasks flowers,textures,landuse --minutes 5

For each task a search with seed 0 in a process of its own, kept in `runs/auto-benchmark`; one that was
stopped goes on, one that is there is not done again. Beside it the committed records of the methods that it
tries, with seed 0: the same images, backbone, epochs and batch size. Each of them is the better of two
learning rates by validation, found in two runs, so that they are harder to beat than one run with the recipe.
Their seconds are those of the run that counts (readings, training, validation), as they were on a machine
that others used, too; auto's are of the whole search, prices and test included. The regret of auto on a task
is what it lacks to the method that is best on the test images, which nobody knows beforehand.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from vitgraft.results import store
from vitgraft.results.record import Record

HERE = Path(__file__).parent
RECORDS, RESULT = HERE.parent / "results" / "records", HERE / "results" / "auto.json"
SINGLE = {
    "linear": ("linear", 45),
    "mlp": ("mlp", 45),
    "head2toe": ("head2toe", 45),
    "vqt": ("vqt", 45),
    "synqt": ("synqt", 30),
    "lora": ("lora", 15),
    "spt-lora": ("spt-lora:budget=36864", 15),
}
"""Methods that auto tries, as the records spell them, and their epochs."""


def searched(task: str, minutes: float, folder: Path) -> Record:
    """The record of a search, which is done if it is not there."""
    out = folder / f"{task}-{minutes:g}"
    if not (out / store.FILE).exists():
        words = ["fit", task, "--method", "auto", "--minutes", f"{minutes:g}", "--seed", "0", "--out", str(out)]
        subprocess.run([sys.executable, "-m", "vitgraft", *words, "--resume"], check=True)
    return store.read(out / store.FILE)


def recorded(task: str) -> dict[str, Record]:
    """Each method's recorded run on a task, with seed 0, that has read the test images."""
    found: dict[str, Record] = {}
    for record in store.read_all(RECORDS).records.values():
        same = record.task.name == task and record.seed == 0 and record.test is not None
        for name, (spec, epochs) in SINGLE.items():
            wanted = record.method.spec == spec and record.config["epochs"] == epochs
            if same and wanted and record.backbone.name == "figures":
                assert name not in found, f"two records of {name} on {task}"
                found[name] = record
    return found


def compared(task: str, minutes: float, folder: Path) -> dict[str, Any]:
    """Accuracy on test and seconds of auto and of each method, on one task."""
    auto, single = searched(task, minutes, folder), recorded(task)
    chosen = auto.selection
    assert auto.test is not None, "auto has read the test images"
    assert chosen is not None, "auto tells what it chose among"
    tests = {name: one.test.top1 for name, one in single.items() if one.test is not None}
    return {
        "auto": {
            "test": auto.test.top1,
            "chosen": auto.method.spec,
            "seconds": chosen.seconds,
            "tried": sum(one.val_top1 is not None for one in chosen.tried),
            "left_out": sorted({one.method for one in chosen.tried if one.val_top1 is None}),
        },
        "single": tests,
        "single_seconds": {name: one.cost.cache_seconds + one.cost.train_seconds for name, one in single.items()},
        "best": max(tests, key=lambda name: tests[name]),
        "regret": max(tests.values()) - auto.test.top1,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="flowers,histology,dspr_loc", help="built-in tasks with records")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--folder", type=Path, default=Path("runs/auto-benchmark"))
    options = parser.parse_args()
    load = os.getloadavg()[0]
    tasks = {task: compared(task, options.minutes, options.folder) for task in options.tasks.split(",")}
    means = {name: statistics.mean(one["single"][name] for one in tasks.values()) for name in SINGLE}
    found = {
        "minutes": options.minutes,
        "machine": {"cores": os.cpu_count(), "load_before": round(load, 2)},
        "auto_mean": statistics.mean(one["auto"]["test"] for one in tasks.values()),
        "auto_seconds": statistics.mean(one["auto"]["seconds"] for one in tasks.values()),
        "single_means": means,
        "best_single": max(means, key=lambda name: means[name]),
        "mean_regret": statistics.mean(one["regret"] for one in tasks.values()),
        "tasks": tasks,
    }
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
