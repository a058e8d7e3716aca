"""The five lines of Python: `graft`, `fit` (in `training`), `save`, `load`, `merge`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from vitgraft import methods
from vitgraft.core.backbone import Backbone
from vitgraft.core.tuned import Tuned
from vitgraft.data.kept import Kept, put
from vitgraft.data.pictures.given import Pictures, opened
from vitgraft.data.pictures.ranges import AUTO, MAX_PIXELS, asked
from vitgraft.data.preprocessing import Preprocessing, adopted
from vitgraft.data.task import Split, Task
from vitgraft.data.transforms import Serving
from vitgraft.errors import ConfigError
from vitgraft.kinds import check_fields, checked, converted, whole
from vitgraft.methods import Method
from vitgraft.methods.base import PeftConfig
from vitgraft.models import artefact, calibrating, finding, labelled, planting
from vitgraft.models.artefact import Card
from vitgraft.models.folder import check_free_to_look, check_free_to_save, run_files
from vitgraft.models.rebuilt import check_findings, differs, identity, misfit, path_of, rebuilt
from vitgraft.results.provenance import versions
from vitgraft.train import loop
from vitgraft.train.settings import Training
from vitgraft.train.targets import CLASSES, Target, from_json, target_of
from vitgraft.train.temperature import Temperature

if TYPE_CHECKING:
    from vitgraft.train.targets import Measured


@dataclass
class Model:
    """A tuned model with what it needs to meet the world: its method, preprocessing and class names.

    `tuned` is the torch module; calling a Model runs it on preprocessed images (B, 3, H, W). `findings` are what
    the method found in training data, if it looks at them, in `finding_seconds`; they are saved with the graft.
    `kept` lists the images that it was trained on, where these are files; it is saved with the graft, too, and so
    is the `temperature` by which `predict` and `evaluate` divide logits once the model is calibrated. `target` is
    what it learns: one class a picture, several (with `thresholds`), or numbers (in their units).
    """

    tuned: Tuned
    method: Method
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    findings: Mapping[str, Tensor] = field(default_factory=dict)
    finding_seconds: float = 0.0
    kept: Kept | None = None
    temperature: Temperature | None = None
    target: Target = CLASSES

    def __post_init__(self) -> None:
        check_fields(self)
        planting.check_size(self.backbone, self.preprocessing)

    @property
    def backbone(self) -> Backbone:
        return self.tuned.backbone

    @property
    def divisor(self) -> float:
        """What logits are divided by before they become probabilities: 1 unless the model is calibrated."""
        return 1.0 if self.temperature is None else self.temperature.value

    def uncalibrated(self) -> "Model":
        """The same model, with the probabilities that it was trained to give."""
        return replace(self, temperature=None)

    def __call__(self, images: Tensor) -> Tensor:
        """Logits (B, C) of preprocessed images (B, 3, H, W), as trained: no temperature divides them.

        Raises:
            ConfigError: no such tensor, or one of another size than the backbone takes.
        """
        with planting.check_images(self.backbone, images):
            logits: Tensor = self.tuned(images.to(next(self.backbone.parameters())))
        return logits

    @property
    def transform(self) -> Serving:
        """From a picture to what the model is called with, (3, H, W) float32: `split.tensors(model.transform)`."""
        return Serving(self.preprocessing)

    @checked
    def with_pixel_range(self, pixel_range: str) -> "Model":
        """The same model, which takes LOW:HIGH for black and white in pictures of more than 8 bits, or what their
        type can hold (`dtype`), or what was found over the training images (`auto`). Raises ConfigError."""
        known = asked(pixel_range)
        return (
            self if known is None else replace(self, preprocessing=replace(self.preprocessing, pixel_range=known))
        )

    def predict(self, images: Pictures, *, pixel_range: str = AUTO, max_pixels: int = MAX_PIXELS) -> Tensor:
        """Probabilities (n, C) of one picture or of several, on the CPU; or numbers, in the user's units.

        A picture is a path, the bytes of a file or an open one, a PIL image, an array (H, W[, C]) or a tensor
        (3, H, W): `vitgraft.data.pictures.given` says which types and values. All ways to one file give the same
        answer. `pixel_range` is for files of more than 8 bits: see `with_pixel_range`. Files of more than
        `max_pixels` pixels are refused.

        Raises:
            DataError: what is no picture, or cannot be read.
        """
        planting.check_pictures(self.backbone)
        seen = self.with_pixel_range(pixel_range).preprocessing
        limit = whole("max_pixels", max_pixels, least=1)
        files = opened(images, seen.pixel_range, limit)
        return loop.predict(self.tuned, files, seen, divisor=self.divisor, target=self.target)

    @checked
    def evaluate(
        self,
        data: Split | Task | Path | str,
        split: str | None = None,
        *,
        ignore_unknown: bool = False,
        by_index: bool = False,
        allow_missing: bool = False,
        **settings: Any,
    ) -> "Measured":
        """What `target` measures on labelled images: a split, a task, or a folder or list of images.

        `split` says which of a task or folder: train, val, test, all, or new, which are images that the model has
        not seen; by default the test where there are splits, else everything. Classes are matched by name, and
        what was chosen is told (`labelled.to_measure`). `settings` are device, batch_size, precision, workers.

        Raises:
            ConfigError: no images, or an unknown setting.
            DataError: images or classes that are not there.
        """
        planting.check_pictures(self.backbone)
        wishes = labelled.Wishes(ignore_unknown, by_index, allow_missing)
        images = labelled.to_measure(data, split, self.class_names, self.kept, wishes, self.target.kind)
        chosen = labelled.settings_of(settings)
        chosen |= {"divisor": self.divisor, "target": self.target}
        return loop.evaluate(self.tuned, images, self.preprocessing, **chosen)

    @checked
    def calibrate(self, data: Split | Task | Path | str, split: str | None = None, **settings: Any) -> Temperature:
        """Fit the temperature by which `predict` and `evaluate` divide logits from now on, on images that were
        neither trained on nor are the test: of a task or folder the val by default. `settings` as of `evaluate`.

        Raises:
            ConfigError, DataError: no such images, or no temperature is best.
        """
        self.temperature = calibrating.fitted_on(self, data, split, labelled.settings_of(settings))
        return self.temperature

    def merge(self) -> nn.Module:
        """A plain library model with the same logits, which no temperature divides. Raises NotFoldable."""
        return self.tuned.merge()

    @checked
    def save(
        self,
        folder: Path | str,
        *,
        overwrite: bool = False,
        metrics: Mapping[str, Any] | None = None,
        cost: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the graft (trained values and findings) into a folder that `load` reads back.

        A graft that was saved there before is replaced in one moment, as loops do that save again and again. A run
        of `vitgraft fit` is replaced only by `overwrite`, with its record and all that tells of it.

        Raises:
            ArtefactError: `folder` is a file, holds a run, or a value is not finite.
        """
        home = path_of(folder, "folder")
        check_free_to_save(home, overwrite)
        self.keep(home, metrics=metrics, cost=cost, instead=run_files(home) if overwrite else ())

    def keep(
        self,
        home: Path,
        *,
        metrics: Mapping[str, Any] | None = None,
        cost: Mapping[str, Any] | None = None,
        instead: Sequence[Path] = (),
    ) -> Card:
        """Write the graft into `home`, whatever that holds; `instead` is removed just before. Returns its card."""
        trained = self.tuned.trained_values()
        card = Card(
            method=methods.describe(self.method),
            backbone=identity(self.backbone),
            preprocessing=self.preprocessing.to_json(),
            class_names=self.class_names,
            trained_values={"method": trained.method, "head": trained.head, "found": self.found_values},
            versions=versions(),
            metrics=dict(metrics or {}),
            cost=dict(cost or {}),
            temperature=self.temperature,
            target=self.target.to_json(),
        )
        card = artefact.write(home, card, self.tuned.state_dict(), self.findings, instead)
        put(self.kept, home)
        return card

    def digest(self) -> str:
        """The method's spec and a digest of its findings: what a training that goes on must share."""
        return planting.digest_of(self.method, self.findings)

    @property
    def found_values(self) -> int:
        """How many numbers the findings are: shipped with the trained values, and not trained any more."""
        return sum(value.numel() for value in self.findings.values())


