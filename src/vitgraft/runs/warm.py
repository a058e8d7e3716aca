"""A run that begins with the values that another one has learned (`start_from`), under a schedule of its own.

What it begins with is copied into its folder, so that it can go on whatever becomes of the other run.
"""

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vitgraft.core.backbone import Backbone
from vitgraft.data.kept import BEFORE, FILE, Kept
from vitgraft.data.naming import matched
from vitgraft.data.preprocessing import preset
from vitgraft.data.task import Task
from vitgraft.errors import ConfigError, command
from vitgraft.methods import parse, spec_of
from vitgraft.models import artefact
from vitgraft.models import model as models
from vitgraft.models.folder import START
from vitgraft.models.model import Model
from vitgraft.models.planting import own_preprocessing
from vitgraft.results.record import Origin
from vitgraft.runs.config import KEPT, RunConfig, read_toml
from vitgraft.runs.kept_split import told_of_unlisted
from vitgraft.train.settings import Training


def source(config: RunConfig) -> Path:
    """Where the values are that a run begins with: its own copy, or the other run."""
    assert config.start_from is not None
    copy = config.folder / START
    return copy if (copy / artefact.CARD).exists() else Path(config.start_from).expanduser()


def task_of(config: RunConfig, task: Task) -> Task:
    """`task` with the classes of the run that a run begins with, in their order; as it is if there is none.

    Raises:
        ArtefactError: there is no such run.
        ConfigError: the classes are others, or images are tested on that the other run was trained on.
    """
    if config.start_from is None:
        return task
    names = artefact.read_card(source(config)).class_names
    if {*names} != {*task.classes}:
        new, gone = sorted({*task.classes} - {*names}), sorted({*names} - {*task.classes})
        told = [f"{what} {', '.join(map(repr, some))}" for what, some in (("adds", new), ("lacks", gone)) if some]
        raise ConfigError(
            f"{task.name} {' and '.join(told)}, and the classes of {config.start_from} are "
            f"{', '.join(map(repr, names))}. Its values are values of these: give data of the same classes, or "
            "begin without --from."
        )
    _check_unseen(config, task)
    splits = {name: matched(split, names).split for name, split in task.splits.items()}
    untold = told_of_unlisted(Path(config.start_from).expanduser(), config, task)
    return replace(task, classes=names, splits=splits, notes=(*task.notes, *untold))


def _check_unseen(config: RunConfig, task: Task) -> None:
    """Raise ConfigError if images would be measured that the values were learned on."""
    theirs, ours = Kept.read(Path(str(config.start_from)).expanduser()), Kept.of(task.splits)
    if theirs is None or ours is None:
        return
    for split in ("val", "test"):
        if both := ours.digests(split) & (theirs.digests("train") | theirs.digests(BEFORE)):
            raise ConfigError(
                f"{len(both)} {split} images of {task.name} are among those that {config.start_from} was trained "
                "on: measured on them, it would look better than it is. Say which images are train, val and test "
                f"(folders of these names, or a list with a column split).{_as_it_was(config, theirs)}"
            )


def _as_it_was(config: RunConfig, theirs: Kept) -> str:
    """How to train on with the split of the run before, which is a list that can be read."""
    run = Path(str(config.start_from)).expanduser()
    if not (run / KEPT).is_file() or any(entry.split == BEFORE for entry in theirs.entries):
        return ""
    told = read_toml(run / KEPT)
    data = Path(str(told["data"])).expanduser()
    root = data if data.is_dir() else told.get("root") or data.parent
    how = f"{command('fit', run / FILE)} --root {shlex.quote(str(root))} --from {shlex.quote(str(run))}"
    return f" The split of {config.start_from} is one, without images that came later: {how}"


def begun(config: RunConfig, task: Task, backbone: Backbone, tell: Callable[[str], None]) -> Model:
    """The model of a run, with the values that it begins with.

    Raises:
        ArtefactError: they are damaged, or of another backbone.
        ConfigError: they are of another method, or pictures would be preprocessed in another way.
    """
    model = models.load(source(config), backbone=backbone)
    if model.method != parse(config.method):
        raise ConfigError(
            f"{config.start_from} holds values of {spec_of(model.method)}, and the method is {config.method}. "
            "Leave --method out, or begin without --from."
        )
    if model.target.kind != task.kind:
        raise ConfigError(
            f"{config.start_from} has learned labels of the kind {model.target.kind}, and those of {task.name} "
            f"are {task.kind}. Begin without --from."
        )
    asked = preset(config.preprocessing, own_preprocessing(backbone)).to_json()
    theirs = model.preprocessing.to_json()
    if differing := [key for key in SEEN if asked[key] != theirs[key]]:
        told = "; ".join(f"{key} is {asked[key]}, was {theirs[key]}" for key in differing)
        raise ConfigError(
            f"{config.start_from} saw its pictures in another way: {told}. Give the same --preprocessing and "
            "--image-size, or begin without --from."
        )
    tell(f"Begins with the values of {config.start_from}.")
    return model


SEEN = ("size", "mean", "std", "interpolation", "crop", "mode")
"""What of preprocessing follows from the configuration; the range of values is found in the images."""


def settings(config: RunConfig) -> Training:
    """How a run trains: values that are there are not replaced by first ones of a protocol."""
    if config.start_from is None:
        return config.training
    return replace(config.training, head_init="normal", legacy_init=False)


def origin(config: RunConfig) -> Origin | None:
    """What a run that is kept began with."""
    if config.start_from is None:
        return None
    return Origin(config.start_from, artefact.read_card(source(config)).digest)
