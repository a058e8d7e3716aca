"""Which runs can train at once: those that differ by what their optimizers are told. It imports no torch."""

from collections.abc import Sequence

from vitgraft import methods
from vitgraft.runs.config import RunConfig

FREE = ("lr", "weight_decay", "out", "records")
"""What may differ: what an optimizer is told, and where a run is kept."""


def groups(configs: Sequence[RunConfig]) -> list[list[RunConfig]]:
    """Runs that can train at once, together; each other one alone. In the order of their first ones."""
    found: dict[object, list[RunConfig]] = {}
    for number, config in enumerate(configs):
        table = {key: value for key, value in config.table().items() if key not in FREE}
        key = repr(sorted(table.items())) if _stacks(config) else number
        found.setdefault(key, []).append(config)
    return list(found.values())


def _stacks(config: RunConfig) -> bool:
    """True if a run could be one of several that train at once."""
    training, method = config.training, methods.parse(config.method)
    if config.start_from is not None:
        return False
    alone = training.patience is not None or training.accumulate > 1 or training.legacy_test
    alone |= training.memory is not None
    return method.stacks and not method.looks() and training.precision == "fp32" and not alone
