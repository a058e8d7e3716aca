"""Ridge probe: how much of each built-in task can be read linearly from the frozen backbone?

Features of one picture are the outputs of the final norm: the class token ("class"), the mean of the 64 patch
tokens ("mean"), or both, 192 wide at width 96 ("both"). Each feature is standardised with the training
split, the classes are coded -1 and +1, and ridge regression is solved in closed form. The penalty is chosen
on the validation split; the test split is read once with that choice. The same is done for random weights.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from objectives import encoder
from vitgraft.data import builtin
from vitgraft.data.task import ArrayImages

PENALTIES = tuple(10.0**power for power in np.arange(-1, 5.5, 0.5))
READINGS = ("class", "mean", "both")
Pair = tuple[Tensor, Tensor]  # pictures or features, and labels


def task_arrays(name: str, seed: int = 0) -> dict[str, Pair]:
    """Normalised pictures (n, 3, 32, 32) and labels (n,) of each split."""
    task = builtin.load(name, seed=seed)
    arrays: dict[str, Pair] = {}
    for split, part in task.splits.items():
        assert isinstance(part.images, ArrayImages)
        pixels = torch.from_numpy(part.images.pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
        arrays[split] = pixels, torch.from_numpy(part.labels)
    return arrays


@torch.no_grad()
def features(model: VisionTransformer, pixels: Tensor) -> dict[str, Tensor]:
    """Each reading (n, C or 2C) of the final norm's output."""
    tokens = torch.cat([model.forward_features(part) for part in pixels.split(250)])
    first, mean = tokens[:, 0], tokens[:, 1:].mean(dim=1)
    return {"class": first, "mean": mean, "both": torch.cat([first, mean], dim=1)}


def ridge(train: Pair, val: Pair, test: Pair) -> tuple[float, float]:
    """Accuracy in percent on val and test with the penalty that is best on val."""
    x, labels = train
    centre, scale = x.mean(dim=0), x.std(dim=0) + 1e-6
    classes = int(torch.cat([labels, val[1], test[1]]).max()) + 1
    target = 2 * torch.nn.functional.one_hot(labels, classes).double() - 1
    offset = target.mean(dim=0)

    def scaled(pictures: Tensor) -> Tensor:
        return ((pictures - centre) / scale).double()

    def accuracy(weights: Tensor, pair: Pair) -> float:
        return 100 * float(((scaled(pair[0]) @ weights + offset).argmax(dim=1) == pair[1]).double().mean())

    a = scaled(x)
    values, vectors = torch.linalg.eigh(a.T @ a)
    projected = vectors.T @ (a.T @ (target - offset))
    solutions = [vectors @ (projected / (values + penalty).unsqueeze(1)) for penalty in PENALTIES]
    scores = [accuracy(weights, val) for weights in solutions]
    best = int(np.argmax(scores))
    return scores[best], accuracy(solutions[best], test)


def probe(model: VisionTransformer, names: Iterable[str], seed: int = 0) -> dict[str, dict[str, list[float]]]:
    """For each task and reading: accuracy on val and test."""
    model.eval()
    table: dict[str, dict[str, list[float]]] = {}
    for name in names:
        arrays = task_arrays(name, seed)
        found = {split: features(model, pixels) for split, (pixels, _) in arrays.items()}
        table[name] = {
            reading: [
                round(score, 1)
                for score in ridge(
                    *((found[split][reading], arrays[split][1]) for split in ("train", "val", "test"))
                )
            ]
            for reading in READINGS
        }
    return table


def load_encoder(path: Path, width: int, head_width: int) -> VisionTransformer:
    """The encoder from a training checkpoint, or from shipped weights."""
    model = encoder(width, head_width)
    if path.suffix == ".safetensors":
        state = load_file(path)
    else:
        stored = torch.load(path, weights_only=True)["model"]
        prefix = "encoder."
        state = {name.removeprefix(prefix): v for name, v in stored.items() if name.startswith(prefix)}
    model.load_state_dict({name: value.float() for name, value in state.items()}, strict=True)
    return model


def means(table: dict[str, dict[str, list[float]]]) -> dict[str, list[float]]:
    """Mean val and test accuracy of each reading over the drawn tasks (digits is reported apart)."""
    rows = [row for name, row in table.items() if name != "digits"]
    columns: NDArray[np.float64] = np.array([[row[reading] for reading in READINGS] for row in rows])
    return {
        reading: [round(v, 2) for v in mean]
        for reading, mean in zip(READINGS, columns.mean(0).tolist(), strict=True)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", help="checkpoint.pt, figures.safetensors, or random:SEED")
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--head-width", type=int, default=32)
    parser.add_argument("--data-seed", type=int, default=0, help="0 is what the card reports; choose on 1")
    parser.add_argument("--tasks", nargs="*", default=list(builtin.names()))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    kind, _, seed = options.weights.partition(":")
    if kind == "random":
        torch.manual_seed(int(seed))
        model = encoder(options.width, options.head_width)
    else:
        model = load_encoder(Path(options.weights), options.width, options.head_width)
    table = probe(model, options.tasks, options.data_seed)
    result = {
        "weights": Path(options.weights).name,
        "data_seed": options.data_seed,
        "mean": means(table),
        "tasks": table,
    }
    text = json.dumps(result, indent=1)
    if options.output:
        options.output.write_text(text + "\n")
    for name, row in {**table, "MEAN": means(table)}.items():
        print(f"{name:12}", "  ".join(f"{reading} {v:5.1f} {t:5.1f}" for reading, (v, t) in row.items()))


if __name__ == "__main__":
    main()
