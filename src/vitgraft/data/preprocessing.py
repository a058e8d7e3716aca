"""Preprocessing: how pictures become what a backbone expects, as values that are saved with a graft.

`Preprocessing` holds what was published with a backbone; `preset` replaces parts of it by another paper's choice.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import Self

from PIL import Image

from vitgraft.data.pictures.ranges import ANY, OLD, Ranges, merged
from vitgraft.data.task import ImageSource, ranges_of
from vitgraft.errors import ConfigError, unknown
from vitgraft.kinds import check_fields

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
NORMALISATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {  # name -> mean, std a channel
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "inception": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "raw": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}
MODES = {"center": "crop", "squash": "stretch", "border": "pad"}  # timm's crop_mode -> ours


@dataclass(frozen=True)
class Preprocessing:
    """How pictures become the (3, H, W) input of a backbone.

    `size` is (H, W) in pixels; `mean` and `std` are a channel's, over [0, 1]. `mode` is how a picture of another
    shape is fitted to `size / crop`, of which the centre is kept: "crop" scales the picture to cover it,
    "stretch" gives it that shape, "pad" scales it to lie within and fills the rest with the mean colour.
    `pixel_range` says which values are black and white in pictures of more than 8 bits, by their type, as found
    over the training images: see `depth`. It is empty if there were none, None for cards of before it was kept.

    Raises:
        ConfigError: a value outside its range.
    """

    size: tuple[int, int] = (224, 224)
    mean: tuple[float, ...] = NORMALISATIONS["imagenet"][0]
    std: tuple[float, ...] = NORMALISATIONS["imagenet"][1]
    interpolation: str = "bicubic"
    crop: float = 0.875
    mode: str = "crop"
    pixel_range: Ranges | None = ()

    def __post_init__(self) -> None:
        check_fields(self)
        if self.interpolation not in FILTERS:
            raise ConfigError(unknown("interpolation", self.interpolation, FILTERS))
        if self.mode not in MODES.values():
            raise ConfigError(unknown("fitting mode", self.mode, MODES.values()))
        if len(self.size) != 2 or min(self.size) < 1:
            raise ConfigError(f"size {self.size}: expected (height, width), each at least 1 pixel.")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ConfigError(f"mean {self.mean}, std {self.std}: expected three values each, std above 0.")
        if not 0 < self.crop <= 1:
            raise ConfigError(f"crop {self.crop}: expected a fraction above 0 and at most 1.")
        for kind, low, high in self.pixel_range or ():
            if not low < high:
                raise ConfigError(f"pixel_range {kind} {low}:{high}: expected two numbers, the smaller one first.")

    def __repr__(self) -> str:
        """As a dataclass has it. A range that says nothing is left out, for digests of before there were any."""
        named = {item.name: getattr(self, item.name) for item in fields(self)}
        shown = [f"{name}={value!r}" for name, value in named.items() if name != "pixel_range" or value]
        return f"Preprocessing({', '.join(shown)})"

    @classmethod
    def from_timm(cls, pretrained_cfg: Mapping[str, object]) -> Self:
        """From `model.pretrained_cfg` or `timm.data.resolve_data_config`; other keys are left alone.

        A key that is missing or None has timm's own default.

        Raises:
            ConfigError: input that is not RGB, or a value timm does not have.
        """
        names = {"mean": "mean", "std": "std", "interpolation": "interpolation", "crop_pct": "crop"}
        values = {ours: pretrained_cfg[key] for key, ours in names.items() if pretrained_cfg.get(key) is not None}
        shape = pretrained_cfg.get("input_size") or (3, 224, 224)
        if not isinstance(shape, tuple | list) or len(shape) != 3 or shape[0] != 3:
            raise ConfigError(f"input_size {shape}: expected (3, height, width); only RGB backbones are known.")
        mode = str(pretrained_cfg.get("crop_mode") or "center")
        if mode not in MODES:
            raise ConfigError(unknown("timm crop_mode", mode, MODES))
        return cls.from_json({**cls().to_json(), **values, "size": shape[1:], "mode": MODES[mode]})

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> Self:
        """The inverse of `to_json`.

        Raises:
            ConfigError: an unknown or missing key, or a value of the wrong type.
        """
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                raise ConfigError(unknown("preprocessing key", key, known))
        missing = [key for key in known if key not in values and key != "pixel_range"]
        if missing:
            raise ConfigError(f"Preprocessing lacks {', '.join(missing)}. Add what is missing.")
        try:
            return cls(
                size=tuple(_pixels(v) for v in _list(values["size"])),  # type: ignore[arg-type]
                mean=tuple(float(_number(v)) for v in _list(values["mean"])),
                std=tuple(float(_number(v)) for v in _list(values["std"])),
                interpolation=str(values["interpolation"]),
                crop=float(_number(values["crop"])),
                mode=str(values["mode"]),
                pixel_range=_ranges(values["pixel_range"]) if "pixel_range" in values else OLD,
            )
        except TypeError as error:
            raise ConfigError(
                f"Preprocessing {dict(values)}: {error}. Numbers and lists of numbers only."
            ) from None

    def to_json(self) -> dict[str, object]:
        """The fields as JSON values; a range of before there were any is no key."""
        values = {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}
        del values["pixel_range"]
        if self.pixel_range is OLD:
            return values
        return {**values, "pixel_range": {kind: [low, high] for kind, low, high in self.pixel_range}}

    def key(self) -> dict[str, object]:
        """What tensors of pictures depend on, as JSON values: a range that says nothing is no key."""
        values = self.to_json()
        return values if self.pixel_range else {key: v for key, v in values.items() if key != "pixel_range"}


def _normalised(own: Preprocessing, name: str) -> Preprocessing:
    mean, std = NORMALISATIONS[name]
    return replace(own, mean=mean, std=std)


def _stretched(own: Preprocessing, name: str) -> Preprocessing:
    return replace(_normalised(own, name), mode="stretch", crop=1.0, interpolation="bicubic")


PRESETS: dict[str, Callable[[Preprocessing], Preprocessing]] = {
    "pretrained": lambda own: own,
    "vtab": lambda own: _stretched(own, "imagenet"),
    "fgvc": lambda own: replace(_normalised(own, "imagenet"), mode="crop", crop=0.875, interpolation="bilinear"),
    **{f"vtab-{name}": partial(_stretched, name=name) for name in NORMALISATIONS if name != "imagenet"},
    **{f"{name}-norm": partial(_normalised, name=name) for name in NORMALISATIONS},
}


def preset(name: str, pretrained: Preprocessing) -> Preprocessing:
    """The preprocessing `name`, one of `PRESETS`, for a backbone whose own is `pretrained`; the size is kept.

    "vtab" is that of most VTAB-1k papers (NOAH, SPT, SynQT: stretched, bicubic, ImageNet's mean and std), "fgvc"
    that of VPT's fine-grained tasks (short side 256, centre 224). "vtab-<x>" is "vtab" with another mean and std
    (SSF: inception; pixels in [0, 1]: raw), "<x>-norm" replaces mean and std alone.

    Raises:
        ConfigError: no such preset.
    """
    if name not in PRESETS:
        raise ConfigError(unknown("preprocessing preset", name, PRESETS))
    return PRESETS[name](pretrained)


def adopted(own: Preprocessing, images: ImageSource) -> Preprocessing:
    """The preprocessing of a model that is trained on `images`: with their range of values, if it has none yet.

    Raises:
        ConfigError: it has another.
    """
    found, known = ranges_of(images), own.pixel_range or ()
    for kind, low, high in found:
        for other, black, white in known:
            if (ANY in (kind, other) or kind == other) and (low, high) != (black, white):
                raise ConfigError(
                    f"The model takes {black:g} to {white:g} of {other} values for black to white, and these "
                    f"images were loaded with {low:g} to {high:g}. Load them as the model reads them: "
                    f"--pixel-range {black:g}:{white:g} (in Python, pixel_range='{black:g}:{white:g}')."
                )
    return replace(own, pixel_range=merged(known, found)) if found else own


def _ranges(value: object) -> Ranges:
    if not isinstance(value, Mapping):
        raise TypeError(f"pixel_range {value!r} is not a mapping of types to [black, white]")
    return tuple((str(kind), *(float(_number(end)) for end in _list(ends))) for kind, ends in value.items())  # type: ignore[misc]


def _list(value: object) -> list[object]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{value!r} is not a list")
    return list(value)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return value


def _pixels(value: object) -> int:
    if _number(value) != int(_number(value)):
        raise TypeError(f"{value!r} is not a whole number of pixels")
    return int(_number(value))
