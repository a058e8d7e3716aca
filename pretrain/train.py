"""Pre-trains the built-in backbone on source figures. Kill it at any time: the same command goes on from there.

Every random choice of a step follows from (seed, step), so a run that was interrupted makes the same choices
as one that was not. The rate warms up, stays, and falls linearly to zero over the last part; while it stays,
`--steps` may be changed to make the run shorter or longer.

`--processes 2` halves every batch between two single-threaded processes that average their gradients. On a
busy machine that is faster than two threads, which wait for each other a thousand times a step.
"""

import argparse
import json
import multiprocessing
import os
import socket
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from augment import Batch, random_views
from figures import Collection, load_or_render
from objectives import PATCHES, WEIGHTS, Pretrainer
from vitgraft.data.location import cache_root

SHOWN = (24, 32, 32, 40, 64)  # patches the encoder sees, drawn for each step
CHECKPOINT_SECONDS = 60
LOG_STEPS = 100


@dataclass(frozen=True)
class Recipe:
    """What a checkpoint depends on; a run goes on only with the recipe it began with."""

    width: int
    head_width: int
    figures: int
    batch: int
    rate: float
    decay: float
    warmup: int
    cooldown: float
    seed: int
    views: bool
    weights: dict[str, float]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where checkpoint.pt and log.jsonl are kept")
    parser.add_argument("--steps", type=int, required=True, help="length of the whole run")
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--head-width", type=int, default=32)
    parser.add_argument("--figures", type=int, default=60_000, help="pictures to render, once (default 60000)")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--decay", type=float, default=0.05, help="AdamW's weight decay, on matrices")
    parser.add_argument("--warmup", type=int, default=400, help="steps")
    parser.add_argument("--cooldown", type=float, default=0.35, help="share of the steps, at the end")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2, help="each takes its part of the batch")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--no-bf16", dest="bf16", action="store_false", help="compute in float32")
    parser.add_argument("--only", metavar="NAME", help="this objective alone, with weight 1")
    parser.add_argument(
        "--weight",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"an objective's weight: {dict(WEIGHTS)}",
    )
    return parser.parse_args()


def recipe_of(options: argparse.Namespace) -> Recipe:
    weights = dict(WEIGHTS)
    if options.only is not None:
        if options.only not in weights:
            raise SystemExit(f"--only {options.only}: no such objective; there are {', '.join(weights)}.")
        weights = {name: float(name == options.only) for name in weights}
    for text in options.weight:
        name, _, value = text.partition("=")
        if name not in weights:
            raise SystemExit(f"--weight {text}: no such objective; there are {', '.join(weights)}.")
        weights[name] = float(value)
    own = {"views": weights["views"] > 0, "weights": weights}
    names = [field.name for field in fields(Recipe) if field.name not in own]
    return Recipe(**{name: getattr(options, name) for name in names}, **own)


@dataclass
class Run:
    """Everything that a checkpoint holds."""

    model: Pretrainer
    optimizer: torch.optim.AdamW
    step: int = 0
    seconds: float = 0.0

    def save(self, path: Path, recipe: Recipe) -> None:
        """Writes the checkpoint whole or not at all."""
        state = {
            "recipe": asdict(recipe),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, path)

    def restore(self, path: Path, recipe: Recipe) -> None:
        state = torch.load(path, weights_only=True)
        if state["recipe"] != asdict(recipe):
            raise SystemExit(f"{path} was made with another recipe: {state['recipe']}. Use another folder.")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]


def start(recipe: Recipe) -> Run:
    torch.manual_seed(recipe.seed)
    model = Pretrainer(recipe.width, recipe.head_width)
    matrices = [value for value in model.parameters() if value.dim() == 2]
    others = [value for value in model.parameters() if value.dim() != 2]
    groups = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.95), weight_decay=recipe.decay, fused=True)
    return Run(model, optimizer)


def rate_at(step: int, steps: int, recipe: Recipe) -> float:
    """The learning rate of step 0..steps-1: linear warm-up, constant, linear to zero."""
    left = (steps - step) / max(1, recipe.cooldown * steps)
    return recipe.rate * min(1.0, (step + 1) / recipe.warmup, left)


