"""How training goes, as data: the schema of command line and configuration file. It imports no torch."""

import math
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from vitgraft.errors import ConfigError

DEVICES = re.compile(r"auto|cpu|mps|(cuda|xpu)(:\d+)?")


def _key(default: Any, help: str) -> Any:
    """A field with its default and its help text, which the command line shows."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Training:
    """Every choice of a training run that is no choice of method, data or backbone.

    Each field's `metadata["help"]` says what it is.

    Raises:
        ConfigError: a value of the wrong kind or outside its range.
    """

    epochs: int = _key(30, "passes over the training images")
    batch_size: int = _key(64, "images a step of the optimizer, over all micro-batches and processes")
    lr: float | None = _key(None, "peak learning rate; none: the method's own")
    weight_decay: float | None = _key(None, "AdamW's decay of matrices; none: the method's own")
    warmup_epochs: float | None = _key(None, "epochs of linear warm-up; none: a tenth of all")
    min_lr: float = _key(0.0, "learning rate at the end of the cosine")
    label_smoothing: float = _key(0.0, "probability spread over all classes, 0 to below 1")
    class_weights: Literal["none", "balanced"] = _key(
        "none", "balanced: every class weighs the same, however many images it has"
    )
    clip_norm: float | None = _key(None, "largest norm of the gradient; none: unlimited")
    accumulate: int = _key(1, "micro-batches a step is computed in: less memory, the same result")
    precision: Literal["fp32", "bf16"] = _key("fp32", "bf16: autocast; trained values stay fp32")
    seed: int = _key(0, "of the order of images, augmentation and dropout")
    checkpoint: Literal["none", "mlp", "block"] = _key(
        "none", "what runs twice instead of being kept: nothing, each block's mlp, each block"
    )
    patience: int | None = _key(None, "stop after so many epochs without a better validation; none: never")
    select: Literal["last", "best"] = _key("last", "the epoch whose values are kept; best is chosen on validation")
    augment: str = _key("none", "what training does to pictures")
    workers: int = _key(0, "processes that decode pictures; 0: none but this one")
    device: str = _key("auto", "auto, cpu, cuda, cuda:1, mps")
    eval_batch_size: int = _key(128, "images at a time in validation")
    cache: Literal["auto", "ram", "disk", "off"] = _key(
        "auto",
        "where the frozen part, computed once, is kept; auto: on disk where there is room",
    )
    cache_precision: Literal["fp16", "fp32"] = _key("fp16", "what cached features are stored in")
    cache_limit: float = _key(20.0, "GiB that all cached features on disk may take together")
    views: int = _key(0, "views of an image to cache under a random augmentation; 0: each epoch shows another")
    snapshot_seconds: float = _key(30.0, "at most so long between resumable snapshots; 0: one a step")

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "eval_batch_size"):
            self._whole(name, 1)
        for name in ("seed", "workers", "views"):
            self._whole(name, 0)
        self._number("lr", above=0, optional=True)
        self._number("weight_decay", least=0, optional=True)
        self._number("warmup_epochs", least=0, optional=True)
        self._number("min_lr", least=0)
        self._number("label_smoothing", least=0, below=1)
        self._number("clip_norm", above=0, optional=True)
        self._number("snapshot_seconds", least=0)
        self._number("cache_limit", least=0)
        if self.patience is not None:
            self._whole("patience", 1)
        self._one_of("class_weights", ("none", "balanced"))
        self._one_of("precision", ("fp32", "bf16"))
        self._one_of("select", ("last", "best"))
        self._one_of("checkpoint", ("none", "mlp", "block"))
        self._one_of("cache", ("auto", "ram", "disk", "off"))
        self._one_of("cache_precision", ("fp16", "fp32"))
        self._check_together()

    @property
    def warmup(self) -> float:
        """Epochs of warm-up, resolved."""
        return self.epochs / 10 if self.warmup_epochs is None else self.warmup_epochs

    def _check_together(self) -> None:
        """Values that must fit each other, or something outside."""
        if self.warmup >= self.epochs:
            raise ConfigError(
                f"warmup_epochs={self.warmup_epochs} leaves none of {self.epochs} epochs at the full learning "
                "rate. Warm up for fewer epochs, or train longer."
            )
        if self.lr is not None and self.min_lr > self.lr:
            raise ConfigError(f"min_lr={self.min_lr} is above lr={self.lr}. The rate falls from lr to min_lr.")
        if self.accumulate > self.batch_size:
            raise ConfigError(
                f"accumulate={self.accumulate} cuts {self.batch_size} images (batch_size) into more parts than "
                "there are. Use fewer, or a larger batch."
            )
        if not isinstance(self.device, str) or not DEVICES.fullmatch(self.device):
            raise ConfigError(
                f"device={self.device!r} is not known. Use auto, cpu, cuda, cuda:1 (a number) or mps."
            )
        if self.augment != "none":
            from vitgraft.data.augment import augmentation

            augmentation(self.augment)

    def _whole(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigError(f"{name}={value!r}: expected a whole number of at least {least}.")

    def _number(
        self,
        name: str,
        *,
        least: float = -math.inf,
        above: float = -math.inf,
        below: float = math.inf,
        optional: bool = False,
    ) -> None:
        value = getattr(self, name)
        if value is None and optional:
            return
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not (value >= least and above < value < below):
            bounds = [f"at least {least}"] if least > -math.inf else [f"above {above}"]
            bounds += [f"below {below}"] if below < math.inf else []
            raise ConfigError(f"{name}={value!r}: expected a number {' and '.join(bounds)}.")

    def _one_of(self, name: str, known: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value not in known:
            raise ConfigError(f"{name}={value!r} is not known. Known: {', '.join(known)}.")
