"""Head2Toe's parts: features from all over the frozen model, and a linear classifier on the chosen ones."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vitgraft.core.backbone import Backbone, Features
from vitgraft.core.plan import Head
from vitgraft.core.sites import STEM, Site, Tap
from vitgraft.errors import ConfigError
from vitgraft.heads.linear import fresh_classifier

PLACES_READ = ("norm1", "attn", "act", "mlp")
"""What is read of each block: its normalised input, both branches' outputs, and the mlp's hidden values."""


def group_lasso(weight: Tensor, strength: float) -> Tensor:
    """`strength` times the sum over features of a classifier's column norms; weight (C, features)."""
    norms: Tensor = torch.linalg.vector_norm(weight, dim=0)
    return strength * norms.sum()


def strongest(weight: Tensor, keep: float) -> Tensor:
    """Indices of the share `keep` of features whose columns of weight (C, features) have the largest norms.

    At least one, ascending; of equal columns the first are kept.
    """
    scores = weight.detach().square().sum(dim=0)
    order = scores.argsort(descending=True, stable=True)
    return order[: max(int(keep * len(scores)), 1)].sort().values.cpu()


def checked(kept: Tensor, total: int) -> Tensor:
    """The indices `kept` (K,) of `total` features. Raises ConfigError if they are of other features."""
    if len(kept) == 0 or not 0 <= int(kept.min()) <= int(kept.max()) < total:
        raise ConfigError(
            f"The {len(kept)} kept features are not among the {total} that this backbone gives. They were found "
            "on another backbone, or with other fields."
        )
    return kept


def pieces(backbone: Backbone, size: int) -> dict[Tap, int]:
    """Readings of the whole model, pooled to about `size` values each, and how many values each has.

    In this order: patch embedding, input of block 0, `PLACES_READ` of every block, final normalisation, pooled
    vector. A place that has no tokens in this model (a normalisation behind pooling, patches that still stand
    in a grid) is left out.
    """
    depth = backbone.depth
    inner = [(block, place) for block in range(depth) for place in PLACES_READ]
    sites: list[Site] = [(STEM, "patch"), (0, "in"), *inner, (depth, "norm"), (depth, "pooled")]
    image = next(backbone.parameters()).new_zeros(1, backbone.view.channels, *backbone.view.image_size)
    found = backbone.read(image, [Tap(*site) for site in sites])
    taps = {Tap(*site, "pool", size): found[Tap(*site)] for site in sites}
    return {
        tap: tap.reduce(value).shape[1]
        for tap, value in taps.items()
        if value.dim() == (2 if tap.place == "pooled" else 3)
    }


class SelectedHead(Head):
    """Each piece's features, L2-normalised, side by side into one linear classifier.

    `sizes` are the pieces in order; `kept` (K,) are the features that are chosen, as indices over all pieces side
    by side, ascending (None: all). What is chosen of a piece is normalised; a piece of zeros stays zero.
    `strength` is that of the group lasso.
    """

    reads: ClassVar[Literal["taps"]] = "taps"
    kept: Tensor | None

    def __init__(
        self, classes: int, sizes: Mapping[Tap, int], kept: Tensor | None = None, strength: float = 0.0
    ) -> None:
        super().__init__()
        total = sum(sizes.values())
        self.order = tuple(sizes)
        self.strength = strength
        ends = torch.tensor(list(sizes.values()), device="cpu").cumsum(0)
        self.starts = [0, *ends[:-1].tolist()]
        self.counts = list(sizes.values())
        if kept is not None:
            home = torch.bucketize(checked(kept, total), ends, right=True)
            self.counts = torch.bincount(home, minlength=len(sizes)).tolist()
        self.register_buffer("kept", kept, persistent=False)
        self.classifier = fresh_classifier(total if kept is None else len(kept), classes)

    @property
    def taps(self) -> frozenset[Tap]:
        """The pieces of which anything is kept."""
        return frozenset(tap for tap, count in zip(self.order, self.counts, strict=True) if count)

    def forward(self, features: Features, backbone: Backbone) -> Tensor:
        logits: Tensor = self.classifier(self.read(features).to(self.classifier.weight.dtype))
        return logits

    def read(self, features: Features) -> Tensor:
        """The chosen features (B, K), each piece's of unit norm or all zero."""
        found = []
        rows = [None] * len(self.order) if self.kept is None else self.kept.split(self.counts)
        for tap, start, count, chosen in zip(self.order, self.starts, self.counts, rows, strict=True):
            if count:
                piece = features.taps[tap].float()
                found.append(F.normalize(piece if chosen is None else piece[:, chosen - start], dim=1))
        return torch.cat(found, dim=1)

    def penalty(self) -> Tensor | None:
        return group_lasso(self.classifier.weight, self.strength) if self.strength else None
