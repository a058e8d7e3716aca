"""A tiny run on photos of one colour a class, and the command line in this process."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

from vitgraft.cli import app

CHANNELS = {"red": 0, "green": 1, "blue": 2}
SIZE = 32


def call(*arguments: object) -> Result:
    """The command line, in this process; a bug is raised."""
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def refused(*arguments: object) -> str:
    """What a command that must fail with a sentence says."""
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(result.stderr.split())


def done(*arguments: object) -> Result:
    """A command that must succeed."""
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result


def measured(*arguments: object) -> dict[str, Any]:
    """What `eval` says as JSON."""
    found: dict[str, Any] = json.loads(done("eval", *arguments, "--json").stdout)
    return found


def photo(path: Path, channel: int, seed: int) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 120, (12, 12, 3), dtype=np.uint8)
    pixels[..., channel] += 60
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def photos(root: Path, count: int = 10, first: int = 0, suffix: str = ".png") -> Path:
    """`count` photos a class, none of them like one of another `first`."""
    for name, channel in CHANNELS.items():
        for number in range(first, first + count):
            photo(root / name / f"{number:02}{suffix}", channel, 1000 * channel + number)
    return root


def weights(file: Path) -> Path:
    torch.manual_seed(0)
    save_file(timm.create_model("test_vit", num_classes=0).state_dict(), file)
    return file


def arguments(file: Path, **changes: object) -> list[str]:
    """Options of `fit` for a run of a moment on the weights in `file`."""
    given = {
        "method": "lora:rank=2",
        "backbone": "test_vit",
        "checkpoint": file,
        "image_size": SIZE,
        "epochs": 2,
        "batch_size": 8,
        "lr": 0.01,
        **changes,
    }
    return [f"--{key.replace('_', '-')}={value}" for key, value in given.items()]
