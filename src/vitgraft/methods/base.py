"""What every method is: fields, a plan, a parameter formula, and a few words about itself."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from vitgraft.errors import ConfigError

if TYPE_CHECKING:
    from vitgraft.core.backbone import Backbone
    from vitgraft.core.plan import Plan
    from vitgraft.core.shape import Shape


@dataclass(frozen=True)
class Recipe:
    """Where training starts if the user says nothing: AdamW's learning rate (batch 64) and weight decay."""

    lr: float = 1e-3
    weight_decay: float = 1e-4


@dataclass(frozen=True)
class Method(ABC):
    """A way of fine-tuning. Its fields are the keys of the command line and of the configuration file.

    `trains` and `where` are for people; `merges` says that a plain model with the same logits exists, `fresh`
    that an untrained plan leaves the features unchanged, and `crosses` how far gradients run through the
    backbone. The conformance suite holds every one of these claims against the code.
    """

    name: ClassVar[str]
    trains: ClassVar[str]
    where: ClassVar[str]
    source: ClassVar[str]
    merges: ClassVar[bool]
    fresh: ClassVar[bool] = True
    crosses: ClassVar[Literal["all blocks", "last blocks", "no block"]] = "all blocks"
    recipe: ClassVar[Recipe] = Recipe()

    @abstractmethod
    def plan(self, backbone: "Backbone", classes: int, calibration: Any = None) -> "Plan":
        """The plan for one backbone and C = `classes`. `calibration` is for methods that look at data first.

        Raises:
            ConfigError: a field that does not fit this backbone.
        """

    @abstractmethod
    def formula(self, shape: "Shape") -> int:
        """How many values the method trains, classifier excluded, by the paper's arithmetic."""


def positive(method: Method, **values: float) -> None:
    """Raise ConfigError unless every value is above zero."""
    for key, value in values.items():
        if not value > 0:
            raise ConfigError(f"{method.name}: {key}={value} must be above zero.")


def probability(method: Method, **values: float) -> None:
    """Raise ConfigError unless every value is in [0, 1)."""
    for key, value in values.items():
        if not 0 <= value < 1:
            raise ConfigError(f"{method.name}: {key}={value} must be at least 0 and below 1.")


def one_of(method: Method, key: str, value: str, known: tuple[str, ...]) -> None:
    """Raise ConfigError unless `value` is among `known`."""
    if value not in known:
        raise ConfigError(f"{method.name}: {key}={value!r} is not known. Known: {', '.join(known)}.")
