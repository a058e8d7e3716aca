"""What a run that begins with another one's values (`start_from`) takes from it unless told otherwise.

It imports no torch.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from vitgraft import methods
from vitgraft.errors import ConfigError
from vitgraft.results.store import KEPT

OF_MODEL = ("method", "backbone", "checkpoint", "image_size", "global_pool", "preprocessing")
"""Keys that say what the values are values of: they are the other run's own."""

CARD = "graft.json"


def inherited(values: Mapping[str, Any], of_data: tuple[str, ...], read: Any) -> dict[str, Any]:
    """`values` and, where they are silent, the keys of the run that they begin with: of its model, and of its data
    (`of_data`) if none are named. `read` reads a configuration file.
    """
    run = Path(str(values["start_from"])).expanduser()
    if (run / KEPT).exists():
        theirs = read(run / KEPT)
        wanted = OF_MODEL if "data" in values else (*OF_MODEL, *of_data)
        return {**{key: theirs[key] for key in wanted if key in theirs}, **values}
    if "data" not in values and not (run / CARD).exists():
        raise ConfigError(
            f"'{run}' holds no run and no saved graft to begin with. Name the folder that `vitgraft fit --out` or "
            "`model.save` wrote."
        )
    return {**_of_card(run / CARD), **values}


def _of_card(path: Path) -> dict[str, Any]:
    """Keys as the card of a graft that was saved in Python tells them; what is wrong with it, `load` will say."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, ConfigError):
        card = json.loads(path.read_bytes())
        stands_on = card["backbone"]
        found = {"method": methods.spec_of(methods.parse(card["method"])), "backbone": stands_on["name"]}
        for key in ("checkpoint", "image_size", "global_pool"):
            if stands_on[key] is not None:
                found[key] = stands_on[key]
        return found
    return {}
