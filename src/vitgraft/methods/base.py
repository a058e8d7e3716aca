"""What every method is: fields, a plan, a parameter formula, and a few words about itself."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from vitgraft.errors import ConfigError
from vitgraft.kinds import check_fields, finite

if TYPE_CHECKING:
    from torch import Tensor

    from vitgraft.core.backbone import Backbone
    from vitgraft.core.plan import Plan
    from vitgraft.core.shape import Shape
    from vitgraft.core.tuned import Tuned
    from vitgraft.grafts.elastic import Supernet
    from vitgraft.search.evolution import Candidate, Evolution, Score


@runtime_checkable
class PeftConfig(Protocol):
    """A configuration of Hugging Face's PEFT."""

    peft_type: Any

    def to_dict(self) -> dict[str, Any]: ...


Findings = Mapping[str, "Tensor"]
"""What a method found in training data, by name: saved with a graft, since its plan cannot be made without."""


@dataclass(frozen=True)
class Recipe:
    """Where training starts if the user says nothing: AdamW's learning rate (batch 64) and weight decay."""

    lr: float = 1e-3
    weight_decay: float = 1e-4


class Calibration(Protocol):
    """What a method may do with data before it is planned: train on the training split, choose on the validation
    split. The test split is out of its reach.
    """

    def fit(self, name: str, plan: "Plan", recipe: Recipe, rate: float = 1.0, longer: int = 1) -> "Tuned":
        """Train a plan with the run's own settings, at `rate` times its learning rate; returned in eval mode.

        It takes `longer` times the run's epochs. `name` is the stage's own, so that a run that was killed goes on
        in the stage that it had reached.
        """

    def once(self, name: str, make: "Callable[[], dict[str, Tensor]]") -> "dict[str, Tensor]":
        """What `make` returns; a run that goes on has what it returned then. `name` is the stage's own."""

    def score(self, model: "Tuned") -> "Score":
        """How good a model is on the validation images: top-1 in percent, and the loss below zero.

        Raises:
            ConfigError: there are no validation images.
        """

    def search(
        self,
        name: str,
        model: "Tuned",
        net: "Supernet",
        evolution: "Evolution",
        allowed: "Callable[[Candidate], bool]",
    ) -> "Candidate":
        """The allowed candidate of a trained supernet with the best `score`, found by evolution.

        `name` is the stage's own; a run that was killed goes on with the generation that it was in.
        """

    def squared_gradients(
        self, model: "Tuned", limit: int, batch: int = 1, drop_path: float = 0.0
    ) -> "dict[str, Tensor]":
        """For each parameter of the backbone, by name: squared gradients of the mean loss of a batch, summed.

        The images are `limit` of the training images, or all if there are fewer; the labels are the true ones.
        Blocks are left out at a rate that rises to `drop_path`.
        """


NO_DATA = (
    "{} looks at training data before the model is built, and there are none. Pass them: "
    'vitgraft.graft(..., data=task.splits["train"]).'
)


class NoData:
    """A calibration without images: it can only be asked to keep something."""

    def __init__(self, method: "Method") -> None:
        self.method = method

    def once(self, name: str, make: "Callable[[], dict[str, Tensor]]") -> "dict[str, Tensor]":
        return make()

    def fit(self, *_: object, **__: object) -> "Tuned":
        raise self._none()

    def score(self, *_: object) -> "Score":
        raise self._none()

    def search(self, *_: object) -> "Candidate":
        raise self._none()

    def squared_gradients(self, *_: object, **__: object) -> "dict[str, Tensor]":
        raise self._none()

    def _none(self) -> ConfigError:
        from vitgraft.methods.registry import spec_of

        return ConfigError(NO_DATA.format(spec_of(self.method)))


