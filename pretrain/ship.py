"""Writes a training checkpoint's encoder into the package: float16 weights and what is needed to load them."""

import argparse
import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from figures import render
from objectives import SIZE, constructor, encoder
from probe import features, load_encoder

TARGET = Path(__file__).resolve().parents[1] / "src" / "vitgraft" / "backbones" / "figures"
LARGEST_MIB = 11
SAID = {
    "figures": "drawn figures: masks, hidden patches, thumbnails",
    "figures-mae": "drawn figures: hidden patches (masked autoencoder)",
    "figures-contrastive": "drawn figures: views of one figure (contrastive)",
}
ALLOWED = 0.02  # how far float16 rounding may move a normalised feature, whose standard deviation is about 1


def rounding_error(checkpoint: Path, weights: Path, width: int, head_width: int) -> float:
    """The largest change of a feature over 100 new figures when float32 weights are replaced by the shipped."""
    pictures = torch.stack([torch.from_numpy(render(12345, index).image) for index in range(100)])
    pixels = pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
    before, after = (
        features(load_encoder(path, width, head_width).eval(), pixels)["both"] for path in (checkpoint, weights)
    )
    return float((before - after).abs().max() / before.std())


def description(checkpoint: Path, weights: Path, name: str) -> dict[str, object]:
    state = torch.load(checkpoint, weights_only=True)
    recipe = state["recipe"]
    architecture = constructor(recipe["width"], recipe["head_width"])
    return {
        "architecture": architecture,
        "parameters": sum(value.numel() for value in encoder(recipe["width"], recipe["head_width"]).parameters()),
        "size": SIZE,
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "pretraining": SAID[name],
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "steps": state["step"],
        "pictures_seen": state["step"] * recipe["batch"],
        "recipe": recipe,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="checkpoint.pt of train.py")
    parser.add_argument("--name", choices=SAID, default="figures", help="the backbone's (default: figures)")
    parser.add_argument("--target", type=Path, default=TARGET, help="folder (default: the package's)")
    options = parser.parse_args()
    recipe = torch.load(options.checkpoint, weights_only=True)["recipe"]
    width, head_width = recipe["width"], recipe["head_width"]
    options.target.mkdir(parents=True, exist_ok=True)
    weights = options.target / f"{options.name}.safetensors"
    model = load_encoder(options.checkpoint, width, head_width)
    save_file({name: value.half().contiguous() for name, value in model.state_dict().items()}, weights)
    mib = weights.stat().st_size / 2**20
    error = rounding_error(options.checkpoint, weights, width, head_width)
    print(f"{weights.name}: {mib:.1f} MiB; float16 moves a feature by at most {error:.4f} standard deviations")
    if mib > LARGEST_MIB or error > ALLOWED:
        raise SystemExit("Too large, or rounded too much: not fit to ship.")
    text = json.dumps(description(options.checkpoint, weights, options.name), indent=2)
    (options.target / f"{options.name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
