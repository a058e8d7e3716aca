"""What a method finds in training data, or in a file, before there is a model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from vitgraft.core.backbone import Backbone
from vitgraft.data.kept import Kept
from vitgraft.data.preprocessing import Preprocessing
from vitgraft.data.task import Split
from vitgraft.methods import Method
from vitgraft.methods.base import NoData
from vitgraft.models import labelled, planting
from vitgraft.train.calibrate import Calibrator
from vitgraft.train.settings import Training


@dataclass(frozen=True)
class Looked:
    """What a method may look at, and how: images to train on and to choose by, where it keeps what is finished."""

    train: Split | None
    val: Split | None
    preprocessing: Preprocessing
    settings: Training
    out: Path | None


@dataclass(frozen=True)
class Found:
    """What was found, in how many seconds, and the list of images that were looked at, where these are files."""

    findings: Mapping[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0
    kept: Kept | None = None


def found(
    method: Method, backbone: Backbone, names: tuple[str, ...], at: Looked, seed: int, resume: bool
) -> tuple[tuple[str, ...], Found]:
    """The names of the classes, which training images may give, and what the method finds; nothing if it does not
    look. Raises as `graft` does.
    """
    if not method.looks():
        return names, Found()
    if at.train is None:  # it may look at a file that was named
        with planting.seeded(seed), planting.sizes_told(backbone, method, len(names)):
            return names, Found(method.find(backbone, len(names), NoData(method)))
    names, train, others = labelled.taken(names, at.train, val=at.val)
    kept = labelled.seen(None, train=train, **others)
    arguments = (method, backbone, len(names), train, at.preprocessing, at.settings, at.out, resume)
    calibrator = Calibrator(*arguments, val=others["val"])
    with planting.seeded(seed), planting.sizes_told(backbone, method, len(names)):
        findings = calibrator.find()
    return names, Found(findings, calibrator.seconds, kept)
