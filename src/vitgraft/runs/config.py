"""A run as one flat table of keys: the fields of `RunConfig`, the keys of a TOML file, the options of `fit`.

All three are made from the same dataclasses, `RunConfig` and the trainer's `Training`, so they cannot drift.
"""

import dataclasses
import json
import os
import tomllib
import types
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import MISSING, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self, Union, get_args, get_origin, get_type_hints

from vitgraft import methods
from vitgraft.backbones import catalogue
from vitgraft.data.benchmarks.names import RETRAIN, mentioned
from vitgraft.errors import ConfigError, unknown
from vitgraft.results.store import slug
from vitgraft.runs import protocols
from vitgraft.train.settings import Training

NONE = "none"
"""How a file or a command line says that a value is absent, where that is not the default."""

DATA = "Data"
"""Where help lists the keys that say which images are meant, and how they are split."""

KEPT = "run.toml"
"""The name of a run's configuration in its folder."""


def _key(help: str, panel: str, default: Any = MISSING) -> Any:
    return field(default=default, metadata={"help": help, "panel": panel})


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run. `training` stands for its own fields, which are keys beside these.

    The protocol fills keys in `of`; here it is a name, and `method` tells the fields that it filled, too. A
    benchmark's task has one spelling in `data`, and a backbone one in `backbone` and `image_size`.

    Raises:
        ConfigError: an unknown protocol or method, or a field of it that is unknown or wrong.
    """

    data: str = _key("a built-in task, an image folder, a CSV file, a list, vtab1k:NAME or fgvc:NAME", DATA)
    root: str | None = _key("folder of a benchmark's copy, or of a list's paths; none: the list's own", DATA, None)
    train_on: Literal["train", "trainval"] = _key("trainval: train and val together, no val", DATA, "train")
    val_fraction: float = _key("share of train that becomes val where data has none", DATA, 0.15)
    test_fraction: float = _key("share of train that becomes test where data has neither", DATA, 0.15)
    split_seed: int = _key("which images those shares take", DATA, 0)
    skip_unreadable: bool = _key("leave out images that cannot be read, and list them", DATA, False)
    method: str = _key("perhaps with fields, as lora:rank=8,places=qv; see vitgraft methods", "Model", "lora")
    backbone: str = _key("figures (built in), dinov2-s, ..., or timm's: vitgraft backbones", "Model", "figures")
    checkpoint: str | None = _key("weights in a local .safetensors, .pth or .npz file", "Model", None)
    image_size: int | None = _key("pixels a side; none: the backbone's own", "Model", None)
    global_pool: str | None = _key("timm's pooling, such as avg; none: the backbone's own", "Model", None)
    preprocessing: str = _key("the backbone's own (pretrained), or a preset: vtab, fgvc", "Model", "pretrained")
    out: str | None = _key("the run's folder; none: runs/<task>-<method>-<backbone>", "Output", None)
    records: str | None = _key("a folder that collects the records of many runs", "Output", None)
    protocol: str = _key(
        f"whose choices are the defaults, ours or a paper's: {', '.join(protocols.names())}",
        "Training",
        protocols.OURS,
    )
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        mention = mentioned(self.data)
        object.__setattr__(self, "data", self.data if mention is None else mention.name)
        method = methods.parse(self.method)
        filled = protocols.named(self.protocol).fields(method.name, self.data)
        object.__setattr__(self, "method", protocols.spelled(method, filled))
        name, size = catalogue.spelled_out(self.backbone, self.image_size)
        object.__setattr__(self, "backbone", name)
        object.__setattr__(self, "image_size", size)

    def check_choosing(self) -> None:
        """Raise ConfigError if something is to be chosen on a val that is trained on."""
        choosing = {"select=best": self.training.select == "best", "patience": self.training.patience is not None}
        choosing[self.method] = methods.parse(self.method).chooses()
        for what, chosen in choosing.items():
            if chosen and self.retrains:
                raise ConfigError(
                    f"{what} chooses on validation images, and there are none where train and val are trained on "
                    "together (trainval). Train on train alone (train_on = train), or leave it out."
                )

    @property
    def retrains(self) -> bool:
        """True if train and val are trained on together, whichever of the two keys says so."""
        mention = mentioned(self.data)
        return self.train_on == RETRAIN or (mention is not None and mention.retrain)

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Self:
        """From keys and values, as a TOML file or a command line gives them; the protocol gives what they do not.

        Raises:
            ConfigError: no data, an unknown key (with the nearest), or a value of the wrong type or range.
        """
        known, checked = keys(), _all_checked(values)
        if not checked.get("data"):
            raise ConfigError("No data were named. Give a built-in task, an image folder, a CSV file or a list.")
        if checked.get("image_size", 0) is None:  # said to be none: also of a short name, which has one of its own
            checked["image_size"] = catalogue.own_size(checked.get("backbone", ""))
        chosen = {name: known[name].default for name in ("protocol", "method")} | checked
        checked = _all_checked(protocols.completed(chosen))
        training = {name: checked.pop(name) for name in _training_keys() if name in checked}
        return cls(training=Training(**training), **checked)

    @property
    def folder(self) -> Path:
        """Where the run is written."""
        if self.out is not None:
            return Path(self.out)
        words = (Path(os.path.normpath(self.data)).name, methods.parse(self.method).name, self.backbone)
        return Path("runs") / "-".join(filter(None, map(slug, words)))

    def table(self) -> dict[str, Any]:
        """Every key with its resolved value; `of` reads it back as the same run."""
        derived = self._derived()
        return {name: derived.get(name) if value is None else value for name, value in self.given().items()}

    def given(self) -> dict[str, Any]:
        """Every key with its value, None where it is left open."""
        own = {item.name: getattr(self, item.name) for item in dataclasses.fields(self) if item.name != "training"}
        return {**own, **{name: getattr(self.training, name) for name in _training_keys()}}

    def _derived(self) -> dict[str, Any]:
        """Values of keys that may be left open, but for those that only the backbone knows."""
        recipe = methods.parse(self.method).recipe
        return {
            "out": str(self.folder),
            "lr": recipe.lr,
            "weight_decay": recipe.weight_decay,
            "warmup_epochs": self.training.warmup,
        }

    @property
    def kept(self) -> Path:
        """Where the run keeps its own configuration."""
        return self.folder / KEPT

    def toml(self) -> str:
        """The run as a TOML file that explains itself; `read_toml` reads it back.

        A key that is left open stands in a comment, with the value that follows from the others if there is one;
        where the protocol has a value of its own, it is said to be none.
        """
        given, panel = self.given(), ""
        published = protocols.completed({name: given[name] for name in ("data", "method", "protocol")})
        lines: list[str] = []
        for name, key in keys().items():
            if key.panel != panel:
                panel = key.panel
                lines += ["", f"# {panel}"] if lines else [f"# {panel}"]
            value = given[name]
            if value is None and published.get(name) is not None:
                entry = f"{name} = {_toml(NONE)}"
            elif value is None:
                derived = self._derived().get(name)
                entry = f"# {name} = {_toml(NONE if derived is None else derived)}"
            else:
                entry = f"{name} = {_toml(value)}"
            lines.append(f"{entry}  # {key.help}")
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Key:
    """One key of a run: its type, its default (MISSING: it has none), what it means, where help lists it."""

    name: str
    hint: Any
    default: Any
    help: str
    panel: str

    @property
    def kinds(self) -> tuple[Any, ...]:
        """The types that its hint allows, None among them where it does."""
        if get_origin(self.hint) in (Union, types.UnionType):
            return get_args(self.hint)
        return (self.hint,)

    @property
    def wanted(self) -> str:
        """The types in words."""
        return " or ".join(_word(kind) for kind in self.kinds)


@cache
def keys() -> dict[str, Key]:
    """Every key of a run, in the order in which help and files list them."""
    found = _keys_of(RunConfig, "Run")
    inner = _keys_of(Training, "Training")
    assert not found.keys() & inner.keys(), f"RunConfig and Training share keys: {found.keys() & inner.keys()}"
    return {**found, **inner}


def _keys_of(kind: Any, panel: str) -> dict[str, Key]:
    """The keys of a dataclass: its fields, but for `training`, which stands for its own."""
    hints = get_type_hints(kind)
    return {
        item.name: Key(
            item.name,
            hints[item.name],
            item.default,
            item.metadata.get("help", ""),
            item.metadata.get("panel", panel),
        )
        for item in dataclasses.fields(kind)
        if item.name != "training"
    }


def _training_keys() -> tuple[str, ...]:
    """The keys that are Training's."""
    return tuple(item.name for item in dataclasses.fields(Training))


