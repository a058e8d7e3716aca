"""What a whole run from the cache costs, in frozen forward passes over its images, the caching pass included.

    python benchmarks/whole_run.py                                   # SynQT, 1,000 images, 50 epochs; 20 minutes
    python benchmarks/whole_run.py --images 250 --method vqt --skip-peak

The frozen pass (fp32) over the same images is timed before and after the run, in the same process, and averaged.
Images are noise, drawn when they are asked for; the cache is a fresh folder on disk. The peak is that of a fresh
process which makes a run of two epochs over four batches: what it holds at most, above the loaded backbone.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image

from vitgraft import methods
from vitgraft.backbones.families import wrap
from vitgraft.core.backbone import Backbone
from vitgraft.core.tuned import Tuned
from vitgraft.data.preprocessing import Preprocessing
from vitgraft.data.task import Split
from vitgraft.features.feed import OnDemand, Reader
from vitgraft.train import loop
from vitgraft.train.settings import Training

CLASSES, BATCH = 10, 64
PASSES_BAR, PEAK_BAR_MIB = 6.0, 1536.0
RESULT = Path(__file__).parent / "results" / "whole_run.json"


@dataclass(frozen=True)
class Noise:
    """n pictures of noise, each drawn anew from its own seed."""

    n: int
    size: tuple[int, int]

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Image.Image:
        pixels = np.random.default_rng(index).integers(0, 256, (*self.size, 3), dtype=np.uint8)
        return Image.fromarray(pixels)

    def name(self, index: int) -> str:
        return f"noise[{index}]"

    def fingerprint(self) -> str:
        return f"noise-{self.n}-{self.size}"


@dataclass(frozen=True)
class Job:
    """A backbone with random weights, and images for it."""

    backbone: Backbone
    split: Split
    preprocessing: Preprocessing

    @classmethod
    def of(cls, model: str, images: int) -> "Job":
        torch.manual_seed(0)
        backbone = wrap(timm.create_model(model, num_classes=0), model)
        size = backbone.view.image_size
        labels = np.arange(images, dtype=np.int64) % CLASSES
        return cls(backbone, Split(Noise(images, size), labels), Preprocessing(size=size))

    def frozen_pass(self) -> float:
        """Seconds of one forward pass over all images, pictures read as the run reads them."""
        feed = OnDemand(self.split.images, Reader(self.preprocessing))
        began = time.perf_counter()
        with torch.no_grad():
            for images in feed.stream((0, part) for part in torch.arange(len(self.split)).split(32)):
                self.backbone(images, tokens=False)
        return time.perf_counter() - began

    def train(self, method: str, epochs: int, precision: str = "fp32") -> Any:
        chosen = methods.parse(method)
        tuned = Tuned(self.backbone, chosen.plan(self.backbone, CLASSES))
        settings = Training(epochs=epochs, batch_size=BATCH, cache="disk", precision=precision)  # type: ignore[arg-type]
        return loop.fit(tuned, self.split, None, settings, preprocessing=self.preprocessing, recipe=chosen.recipe)


def whole(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of passes and of the run, and the run in passes."""
    job = Job.of(options.model, options.images)
    passes = [job.frozen_pass()]
    began = time.perf_counter()
    fitted = job.train(options.method, options.epochs, options.precision)
    seconds = time.perf_counter() - began
    passes.append(job.frozen_pass())
    one = statistics.mean(passes)
    return {
        "pass_seconds": passes,
        "run_seconds": seconds,
        "caching_seconds": fitted.cached.seconds,
        "cache_mib": fitted.cached.size / 2**20,
        "run_in_passes": seconds / one,
        "caching_in_passes": fitted.cached.seconds / one,
        "epoch_in_passes": (seconds - fitted.cached.seconds) / options.epochs / one,
    }


def peak_growth(options: argparse.Namespace) -> float:
    """MiB by which this process grows at most in a short cached run, above the loaded backbone; Linux only."""
    job = Job.of(options.model, 4 * BATCH)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far becomes what is held now
    before = _status_mib("VmRSS")
    job.train(options.method, 2)
    return _status_mib("VmHWM") - before


def _status_mib(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit_base_patch16_224", help="a timm ViT (random weights)")
    parser.add_argument("--method", default="synqt:tokens=4")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"), help="the run's; passes are fp32")
    parser.add_argument("--skip-peak", action="store_true", help="leave out the fresh process")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        print(json.dumps(peak_growth(options)))
        return
    load = round(os.getloadavg()[0], 2)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VITGRAFT_CACHE"] = folder
        peak = None
        if not options.skip_peak:
            command = [sys.executable, __file__, "--peak", "--model", options.model, "--method", options.method]
            command += ["--threads", str(options.threads)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            peak = json.loads(done.stdout.splitlines()[-1])
        found = whole(options) | {"peak_growth_mib": peak}
    setting = {
        key: getattr(options, key) for key in ("model", "method", "images", "epochs", "threads", "precision")
    }
    facts = {"cores": os.cpu_count(), "load_before": load, "torch": version("torch"), "timm": version("timm")}
    record = {"setting": setting | {"batch": BATCH}, "machine": facts, "results": found}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))
    for what, value, bar in (
        ("frozen passes of the whole run", found["run_in_passes"], PASSES_BAR),
        ("MiB above the loaded backbone", peak, PEAK_BAR_MIB),
    ):
        if value is not None:
            print(f"{'holds' if value <= bar else 'FAILS'}: {what}: {value:.2f}, at most {bar:g}")


if __name__ == "__main__":
    main()
