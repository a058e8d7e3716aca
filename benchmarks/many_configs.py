"""What many configurations of a cached method cost at once, beside one of them.

    python benchmarks/many_configs.py                                     # the built-in backbone; a minute or two
    python benchmarks/many_configs.py --model vit_base_patch16_224 --images 192 --val 64 --epochs 3

The trainer itself runs: training with validation, from a cache that is there already. One configuration and all of
them take turns in one process; a ratio is the median over rounds of the quotient within a round.
"""

import argparse
import json
import os
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch

from step_cost import machine
from vitgraft import load_backbone, methods
from vitgraft.backbones.families import wrap
from vitgraft.core.backbone import Backbone
from vitgraft.core.tuned import Tuned
from vitgraft.data.preprocessing import Preprocessing
from vitgraft.data.task import ArrayImages, Split
from vitgraft.train import loop
from vitgraft.train.settings import Training

CLASSES = 10
BAR = 4.0
"""All configurations at once, as multiples of one."""
RESULTS = Path(__file__).parent / "results"


def noise(count: int, size: tuple[int, int], seed: int) -> Split:
    """Pictures of noise, which cost what others do."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (count, *size, 3), dtype=np.uint8)
    return Split(ArrayImages(pixels, "noise"), random.integers(0, CLASSES, count))


def frozen(name: str) -> Backbone:
    """The built-in backbone, or one of timm's with random weights."""
    if name == "figures":
        return load_backbone(name)
    torch.manual_seed(0)
    return wrap(timm.create_model(name, num_classes=0), name)


def models(backbone: Backbone, method: str, count: int) -> list[Tuned]:
    found = []
    for _ in range(count):
        torch.manual_seed(0)
        found.append(Tuned(backbone, methods.parse(method).plan(backbone, CLASSES)))
    return found


def seconds(backbone: Backbone, method: str, told: list[Training], splits: tuple[Split, Split]) -> float:
    """How long these configurations train, at once if there are several."""
    pictures = Preprocessing(size=backbone.view.image_size, crop=1.0)
    made = models(backbone, method, len(told))
    if len(told) == 1:
        return loop.fit(made[0], *splits, told[0], preprocessing=pictures).seconds
    fitted = loop.fit_together(made, *splits, told, preprocessing=pictures)
    return sum(one.seconds for one in fitted if isinstance(one, loop.Fitted))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="figures", help="figures, or a timm name (random weights)")
    parser.add_argument("--methods", nargs="+", default=["linear", "vqt"])
    parser.add_argument("--configs", type=int, default=16)
    parser.add_argument("--images", type=int, default=800)
    parser.add_argument("--val", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    here = machine(options)  # its load is that before measuring
    backbone = frozen(options.model)
    size = backbone.view.image_size
    splits = noise(options.images, size, 0), noise(options.val, size, 1)
    base = Training(epochs=options.epochs, batch_size=options.batch, lr=1e-3, weight_decay=1e-4, device="cpu")
    many = [replace(base, lr=rate) for rate in np.geomspace(1e-4, 1e-2, options.configs).tolist()]
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VITGRAFT_CACHE"] = folder
        for method in options.methods:
            seconds(backbone, method, [replace(base, epochs=1)], splits)  # fills the cache
            rounds = []
            for _ in range(options.rounds):
                one = seconds(backbone, method, [base], splits)
                rounds.append((one, seconds(backbone, method, many, splits)))
            ratios = [all_ / one for one, all_ in rounds]
            ratio = statistics.median(ratios)
            results[method] = {
                "one_seconds": statistics.median(one for one, _ in rounds),
                "all_seconds": statistics.median(all_ for _, all_ in rounds),
                "ratio": ratio,
                "least": min(ratios),
                "most": max(ratios),
                "at_most": BAR,
                "holds": ratio <= BAR,
            }
            print(method, {key: round(value, 2) for key, value in results[method].items()}, flush=True)
    setting = {key: value for key, value in vars(options).items() if key != "out"}
    path = options.out or RESULTS / f"many_configs_{options.model}.json"
    path.write_text(json.dumps({"setting": setting, "machine": here, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