def _all_checked(values: Mapping[str, object]) -> dict[str, Any]:
    """Keys and values as their types. Raises ConfigError."""
    known = keys()
    for name in values:
        if name not in known:
            raise ConfigError(unknown("option", name, known))
    return {name: _checked(known[name], value) for name, value in values.items()}


def read_toml(path: Path) -> dict[str, Any]:
    """The keys and values of a configuration file; a method may be a table with `name` and its fields.

    Raises:
        ConfigError: a file that is missing or no TOML, or an unknown key (with the nearest).
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Cannot read configuration '{path}': {error.strerror}. Check the path.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"Configuration '{path}' is no TOML: {error}.") from None
    for name, value in values.items():
        if name not in keys():
            flat = " Keys stand at the top of the file, under no [table]." if isinstance(value, dict) else ""
            raise ConfigError(f"{path}: {unknown('option', name, keys())}{flat}")
    if isinstance(values.get("method"), dict):
        table = values["method"]
        values["method"] = protocols.spelled(methods.parse(table), (name for name in table if name != "name"))
    return values


def from_text(name: str, text: str) -> Any:
    """The value of a key as a command line writes it.

    Raises:
        ConfigError: text that is no value of the key's type.
    """
    key = keys()[name]
    if text.lower() == NONE and type(None) in key.kinds:
        return None
    if bool in key.kinds and text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in key.kinds:
        if kind in (int, float):
            with suppress(ValueError):
                return kind(text)
    return _checked(key, text)


def _checked(key: Key, value: object) -> Any:
    """`value` as the key's type. Raises ConfigError."""
    if isinstance(value, str) and value.lower() == NONE and type(None) in key.kinds:
        return None
    for kind in key.kinds:
        found = _as(kind, value)
        if found is not None:
            return found[0]
    if value is None and type(None) in key.kinds:
        return None
    choices = [choice for kind in key.kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    if choices and isinstance(value, str):
        raise ConfigError(unknown(f"value of {key.name}", value, choices))
    raise ConfigError(f"{key.name} = {value!r} is not {key.wanted}.")


def _as(kind: Any, value: object) -> tuple[Any] | None:
    """`value` as `kind`, in a tuple of one; None if it is no such thing."""
    if get_origin(kind) is Literal:
        return (value,) if value in get_args(kind) else None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return (float(value),)
    matches = isinstance(kind, type) and isinstance(value, kind) and not (kind is int and isinstance(value, bool))
    return (value,) if matches else None


def _word(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(repr(choice) for choice in get_args(kind))
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): NONE}
    return words.get(kind, str(kind))


def _toml(value: Any) -> str:
    """A value in TOML's notation."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    assert isinstance(value, int | float), f"no TOML for {value!r}"
    return repr(value)
