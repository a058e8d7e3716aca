"""`vitgraft import`: a graft that a paper's own code has saved."""

from pathlib import Path
from typing import Annotated

import typer

from vitgraft.errors import ArtefactError


def convert(
    file: Annotated[Path, typer.Argument(help="What the published code saved.", show_default=False)],
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
    preprocessing: Annotated[str, typer.Option(help="pretrained, or a preset: vtab, fgvc.")] = "vtab",
) -> None:
    """Turn a published SynQT checkpoint into a graft that predict, eval and Python can use.

    The file is read without unpickling. If it holds the backbone, too, that must be the one named here.

    Example:

      vitgraft import cifar.pth --backbone vit_base_patch16_224.augreg_in21k --out runs/cifar
    """
    if out.exists():
        raise ArtefactError(f"'{out}' is there already. Name another folder with --out.")
    if not file.is_file():
        raise ArtefactError(f"There is no file '{file}'. Name what the published code saved.")
    from vitgraft.backbones.loading import load_backbone
    from vitgraft.data.preprocessing import preset
    from vitgraft.models.planting import own_preprocessing
    from vitgraft.models.published import load_synqt

    names = (
        None if classes is None else [line.strip() for line in classes.read_text().splitlines() if line.strip()]
    )
    frozen = load_backbone(backbone, checkpoint=checkpoint, image_size=image_size)
    pictures = preset(preprocessing, own_preprocessing(frozen))
    model = load_synqt(file, frozen, names, preprocessing=pictures)
    model.save(out)
    trained = model.tuned.trained_values()
    typer.echo(f"Wrote {out}: SynQT, {trained.method:,} values and a classifier of {trained.head:,}.")
