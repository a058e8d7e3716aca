"""What `vitgraft advise` predicts beside what runs come to: peaks of memory and times, each in a fresh process.

    python benchmarks/advise.py                       # five methods, figures and ViT-S/16; half an hour
    python benchmarks/advise.py --backbones figures --images 40 --epochs 1 --methods linear lora

For each method one process advises, and another does what the advised command says, on pictures of digits. Weights
are random but for figures. A time is from start to end of the command; a peak is the process's own. Bars: peaks
within 15 %, times within 30 %.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

METHODS = ("linear", "vqt", "lora", "vpt-deep", "full")
BACKBONES = ("figures", "vit_small_patch16_224")
PEAK_BAR, TIME_BAR = 0.15, 0.30
RESULT = Path(__file__).parent / "results" / "advise.json"
CHILD = """
import atexit, os
from pathlib import Path
from vitgraft.cli import main
from vitgraft.train.cost import peak_memory_mib
atexit.register(lambda: Path(os.environ["PEAK_FILE"]).write_text(str(peak_memory_mib())))
main()
"""


@dataclass(frozen=True)
class Compared:
    """One method on one backbone: MiB and seconds, predicted and measured."""

    backbone: str
    method: str
    predicted_mib: float
    measured_mib: float
    predicted_seconds: float
    measured_seconds: float

    @property
    def peak_ratio(self) -> float:
        return self.predicted_mib / self.measured_mib

    @property
    def time_ratio(self) -> float:
        return self.predicted_seconds / self.measured_seconds


def command(words: list[str], folder: Path, threads: int) -> tuple[str, float, float]:
    """Standard output of a command of vitgraft in a fresh process, its peak in MiB, and its seconds."""
    began = time.perf_counter()
    asked = [sys.executable, "-c", CHILD, *words]
    done = subprocess.run(asked, stdout=subprocess.PIPE, text=True, env=environment(folder, threads), check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"failed: vitgraft {shlex.join(words)}")
    return done.stdout, peak_of_child(folder), seconds


def environment(folder: Path, threads: int) -> dict[str, str]:
    """Of a child, which leaves its peak in a file."""
    own = {"OMP_NUM_THREADS": str(threads), "VITGRAFT_CACHE": str(folder / "cache")}
    return {**os.environ, **own, "PEAK_FILE": str(folder / "peak")}


def peak_of_child(folder: Path) -> float:
    """MiB of the child that ended last."""
    return float((folder / "peak").read_text())


def digits(folder: Path, count: int) -> Path:
    """Pictures of digits in class folders."""
    from vitgraft.data import builtin

    split = builtin.load("digits").splits["train"]
    for index in range(min(count, len(split))):
        image, label = split[index]
        place = folder / str(label)
        place.mkdir(parents=True, exist_ok=True)
        image.save(place / f"{index}.png")
    return folder


def random_weights(name: str, file: Path) -> Path:
    """A checkpoint of a timm model, never trained."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file(timm.create_model(name, num_classes=0).state_dict(), file)
    return file


def compare(name: str, options: argparse.Namespace, folder: Path) -> tuple[list[Compared], float]:
    """All methods on one backbone; and the seconds that the advice took."""
    words = [
        str(folder / "digits"),
        "--backbone",
        name,
        "--set",
        f"epochs={options.epochs}",
        "--set",
        "device=cpu",
    ]
    if name != "figures":
        words += ["--checkpoint", str(random_weights(name, folder / f"{name}.safetensors"))]
    words += ["--memory", options.memory] if options.memory else []
    found, took = [], 0.0
    for method in options.methods:  # its own advice, as each has its own command
        said, _, seconds = command(["advise", *words, "--method", method, "--json"], folder, options.threads)
        took += seconds
        advice: dict[str, Any] = json.loads(said)
        price = advice["methods"][0]
        typed = [*shlex.split(advice["command"])[1:], "--out", str(folder / "runs" / f"{name}-{method}")]
        _, peak, measured = command(typed, folder, options.threads)
        one = Compared(name, method, price["peak_bytes"] / 2**20, peak, 60 * price["minutes"], measured)
        print(json.dumps(asdict(one)), file=sys.stderr, flush=True)
        found.append(one)
    return found, took


def whole_advice(name: str, options: argparse.Namespace, folder: Path) -> float:
    """Seconds of advice on all methods."""
    words = ["advise", str(folder / "digits"), "--backbone", name, "--json"]
    return command(words, folder, options.threads)[2]


def show(found: list[Compared], advice: dict[str, float]) -> None:
    table = Table(
        "backbone", "method", "peak predicted", "measured", "ratio", "time predicted", "measured", "ratio"
    )
    for column in table.columns[2:]:
        column.justify = "right"
    for one in found:
        peaks = (f"{one.predicted_mib:,.0f} MiB", f"{one.measured_mib:,.0f} MiB", f"{one.peak_ratio:.2f}")
        times = (f"{one.predicted_seconds:.1f} s", f"{one.measured_seconds:.1f} s", f"{one.time_ratio:.2f}")
        table.add_row(one.backbone, one.method, *peaks, *times)
    console = Console(width=120)
    console.print(table)
    for one in found:
        for what, value, bar in (("peak", one.peak_ratio, PEAK_BAR), ("time", one.time_ratio, TIME_BAR)):
            if abs(value - 1) > bar:
                console.print(
                    f"MISSED: {what} of {one.method} on {one.backbone} is {value:.2f} of measured, bar {bar:.0%}"
                )
    for name, seconds in advice.items():
        console.print(f"advice on all methods, {name}: {seconds:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES))
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--images", type=int, default=300, help="pictures in all, of which 70 % are trained on")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--memory", default=None, help="a limit for all runs, such as 2GiB; none: what is free")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--whole", nargs="*", default=["vit_base_patch16_224"], help="time advice on all methods")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    load = round(os.getloadavg()[0], 2)
    found: list[Compared] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        digits(folder / "digits", options.images)
        for name in options.backbones:
            found += compare(name, options, folder)[0]
        advice = {name: whole_advice(name, options, folder) for name in options.whole}
    show(found, advice)
    setting = {key: getattr(options, key) for key in ("images", "epochs", "memory", "threads")}
    facts = {"cores": os.cpu_count(), "load_before": load, "torch": version("torch"), "timm": version("timm")}
    record = {
        "setting": setting,
        "machine": facts,
        "runs": [asdict(one) for one in found],
        "advice_seconds": advice,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
