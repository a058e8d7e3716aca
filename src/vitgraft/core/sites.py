"""The names of the places where a vision transformer can be edited or read.

Shape letters, used in every docstring of this project:
B images, N tokens (prefix, patches, then prompts), D width, H mlp width, L blocks, C classes.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from vitgraft.errors import ConfigError, unknown

if TYPE_CHECKING:
    from torch import Tensor

PLACES = ("in", "norm1", "qkv", "q", "k", "v", "proj", "attn", "norm2", "fc1", "act", "fc2", "mlp", "out")
"""The places of one block, in the order in which the walk meets them.

`attn` and `mlp` are a branch's contribution to the residual stream (after LayerScale); what they read is the
stream itself, not its normalised copy. `in` is the only place where the number of tokens may change. `qkv` is q, k
and v as one (B, N, 3 D): for edits that they share, made before those of each.
"""

AFTER_ATTENTION = PLACES[PLACES.index("proj") :]
"""The places of a block at which no token reads another one any more."""

JOINED, QKV = "qkv", ("q", "k", "v")
"""The place that is three others as one, and these."""

LINEAR_PLACES = ("q", "k", "v", "proj", "fc1", "fc2")
"""The places of a block that are linear maps."""

STEM = -1
"""The block number of what comes before block 0; its one place is `patch`, the patch embedding's output.

What comes after the last block has the block number L; its places are `norm`, the final normalisation
(wherever the model has it, on the tokens or on the pooled vector), and `pooled`, the vector (B, D) of an image.
"""

Site = tuple[int, str]
"""(block, place), such as (3, "v")."""

Recompute = Literal["none", "mlp", "block"]
"""What runs again in the backward pass instead of being kept: nothing, each block's mlp, each whole block."""

Reduction = Literal["all", "cls", "mean", "patches", "pool"]


@dataclass(frozen=True, order=True)
class Tap:
    """A reading of one site, reduced at once so that only what a head needs is kept.

    `all` keeps every token (B, N, D); `cls` the first token (B, D); `mean` the mean over tokens (B, D); `patches`
    the mean over those after the first `size`, which are no patches (B, D); `pool` averages windows of
    neighbouring tokens, so many that about `size` values remain (B, windows D), and lets the tokens of an
    incomplete last window go (Head2Toe's pooling). What has no tokens, the pooled vector, stays.
    """

    block: int
    place: str
    reduction: Reduction = "all"
    size: int = 0

    def reduce(self, value: "Tensor") -> "Tensor":
        """`value` (B, N, D), or (B, D) of the pooled vector, as this tap keeps it."""
        if value.dim() == 2 or self.reduction == "all":
            return value
        if self.reduction == "cls":
            return value[:, 0]
        if self.reduction == "patches":
            return value[:, self.size :].mean(dim=1)
        tokens, width = value.shape[1:]
        if self.reduction == "mean" or self.size <= width:
            return value.mean(dim=1)
        window = max(int(tokens / (self.size / width)), 1)
        whole = tokens // window
        pooled: Tensor = value[:, : whole * window].unflatten(1, (whole, window)).mean(dim=2).flatten(1)
        return pooled


def parse_places(text: str | tuple[str, ...], allowed: tuple[str, ...] = LINEAR_PLACES) -> tuple[str, ...]:
    """Places from `qv`, `q+v+fc1`, `all` or a tuple of names, in the order of `allowed`, without repeats.

    Raises:
        ConfigError: a name that is no place, or no place at all.
    """
    if isinstance(text, str):
        if text == "all":
            return allowed
        letters = all(letter in allowed for letter in text) and "+" not in text
        names = tuple(text) if letters else tuple(part.strip() for part in text.split("+"))
    else:
        names = tuple(text)
    for name in names:
        if name not in allowed:
            raise ConfigError(f"places={text!r}: " + unknown("place", name, (*allowed, "all")))
    if not names:
        raise ConfigError(f"places={text!r} names no place. Known: {', '.join(allowed)}.")
    return tuple(place for place in allowed if place in names)
