"""The command line. Listings and `--help` answer at once: torch is imported by the commands that need it."""

import io
import sys
from typing import Annotated

import typer

from vitgraft.cli import analyze, bench, cache, data, listings, show
from vitgraft.cli.advise import advise
from vitgraft.cli.calibrate import calibrate
from vitgraft.cli.convert import convert
from vitgraft.cli.evaluate import evaluate
from vitgraft.cli.export import export
from vitgraft.cli.fit import fit
from vitgraft.cli.guard import Commands
from vitgraft.cli.init import init
from vitgraft.cli.merge import merge
from vitgraft.cli.predict import predict
from vitgraft.cli.report import report
from vitgraft.cli.sensitivity import sensitivity

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from importlib import metadata

        typer.echo(f"vitgraft {metadata.version('vitgraft')}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Fine-tune vision transformers cheaply: few trained values, few kept activations.

    A first run, which needs no download:

      vitgraft fit digits --out runs/digits
      vitgraft eval runs/digits

    On your own images, in class folders:

      vitgraft fit photos/ --method lora:rank=16 --backbone vit_base_patch16_224.augreg_in21k --out runs/photos
      vitgraft predict runs/photos new/*.jpg --format csv
      vitgraft merge runs/photos --out photos.safetensors
    """


app.command("fit", rich_help_panel="Work")(fit)
app.command("init", rich_help_panel="Work")(init)
app.command("eval", rich_help_panel="Work")(evaluate)
app.command("predict", rich_help_panel="Work")(predict)
app.command("calibrate", rich_help_panel="Work")(calibrate)
app.command("merge", rich_help_panel="Work")(merge)
app.command("export", rich_help_panel="Work")(export)
app.command("sensitivity", rich_help_panel="Work")(sensitivity)
app.command("report", rich_help_panel="Work")(report)
app.command("import", rich_help_panel="Work")(convert)
app.add_typer(analyze.app, name="analyze", rich_help_panel="Look")
app.add_typer(bench.app, name="bench", rich_help_panel="Work")
app.add_typer(cache.app, name="cache", rich_help_panel="Work")
app.add_typer(data.app, name="data", rich_help_panel="Work")
app.command("advise", rich_help_panel="Look")(advise)
app.command("methods", rich_help_panel="Look")(listings.methods)
app.command("tasks", rich_help_panel="Look")(listings.tasks)
app.command("backbones", rich_help_panel="Look")(listings.backbones)


def main() -> None:
    """The entry point `vitgraft`. File names that are no UTF-8 are printed as the bytes that they are.

    Nothing is coloured, bold or dim where `show.plain` says so.
    """
    plain = show.plain()
    if plain:
        from typer import rich_utils

        rich_utils.FORCE_TERMINAL = False
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")
    app(prog_name="vitgraft", color=False if plain else None)
