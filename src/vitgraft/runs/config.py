"""A run as one flat table of keys: the fields of `RunConfig`, the keys of a TOML file, the options of `fit`.

All three are made from the same dataclasses, `RunConfig` and the trainer's `Training`, so they cannot drift.
"""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self, get_type_hints

from vitgraft import methods
from vitgraft.backbones import catalogue
from vitgraft.backbones.sizes import canonical_size
from vitgraft.data.benchmarks.names import RETRAIN, mentioned
from vitgraft.data.pictures.ranges import AUTO, MAX_PIXELS, asked
from vitgraft.data.reading.split_names import FRACTION
from vitgraft.errors import ConfigError, command, option, unknown
from vitgraft.kinds import whole
from vitgraft.results.store import KEPT as KEPT
from vitgraft.results.store import slug
from vitgraft.runs import protocols
from vitgraft.runs.extended import layers, merged
from vitgraft.runs.inherited import inherited
from vitgraft.runs.keys import NONE, Key, checked, to_toml
from vitgraft.runs.keys import from_text as value_of
from vitgraft.train.settings import Training

DATA = "Data"
"""Where help lists the keys that say which images are meant, and how they are split."""


AUTO_METHOD = "auto"
"""Named as a method, it asks for a search among several (`vitgraft.selection`)."""


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
    path_column: str | None = _key("column of a CSV with the paths; none: found by its title", DATA, None)
    label_column: str | None = _key(
        "column of a CSV with the labels (several with commas between); none: found by its title", DATA, None
    )
    split_column: str = _key("column of a CSV with the splits; auto: found; none: cut them anew", DATA, "auto")
    suffix: str | None = _key("added to a list's paths, such as .jpg; none: found", DATA, None)
    val_fraction: float | None = _key(
        "share of train that becomes val where data has none; none: 0.15", DATA, None
    )
    test_fraction: float | None = _key(
        "share of train that becomes test where data has neither; none: 0.15", DATA, None
    )
    split_seed: int | None = _key("which images those shares take; none: 0", DATA, None)
    labels: Literal["auto", "class", "multi", "number"] = _key(
        "what a list's labels are: class (one a picture), multi (several, or none), number; auto: found, and told",
        DATA,
        "auto",
    )
    skip_unreadable: bool = _key("leave out images that cannot be read, and list them", DATA, False)
    pixel_range: str = _key("black and white of images above 8 bits: auto, dtype or LOW:HIGH", DATA, AUTO)
    max_pixels: int = _key("images of more pixels are not read", DATA, MAX_PIXELS)
    method: str = _key(
        "perhaps with fields, as lora:rank=8,places=qv; see vitgraft methods; auto: tries several", "Model", "lora"
    )
    minutes: float | None = _key("of method auto: the most that it may take; none: 10", "Model", None)
    backbone: str = _key("figures (built in), dinov2-s, ..., or timm's: vitgraft backbones", "Model", "figures")
    checkpoint: str | None = _key(
        "weights: a local file (.safetensors, .pth, .npz), or a hub's folder", "Model", None
    )
    image_size: int | str | None = _key(
        "pixels a side, or height x width as 192x256; none: the backbone's own", "Model", None
    )
    global_pool: str | None = _key("timm's pooling, such as avg; none: the backbone's own", "Model", None)
    start_from: str | None = _key(
        "a run or saved graft whose values this run begins with, and whose model it is; --from is short",
        "Model",
        None,
    )
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
        filled = protocols.named(self.protocol).filled(method, self.data)
        object.__setattr__(self, "method", protocols.spelled(method, filled))
        name, size = catalogue.spelled_out(self.backbone, canonical_size(self.image_size))
        object.__setattr__(self, "backbone", name)
        object.__setattr__(self, "image_size", size)
        asked(self.pixel_range)
        if self.split_seed is not None:
            whole("split_seed", self.split_seed)

    def check_choosing(self) -> None:
        """Raise ConfigError if something is to be chosen on a val that is trained on, or by a search alone."""
        if self.minutes is not None:
            raise ConfigError(
                f"minutes={self.minutes:g} limits the search of {option('method', AUTO_METHOD)}, and the method "
                f"is {self.method}, which takes its epochs. Leave minutes out, or name {AUTO_METHOD}."
            )
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
        if checked.get("method") == AUTO_METHOD:
            how = command("fit", checked.get("data", "DATA"), "--method", AUTO_METHOD)
            raise ConfigError(
                f"{AUTO_METHOD} is no method of one run, it tries several: {how} (in Python, vitgraft.auto)."
            )
        if checked.get("start_from") is not None:
            of_data = tuple(name for name, key in known.items() if key.panel == DATA)
            checked = _all_checked(inherited(checked, of_data, read_toml))
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
        return usual_folder(self.data, methods.parse(self.method).name, self.backbone)

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
            "val_fraction": FRACTION,
            "test_fraction": FRACTION,
            "split_seed": 0,
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
                entry = f"{name} = {to_toml(NONE)}"
            elif value is None:
                derived = self._derived().get(name)
                entry = f"# {name} = {to_toml(NONE if derived is None else derived)}"
            else:
                entry = f"{name} = {to_toml(value)}"
            lines.append(f"{entry}  # {key.help}")
        return "\n".join(lines) + "\n"


def usual_folder(data: str, method: str, backbone: str) -> Path:
    """Where a run is written that names no folder."""
    words = (Path(os.path.normpath(data)).name, method, os.path.basename(backbone))
    return Path("runs") / "-".join(filter(None, map(slug, words)))


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
    return {name: checked(known[name], value) for name, value in values.items()}


def read_toml(path: Path) -> dict[str, Any]:
    """The keys and values of a configuration file and of those that it extends (`extended`).

    A method may be a table with `name` and its fields.

    Raises:
        ConfigError: a file that is missing or no TOML, or an unknown key (with the nearest).
    """
    files = layers(path)
    for file, table in files:
        for name, value in table.items():
            if name not in keys():
                flat = " Keys stand at the top of the file, under no [table]." if isinstance(value, dict) else ""
                raise ConfigError(f"{file}: {unknown('option', name, keys())}{flat}")
    values = merged(files)
    if isinstance(values.get("method"), dict):
        table = values["method"]
        values["method"] = protocols.spelled(methods.parse(table), (name for name in table if name != "name"))
    return values


def from_text(name: str, text: str) -> Any:
    """The value of a key as a command line writes it.

    Raises:
        ConfigError: text that is no value of the key's type.
    """
    return value_of(keys()[name], text)
