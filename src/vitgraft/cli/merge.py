"""`vitgraft merge`: a graft and its backbone as one plain model."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitgraft.cli import guard
from vitgraft.cli.asking import Checkpoint
from vitgraft.cli.recipe import made
from vitgraft.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from vitgraft.models.model import Model

SUFFIX = ".safetensors"


def merge(
    run: Annotated[Path, typer.Argument(help="The folder that fit wrote.", show_default=False)],
    out: Annotated[Path, typer.Option(help=f"The file to write, ending in {SUFFIX}.", show_default=False)],
    checkpoint: Checkpoint = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a plain timm checkpoint with the same logits, which needs no vitgraft any more.

    Methods that no plain weight can express are refused; `vitgraft methods` says which merge. The temperature of a
    calibrated run stands in the file's metadata: logits are divided by it before they become probabilities.

    Example:

      vitgraft merge runs/photos --out photos.safetensors
    """
    if out.suffix != SUFFIX:
        raise ConfigError(f"'{out}' must end in {SUFFIX}, the only format that is written.")
    guard.check_free(out, force)
    import safetensors.torch

    from vitgraft.atomic import write_atomically
    from vitgraft.models.model import load

    model = load(run, checkpoint=checkpoint)
    plain = model.merge()
    gap = _gap(model, plain)
    state = {name: value.detach().cpu().contiguous() for name, value in plain.state_dict().items()}
    facts: dict[str, Any] = {
        "class_names": list(model.class_names),
        "preprocessing": model.preprocessing.to_json(),
    }
    if (target := model.target.to_json()) is not None:
        facts["target"] = target
    if model.temperature is not None:
        facts["temperature"] = model.temperature.value
    metadata = {"format": "pt", **{key: json.dumps(value) for key, value in facts.items()}}
    write_atomically(out, safetensors.torch.save(state, metadata))
    typer.echo(f"Wrote {out}: {len(state)} tensors, with class names and preprocessing in its metadata.")
    typer.echo(f"On a probe its logits differ by at most {gap:.1g} from those of {run}.")
    if model.temperature is not None:
        typer.echo(f"{run} is calibrated ({model.temperature.told()}), and its logits are as they were trained.")
    typer.echo(f"Load it with:\n\n{_recipe(model, plain, out)}")


def _gap(model: "Model", plain: "nn.Module") -> float:
    """The largest difference of logits between a model and its merged form, on two images of noise."""
    import torch

    generator = torch.Generator().manual_seed(0)
    probe = torch.randn(2, 3, *model.preprocessing.size, generator=generator).to(model.backbone.device)
    with torch.no_grad():
        found = plain.eval()(probe)
        return float((model.tuned.eval()(probe) - getattr(found, "logits", found)).abs().max())


def _recipe(model: "Model", plain: "nn.Module", out: Path) -> str:
    """Python that loads the merged file without vitgraft."""
    head, expression = made(model, type(plain))
    return (
        f"{head}\nfrom safetensors.torch import load_file\n\nmodel = {expression}\n"
        f"model.load_state_dict(load_file({str(out)!r}), strict=True)\n{_probabilities(model)}"
    )


def _probabilities(model: "Model") -> str:
    """A line that makes a calibrated model's logits probabilities; nothing for another one."""
    if model.temperature is None:
        return ""
    return f"probabilities = (model.eval()(images) / {model.temperature.value!r}).softmax(1)\n"
