"""`vitgraft export`: a graft as something that other programs run or load."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitgraft.cli.asking import Checkpoint
from vitgraft.cli.recipe import made
from vitgraft.errors import ArtefactError, ConfigError, unknown

if TYPE_CHECKING:
    from vitgraft.models.adapters.write import Adapter
    from vitgraft.models.model import Model

PEFT = "peft"

Base = Annotated[
    Path | None,
    typer.Option(
        help="A file for the base model, with what is changed beside the low-rank part (peft).", show_default=False
    ),
]
Onto = Annotated[
    str | None,
    typer.Option(
        help="A transformers model of the same weights, a folder or a name, that the adapter is for (peft).",
        show_default=False,
    ),
]


def export(
    run: Annotated[Path, typer.Argument(help="The folder that fit wrote.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The file to write; of peft, the folder.", show_default=False)],
    to: Annotated[
        str | None,
        typer.Option(
            help="onnx, torchscript, torch-export or peft; none: by what --out ends in, .onnx, .pt or .pt2.",
            show_default=False,
        ),
    ] = None,
    pixels: Annotated[
        str, typer.Option(help="What a program takes: uint8 (0 to 255), unit (0 to 1), or normalised already.")
    ] = "uint8",
    int8: Annotated[bool, typer.Option("--int8", help="Store the weights in 8 bits (onnx).")] = False,
    base: Base = None,
    onto: Onto = None,
    checkpoint: Checkpoint = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> None:
    """Write a program that runs without vitgraft, or an adapter that PEFT loads.

    A program takes any number of pictures of the model's size, and gives logits and probabilities; it scales the
    values and normalises. Class names, preprocessing (how to resize) and temperature travel along: in ONNX's
    metadata, or as vitgraft.json in a torch file. Methods that merge are merged. The file is run, and its logits
    compared, before it counts. ONNX needs: pip install 'vitgraft\\[onnx]'

    An adapter (peft) is a folder with adapter_model.safetensors and adapter_config.json, for what is low-rank:
    LoRA, and of SPT what --base does not hold. The classifier is in it (modules_to_save).

    Examples:

      vitgraft export runs/photos --out photos.onnx

      vitgraft export runs/photos --to peft --out photos-adapter
    """
    from vitgraft.models.model import load
    from vitgraft.models.programs.export import FORMS
    from vitgraft.models.programs.export import export as write

    if to is not None and to not in (*FORMS, PEFT):
        raise ConfigError(unknown("form", to, (*FORMS, PEFT)))
    model = load(run, checkpoint=checkpoint)
    if to == PEFT:
        _adapter(model, run, out, base, onto, force)
        return
    if base is not None or onto is not None:
        raise ConfigError("--base and --onto are for adapters. Add --to peft, or leave them out.")
    done = write(model, out, to, pixels=pixels, int8=int8, overwrite=force)
    merged = "merged" if done.unmerged is None else "with its graft, which cannot be merged"
    typer.echo(f"Wrote {done.path}: {done.form}, {merged}; {done.size / 2**20:,.1f} MiB.")
    if done.gap is not None:
        typer.echo(f"Run from the file, its logits differ by at most {done.gap:.1g} from those of {run}.")


def _adapter(model: "Model", run: Path, out: Path, base: Path | None, onto: str | None, force: bool) -> None:
    """Write a folder for PEFT, and say how it is loaded."""
    from vitgraft.cli import guard
    from vitgraft.models.adapters.check import gap
    from vitgraft.models.adapters.write import write

    if out.exists() and not force:
        raise ArtefactError(f"'{out}' is there already. Name another folder, or write into it with --force.")
    if base is not None:
        guard.check_free(base, force)
    theirs = None if onto is None else _theirs(onto, len(model.class_names))
    done = write(model, out, base, theirs)
    ranks = ", ".join(map(str, done.ranks))
    typer.echo(f"Wrote {out}: LoRA of rank {ranks} on {done.modules} linear maps, with the classifier.")
    apart = gap(model, done, theirs)
    if apart is not None:
        typer.echo(f"Loaded by PEFT, its logits differ by at most {apart:.1g} from those of {run}.")
    typer.echo(f"Load it with:\n\n{_recipe(model, done, onto)}")


def _theirs(onto: str, classes: int) -> Any:
    """A transformers model with a new classifier."""
    try:
        from transformers import AutoModelForImageClassification

        return AutoModelForImageClassification.from_pretrained(
            onto, num_labels=classes, ignore_mismatched_sizes=True
        ).eval()
    except ImportError:
        raise ConfigError("--onto takes the package transformers: pip install transformers.") from None
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"--onto {onto} is no transformers model for images that can be loaded: {error}"
        ) from None


def _recipe(model: "Model", done: "Adapter", onto: str | None) -> str:
    """Python that loads an adapter without vitgraft."""
    classes, base = len(model.class_names), done.base
    if onto is not None:
        head = "from transformers import AutoModelForImageClassification"
        call = f"{onto!r}, num_labels={classes}, ignore_mismatched_sizes=True"
        expression, weights = f"AutoModelForImageClassification.from_pretrained({call})", ""
    else:
        source = model.backbone.config.get("source") or {}
        named = source.get("checkpoint")
        head, expression = made(model, done.kind, pretrained=base is None and named is None)
        weights = "" if "pretrained" in expression else f"# give it the weights of {model.backbone.name}\n"
        if base is not None:
            head += "\nfrom safetensors.torch import load_file"
            weights = f"model.load_state_dict(load_file({str(base)!r}))\n"
        elif named:
            weights = f"# give it the weights of {named!r}, or write them with --base\n"
    return (
        f"{head}\nfrom peft import PeftModel\n\nmodel = {expression}\n{weights}"
        f"model = PeftModel.from_pretrained(model, {str(done.folder)!r}).eval()\n"
    )