@checked
def graft(
    backbone: str | Backbone | nn.Module,
    method: str | Mapping[str, Any] | Method | PeftConfig = "lora",
    classes: object = 2,
    *,
    preprocessing: Preprocessing | None = None,
    kind: str = CLASSES.kind,
    seed: int = 0,
    data: Split | None = None,
    val: Split | None = None,
    settings: Training | None = None,
    out: Path | str | None = None,
    resume: bool = False,
) -> Model:
    """A model for one task: a method's plan on a frozen backbone.

    `backbone` is a name, a `Backbone` (to share one), or a model object of timm or transformers, which stays as it
    is. `classes` is their number, their names in order, or a mapping between names and numbers from 0, either way
    round. `kind` is that of labels: class, multi (any number of classes a picture), number (`classes` names them
    then). `preprocessing` is the backbone's own unless given. `seed` fixes initial values.

    Some methods look at training data before there is a plan (`head2toe`, `vqt:keep=0.7`, `spt-lora`): they take
    `data`, the training split, and may train on it with `settings`; those that choose (`noah`, or SPT with
    `budget=auto`) do so by their accuracy on `val`. What is read from a file (`spt-lora:mask=FILE`,
    `noah:architecture=FILE`) needs neither. With `out`, what is finished is kept there; `resume` goes on with it.

    Raises:
        BackboneError, CheckpointError: see `load_backbone`.
        ConfigError: an unknown method, a wrong field, fewer than two classes, no data for a method that looks.
        KeyboardInterrupt: a method that looks was stopped.
    """
    if out is not None:
        check_free_to_look(path_of(out, "out"), resume)
    chosen, names = methods.parse(method), planting.class_names(classes, kind)
    whole("seed", seed)
    if chosen.chooses() and data is not None and val is None:
        raise ConfigError(
            f"{methods.spec_of(chosen)} chooses by validation accuracy, and there are no validation images. Give "
            "some (in Python, val=...; on the command line, data with a val, or --val-fraction above 0)."
        )
    frozen = planting.as_backbone(backbone, for_pictures=data is not None)
    pictures = preprocessing or planting.own_preprocessing(frozen)
    pictures = pictures if data is None else adopted(pictures, data.images)
    home = None if out is None else path_of(out, "out")
    looked = finding.Looked(data, val, pictures, settings or Training(), home)
    names, found = finding.found(chosen, frozen, names, looked, seed, resume)
    planned = _planned(frozen, chosen, names, pictures, seed, found.findings, found.seconds)
    return replace(planned, kept=found.kept, target=target_of(kind))


