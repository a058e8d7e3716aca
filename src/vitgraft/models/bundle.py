"""Several saved grafts, asked about the same pictures at once; those on one backbone share a pass."""

import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from vitgraft.core.backbone import Backbone
from vitgraft.data.pictures.given import Pictures, each
from vitgraft.data.pictures.ranges import AUTO, MAX_PIXELS
from vitgraft.errors import ArtefactError, CheckpointError, ConfigError, Told, VitgraftError
from vitgraft.kinds import check_fields, converted, whole
from vitgraft.models import artefact
from vitgraft.models import model as models
from vitgraft.models.artefact import BackboneId
from vitgraft.models.model import Model
from vitgraft.models.rebuilt import path_of
from vitgraft.models.stream import Asker

BATCH = 64


@dataclass(frozen=True)
class Bundle:
    """Grafts by name. Those that stand on one backbone and preprocess alike share each picture's pass.

    Raises:
        ConfigError: no graft at all.
    """

    members: dict[str, Model]

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.members:
            raise ConfigError("A bundle of no grafts answers nothing. Name at least one folder.")

    @classmethod
    def load(
        cls,
        folders: Path | str | Iterable[Path | str],
        *,
        checkpoint: Path | str | Iterable[Path | str] | None = None,
        force: bool = False,
    ) -> Self:
        """The grafts in a folder or some, by the folders' names as given; a backbone is loaded once for all on it.

        `checkpoint` says where weights are that have moved: one file, or one for each of several backbones; whose
        they are, the fingerprint says.

        Raises:
            ArtefactError: what is no folder of a graft; else see `vitgraft.load`.
        """
        files = () if checkpoint is None else _paths(checkpoint, "checkpoint")
        members: dict[str, Model] = {}
        backbones: dict[BackboneId, Backbone] = {}
        for folder in _paths(folders, "folders"):
            stands_on = replace(artefact.read_card(path_of(folder, "folder")).backbone, checkpoint=None)
            shared = backbones.get(stands_on)
            members[str(folder)] = _member(folder, shared, files, force)
            backbones[stands_on] = members[str(folder)].backbone
        return cls(members)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Every class of any of them, once."""
        return tuple(dict.fromkeys(name for model in self.members.values() for name in model.class_names))

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of labels that they have learned."""
        return frozenset(model.target.kind for model in self.members.values())

    def with_pixel_range(self, pixel_range: str) -> "Bundle":
        """The same grafts, which read pictures of more than 8 bits as `Model.with_pixel_range` says."""
        return Bundle({name: model.with_pixel_range(pixel_range) for name, model in self.members.items()})

    def uncalibrated(self) -> "Bundle":
        """The same grafts, with the probabilities that they were trained to give."""
        return Bundle({name: model.uncalibrated() for name, model in self.members.items()})

    def predict(
        self,
        images: Pictures,
        *,
        device: str = "auto",
        pixel_range: str = AUTO,
        max_pixels: int = MAX_PIXELS,
    ) -> dict[str, Tensor]:
        """Probabilities (n, C) of what `Model.predict` takes, by the graft's name, on the CPU."""
        asker = Asker(self.with_pixel_range(pixel_range).members, converted("device", device, str))
        left = map(asker.prepared, each(images, whole("max_pixels", max_pixels, least=1)))
        found = {name: [torch.empty(0, len(model.class_names))] for name, model in self.members.items()}
        while batch := list(islice(left, BATCH)):
            for name, probabilities in asker.answers(batch).items():
                found[name].append(probabilities)
        for line in asker.doubts.lines():
            warnings.warn(line, Told, stacklevel=2)
        return {name: torch.cat(parts) for name, parts in found.items()}


def _paths(given: Any, what: str) -> list[Path | str]:
    """One path or several. Raises ArtefactError for what is neither."""
    single = isinstance(given, str | os.PathLike) or not isinstance(given, Iterable)
    several: list[Path | str] = [given] if single else list(given)
    for one in several:
        path_of(one, what)
    return several


def _member(folder: Path | str, shared: Backbone | None, files: Sequence[Path | str], force: bool) -> Model:
    """One graft, on a backbone that is there already, or with those of the named weights that are its own."""
    if shared is not None or not files:
        return models.load(folder, backbone=shared, force=force)
    refused: list[VitgraftError] = []
    for file in files:
        try:
            return models.load(folder, checkpoint=file)
        except (ArtefactError, CheckpointError) as error:
            refused.append(error)
    if force:
        return models.load(folder, checkpoint=files[0], force=True)
    raise refused[0]
