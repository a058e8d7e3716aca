"""What scoring every value of a backbone costs: time of a batch, memory beside activations, spending budgets.

    python benchmarks/sensitivity.py                  # ViT-B/16, batch 32, two threads; minutes
    python benchmarks/sensitivity.py --batch 2 --rounds 1 --threads 1

A batch of squared gradients and a forward and backward pass of timm's own module with all parameters trained take
turns in one process; a ratio is the median over rounds of the quotient within a round. Bytes are counted at every
gradient, and checked by peaks of fresh processes at two batch sizes: what does not grow with the batch is no
activation. Budgets are spent by random scores of every candidate.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from step_cost import CLASSES, library_model, machine, pictures, ratio
from vitgraft import methods
from vitgraft.backbones.families import wrap
from vitgraft.core.backbone import Backbone
from vitgraft.core.tuned import Tuned
from vitgraft.machine.placement import place
from vitgraft.methods.spt import SptLora
from vitgraft.search.allocation import PUBLISHED_LEVELS, candidates, spend
from vitgraft.train.gradients import Look, squared_gradients

RESULT = Path(__file__).parent / "results" / "sensitivity.json"
TIME_BAR, LIVE_BAR, SWEEP_BAR_SECONDS = 1.1, 2.2, 3.0
"""A batch as part of a plain step; weights, sums and gradients as parts of the weights; the allocation sweep."""

BUDGETS = (1_000_000, 800_000, 600_000, 400_000, 200_000, 100_000, 50_000)
"""The budgets that are published."""

LOOK_BATCHES = SptLora().images // SptLora().batch
"""Batches of a look at the training data, by default: they share what a look costs besides."""

PEAK_BATCHES = (2, 4)
RETURN_ALL = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""Tells glibc to return what is freed, which else counts as held and varies by hundreds of MiB."""


@dataclass
class Feed:
    """Images (b, 3, H, W), the same for every batch; before each one, `plain` has its turn. Both are clocked."""

    images: Tensor
    plain: Callable[[], object] = lambda: None
    plain_seconds: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    began: float = 0.0

    def stream(self, chunks: Iterable[object]) -> Generator[Tensor]:
        for _ in chunks:
            start = time.perf_counter()
            self.plain()
            self.began = time.perf_counter()
            self.plain_seconds.append(self.began - start)
            yield self.images

    def advance(self, more: int) -> None:
        self.seconds.append(time.perf_counter() - self.began)


def score(backbone: Backbone, feed: Feed, labels: Tensor, batches: int) -> dict[str, Tensor]:
    """Squared gradients of so many equal batches, by the linear head that SPT takes."""
    tuned = Tuned(backbone, methods.parse("linear").plan(backbone, CLASSES))
    look, here = Look(batches * len(labels), len(labels)), place("cpu")
    fed: Any = feed
    return squared_gradients(tuned, fed, labels.repeat(batches), look, here, feed.advance)


