"""What side tuning costs from cached features, in forward passes of the frozen backbone, and what it keeps.

    python benchmarks/side_tuning.py                      # ViT-B/16, two threads; minutes
    python benchmarks/side_tuning.py --rounds 3 --model vit_tiny_patch16_224

A step takes one batch of 16-bit rows from memory, and is a forward pass that converts them, cross-entropy, a
backward pass, AdamW and zeroing the gradients. All contenders take turns in one process, round by round; a ratio
is the median over rounds of the quotient within a round, an image against an image.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from vitgraft import methods
from vitgraft.backbones.families import wrap
from vitgraft.core.backbone import Backbone, Features
from vitgraft.core.sites import Tap
from vitgraft.core.tuned import Tuned
from vitgraft.train.cost import kept_bytes_per_image
from vitgraft.train.optim import adamw

CLASSES, TASKS = 10, 10
RESULT = Path(__file__).parent / "results" / "side_tuning.json"
STEP_BARS = {
    "synqt:tokens=1": 0.045,
    "synqt:tokens=4": 0.10,
    "synqt:tokens=16": 0.30,
    "vqt:tokens=1": 0.03,
    "linear": 0.001,
}
"""A step of an image as part of a frozen forward pass, fp32."""
KEPT_BARS_MIB = {"synqt:tokens=4": 12.0, "vqt:tokens=1": 9.0}
TASKS_BAR = 1.6
MAIN = "synqt:tokens=4"


@dataclass(frozen=True)
class Contender:
    """Something to time: `run` handles `images` images; its cost is told in images of the contender `against`."""

    title: str
    run: Callable[[], object]
    images: int
    against: str
    bar: float | None = None


@dataclass(frozen=True)
class Result:
    """Time an image, and that as part of what it is told in."""

    title: str
    ms_an_image: float
    ratio: float
    at_most: float | None


@dataclass(frozen=True)
class Bench:
    """A frozen backbone, images (B, 3, H, W) to walk, and cached rows by tap: `batch` of them make a step."""

    backbone: Backbone
    images: Tensor
    rows: dict[Tap, Tensor]
    batch: int

    @classmethod
    def build(cls, name: str, walked: int, batch: int) -> "Bench":
        """Random weights and noise. The rows of `walked` images are repeated to two batches."""
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=0)
        backbone = wrap(model, "benchmark")
        images = torch.randn(walked, *model.pretrained_cfg["input_size"])
        taps = [Tap(block, "norm1") for block in range(backbone.depth)] + [Tap(backbone.depth, "pooled")]
        chosen = torch.arange(2 * batch) % walked
        rows = {tap: value.half()[chosen] for tap, value in backbone.read(images, taps).items()}
        return cls(backbone, images, rows, batch)

    def model(self, method: str) -> Tuned:
        return Tuned(self.backbone, methods.parse(method).plan(self.backbone, CLASSES))

    def frozen(self, precision: str) -> Callable[[], object]:
        @torch.no_grad()
        def run() -> Tensor:
            with computing(precision):
                pooled: Tensor = self.backbone(self.images, tokens=False).pooled
            return pooled

        return run

    def load(self, model: Tuned) -> Features:
        """One random batch of what the model's prefix reads; heads convert it where they read."""
        assert model.prefix is not None
        chosen = torch.randint(2 * self.batch, (self.batch,))
        return model.features({tap: self.rows[tap][chosen] for tap in model.prefix.taps})

    def loading(self, method: str, precision: str) -> Callable[[], object]:
        model = self.model(method)

        def run() -> Features:
            with computing(precision):
                return self.load(model)

        return run

    def step(self, method: str, precision: str) -> Callable[[], object]:
        model = self.model(method).train()
        optimizer = adamw(model, 1e-3, 1e-2)
        labels = torch.randint(CLASSES, (self.batch,))

        def run() -> None:
            with computing(precision):
                logits = model.classify(self.load(model))
            torch.autograd.backward(F.cross_entropy(logits.float(), labels))
            optimizer.step()
            optimizer.zero_grad()

        return run

    def tasks(self, count: int) -> Callable[[], object]:
        """One walk, and the heads of `count` tasks on what it read."""
        models = [self.model(MAIN).eval() for _ in range(count)]

        @torch.no_grad()
        def run() -> list[Tensor]:
            features = models[0].features(self.images)
            return [model.classify(features) for model in models]

        return run


def computing(precision: str) -> AbstractContextManager[Any]:
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16")


