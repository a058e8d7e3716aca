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
    from vitgraft.features import entries

    found = entries.entries()
    cards = [entry.card for entry in found]
    titles = ["unreadable" if card is None else card.title for card in cards]
    readings = [0 if card is None else len(card.columns) for card in cards]
    used = [datetime.fromtimestamp(entry.used, UTC).isoformat(timespec="seconds") for entry in found]
    if as_json:
        rows = [
            {"key": entry.key, "bytes": entry.size, "complete": entry.complete}
            | {"used": used[index], "readings": readings[index], "what": titles[index]}
            for index, entry in enumerate(found)
        ]
        show.as_json({"place": str(entries.root()), "entries": rows})
        return
    if found:
        sizes = [show.size(entry.size) + ("" if entry.complete else ", unfinished") for entry in found]
        times = [time[:16].replace("T", " ") for time in used]
        keys = [entry.key for entry in found]
        cells = zip(keys, sizes, times, map(str, readings), titles, strict=True)
        show.table("", ("key", "size", "used (UTC)", "readings", "what"), cells, right=("size", "readings"))
    typer.echo(f"{_entries(len(found))}, {show.size(sum(entry.size for entry in found))}, in {entries.root()}")


@app.command("rm")
def removed(
    keys: Annotated[list[str] | None, typer.Argument(help="Keys as `ls` shows them.", show_default=False)] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove every entry.")] = False,
    days: Annotated[
        int | None, typer.Option(min=0, help="Remove entries that were not used for so many days.")
    ] = None,
) -> None:
    """Remove cached features; with --all also what is known of image files, which are then read again.

    Examples:

      vitgraft cache rm 0766e57897d3-a54d1b60

      vitgraft cache rm --days 30
    """
    from vitgraft.data.reading import digests
    from vitgraft.features import entries

    if not keys and not everything and days is None:
        raise ConfigError("Nothing was named. Give keys (vitgraft cache ls), --days 30 or --all.")
    before = datetime.now(UTC) - timedelta(days=days or 0)
    chosen = dict.fromkeys(keys or [])
    if everything or days is not None:
        chosen |= {
            entry.key: None for entry in entries.entries() if everything or entry.used <= before.timestamp()
        }
    freed = entries.remove(chosen) + (digests.forget() if everything else 0)
    typer.echo(f"Removed {_entries(len(chosen))}, {show.size(freed)}.")


def _entries(count: int) -> str:
    return "1 entry" if count == 1 else f"{count} entries"
