"""What one training step costs: time, bytes kept for the backward pass, peak memory; ours beside PEFT's.

    python benchmarks/step_cost.py                      # ViT-B/16, batch 16, two threads; minutes
    python benchmarks/step_cost.py --rounds 3 --no-peak --model vit_tiny_patch16_224

One step is a forward pass, cross-entropy, a backward pass, AdamW and zeroing the gradients. All contenders take
turns in one process, round by round; a ratio is the median over rounds of the quotient within a round. Peaks
are taken in a fresh process each.
"""

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from vitgraft import methods
from vitgraft.backbones.families import wrap
from vitgraft.core.sites import Recompute
from vitgraft.core.tuned import Tuned
from vitgraft.train.cost import kept_bytes

CLASSES, RANK = 10, 8
RESULT = Path(__file__).parent / "results" / "step_cost.json"
TIME_BAR, KEPT_BAR, CHECKPOINT_BAR_MIB = 1.0, 0.92, 9.0
"""Our LoRA's time and kept bytes as parts of PEFT's; kept MiB an image with recomputation."""


@dataclass(frozen=True)
class Contender:
    """A model to take steps with: `predict` maps images (B, 3, H, W) to logits or, if nothing is trained, runs."""

    predict: Callable[[Tensor], Tensor]
    trained: tuple[nn.Parameter, ...]
    there: tuple[Tensor, ...]
    """Parameters and buffers, which are no activations."""

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(self.predict(images), labels)

    def stepper(self, images: Tensor, labels: Tensor) -> Callable[[], object]:
        """One step, ready to run."""
        if not self.trained:
            return partial(self.predict, images)
        optimizer = torch.optim.AdamW(self.trained, foreach=True)

        def step() -> None:
            torch.autograd.backward(self.loss(images, labels))
            optimizer.step()
            optimizer.zero_grad()

        return step


def library_model(name: str) -> nn.Module:
    """The timm model with random weights, the same in every process."""
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, num_classes=CLASSES)
    return model


def ours(model: nn.Module, method: str, recompute: Recompute = "none") -> Contender:
    backbone = wrap(model, "benchmark")
    tuned = Tuned(backbone, methods.parse(method).plan(backbone, CLASSES)).train()
    tuned.recompute = recompute
    there = (*tuned.parameters(), *tuned.buffers(), *backbone.parameters(), *backbone.buffers())
    return Contender(tuned, tuple(tuned.parameters()), there)


def frozen(model: nn.Module) -> Contender:
    backbone = wrap(model, "benchmark")

    @torch.no_grad()
    def predict(images: Tensor) -> Tensor:
        pooled: Tensor = backbone(images, tokens=False).pooled
        return pooled

    return Contender(predict, (), ())


def peft(model: nn.Module) -> Contender:
    """LoRA on the same projections and the same trained head.

    PEFT gives the fused qkv one A (rank 8 for q, k and v together); ours gives each of q, k and v its own, so
    ours trains more values and does a little more work.
    """
    config = LoraConfig(
        target_modules=["qkv"], r=RANK, lora_alpha=RANK, lora_dropout=0.0, modules_to_save=["head"]
    )
    tuned = get_peft_model(copy.deepcopy(model), config).train()
    trained = tuple(value for value in tuned.parameters() if value.requires_grad)
    return Contender(tuned, trained, (*tuned.parameters(), *tuned.buffers()))


LORA = f"lora:places=qkv,rank={RANK}"
CONTENDERS: dict[str, Callable[[nn.Module], Contender]] = {
    "frozen": frozen,
    "linear": partial(ours, method="linear"),
    "lora": partial(ours, method=LORA),
    "peft": peft,
    "full": partial(ours, method="full"),
    "lora_recompute": partial(ours, method=LORA, recompute="block"),
    "lora_mlp": partial(ours, method=LORA, recompute="mlp"),
}
TITLES = {
    "frozen": "frozen forward, no autograd",
    "linear": "vitgraft linear",
    "lora": "vitgraft LoRA on q, k, v",
    "peft": "PEFT LoRA on qkv",
    "full": "vitgraft full",
    "lora_recompute": "vitgraft LoRA, recomputing blocks",
    "lora_mlp": "vitgraft LoRA, recomputing mlps",
}


@dataclass
class Result:
    """What one contender costs. Bytes are MiB; `kept_mib` is an image's."""

    trained: int
    seconds: float
    per_frozen: float
    per_peft: float
    kept_mib: float
    peak_growth_mib: float | None = None


def pictures(model: nn.Module, batch: int) -> tuple[Tensor, Tensor]:
    """Noise (B, 3, H, W) and labels (B,)."""
    generator = torch.Generator().manual_seed(1)
    config: Any = model.pretrained_cfg
    size = config["input_size"]
    images = torch.randn(batch, *size, generator=generator)
    return images, torch.randint(CLASSES, (batch,), generator=generator)


