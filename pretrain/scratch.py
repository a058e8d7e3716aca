"""Is the backbone worth starting from? Full tuning from its weights against the same from random weights.

Both sides get the same recipe: AdamW, linear head on the class token, no augmentation, last epoch. Each side's
learning rate is the one of two with the better mean validation accuracy over one task of each group (trained
on 800 for half the epochs, scored on 200). With it, every task is trained on all 1,000 labelled pictures and
tested once.
Each finished run is one JSON line; the same command goes on with the runs that are missing.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from objectives import encoder
from probe import Pair, load_encoder, task_arrays
from vitgraft.data import builtin

SIDES = ("figures", "scratch")
RATES = (3e-4, 1e-3)
CHOOSING = ("flowers", "landuse", "norb_azim")
BATCH = 50


@dataclass(frozen=True)
class Job:
    """One training: `stage` is "choose" (800 pictures, scored on val) or "final" (1,000, scored on test)."""

    task: str
    side: str
    rate: float
    stage: str
    epochs: int
    seed: int


def starting_point(job: Job, options: argparse.Namespace, classes: int) -> nn.Sequential:
    torch.manual_seed(job.seed)
    model = encoder(options.width, options.head_width)
    if job.side == "figures":
        model = load_encoder(options.weights, options.width, options.head_width)
    head = nn.Linear(options.width, classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return nn.Sequential(model, head)


def tune(model: nn.Sequential, train: Pair, job: Job) -> None:
    """Trains all weights: 10% linear warm-up, then cosine to zero; decay 0.05 on matrices."""
    matrices = [value for value in model.parameters() if value.dim() == 2]
    others = [value for value in model.parameters() if value.dim() != 2]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=job.rate, fused=True)
    total = job.epochs * math.ceil(len(train[1]) / BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / (0.1 * total), 0.5 + 0.5 * math.cos(math.pi * step / total))
    )
    generator = torch.Generator().manual_seed(job.seed)
    model.train()
    for _ in range(job.epochs):
        for index in torch.randperm(len(train[1]), generator=generator).split(BATCH):
            with torch.autocast("cpu", torch.bfloat16):
                scores = model(train[0][index])
            optimizer.zero_grad()
            F.cross_entropy(scores.float(), train[1][index]).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()


@torch.no_grad()
def accuracy(model: nn.Sequential, pair: Pair) -> float:
    """In percent."""
    model.eval()
    scores: Tensor = torch.cat([model(part) for part in pair[0].split(250)])
    return round(100 * float((scores.argmax(dim=1) == pair[1]).double().mean()), 1)


def execute(job: Job, options: argparse.Namespace) -> dict[str, object]:
    start = time.monotonic()
    arrays = task_arrays(job.task)
    train, scored = arrays["train"], arrays["val"]
    if job.stage == "final":
        train = (torch.cat([train[0], scored[0]]), torch.cat([train[1], scored[1]]))
        scored = arrays["test"]
    classes = len(builtin.info(job.task).classes)
    model = starting_point(job, options, classes)
    tune(model, train, job)
    return {**asdict(job), "accuracy": accuracy(model, scored), "seconds": round(time.monotonic() - start)}


class Log:
    """The finished runs of a JSON-lines file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []

    def find(self, job: Job) -> dict[str, object] | None:
        wanted = asdict(job)
        return next((row for row in self.rows() if wanted.items() <= row.items()), None)

    def run(self, job: Job, options: argparse.Namespace) -> float:
        row = self.find(job)
        if row is None:
            row = execute(job, options)
            with self.path.open("a") as stream:
                stream.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
        value = row["accuracy"]
        assert isinstance(value, float)
        return value


def choose_rate(side: str, log: Log, options: argparse.Namespace) -> float:
    def mean(rate: float) -> float:
        jobs = [Job(task, side, rate, "choose", options.epochs // 2, options.seed) for task in CHOOSING]
        return sum(log.run(job, options) for job in jobs) / len(jobs)

    return max(RATES, key=mean)


def final_jobs(side: str, log: Log, options: argparse.Namespace) -> Iterator[Job]:
    rate = choose_rate(side, log, options)
    for task in options.tasks:
        yield Job(task, side, rate, "final", options.epochs, options.seed)


def main() -> None:
    order = [*builtin.DEFAULT_SUITE, *(name for name in builtin.names() if name not in builtin.DEFAULT_SUITE)]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="figures.safetensors or checkpoint.pt")
    parser.add_argument("log", type=Path, help="JSON-lines file to add to")
    parser.add_argument("--sides", nargs="*", default=list(SIDES), choices=SIDES)
    parser.add_argument("--tasks", nargs="*", default=order)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--head-width", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    log = Log(options.log)
    options.log.parent.mkdir(parents=True, exist_ok=True)
    for side in options.sides:
        for job in final_jobs(side, log, options):
            log.run(job, options)


if __name__ == "__main__":
    main()
