"""`vitgraft analyze`: the papers' figures, as commands for any backbone, method and task.

A file of this room holds one command. It takes what all of them do (`asked.Asked`), checks that its figure may be
written before anything is computed, has `vitgraft.analyze` measure, and writes one `report.figure.Figure`.
"""

import typer

from vitgraft.cli.analyze.embedding import embedding
from vitgraft.cli.analyze.errors import errors
from vitgraft.cli.analyze.features import features
from vitgraft.cli.analyze.importance import importance
from vitgraft.cli.analyze.inference import inference
from vitgraft.cli.analyze.memory import memory
from vitgraft.cli.analyze.samples import samples
from vitgraft.cli.analyze.sensitivity import sensitivity
from vitgraft.cli.guard import Commands

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    help="""The papers' figures, for any backbone and method: what is measured, drawn and told.

    Each command writes NAME.png, NAME.svg, NAME.csv and NAME.json (what is to be seen, of what, made by which
    command) into a folder, which `figures` is unless --out says otherwise.
    """,
)

app.command("memory")(memory)
app.command("errors")(errors)
app.command("sensitivity")(sensitivity)
app.command("importance")(importance)
app.command("embedding")(embedding)
app.command("features")(features)
app.command("inference")(inference)
app.command("samples")(samples)