def _planned(
    backbone: Backbone,
    method: Method,
    names: tuple[str, ...],
    preprocessing: Preprocessing,
    seed: int = 0,
    findings: Mapping[str, Tensor] | None = None,
    seconds: float = 0.0,
) -> Model:
    """A model whose method has found what it looks for. Initial values depend on `seed` and the plan alone."""
    found = dict(findings or {})
    tuned = planting.planted(backbone, method, len(names), seed, found)
    return Model(tuned, method, preprocessing, names, found, seconds)


def load(
    folder: Path | str,
    *,
    backbone: Backbone | nn.Module | None = None,
    checkpoint: Path | str | None = None,
    force: bool = False,
) -> Model:
    """A saved graft on its backbone, which is made again from its name and weights unless given; in eval mode.

    `checkpoint` says where the file of its weights is, if it is neither where it was nor beside the run.

    Raises:
        ArtefactError: a damaged graft, files of two grafts, or weights that are not found; with `force` not for
            values that are not finite, or a backbone with other weights than the graft was trained on.
        BackboneError, CheckpointError: see `load_backbone`.
    """
    home = path_of(folder, "folder")
    file = None if checkpoint is None else path_of(checkpoint, "checkpoint")
    force = converted("force", force, bool)
    if file is not None and backbone is not None:
        raise ConfigError("Give a backbone or a checkpoint to make one from, not both.")
    card, state, findings = artefact.read(home, force)
    frozen = rebuilt(card.backbone, home, file, force) if backbone is None else planting.as_backbone(backbone)
    if not force and (wrong := differs(card.backbone, home, frozen)):
        raise wrong
    method = methods.parse_saved(card.method)
    check_findings(home, method, findings)
    pictures = Preprocessing.from_json(card.preprocessing)
    try:
        model = _planned(frozen, method, card.class_names, pictures, findings=findings)
    except (LookupError, ArithmeticError, RuntimeError, MemoryError, TypeError, ValueError) as error:
        raise misfit(home, method, findings, frozen, error) from error
    artefact.fill(model.tuned, state, home)
    model.tuned.eval()
    model.kept, model.temperature = labelled.kept_in(home), card.temperature
    model.target = from_json(card.target)
    return model
