"""Does `fit --memory` stay inside? Peaks of whole commands in fresh processes beside the limits that they got.

    python benchmarks/memory_limit.py          # ViT-B/16, random weights, two methods, four limits; minutes
    python benchmarks/memory_limit.py --model vit_tiny_patch16_224 --limits 950MiB 1200MiB --images 40

A run is one epoch on pictures of digits, with validation and test. Bar: no measured peak above its limit. A limit
that the command refuses is shown as that; what it says is enough is tried, too.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from rich.console import Console
from rich.table import Table

from advise import CHILD, digits, environment, peak_of_child, random_weights
from vitgraft.machine.memory import bytes_of

RESULT = Path(__file__).parent / "results" / "memory_limit.json"
ENOUGH = re.compile(r"Give it --memory (\d+MiB)")


def run(limit: str, method: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One run within a limit: its peak in MiB, what was chosen for it, or what is enough if it was refused."""
    out = folder / f"{method}-{limit}"
    words = [
        "fit",
        str(folder / "digits"),
        "--backbone",
        options.model,
        "--checkpoint",
        str(folder / "weights.safetensors"),
    ]
    words += ["--method", method, "--epochs", "1", "--memory", limit, "--device", "cpu", "--out", str(out)]
    words += ["--cache", options.cache]
    began = time.perf_counter()
    asked = [sys.executable, "-c", CHILD, *words]
    done = subprocess.run(
        asked, capture_output=True, text=True, env=environment(folder, options.threads), check=False
    )
    text = " ".join(done.stderr.split())
    found: dict[str, Any] = {"method": method, "limit": limit, "limit_mib": bytes_of(limit) / 2**20}
    if done.returncode:
        enough = ENOUGH.search(text)
        if enough is None:
            raise SystemExit(text)
        return {**found, "enough": enough[1]}
    peak = peak_of_child(folder)
    cost = json.loads((out / "record.json").read_text())["cost"]
    chosen = {
        key: cost[key] for key in ("micro_batches", "computed_twice", "evaluated_at_once", "predicted_peak_mib")
    }
    return {**found, "peak_mib": peak, "seconds": time.perf_counter() - began, **chosen}


def show(found: list[dict[str, Any]]) -> None:
    table = Table(
        "method", "limit MiB", "peak MiB", "predicted", "micro-batches", "twice", "evaluated by", "seconds"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for one in found:
        if "peak_mib" not in one:
            table.add_row(
                one["method"], f"{one['limit_mib']:,.0f}", "refused", f"{one['enough']} are enough", *4 * [""]
            )
            continue
        cells = (f"{one[key]:,.0f}" for key in ("limit_mib", "peak_mib", "predicted_peak_mib", "micro_batches"))
        rest = (one["computed_twice"], str(one["evaluated_at_once"]), f"{one['seconds']:.0f}")
        table.add_row(one["method"], *cells, *rest)
    console = Console(width=120)
    console.print(table)
    above = [one for one in found if one.get("peak_mib", 0.0) > one["limit_mib"]]
    console.print(f"{'FAILS' if above else 'holds'}: {len(above)} of {len(found)} runs held more than their limit")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit_base_patch16_224", help="a timm ViT (random weights)")
    parser.add_argument("--methods", nargs="+", default=["lora", "linear"])
    parser.add_argument("--limits", nargs="+", default=["1GiB", "1500MiB", "2GiB", "4GiB"])
    parser.add_argument("--images", type=int, default=120)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cache", default="auto")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    load = round(os.getloadavg()[0], 2)
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        digits(folder / "digits", options.images)
        random_weights(options.model, folder / "weights.safetensors")
        for method in options.methods:
            for limit in options.limits:
                one = run(limit, method, options, folder)
                found.append(one)
                if "enough" in one:
                    found.append(run(one["enough"], method, options, folder))
                print(json.dumps(found[-1]), file=sys.stderr, flush=True)
    show(found)
    setting = {key: getattr(options, key) for key in ("model", "images", "threads", "cache")}
    facts = {"cores": os.cpu_count(), "load_before": load, "torch": version("torch"), "timm": version("timm")}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"setting": setting, "machine": facts, "runs": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
