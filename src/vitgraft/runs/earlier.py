"""What an earlier run has left in a folder: a record to be given back, something to go on with, or in the way."""

from pathlib import Path

from vitgraft.errors import ConfigError
from vitgraft.models import artefact
from vitgraft.results import store
from vitgraft.results.record import Record
from vitgraft.runs.config import RunConfig, read_toml
from vitgraft.train import calibrate, state


def finished(config: RunConfig, resume: bool, force: bool) -> Record | None:
    """The record of a finished run that is asked for again; `force` makes room for a new one.

    Raises:
        ConfigError: the folder holds a run that is neither resumed nor replaced, or one of another configuration.
    """
    folder = config.folder
    for path, option in ((folder, "--out"), (config.records and Path(config.records), "--records")):
        if path and path.exists() and not path.is_dir():
            raise ConfigError(f"'{path}' is a file. Name a folder with {option}.")
    record = folder / store.FILE
    if force:
        for name in (store.FILE, artefact.CARD, artefact.TENSORS):
            (folder / name).unlink(missing_ok=True)
        calibrate.discard(folder)
        return None
    if not resume:
        if any(path.exists() for path in (record, folder / state.FILE, folder / calibrate.STAGES)):
            what = "a finished run" if record.exists() else "a run that was stopped"
            raise ConfigError(
                f"{folder} holds {what}. Go on with it (--resume), replace it (--force), or use --out."
            )
        return None
    if config.kept.exists():
        _refuse_other(config, RunConfig.of(read_toml(config.kept)))
    return store.read(record) if record.exists() else None


def _refuse_other(config: RunConfig, kept: RunConfig) -> None:
    """Raise ConfigError if two configurations differ in what they compute."""
    now, then = store.meant(config.table()), store.meant(kept.table())
    differing = [key for key in now if now[key] != then[key]]
    if differing:
        told = "; ".join(f"{key} is {now[key]!r}, was {then[key]!r}" for key in differing)
        raise ConfigError(
            f"The run in {config.folder} cannot go on with another configuration: {told}. Leave these "
            "options out, replace the run with --force, or use another --out."
        )