def kept_per_image(contender: Contender, images: Tensor, labels: Tensor, batch: int = 2) -> float:
    """Kept MiB of one more image: constants drop out of the difference of two batches."""
    if not contender.trained:
        return 0.0
    few, many = (
        kept_bytes(partial(contender.loss, images[:count], labels[:count]), contender.there)
        for count in (batch, 2 * batch)
    )
    return (many - few) / batch / 2**20


def timed(steps: dict[str, Callable[[], object]], rounds: int, warmup: int) -> dict[str, list[float]]:
    """Seconds of each step, round by round, the contenders taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(warmup + rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if number >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(over: Iterable[float], under: Iterable[float]) -> float:
    """The median of the quotients within a round."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def compare(options: argparse.Namespace) -> dict[str, Result]:
    """Time and kept bytes of all contenders in this process, and peaks in one process each."""
    model = library_model(options.model)
    images, labels = pictures(model, max(options.batch, 4))
    contenders = {name: make(model) for name, make in CONTENDERS.items()}
    kept = {name: kept_per_image(each, images, labels) for name, each in contenders.items()}
    images, labels = images[: options.batch], labels[: options.batch]
    steps = {name: each.stepper(images, labels) for name, each in contenders.items()}
    seconds = timed(steps, options.rounds, options.warmup)
    results = {
        name: Result(
            trained=sum(value.numel() for value in each.trained),
            seconds=statistics.median(seconds[name]),
            per_frozen=ratio(seconds[name], seconds["frozen"]),
            per_peft=ratio(seconds[name], seconds["peft"]),
            kept_mib=kept[name],
        )
        for name, each in contenders.items()
    }
    if not options.no_peak:
        for name, result in results.items():
            result.peak_growth_mib = peak_in_fresh_process(name, options)
    return results


def peak_in_fresh_process(name: str, options: argparse.Namespace) -> float | None:
    command = [sys.executable, __file__, "--peak-of", name, "--model", options.model]
    command += ["--batch", str(options.batch), "--threads", str(options.threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: float | None = json.loads(done.stdout.splitlines()[-1])
    return found


def peak_growth(name: str, options: argparse.Namespace) -> float | None:
    """MiB by which this process grows at most in two steps, above what it holds before them; Linux only."""
    model = library_model(options.model)
    images, labels = pictures(model, options.batch)
    step = CONTENDERS[name](model).stepper(images, labels)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far becomes what is held now
        before = _status_mib("VmRSS")
    except OSError:
        return None
    step()
    step()
    return _status_mib("VmHWM") - before


def _status_mib(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def bars(results: dict[str, Result]) -> list[dict[str, Any]]:
    """What was promised, and whether it holds here."""
    lora, peft_kept = results["lora"], results["peft"].kept_mib
    found = [
        ("LoRA: time of a step / PEFT's", lora.per_peft, TIME_BAR),
        ("LoRA: kept bytes / PEFT's", lora.kept_mib / peft_kept, KEPT_BAR),
        ("LoRA, recomputing: kept MiB an image", results["lora_recompute"].kept_mib, CHECKPOINT_BAR_MIB),
    ]
    return [{"what": what, "found": value, "at_most": bar, "holds": value <= bar} for what, value, bar in found]


def machine(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "threads": options.threads,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "load_before": round(os.getloadavg()[0], 2),
        **{name: version(name) for name in ("torch", "timm", "peft")},
    }


def show(results: dict[str, Result], held: list[dict[str, Any]]) -> None:
    table = Table("", "trained values", "s a step", "/ frozen", "/ PEFT", "kept MiB an image", "peak growth MiB")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, one in results.items():
        peak = "" if one.peak_growth_mib is None else f"{one.peak_growth_mib:,.0f}"
        times = (f"{one.seconds:.3f}", f"{one.per_frozen:.2f}", f"{one.per_peft:.3f}")
        table.add_row(TITLES[name], f"{one.trained:,}", *times, f"{one.kept_mib:.2f}", peak)
    console = Console()
    console.print(table)
    for bar in held:
        verdict = "holds" if bar["holds"] else "FAILS"
        console.print(f"{verdict}: {bar['what']} is {bar['found']:.3f}, at most {bar['at_most']:g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit_base_patch16_224", help="a timm ViT (random weights)")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--warmup", type=int, default=1, help="rounds that are not counted")
    parser.add_argument("--no-peak", action="store_true", help="leave out the fresh processes")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--peak-of", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak_of:
        print(json.dumps(peak_growth(options.peak_of, options)))
        return
    described = machine(options)
    results = compare(options)
    held = bars(results)
    show(results, held)
    setting = {key: getattr(options, key) for key in ("model", "batch", "rounds", "warmup")}
    record = {"setting": setting, "machine": described, "results": {k: asdict(v) for k, v in results.items()}}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record | {"bars": held}, indent=1) + "\n")


if __name__ == "__main__":
    main()
