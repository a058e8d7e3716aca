"""What a step of SPT-LoRA costs beside LoRA's and full fine-tuning's, on a published selection.

    python benchmarks/spt_step.py lora_cifar_param_req_0.4.pth          # ViT-B/16, batch 16, two threads; minutes
    python benchmarks/spt_step.py MASK --batch 4 --threads 1 --rounds 3

The contenders take turns in one process, as in step_cost.py, whose measures these are.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from step_cost import (
    CLASSES,
    LORA,
    Contender,
    kept_per_image,
    library_model,
    machine,
    ours,
    pictures,
    ratio,
    timed,
)
from vitgraft.backbones.families import wrap
from vitgraft.core.tuned import Tuned
from vitgraft.methods.spt import SptLora

RESULT = Path(__file__).parent / "results" / "spt_step.json"
TIME_BAR, KEPT_BAR = 1.15, 1.1
"""SPT-LoRA's time and kept bytes as parts of those of our LoRA-8 on q, k and v."""


def spt(model: nn.Module, mask: Path) -> Contender:
    """SPT-LoRA of rank 8 on a published selection."""
    backbone = wrap(model, "benchmark")
    method = SptLora(mask=str(mask))
    findings = method.find(backbone, CLASSES, None)  # type: ignore[arg-type]  # a mask asks for no images
    tuned = Tuned(backbone, method.plan(backbone, CLASSES, findings)).train()
    there = (*tuned.parameters(), *tuned.buffers(), *backbone.parameters(), *backbone.buffers())
    return Contender(tuned, tuple(tuned.parameters()), there)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mask", type=Path, help="a published param_req_*.pth of SPT-LoRA for ViT-B/16")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--warmup", type=int, default=1, help="rounds that are not counted")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    described = machine(options)
    make: dict[str, Callable[[nn.Module], Contender]] = {
        "lora": partial(ours, method=LORA),
        "lora_all": partial(ours, method="lora:places=all"),
        "spt": partial(spt, mask=options.mask),
        "full": partial(ours, method="full"),
    }
    model = library_model("vit_base_patch16_224")
    images, labels = pictures(model, max(options.batch, 4))
    contenders = {name: build(model) for name, build in make.items()}
    kept = {name: kept_per_image(each, images, labels) for name, each in contenders.items()}
    images, labels = images[: options.batch], labels[: options.batch]
    seconds = timed(
        {name: each.stepper(images, labels) for name, each in contenders.items()}, options.rounds, options.warmup
    )
    results: dict[str, dict[str, Any]] = {
        name: {
            "trained": sum(value.numel() for value in each.trained),
            "seconds": statistics.median(seconds[name]),
            "per_lora": ratio(seconds[name], seconds["lora"]),
            "kept_mib": kept[name],
            "kept_per_lora": kept[name] / kept["lora"],
        }
        for name, each in contenders.items()
    }
    for name, one in results.items():
        print(f"{name:>8}", "  ".join(f"{key} {value:,.3f}" for key, value in one.items()))
    found = (("time", results["spt"]["per_lora"], TIME_BAR), ("kept", results["spt"]["kept_per_lora"], KEPT_BAR))
    bars = [{"what": what, "found": value, "at_most": bar, "holds": value <= bar} for what, value, bar in found]
    for bar in bars:
        print(
            f"{'holds' if bar['holds'] else 'FAILS'}: SPT-LoRA's {bar['what']} / LoRA's, at most {bar['at_most']}"
        )
    setting = {key: getattr(options, key) for key in ("batch", "rounds", "warmup")} | {"mask": options.mask.name}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    record = {"setting": setting, "machine": described, "results": results, "bars": bars}
    options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