@dataclass(frozen=True)
class Method(ABC):
    """A way of fine-tuning. Its fields are the keys of the command line and of the configuration file.

    `trains` and `where` are for people; `merges` says that a plain model with the same logits exists, `fresh`
    that an untrained plan leaves the features unchanged, `crosses` how far gradients run through the backbone,
    `counts` whether the formula is what is trained or a limit to it, `stacks` that models which differ by their
    optimizers alone can train at once. The conformance suite holds every one of these claims against the code.

    `whole` names the one field that all behind the colon is, in a method that is nothing without it: such a
    method is in no listing of those that can be used as they are.

    `before` has the values of fields for grafts that were saved before there were such fields. `leaves` names the
    files that `files` gives.

    `revision` goes up when a change of the code changes what the method's runs come to: records of runs before it
    are then of another run, and suites do it anew.
    """

    name: ClassVar[str]
    trains: ClassVar[str]
    where: ClassVar[str]
    source: ClassVar[str]
    merges: ClassVar[bool]
    fresh: ClassVar[bool] = True
    crosses: ClassVar[Literal["all blocks", "last blocks", "no block"]] = "all blocks"
    counts: ClassVar[Literal["exactly", "at most"]] = "exactly"
    stacks: ClassVar[bool] = False
    whole: ClassVar[str | None] = None
    before: ClassVar[Mapping[str, Any]] = {}
    leaves: ClassVar[tuple[str, ...]] = ()
    revision: ClassVar[int] = 1
    recipe: ClassVar[Recipe] = Recipe()

    def __post_init__(self) -> None:
        check_fields(self, f"{self.name}: ")

    def looks(self) -> bool:
        """True if training data must be looked at before there can be a plan."""
        return False

    def chooses(self) -> bool:
        """True if something is chosen by accuracy on validation images, which it then cannot do without."""
        return False

    def idle(self) -> Mapping[str, str]:
        """Fields that do nothing beside others, and which others: nobody fills these in, or may give them."""
        return {}

    def find(self, backbone: "Backbone", classes: int, calibration: Calibration) -> "dict[str, Tensor]":
        """What `plan` needs to know of the training data; asked only of a method that `looks`.

        Raises:
            ConfigError: a field that does not fit this backbone.
        """
        return {}

    def told(self, backbone: "Backbone", findings: Findings) -> list[str]:
        """Lines for a person on what was found, if there is anything to tell."""
        return []

    def files(self, backbone: "Backbone", findings: Findings) -> dict[str, str]:
        """Text files by name that tell what was found, to lie in a run's folder."""
        return {}

    @abstractmethod
    def plan(self, backbone: "Backbone", classes: int, findings: Findings | None = None) -> "Plan":
        """The plan for one backbone and C = `classes`, with nothing left open but initial values.

        `findings` are what `find` returned; methods that do not look need none.

        Raises:
            ConfigError: a field that does not fit this backbone, or no findings where they are needed.
        """

    @abstractmethod
    def formula(self, shape: "Shape") -> int:
        """How many values the plan trains, classifier excluded, by the paper's arithmetic.

        What an earlier stage trained and the plan holds fixed is no part of it.
        """


AMOUNT = re.compile(r"(\d+(?:\.\d*)?)\s*([kM]?)")


def amount(text: int | str) -> int:
    """A number of values: 400000, 400k or 0.4M. Raises ConfigError."""
    match = AMOUNT.fullmatch(str(text).strip())
    if match is None:
        raise ConfigError(f"{str(text)!r} is no number of values. Write 400000, 400k or 0.4M.")
    return round(float(match[1]) * {"": 1, "k": 1_000, "M": 1_000_000}[match[2]])


def positive(method: Method, **values: float) -> None:
    """Raise ConfigError unless every value is a number above zero."""
    _hold(method, values, lambda value: value > 0, "above zero")


def not_negative(method: Method, **values: float) -> None:
    """Raise ConfigError unless every value is a number, and not below zero."""
    _hold(method, values, lambda value: value >= 0, "at least 0")


def probability(method: Method, **values: float) -> None:
    """Raise ConfigError unless every value is in [0, 1)."""
    _hold(method, values, lambda value: 0 <= value < 1, "at least 0 and below 1")


def share(method: Method, **values: float) -> None:
    """Raise ConfigError unless every value is above 0 and at most 1."""
    _hold(method, values, lambda value: 0 < value <= 1, "above 0 and at most 1")


def _hold(method: Method, values: Mapping[str, float], holds: Callable[[float], bool], wanted: str) -> None:
    for key, value in values.items():
        if not finite(value) or not holds(value):
            raise ConfigError(f"{method.name}: {key}={value!r} must be {wanted}.")


def in_one_sequence(method: Method, backbone: "Backbone") -> None:
    """Raise ConfigError if a backbone's blocks see windows of tokens, and the method adds what would see all."""
    if not backbone.view.one_sequence:
        raise ConfigError(
            f"{method.name} adds prompts, queries or a network beside all blocks, and {backbone.name} sees its "
            "tokens by windows and merges them on the way, with other widths a stage. Take a method that edits or "
            "trains blocks, such as lora, adapter, ssf or spt-lora, or one that reads them: linear, mlp, head2toe."
        )


def one_of(method: Method, key: str, value: str, known: tuple[str, ...]) -> None:
    """Raise ConfigError unless `value` is among `known`."""
    if value not in known:
        raise ConfigError(f"{method.name}: {key}={value!r} is not known. Known: {', '.join(known)}.")


def check_idle(method: Method, idle: Mapping[str, str] | None = None) -> None:
    """Raise ConfigError if a field was given that does nothing beside others: the method's own, or these."""
    own = {item.name: item.default for item in fields(method)}
    reasons = method.idle() if idle is None else idle
    given = {key: beside for key, beside in reasons.items() if getattr(method, key) != own[key]}
    if given:
        told = ", ".join(f"{key}={getattr(method, key)}" for key in given)
        beside = " and ".join(dict.fromkeys(given.values()))
        raise ConfigError(f"{method.name}: {told} would do nothing beside {beside}. Leave out one or the other.")


def needed(method: Method, findings: Findings | None, why: str) -> Findings:
    """`findings`, which a method needs because of `why`, such as keep=0.7. Raises ConfigError without them."""
    if not findings:
        raise ConfigError(NO_DATA.format(f"{method.name}: {why}"))
    return findings
