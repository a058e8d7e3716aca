"""Where files that can be made again are kept."""

import os
from pathlib import Path


def cache_root() -> Path:
    """The folder for everything that can be made again; it need not exist yet.

    `$VITGRAFT_CACHE` if set, else `vitgraft` under `$XDG_CACHE_HOME`, else `~/.cache/vitgraft`. An empty
    variable counts as not set, and so does a relative `$XDG_CACHE_HOME` (the XDG specification says so).
    """
    if chosen := os.environ.get("VITGRAFT_CACHE"):
        return Path(chosen).expanduser().absolute()
    shared = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(shared) if os.path.isabs(shared) else Path.home() / ".cache"
    return base / "vitgraft"