def plain_step(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Forward, cross-entropy and backward through timm's module; gradients are let go."""
    torch.autograd.backward(F.cross_entropy(model(images), labels))
    model.zero_grad()


def timed(options: argparse.Namespace) -> dict[str, float]:
    """Seconds and ratios of a batch; `of_a_look` shares out what is done once in it."""
    model = library_model(options.model).eval()
    images, labels = pictures(model, options.batch)
    backbone = wrap(model, "benchmark")
    feed = Feed(images, lambda: plain_step(model, images, labels))
    start = time.perf_counter()
    score(backbone, feed, labels, options.warmup + options.rounds)
    whole = time.perf_counter() - start
    ours, plain = feed.seconds[options.warmup :], feed.plain_seconds[options.warmup :]
    batch, step = statistics.median(ours), statistics.median(plain)
    once = whole - sum(feed.plain_seconds) - sum(feed.seconds)
    return {
        "batch_seconds": batch,
        "plain_seconds": step,
        "once_seconds": once,
        "of_a_batch": ratio(ours, plain),
        "of_a_look": (batch + once / LOOK_BATCHES) / step,
    }


def live(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Bytes of the weights, the sums and the gradients that are there at once, as parts of the weights' bytes.

    Gradients are counted whenever one has been accumulated, in the second of two batches.
    """
    backbone = wrap(model, "benchmark")
    values: list[Tensor] = []
    gradients: list[int] = []
    register: Callable[..., Any] = Tensor.register_post_accumulate_grad_hook

    def counting(value: Tensor, hook: Callable[[Tensor], None]) -> Any:
        values.append(value)

        def counted(of: Tensor) -> None:
            gradients.append(stored(one.grad for one in values if one.grad is not None))
            hook(of)

        return register(value, counted)

    with mock.patch.object(Tensor, "register_post_accumulate_grad_hook", counting):
        sums = score(backbone, Feed(images), labels, 2)
    assert len(values) == len(sums) == len(gradients) / 2, "a gradient was not counted"
    weights = stored(map(backbone.parameter, backbone.parameter_names()))
    held = stored([*values, *map(backbone.parameter, backbone.parameter_names())])
    return (held + stored(sums.values()) + max(gradients)) / weights


def stored(tensors: Iterable[Tensor]) -> int:
    """Bytes of distinct storages."""
    found = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in tensors}
    return sum(found.values())


def peak_growth(options: argparse.Namespace) -> float:
    """Bytes by which this process grows at most in two batches, above what it holds before them; Linux only."""
    model = library_model(options.model)
    images, labels = pictures(model, options.peak_of)
    backbone = wrap(model, "benchmark")
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far becomes what is held now
    before = held_bytes("VmRSS")
    score(backbone, Feed(images), labels, 2)
    return held_bytes("VmHWM") - before


def held_bytes(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * float(line.split()[1]) for line in lines if line.startswith(key))


def peak_in_fresh_process(batch: int, options: argparse.Namespace) -> float:
    command = [sys.executable, __file__, "--peak-of", str(batch), "--model", options.model]
    command += ["--threads", str(options.threads)]
    environment = {**os.environ, **RETURN_ALL}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return float(done.stdout.splitlines()[-1])


def memory(options: argparse.Namespace) -> dict[str, float]:
    """What is held beside activations, as parts of the weights' bytes."""
    model = library_model(options.model)
    backbone = wrap(model, "benchmark")
    weights = stored(map(backbone.parameter, backbone.parameter_names()))
    found = {"weights_mib": weights / 2**20, "live": live(model, *pictures(model, 2))}
    if options.no_peak:
        return found
    few, many = (peak_in_fresh_process(batch, options) for batch in PEAK_BATCHES)
    an_image = (many - few) / (PEAK_BATCHES[1] - PEAK_BATCHES[0])
    grown = few - PEAK_BATCHES[0] * an_image
    return found | {"peak": 1 + grown / weights, "activations_mib": an_image / 2**20}


def sweep(options: argparse.Namespace) -> dict[str, float]:
    """Seconds of spending all budgets in one call: the totals of every published level, and the allocations.

    `fine` takes the best of all levels instead of the published ones.
    """
    chosen = candidates(wrap(library_model(options.model), "benchmark"))
    generator = torch.Generator().manual_seed(1)
    scores = [torch.rand(one.shape, generator=generator) for one in chosen]
    rule = SptLora().rule()
    found: dict[str, list[float]] = {"published": [], "fine": []}
    for _ in range(options.warmup + options.rounds):
        for name, seconds in found.items():
            start = time.perf_counter()
            allocations = spend(chosen, scores, rule, BUDGETS, published=name == "published")
            seconds.append(time.perf_counter() - start)
            assert len(allocations) == len(BUDGETS)
    values = sum(one.size for one in chosen)
    medians = {f"{name}_seconds": statistics.median(one[options.warmup :]) for name, one in found.items()}
    return {"candidates": values, "levels": sum(level <= values for level in PUBLISHED_LEVELS), **medians}


def bars(results: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """What was promised, and whether it holds here."""
    held = results["memory"]
    found = [
        ("time of a batch / plain forward and backward", results["time"]["of_a_batch"], TIME_BAR),
        ("weights, sums and gradients / weights, counted", held["live"], LIVE_BAR),
        ("seconds of all budgets", results["sweep"]["published_seconds"], SWEEP_BAR_SECONDS),
    ]
    if "peak" in held:
        found.append(("weights, sums and gradients / weights, by peaks", held["peak"], LIVE_BAR))
    return [{"what": what, "found": value, "at_most": bar, "holds": value <= bar} for what, value, bar in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit_base_patch16_224", help="a timm ViT (random weights)")
    parser.add_argument("--batch", type=int, default=SptLora().batch)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--warmup", type=int, default=1, help="rounds that are not counted")
    parser.add_argument("--no-peak", action="store_true", help="leave out the fresh processes")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--peak-of", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak_of:
        print(peak_growth(options))
        return
    described = machine(options)
    results = {"time": timed(options), "memory": memory(options), "sweep": sweep(options)}
    held = bars(results)
    for title, one in results.items():
        print(f"{title:>8}", "  ".join(f"{key} {value:,.3f}" for key, value in one.items()))
    for bar in held:
        verdict = "holds" if bar["holds"] else "FAILS"
        print(f"{verdict}: {bar['what']} is {bar['found']:.3f}, at most {bar['at_most']:g}")
    setting = {key: getattr(options, key) for key in ("model", "batch", "rounds", "warmup")}
    record = {"setting": setting, "machine": described, "results": results, "bars": held}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
