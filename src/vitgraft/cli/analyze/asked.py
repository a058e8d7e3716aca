"""What commands of `vitgraft analyze` are asked: where the figure goes, and of one backbone which."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitgraft.cli import guard
from vitgraft.report.figure import CARD, Figure, check_free

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

    from vitgraft.core.backbone import Backbone

FOLDER = Path("figures")
BUILT_IN = "figures"
AGAIN = {"--force"}
"""Options that are no part of how a figure is made."""

Named = Annotated[str, typer.Option(help="A timm name, a short one, or figures.")]
Size = Annotated[str | None, typer.Option(help="Pixels a side, or 192x256; none: the backbone's own.")]
Out = Annotated[Path, typer.Option(help="The folder to write into.")]
Name = Annotated[str | None, typer.Option(help="What the figure's files are called; none: as the command.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a figure that another command has made.")]


@dataclass(frozen=True)
class Place:
    """The folder of a figure, its name, whether it may replace another one, and the command as one types it."""

    out: Path
    name: str
    force: bool
    command: str

    def check_free(self) -> None:
        """Raise ArtefactError if the figure is there, made by another command. Call it first."""
        check_free(self.out, self.name, self.command, self.force)

    def write(self, figure: Figure, drawing: "Drawing") -> None:
        """Write the figure's files and print where they are. Call it within `style.styled`."""
        paths = figure.write(drawing, self.out)
        guard.note(f"Written: {', '.join(str(path) for path in paths if path.suffix != CARD)}, and {CARD}")


@dataclass(frozen=True)
class Asked(Place):
    """A figure of one backbone, which is as it was named."""

    backbone: str
    checkpoint: Path | None
    image_size: str | None

    def load(self) -> "Backbone":
        """The backbone, with its weights. Raises BackboneError or CheckpointError."""
        from vitgraft.backbones.loading import load_backbone

        return load_backbone(self.backbone, checkpoint=self.checkpoint, image_size=self.image_size)


def place_of(context: typer.Context, out: Out = FOLDER, name: Name = None, force: Force = False) -> Place:
    return Place(out, name or str(context.info_name), force, spelled(context))


def asked_of(
    context: typer.Context,
    backbone: Named = BUILT_IN,
    checkpoint: Annotated[
        Path | None, typer.Option(help="The backbone's weights in a local file or folder; none: timm's.")
    ] = None,
    image_size: Size = None,
    out: Out = FOLDER,
    name: Name = None,
    force: Force = False,
) -> Asked:
    """What a command that needs a backbone's weights is asked."""
    called = name or str(context.info_name)
    return Asked(out, called, force, spelled(context), backbone, checkpoint, image_size)


def bare_of(
    context: typer.Context,
    backbone: Named = BUILT_IN,
    image_size: Size = None,
    out: Out = FOLDER,
    name: Name = None,
    force: Force = False,
) -> Asked:
    """What a command is asked whose numbers do not depend on weights."""
    return asked_of(context, backbone, None, image_size, out, name, force)


def placed(device: str, precision: str) -> tuple[str, str]:
    """A device that is there, and what it computes in: fp32, told, if it has no bf16. Raises ConfigError."""
    from vitgraft.machine.placement import place
    from vitgraft.train.loop import NO_BF16

    here = place(device)
    computed = here.arithmetic(precision)
    if computed != precision:
        guard.note(NO_BF16)
    return str(here.device), computed


def described(frozen: "Backbone", checkpoint: Path | None = None) -> dict[str, Any]:
    """A backbone as a figure's card has it; of a checkpoint the name alone, for its folder is this machine's."""
    height, width = frozen.view.image_size
    return {
        "name": frozen.name,
        "fingerprint": frozen.fingerprint(),
        "checkpoint": None if checkpoint is None else checkpoint.name,
        "image_size": [height, width],
    }


def spelled(context: typer.Context) -> str:
    """The command as one types it: its path and what was given, without what only allows it to replace."""
    words = ["vitgraft", *context.command_path.split()[1:]]
    for one in context.command.params:
        value = context.params.get(str(one.name))
        if value is None or value == one.get_default(context):
            continue
        option = next((text for text in one.opts if text.startswith("--")), None)
        if option in AGAIN:
            continue
        values = value if isinstance(value, list | tuple) else [value]
        if option is None:
            words += map(str, values)
        elif isinstance(value, bool):
            words.append(option if value else one.secondary_opts[0])
        else:
            words += [text for each in values for text in (option, str(each))]
    return shlex.join(words)