def batch_at(step: int, part: tuple[int, int], data: Collection, recipe: Recipe) -> tuple[Batch, Tensor]:
    """One of several equal parts of a step's batch, `part` being (number, of how many), and the patches (B, K)
    that the encoder is shown of each picture."""
    common = torch.Generator().manual_seed(recipe.seed * 10**9 + step)
    count = SHOWN[int(torch.randint(len(SHOWN), (), generator=common))]
    generator = torch.Generator().manual_seed((recipe.seed * 10**9 + step) * 64 + part[0])
    size = recipe.batch // part[1] // (2 if recipe.views else 1)
    index = torch.randint(len(data.images), (size,), generator=generator)
    if recipe.views:  # the second half are other views of the first; the halves differ in their symmetries
        index = torch.cat([index, index])
    images, masks = torch.from_numpy(data.images[index]), torch.from_numpy(data.masks[index])
    pixels, masks = random_views(images, masks, generator)
    shown = torch.rand(len(index), PATCHES, generator=generator).argsort(dim=1)[:, :count]
    labels = (torch.from_numpy(data.identities[index]), torch.from_numpy(data.spectra[index]))
    return Batch(pixels, masks, *labels), shown


def open_log(path: Path, step: int) -> None:
    """Drops the lines that an interrupted run wrote after its last checkpoint."""
    lines = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
    path.write_text("".join(line + "\n" for line in kept))


def share_gradients(model: torch.nn.Module, processes: int) -> None:
    """Replaces every gradient by its mean over the processes."""
    if processes == 1:
        return
    gradients = [value.grad for value in model.parameters() if value.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= processes
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def advance(
    run: Run, rank: int, data: Collection, recipe: Recipe, options: argparse.Namespace
) -> dict[str, float]:
    """One step; returns this process's losses."""
    for group in run.optimizer.param_groups:
        group["lr"] = rate_at(run.step, options.steps, recipe)
    wanted = {name for name, weight in recipe.weights.items() if weight}
    losses = run.model.losses(
        *batch_at(run.step, (rank, options.processes), data, recipe), bf16=options.bf16, wanted=wanted
    )
    weighted = [recipe.weights[name] * loss for name, loss in losses.items() if name in wanted]
    run.optimizer.zero_grad()
    torch.stack(weighted).sum().backward()
    share_gradients(run.model, options.processes)
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
    run.optimizer.step()
    run.step += 1
    return {name: loss.item() for name, loss in losses.items()}


def train(run: Run, rank: int, data: Collection, recipe: Recipe, options: argparse.Namespace) -> None:
    """Runs to the last step. The first process writes the log and the checkpoints."""
    checkpoint, log = options.folder / "checkpoint.pt", options.folder / "log.jsonl"
    if rank == 0:
        open_log(log, run.step)
    sums: dict[str, float] = {}
    saved = tick = time.monotonic()
    while run.step < options.steps:
        for name, loss in advance(run, rank, data, recipe, options).items():
            sums[name] = sums.get(name, 0.0) + loss
        if run.step % LOG_STEPS:
            continue
        elapsed = time.monotonic() - tick
        tick += elapsed
        run.seconds += elapsed
        if rank == 0:
            write_log(log, run, elapsed, sums, recipe, options)
            if tick - saved > CHECKPOINT_SECONDS:
                run.save(checkpoint, recipe)
                saved = tick
        sums = {}
    if rank == 0:
        run.save(checkpoint, recipe)


def write_log(
    path: Path, run: Run, elapsed: float, sums: dict[str, float], recipe: Recipe, options: argparse.Namespace
) -> None:
    line = {
        "step": run.step,
        "rate": round(run.optimizer.param_groups[0]["lr"], 6),
        "seconds": round(run.seconds),
        "pictures_per_second": round(LOG_STEPS * recipe.batch / elapsed),
        **{name: round(value / LOG_STEPS, 4) for name, value in sums.items()},
    }
    print(f"{run.step} of {options.steps} steps: {line}", flush=True)
    with path.open("a") as stream:
        stream.write(json.dumps(line) + "\n")


def work(rank: int, port: int, recipe: Recipe, options: argparse.Namespace) -> None:
    """One of the processes; all of them hold the same weights at every step."""
    torch.set_num_threads(options.threads)
    if options.processes > 1:
        address = f"tcp://127.0.0.1:{port}"
        dist.init_process_group("gloo", init_method=address, rank=rank, world_size=options.processes)
    data = load_or_render(cache_root() / "pretrain", recipe.figures, recipe.seed)
    run = start(recipe)
    if (options.folder / "checkpoint.pt").exists():
        run.restore(options.folder / "checkpoint.pt", recipe)
        print(f"going on from step {run.step}, after {run.seconds:.0f} s", flush=True)
    train(run, rank, data, recipe, options)


def main() -> None:
    options = arguments()
    recipe = recipe_of(options)
    options.folder.mkdir(parents=True, exist_ok=True)
    load_or_render(cache_root() / "pretrain", recipe.figures, recipe.seed)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    helpers = [
        context.Process(target=work, args=(rank, port, recipe, options)) for rank in range(1, options.processes)
    ]
    for helper in helpers:
        helper.start()
    work(0, port, recipe, options)  # if this process dies, the helpers lose their connection and die too
    for helper in helpers:
        helper.join()


if __name__ == "__main__":
    main()
