"""`vitgraft export`: a graft as something that other programs run or load."""

from pathlib import Path
from typing import Annotated

import typer

from vitgraft.cli.asking import Checkpoint


def export(
    run: Annotated[Path, typer.Argument(help="The folder that fit wrote.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The file to write.", show_default=False)],
    to: Annotated[
        str | None,
        typer.Option(
            help="onnx, torchscript or torch-export; none: by what --out ends in, .onnx, .pt or .pt2.",
            show_default=False,
        ),
    ] = None,
    pixels: Annotated[
        str, typer.Option(help="What it takes: uint8 (0 to 255), unit (0 to 1), or normalised already.")
    ] = "uint8",
    int8: Annotated[bool, typer.Option("--int8", help="Store the weights in 8 bits (ONNX).")] = False,
    checkpoint: Checkpoint = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a program that runs without vitgraft: any number of pictures in, logits and probabilities out.

    Pictures are to be of the model's size; scaling of values and normalising is part of the program. Class names,
    preprocessing (how to resize) and temperature travel along: in ONNX's metadata, or as vitgraft.json in a torch
    file. Methods that merge are merged. The file is run, and its logits compared, before it counts.

    ONNX needs: pip install 'vitgraft\\[onnx]'

    Example:

      vitgraft export runs/photos --out photos.onnx
    """
    from vitgraft.models.model import load
    from vitgraft.models.programs.export import export as write

    done = write(load(run, checkpoint=checkpoint), out, to, pixels=pixels, int8=int8, overwrite=force)
    merged = (
        "merged"
        if done.unmerged is None
        else "with its graft beside the frozen weights, since it cannot be merged"
    )
    typer.echo(f"Wrote {done.path}: {done.form}, {merged}; {done.size / 2**20:,.1f} MiB.")
    if done.gap is not None:
        typer.echo(f"Run from the file, its logits differ by at most {done.gap:.1g} from those of {run}.")
