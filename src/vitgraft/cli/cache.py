"""`vitgraft cache`: what is kept of frozen backbones, and how to be rid of it."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from vitgraft.cli import show
from vitgraft.cli.guard import Commands
from vitgraft.errors import ConfigError

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    help="Features that runs computed once and keep on disk: list them, remove them.",
)


@app.command("ls")
def listed(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the cached features, the last used first.

    They lie in `features` under $VITGRAFT_CACHE (by default vitgraft in the user's cache folder) and can always be
    computed again.
    """
    from vitgraft.train import entries

    found = [
        {
            "key": entry.key,
            "bytes": entry.size,
            "complete": entry.complete,
            "used": datetime.fromtimestamp(entry.used, UTC).isoformat(timespec="seconds"),
            "what": "unreadable" if entry.card is None else entry.card.title,
            "readings": 0 if entry.card is None else len(entry.card.columns),
        }
        for entry in entries.entries()
    ]
    if as_json:
        show.as_json({"place": str(entries.root()), "entries": found})
        return
    cells = [
        (
            str(row["key"]),
            show.size(float(str(row["bytes"]))) + ("" if row["complete"] else ", unfinished"),
            str(row["used"])[:16].replace("T", " "),
            str(row["readings"]),
            str(row["what"]),
        )
        for row in found
    ]
    if cells:
        show.table("", ("key", "size", "used (UTC)", "readings", "what"), cells, right=("size", "readings"))
    total = sum(int(str(row["bytes"])) for row in found)
    typer.echo(f"{len(found)} entries, {show.size(total)}, in {entries.root()}")


@app.command("rm")
def removed(
    keys: Annotated[list[str] | None, typer.Argument(help="Keys as `ls` shows them.", show_default=False)] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove every entry.")] = False,
    days: Annotated[
        int | None, typer.Option(min=0, help="Remove entries that were not used for so many days.")
    ] = None,
) -> None:
    """Remove cached features.

    Examples:

      vitgraft cache rm 0766e57897d3-a54d1b60

      vitgraft cache rm --days 30
    """
    from vitgraft.train import entries

    if not keys and not everything and days is None:
        raise ConfigError("Nothing was named. Give keys (vitgraft cache ls), --days 30 or --all.")
    chosen = list(dict.fromkeys(keys or []))
    if everything or days is not None:
        before = datetime.now(UTC) - timedelta(days=0 if everything else days or 0)
        old = [entry.key for entry in entries.entries() if entry.used <= before.timestamp()]
        chosen += [key for key in old if key not in chosen]
    freed = sum(entries.remove(key) for key in chosen)
    typer.echo(f"Removed {len(chosen)} entries, {show.size(freed)}.")
