"""`fit`: a model trained on labelled images, in a folder that is this training's alone."""

import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from vitgraft.data.labelling import check_kind
from vitgraft.data.preprocessing import adopted
from vitgraft.data.task import Split
from vitgraft.errors import Told
from vitgraft.kinds import checked
from vitgraft.machine.placement import place
from vitgraft.models import labelled
from vitgraft.models.folder import check_free_to_fit, held
from vitgraft.models.model import Model
from vitgraft.models.planting import check_pictures
from vitgraft.models.rebuilt import path_of
from vitgraft.train import loop
from vitgraft.train.loop import Fitted
from vitgraft.train.settings import Training


@checked
def fit(
    model: Model,
    train: Split,
    val: Split | None = None,
    *,
    settings: Training | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    legacy: Split | None = None,
    **overrides: Any,
) -> Fitted:
    """Train `model` in place on labelled images; select on `val` if it is given.

    `overrides` are fields of `Training`, such as epochs=50. With `out`, the log and resumable snapshots go there;
    those of a training that has ended are replaced, what is not finished goes on with `resume` or is left alone. A
    model that was loaded is trained on from its values, with a schedule of its own. `legacy` is a test split on
    which epochs are measured, too, for comparison with papers that chose by it. The range of values that images of
    more than 8 bits have in `train` becomes the model's, and is saved with it.

    Raises:
        ConfigError: an unknown or wrong setting; images with another range of values than the model has; a folder
            that holds another run, or that another process uses.
        DataError: labels that the model has no class for.
        DivergedError: a loss that is not finite.
        TrainingError: a value that gets no gradient.
        KeyboardInterrupt: Ctrl-C. The step is ended and the snapshot written to `out` first; the model holds what
            it had learned so far. SIGTERM ends in SystemExit (143) in the same way.
    """
    check_pictures(model.backbone)
    chosen = (settings or Training()).changed(overrides)
    for split in (train, val, legacy):
        check_kind(model.target.kind, split)
    model.preprocessing = adopted(model.preprocessing, train.images)
    model.class_names, train, others = labelled.taken(model.class_names, train, val=val, test=legacy)
    model.kept = labelled.seen(model.kept, train=train, val=others["val"])
    home, here = None if out is None else path_of(out, "out"), place(chosen.device)
    if home is not None:
        here.agreed(lambda: check_free_to_fit(home, resume))
    model.target = model.target.prepared(torch.tensor(train.labels), chosen)  # also if it is stopped
    if model.temperature is not None:
        warnings.warn(
            "Trained on, the model is not calibrated any more: fit its temperature anew.", Told, stacklevel=3
        )
        model.temperature = None
    with nullcontext() if home is None else held(home, here.main):
        fitted = loop.fit(
            model.tuned,
            train,
            others["val"],
            chosen,
            preprocessing=model.preprocessing,
            recipe=model.method.recipe,
            out=home,
            resume=resume,
            legacy=others["test"],
            what=model.digest(),
            target=model.target,
        )
    model.target = fitted.target
    return fitted
