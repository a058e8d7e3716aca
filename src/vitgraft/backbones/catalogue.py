"""Well-known backbones, as a table that needs no torch. Others of timm's families with a view work as well.

Those that people ask for by a family and a size have a short name (`dinov2-s`), which stands for timm's full name
at an image size that is worth its cost: DINOv2 at 224 pixels, not at the 518 that its positions are stored for.
The full name keeps timm's own size.
"""

import csv
import json
import warnings
from collections.abc import Mapping, Set
from dataclasses import asdict, dataclass, fields
from importlib.resources import files
from typing import Any, get_type_hints

from vitgraft.backbones.sizes import Size
from vitgraft.errors import Told

BUILT_IN = "figures"
"""The backbone that is taken where none is named, and the folder of all that come with vitgraft."""

BUILT_INS = (BUILT_IN, "figures-mae", "figures-contrastive")
"""All of them: of one shape, pre-trained on the same pictures with other objectives (figures/CARD.md)."""

SUGGESTED = "dinov2-s"
"""The short name of what a user of photographs should try first."""

HUB_FILE = "model.safetensors"

CHANNELS, EXPANSION = 3, 4
"""Colours of a picture; width of a model's mlps over its own (gated ones are narrower, for the same work)."""

SCALED, NORMED = ("dinov2", "deit3", "dinov3", "beit", "beitv2"), ("clip", "openclip", "pe")
UNPLACED = ("dinov3", "beit", "beitv2")
"""Families with layer scales, those with a norm before the first block, and those that add no positions."""

USUAL = 224
"""Pixels a side at which short names are used."""


@dataclass(frozen=True)
class Listed:
    """A backbone: its name for `--backbone`, and what is worth knowing before choosing it.

    `short` is its other name, or empty; `own_size` are the pixels a side that it was published for, `prefix` its
    class and register tokens, `parameters` its values without a classifier, and `pooling` is timm's word.
    `licence` is that of the weights as timm states it, `download` what the file holds in MB, with the classifier
    that lies in it; `file` is what to fetch where no hub can be reached, to be passed as `--checkpoint`.
    """

    name: str
    short: str
    parameters: int
    own_size: int
    patch: int
    width: int
    depth: int
    prefix: int
    pooling: str
    download: float
    licence: str
    pretraining: str
    file: str

    @property
    def family(self) -> str:
        """`dinov2` of dinov2-s."""
        return self.short.partition("-")[0]

    @property
    def image_size(self) -> int:
        """Pixels a side at which the listing counts: the short name's, if there is one."""
        return min(USUAL, self.own_size) if self.short else self.own_size

    def tokens(self, image_size: int | None = None) -> int:
        """N, of an image of so many pixels a side: class and register tokens, and one a patch."""
        return self.prefix + ((image_size or self.image_size) // self.patch) ** 2

    def flops(self) -> int:
        """Of one forward pass of one image: a multiplication and the addition after it are two."""
        tokens, width = self.tokens(), self.width
        embedding = 2 * (tokens - self.prefix) * CHANNELS * self.patch**2 * width
        projections = 2 * tokens * width**2 * (4 + 2 * EXPANSION)  # q, k, v, output; the mlp's two
        attention = 2 * 2 * tokens**2 * width
        pool = 2 * width**2 * (2 + 2 * tokens + 2 * EXPANSION) + 2 * 2 * tokens * width
        return embedding + self.depth * (projections + attention) + (pool if self.pooling == "map" else 0)

    def facts(self) -> dict[str, Any]:
        """Every field, and what follows from them."""
        return asdict(self) | {"image_size": self.image_size, "tokens": self.tokens(), "flops": self.flops()}


def spelled_out(name: str, image_size: Size = None) -> tuple[str, Size]:
    """timm's name and the pixels a side that `name` stands for; a warning (`Told`) says so of a short name.

    A size that is given stays, and without one a full name's is None: the model's own.
    """
    row = _row(name)
    if row is None:
        return name, image_size
    told = f"{name} is {row.name}"
    if image_size is None and row.image_size != row.own_size:
        image_size = row.image_size
        told += (
            f" at {image_size} px, not {row.own_size}: {row.tokens():,} tokens instead of "
            f"{row.tokens(row.own_size):,}; --image-size {row.own_size} (image_size={row.own_size}) for more"
        )
    warnings.warn(f"{told}.", Told, stacklevel=3)
    return row.name, image_size


def own_size(name: str) -> int | None:
    """Pixels a side that the backbone of a short name was published for; None for other names."""
    row = _row(name)
    return None if row is None else row.own_size


@dataclass(frozen=True)
class Looks:
    """What weights show of their model: sizes, prefix tokens, layer scales, and first parts of timm's names."""

    width: int
    depth: int
    patch: int
    prefix: int
    scaled: bool
    parts: Set[str]


def like(looks: Looks) -> list[str]:
    """Short names of the listed backbones that look so."""
    sizes = (looks.width, looks.depth, looks.patch, looks.prefix)
    return [
        row.short
        for row in TIMM
        if row.short
        and (row.width, row.depth, row.patch, row.prefix) == sizes
        and (row.family in SCALED, row.family in NORMED) == (looks.scaled, "norm_pre" in looks.parts)
        and (row.family in UNPLACED) == ("pos_embed" not in looks.parts)
        and (row.pooling == "map") == ("attn_pool" in looks.parts)
    ]


def short_names() -> list[str]:
    return [row.short for row in TIMM if row.short]


def _row(short: str) -> Listed | None:
    return next((row for row in TIMM if short and row.short == short), None)


def available() -> list[Listed]:
    """The built-in backbone, where this installation has it, and well-known models of timm."""
    return [*_built_in(), *TIMM]


def _built_in() -> list[Listed]:
    folder = files("vitgraft.backbones").joinpath(BUILT_IN)
    cards = [(name, folder.joinpath(f"{name}.json")) for name in BUILT_INS]
    return [_own(name, json.loads(card.read_text())) for name, card in cards if card.is_file()]


def _own(name: str, card: Mapping[str, Any]) -> Listed:
    shape = card["architecture"]
    return Listed(
        name=name,
        short="",
        parameters=card.get("parameters", 0),
        own_size=card["size"],
        patch=shape["patch_size"],
        width=shape["embed_dim"],
        depth=shape["depth"],
        prefix=1,
        pooling=shape.get("global_pool", "token"),
        download=0.0,
        licence="apache-2.0",
        pretraining=card.get("pretraining", "drawn figures: masks, pixels, identities"),
        file="comes with vitgraft",
    )


def _read() -> tuple[Listed, ...]:
    kinds = get_type_hints(Listed)
    text = files("vitgraft.backbones").joinpath("catalogue.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return tuple(Listed(**{one.name: kinds[one.name](row[one.name]) for one in fields(Listed)}) for row in rows)


TIMM = _read()
"""timm's models, as catalogue.csv has them; checked against the installed timm by a test."""
