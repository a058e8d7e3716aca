"""Fitting a model's temperature: on images that it was neither trained nor is tested on."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitgraft.data.kept import Kept
from vitgraft.data.labelling import need_classes
from vitgraft.data.task import Split, Task, listed
from vitgraft.errors import DataError
from vitgraft.models import labelled
from vitgraft.models.planting import check_pictures
from vitgraft.train import measure
from vitgraft.train.temperature import Temperature, fitted

if TYPE_CHECKING:
    from vitgraft.models.model import Model

VAL = "val"


def fitted_on(model: "Model", data: labelled.Labelled, split: str | None, settings: dict[str, Any]) -> Temperature:
    """The temperature of a model on a split, or on a part of a task or folder, which is val by default.

    Raises:
        DataError: no such images, some that must choose nothing, or no temperature is best.
    """
    check_pictures(model.backbone)
    part = split if isinstance(data, Split) else split or VAL
    images = labelled.to_measure(data, part, model.class_names, model.kept, labelled.Wishes())
    whose = data.name if isinstance(data, Task) else "" if isinstance(data, Split) else Path(data).name
    return temperature_of(model, images, f"{whose}, {part}" if whose else "a split", settings)


def temperature_of(model: "Model", images: Split, of: str, settings: dict[str, Any]) -> Temperature:
    """The temperature of a model on images with its own labels, called `of`. `settings` are those of `answers`.

    Raises:
        DataError: some of them were trained on, or are the test; or no temperature is best.
    """
    need_classes(model.target.kind, "A temperature")
    check_held_out(images, model.kept)
    logits = measure.answers(model.tuned, images, model.preprocessing, **settings)
    return fitted(logits.numpy(), images.labels, of)


def check_held_out(images: Split, kept: Kept | None) -> None:
    """Raise DataError if a model was trained on some of these images, or they are its test."""
    pairs = None if kept is None else listed(images.images)
    if kept is None or pairs is None:
        return
    free = kept.digests(VAL)
    told = {"is tested on": kept.digests("test"), "was trained on": kept.trained()}
    for what, digests in told.items():
        found = [place for place, (_, digest) in enumerate(pairs) if digest in digests - free]
        if found:
            named = ", ".join(repr(images.images.name(place)) for place in found[:3])
            raise DataError(
                f"The model {what} {len(found):,} of these {len(pairs):,} images ({named}), and nothing may be "
                "fitted on them. Name its validation images, or such as it has not seen."
            )
