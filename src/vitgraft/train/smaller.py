"""Going on after an accelerator had no room for a micro-batch: with half as many images, and the same steps."""

from dataclasses import replace
from typing import Any

from vitgraft.errors import TrainingError, option
from vitgraft.machine.placement import Placement
from vitgraft.train.batches import Layout
from vitgraft.train.settings import Training
from vitgraft.train.state import State
from vitgraft.train.within import Within


class NoRoom(Exception):
    """A step had to be left, as the device has no room for a micro-batch; the trained values are as before it."""


def halved(
    layout: Layout, settings: Training, state: State, here: Placement
) -> tuple[Layout, Training, dict[str, Any]]:
    """Layout and settings with micro-batches of half as many images, and what the state remembers of that.

    Raises:
        TrainingError: they cannot be halved, or several processes would have to do it at the same moment.
    """
    largest = max(len(batch) for batch in layout.epoch(state.epoch))
    micro = -(-largest // (min(layout.accumulate, largest // layout.smallest) * layout.processes))
    fewer = micro // 2
    if here.processes > 1 or fewer < layout.least:
        why = (
            "several processes train together, and cannot change their micro-batches by themselves"
            if here.processes > 1
            else f"{micro} image{'s' * (micro != 1)} at a time are the fewest"
        )
        raise TrainingError(
            f"{here.device} has no room for a micro-batch of {micro}, and {why}. Use {option('accumulate', 8)} or "
            f"more micro-batches, {option('recompute', 'block')}, {option('precision', 'bf16')}, or a smaller "
            "backbone."
        )
    within = replace(_so_far(settings, state), accumulate=-(-largest // (fewer * layout.processes)))
    return replace(layout, accumulate=within.accumulate), within.settings(settings), within.to_json()


def evaluated_fewer(settings: Training, state: State) -> tuple[Training, dict[str, Any]]:
    """Settings that evaluate half as many images at a time, and what the state remembers of that."""
    within = replace(_so_far(settings, state), eval_batch_size=settings.eval_batch_size // 2)
    return within.settings(settings), within.to_json()


def _so_far(settings: Training, state: State) -> Within:
    """What was chosen before; no peak is predicted any more."""
    if state.within is not None:
        return replace(Within(**state.within), peak=None)
    return Within(settings.accumulate, settings.recompute, settings.eval_batch_size)
