"""Several saved grafts on one backbone, asked about the same pictures at once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

import torch
from PIL import Image
from torch import Tensor

from vitgraft import model as models
from vitgraft.core.shared import answers
from vitgraft.data.decode import read_image
from vitgraft.errors import ConfigError
from vitgraft.model import Model
from vitgraft.train.placement import place

BATCH = 64


@dataclass(frozen=True)
class Bundle:
    """Grafts by name, all on one backbone. Those that preprocess alike share each picture's pass.

    Raises:
        ConfigError: no graft at all.
    """

    members: dict[str, Model]

    def __post_init__(self) -> None:
        if not self.members:
            raise ConfigError("A bundle of no grafts answers nothing. Name at least one folder.")

    @classmethod
    def load(cls, folders: Iterable[Path | str], *, force: bool = False) -> Self:
        """The grafts in some folders, by the folders' names as given; the first brings the backbone for all.

        Raises:
            ArtefactError: a damaged graft, or one that was trained on other weights than the first (`force` loads
                it all the same).
        """
        members: dict[str, Model] = {}
        for folder in folders:
            shared = next(iter(members.values())).backbone if members else None
            members[str(folder)] = models.load(folder, backbone=shared, force=force)
        return cls(members)

    @torch.no_grad()
    def predict(self, images: Iterable[Image.Image | Path | str], *, device: str = "auto") -> dict[str, Tensor]:
        """Probabilities (n, C) of pictures or of image files, by the graft's name, on the CPU."""
        pictures = (image if isinstance(image, Image.Image) else read_image(Path(image)) for image in images)
        where = place(device).device
        found: dict[str, list[Tensor]] = {name: [] for name in self.members}
        for model in self.members.values():
            model.tuned.to(where).eval()
        while batch := list(islice(pictures, BATCH)):
            for names in self._alike():
                some = [self.members[name] for name in names]
                transform = some[0].preprocessing.evaluate()
                inputs = torch.stack([transform(picture) for picture in batch]).to(where)
                for name, logits in zip(names, answers([model.tuned for model in some], inputs), strict=True):
                    found[name].append(logits.float().softmax(1).cpu())
        return {
            name: torch.cat(parts) if parts else torch.empty(0, len(self.members[name].class_names))
            for name, parts in found.items()
        }

    def _alike(self) -> Sequence[list[str]]:
        """The members' names, together where the preprocessing is the same."""
        groups: dict[object, list[str]] = {}
        for name, model in self.members.items():
            groups.setdefault(model.preprocessing, []).append(name)
        return list(groups.values())
