"""`vitgraft import`: a graft that a paper's own code, or PEFT, has saved."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitgraft.errors import ArtefactError

if TYPE_CHECKING:
    from vitgraft.core.backbone import Backbone
    from vitgraft.models.model import Model


def convert(
    file: Annotated[
        Path, typer.Argument(help="What the published code saved, or PEFT's adapter folder.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="The folder to write.", show_default=False)],
    backbone: Annotated[
        str, typer.Option(help="The timm name of its backbone, or a short one.", show_default=False)
    ],
    checkpoint: Annotated[
        str | None, typer.Option(help="The backbone's weights in a local file; none: timm's.")
    ] = None,
    image_size: Annotated[
        str | None, typer.Option(help="Pixels a side, or 192x256; none: the backbone's own.")
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="A text file with a class name a line; none: numbers.")
    ] = None,
    preprocessing: Annotated[
        str | None,
        typer.Option(
            help="pretrained, or a preset: vtab, fgvc; none: vtab of SynQT, an adapter's own or pretrained.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Turn a published SynQT checkpoint, or a LoRA adapter of PEFT, into a graft for predict, eval and Python.

    A file is read without unpickling. If it holds the backbone, too, that must be the one named here. An adapter
    may use timm's names or transformers'; what vitgraft's lora cannot say is refused.

    Examples:

      vitgraft import cifar.pth --backbone vit_base_patch16_224.augreg_in21k --out runs/cifar

      vitgraft import photos-adapter/ --backbone dinov2-s --out runs/photos
    """
    if out.exists():
        raise ArtefactError(f"'{out}' is there already. Name another folder with --out.")
    if not file.exists():
        raise ArtefactError(f"There is no file '{file}'. Name what the published code saved.")
    from vitgraft.backbones.loading import load_backbone
    from vitgraft.methods import spec_of

    names = (
        None if classes is None else [line.strip() for line in classes.read_text().splitlines() if line.strip()]
    )
    frozen = load_backbone(backbone, checkpoint=checkpoint, image_size=image_size)
    model = _model(file, frozen, names, preprocessing)
    model.save(out)
    trained = model.tuned.trained_values()
    what = spec_of(model.method)
    typer.echo(f"Wrote {out}: {what}, {trained.method:,} values and a classifier of {trained.head:,}.")


def _model(file: Path, frozen: "Backbone", names: list[str] | None, preprocessing: str | None) -> "Model":
    from vitgraft.data.preprocessing import preset
    from vitgraft.models.adapters import read
    from vitgraft.models.planting import own_preprocessing
    from vitgraft.models.published import load_synqt

    if file.is_dir():
        asked = None if preprocessing is None else preset(preprocessing, own_preprocessing(frozen))
        return read.read(file, frozen, names, asked)
    return load_synqt(
        file, frozen, names, preprocessing=preset(preprocessing or "vtab", own_preprocessing(frozen))
    )
