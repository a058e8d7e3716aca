"""A run that goes on although the file of its backbone's weights is not where it was when the run began."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vitgraft.errors import CheckpointError, command
from vitgraft.models.rebuilt import moved_file
from vitgraft.runs.config import RunConfig


def with_weights(config: RunConfig, resume: bool, tell: Callable[[str], None]) -> RunConfig:
    """The configuration of a run that goes on, with its weights where they are now.

    Other weights under the same name are refused later: a snapshot knows the fingerprint of its backbone.

    Raises:
        CheckpointError: they are neither where they were nor where they may have moved to.
    """
    going_on = resume and config.kept.exists()
    if not going_on or config.checkpoint is None or Path(config.checkpoint).exists():
        return config
    found = moved_file(config.checkpoint, config.folder)
    if found is None:
        go_on = command("fit", "--resume", "--out", config.folder, "--checkpoint", "FILE")
        raise CheckpointError(
            f"The run in {config.folder} stands on the weights '{config.checkpoint}', which are neither there any "
            f"more nor beside the run. Say where they are: {go_on} (in Python, the configuration's checkpoint)."
        )
    tell(f"'{config.checkpoint}' is not there any more: the weights are taken from '{found}'.")
    return replace(config, checkpoint=str(found))
