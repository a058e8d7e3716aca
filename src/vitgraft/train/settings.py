"""How training goes, as data: the schema of command line and configuration file. It imports no torch."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from vitgraft.errors import ConfigError, unknown
from vitgraft.features.caching import Caching
from vitgraft.kinds import check_fields, checked, finite, shown, whole
from vitgraft.machine.memory import bytes_of

DEVICES = re.compile(r"auto|cpu|mps|(cuda|xpu)(:\d+)?")
PUBLISHED = "As published elsewhere"
"""Where help lists what other protocols than ours need; see `vitgraft.runs.protocols`."""


def _key(default: Any, help: str, panel: str | None = None) -> Any:
    """A field with its default, its help text and where the command line lists it."""
    return field(default=default, metadata={"help": help} | ({} if panel is None else {"panel": panel}))


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
    weight_decay: float | None = _key(None, "decay of the optimizer; none: the method's own")
    warmup_epochs: float | None = _key(None, "epochs of linear warm-up; none: a tenth of all")
    min_lr: float = _key(0.0, "learning rate at the end of the cosine")
    label_smoothing: float = _key(0.0, "probability spread over all classes, 0 to below 1")
    class_weights: Literal["none", "balanced"] = _key(
        "none", "balanced: every class weighs the same, however many images it has"
    )
    regression_loss: Literal["huber", "l2"] = _key(
        "huber",
        "of labels that are numbers: l2, the square; huber: not beyond one deviation, where it is a line",
    )
    clip_norm: float | None = _key(None, "largest norm of the gradient; none: unlimited")
    accumulate: int = _key(1, "micro-batches a step is computed in: less memory, the same result")
    memory: str | None = _key(
        None,
        "the most that this process may hold, such as 4GiB (of an accelerator, if it trains on one): chooses "
        "micro-batches and what is computed twice; none: no limit",
    )
    precision: Literal["fp32", "bf16"] = _key(
        "fp32", "bf16: autocast, where the device has bf16 arithmetic; trained values stay fp32"
    )
    seed: int = _key(0, "of the order of images, augmentation and dropout")
    recompute: Literal["none", "mlp", "block"] = _key(
        "none", "what runs twice instead of being kept: nothing, each block's mlp, each block"
    )
    patience: int | None = _key(None, "stop after so many epochs without a better validation; none: never")
    select: Literal["last", "best"] = _key("last", "the epoch whose values are kept; best is chosen on validation")
    augment: str = _key("none", "what training does to pictures")
    workers: int = _key(0, "processes that decode pictures; 0: none but this one")
    device: str = _key("auto", "auto, cpu, cuda, cuda:1 (a number), mps, xpu")
    eval_batch_size: int = _key(128, "images at a time in validation")
    cache: Literal["auto", "ram", "disk", "off"] = _key(
        "auto",
        "where the frozen part, computed once, is kept; auto: on disk where there is room",
    )
    cache_precision: Literal["fp16", "fp32"] = _key("fp16", "what cached features are stored in")
    cache_limit: float = _key(20.0, "GiB that all cached features on disk may take together")
    views: int = _key(0, "views of an image to cache under a random augmentation; 0: each epoch shows another")
    snapshot_seconds: float = _key(30.0, "at most so long between resumable snapshots; 0: one a step")
    optimizer: Literal["adamw", "adam", "sgd"] = _key(
        "adamw", "adam: decay is part of its gradient; sgd: with momentum", PUBLISHED
    )
    momentum: float = _key(0.9, "of sgd", PUBLISHED)
    decay: Literal["matrices", "timm", "all"] = _key(
        "matrices", "what weight decay acts on; timm: matrices, but not the class token", PUBLISHED
    )
    lr_changes: Literal["step", "epoch"] = _key("step", "how often the learning rate changes", PUBLISHED)
    warmup_lr: float | None = _key(
        None, "learning rate of the first step; none: a part of lr, so that none is wasted", PUBLISHED
    )
    cosine: Literal["after-warmup", "whole-run"] = _key(
        "after-warmup", "where the cosine begins; whole-run: it has fallen when warm-up ends", PUBLISHED
    )
    lag_epochs: int = _key(0, "epochs at the first learning rate before the schedule begins", PUBLISHED)
    head_init: Literal["normal", "kaiming", "uniform"] = _key(
        "normal", "the classifier's first values; kaiming: VPT's, its bias -ln 99; uniform: torch's", PUBLISHED
    )
    legacy_init: bool = _key(
        False, "LoRA and adapters begin as noise, as in NOAH's and SPT's code, not as zero", PUBLISHED
    )
    legacy_test: bool = _key(
        False, "measure epochs on test, too; the best is recorded apart, for papers that chose by it", PUBLISHED
    )
    legacy_epochs: Literal["every", "noah", "spt", "synqt"] = _key(
        "every",
        "which ones; noah: 1, 11, .. and the last; spt: these and the last ten; synqt: 10, 20, ..",
        PUBLISHED,
    )

    def __new__(cls, *args: Any, **values: Any) -> Self:
        for name in values:
            _check_renamed(name)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for name, options in _options().items():
            self._one_of(name, options)
        for name in ("epochs", "batch_size", "accumulate", "eval_batch_size"):
            whole(name, getattr(self, name), 1)
        for name in ("seed", "workers", "views", "lag_epochs"):
            whole(name, getattr(self, name))
        self._number("lr", above=0, optional=True)
        self._number("weight_decay", least=0, optional=True)
        self._number("warmup_epochs", least=0, optional=True)
        self._number("min_lr", least=0)
        self._number("warmup_lr", least=0, optional=True)
        self._number("momentum", least=0, below=1)
        self._number("label_smoothing", least=0, below=1)
        self._number("clip_norm", above=0, optional=True)
        self._number("snapshot_seconds", least=0)
        self._number("cache_limit", least=0)
        if self.patience is not None:
            whole("patience", self.patience, 1)
        check_fields(self)
        if self.memory is not None:
            bytes_of(self.memory)
        self._check_together()

    @checked
    def changed(self, values: Mapping[str, Any]) -> "Training":
        """The same settings with other values. Raises ConfigError for an unknown one, or a wrong value."""
        known = [item.name for item in fields(self)]
        for name in values:
            _check_renamed(name)
            if name not in known:
                raise ConfigError(unknown("training setting", name, known))
        return replace(self, **values)

    @property
    def warmup(self) -> float:
        """Epochs of warm-up, resolved."""
        return self.epochs / 10 if self.warmup_epochs is None else self.warmup_epochs

    def caching(self) -> Caching:
        """What of these a cache of the frozen part must know."""
        limit = round(self.cache_limit * 2**30)
        return Caching(self.cache, limit, self.precision, self.cache_precision, min(self.views, self.epochs))

    def _check_together(self) -> None:
        """Values that must fit each other, or something outside."""
        if self.warmup >= self.epochs:
            raise ConfigError(
                f"warmup_epochs={self.warmup_epochs:g} leaves none of {self.epochs} epochs at the full learning "
                "rate. Warm up for fewer epochs, or train longer."
            )
        if self.lr is not None and self.min_lr > self.lr:
            raise ConfigError(f"min_lr={self.min_lr} is above lr={self.lr}. The rate falls from lr to min_lr.")
        if self.lr is not None and self.warmup_lr is not None and self.warmup_lr > self.lr:
            raise ConfigError(f"warmup_lr={self.warmup_lr} is above lr={self.lr}. Warm-up rises to lr.")
        if self.lag_epochs >= self.epochs:
            raise ConfigError(f"lag_epochs={self.lag_epochs} leaves none of {self.epochs} epochs to the schedule.")
        if self.accumulate > self.batch_size:
            raise ConfigError(
                f"accumulate={self.accumulate} cuts {self.batch_size} images (batch_size) into more parts than "
                "there are. Use fewer, or a larger batch."
            )
        check_device(self.device)
        if self.augment != "none":
            from vitgraft.data.augment import augmentation

            augmentation(self.augment)

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
        if not finite(value) or not (value >= least and above < value < below):
            bounds = [f"at least {least}"] if least > -math.inf else [f"above {above}"]
            bounds += [f"below {below}"] if below < math.inf else []
            raise ConfigError(f"{name}={shown(value)}: expected a number {' and '.join(bounds)}.")

    def _one_of(self, name: str, known: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if not isinstance(value, str) or value not in known:
            raise ConfigError(f"{name}={shown(value)} is not known. Known: {', '.join(known)}.")


ADDED = {"regression_loss": "huber"}
"""Settings that came later, and what was done before there was a choice."""

RENAMED = {"checkpoint": "recompute"}
"""Settings that once had another name."""


def as_now(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings among the values that an earlier version has kept, under the names that they have now, and those
    that it did not know."""
    old = {name for name in RENAMED if name in values and RENAMED[name] not in values}
    return {**ADDED, **{RENAMED[name] if name in old else name: value for name, value in values.items()}}


def _check_renamed(name: str) -> None:
    if name in RENAMED:
        raise ConfigError(f"The training setting {name!r} is now called {RENAMED[name]!r}: give it that name.")


def check_device(name: object) -> None:
    """Raise ConfigError for what is no device's name; whether it is there, only torch can say."""
    if not isinstance(name, str) or not DEVICES.fullmatch(name):
        raise ConfigError(f"device={name!r} is not known. Use auto, cpu, cuda, cuda:1 (a number), mps or xpu.")


@cache
def _options() -> dict[str, tuple[Any, ...]]:
    """What may be said of each setting that has a few words to choose from."""
    hints = get_type_hints(Training)
    return {name: get_args(hint) for name, hint in hints.items() if get_origin(hint) is Literal}
