"""Several saved grafts, asked about the same pictures at once; those on one backbone share a pass."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from vitgraft.core.backbone import Backbone
from vitgraft.core.shared import answers
from vitgraft.data.decode import Pictures, opened
from vitgraft.data.preprocessing import Preprocessing
from vitgraft.data.transforms import evaluation
from vitgraft.errors import ConfigError
from vitgraft.machine.placement import place
from vitgraft.models import artefact
from vitgraft.models import model as models
from vitgraft.models.model import Model

BATCH = 64


@dataclass(frozen=True)
class Bundle:
    """Grafts by name. Those that stand on one backbone and preprocess alike share each picture's pass.

    Raises:
        ConfigError: no graft at all.
    """

    members: dict[str, Model]

    def __post_init__(self) -> None:
        if not self.members:
            raise ConfigError("A bundle of no grafts answers nothing. Name at least one folder.")

    @classmethod
    def load(cls, folders: Path | str | Iterable[Path | str], *, force: bool = False) -> Self:
        """The grafts in a folder or some, by the folders' names as given; a backbone is loaded once for all on it.

        Raises:
            ArtefactError: see `vitgraft.load`.
        """
        members: dict[str, Model] = {}
        backbones: dict[str, Backbone] = {}
        for folder in [folders] if isinstance(folders, Path | str) else folders:
            stands_on = artefact.read(Path(folder))[0].backbone
            shared = backbones.get(repr(stands_on))
            members[str(folder)] = models.load(folder, backbone=shared, force=force)
            backbones[repr(stands_on)] = members[str(folder)].backbone
        return cls(members)

    @torch.no_grad()
    def predict(self, images: Pictures, *, device: str = "auto") -> dict[str, Tensor]:
        """Probabilities (n, C) of pictures or of image files, by the graft's name, on the CPU."""
        left = opened(images)
        where = place(device).device
        found: dict[str, list[Tensor]] = {name: [] for name in self.members}
        for model in self.members.values():
            model.tuned.to(where).eval()
        while batch := list(islice(left, BATCH)):
            for names in self._alike():
                some = [self.members[name] for name in names]
                transform = evaluation(some[0].preprocessing)
                inputs = torch.stack([transform(picture) for picture in batch]).to(where)
                for name, logits in zip(names, answers([model.tuned for model in some], inputs), strict=True):
                    found[name].append(logits.float().softmax(1).cpu())
        return {
            name: torch.cat(parts) if parts else torch.empty(0, len(self.members[name].class_names))
            for name, parts in found.items()
        }

    def _alike(self) -> Sequence[list[str]]:
        """The members' names, together where a pass can be shared."""
        groups: dict[tuple[int, Preprocessing], list[str]] = {}
        for name, model in self.members.items():
            groups.setdefault((id(model.backbone), model.preprocessing), []).append(name)
        return list(groups.values())