def contenders(bench: Bench) -> dict[str, Contender]:
    """All that is timed, the frozen passes and single tasks before what is told in them."""
    walked, batch = len(bench.images), bench.batch
    found = {}
    for precision in ("fp32", "bf16"):
        frozen = f"frozen {precision}"
        found[frozen] = Contender(f"frozen forward, {precision}", bench.frozen(precision), walked, frozen)
        specs = STEP_BARS if precision == "fp32" else [MAIN]
        for spec in specs:
            bar = STEP_BARS[spec] if precision == "fp32" else None
            step = bench.step(spec, precision)
            found[f"{spec} {precision}"] = Contender(f"step of {spec}, {precision}", step, batch, frozen, bar)
        title = f"of which taking rows, {precision}"
        found[f"rows {precision}"] = Contender(title, bench.loading(MAIN, precision), batch, frozen)
    found["one task"] = Contender(f"{MAIN}, one task, inference", bench.tasks(1), walked, "one task")
    title = f"{MAIN}, {TASKS} tasks on one walk"
    found["ten tasks"] = Contender(title, bench.tasks(TASKS), walked, "one task", TASKS_BAR)
    return found


def timed(all_of: dict[str, Contender], rounds: int, warmup: int) -> dict[str, list[float]]:
    """Seconds an image of each contender, round by round, taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in all_of}
    for number in range(warmup + rounds):
        for name, contender in all_of.items():
            start = time.perf_counter()
            contender.run()
            if number >= warmup:
                seconds[name].append((time.perf_counter() - start) / contender.images)
    return seconds


def compare(all_of: dict[str, Contender], rounds: int, warmup: int) -> dict[str, Result]:
    seconds = timed(all_of, rounds, warmup)
    results = {}
    for name, one in all_of.items():
        pairs = zip(seconds[name], seconds[one.against], strict=True)
        ratio = statistics.median(over / under for over, under in pairs)
        results[name] = Result(one.title, 1e3 * statistics.median(seconds[name]), ratio, one.bar)
    return results


def kept(bench: Bench) -> dict[str, float]:
    """MiB that autograd keeps of an image in a training step that walks the backbone, by method; fp32."""
    return {spec: kept_bytes_per_image(bench.model(spec)) / 2**20 for spec in STEP_BARS}


def bars(results: dict[str, Result], kept_mib: dict[str, float]) -> list[dict[str, Any]]:
    """What was promised, and whether it holds here."""
    found = [(one.title, one.ratio, one.at_most) for one in results.values() if one.at_most is not None]
    found += [(f"kept MiB an image of {spec}", kept_mib[spec], bar) for spec, bar in KEPT_BARS_MIB.items()]
    return [{"what": what, "found": value, "at_most": bar, "holds": value <= bar} for what, value, bar in found]


def machine(threads: int) -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "threads": threads,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "load_before": round(os.getloadavg()[0], 2),
        **{name: version(name) for name in ("torch", "timm")},
    }


def show(results: dict[str, Result], kept_mib: dict[str, float], held: list[dict[str, Any]]) -> None:
    table = Table("", "ms an image", "ratio", "at most")
    for column in table.columns[1:]:
        column.justify = "right"
    for one in results.values():
        bar = "" if one.at_most is None else f"{one.at_most:g}"
        table.add_row(one.title, f"{one.ms_an_image:.3f}", f"{one.ratio:.4f}", bar)
    console = Console()
    console.print(table)
    for spec, mib in kept_mib.items():
        console.print(f"{spec} keeps {mib:.2f} MiB an image")
    for each in held:
        verdict = "held" if each["holds"] else "missed"
        console.print(f"{verdict}: {each['what']} is {each['found']:.4f}, at most {each['at_most']:g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit_base_patch16_224", help="a timm ViT (random weights)")
    parser.add_argument("--batch", type=int, default=64, help="images of a step")
    parser.add_argument("--walked", type=int, default=16, help="images of a forward pass")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--warmup", type=int, default=1, help="rounds that are not counted")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    described = machine(options.threads)
    bench = Bench.build(options.model, options.walked, options.batch)
    kept_mib = kept(bench)
    results = compare(contenders(bench), options.rounds, options.warmup)
    held = bars(results, kept_mib)
    show(results, kept_mib, held)
    setting = {key: getattr(options, key) for key in ("model", "batch", "walked", "rounds", "warmup")}
    times = {name: asdict(one) for name, one in results.items()}
    record = {"setting": setting, "machine": described, "results": times, "kept_mib": kept_mib, "bars": held}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
