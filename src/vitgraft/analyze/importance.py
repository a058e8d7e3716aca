"""SynQT's instance-aware weights: how much each image takes of each of the 3 L + 1 features (SynQT, fig. 2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from vitgraft.analyze.samples import names_of
from vitgraft.data.task import Split, chosen
from vitgraft.errors import ConfigError
from vitgraft.features.feed import Reader, moved
from vitgraft.heads.synqt import SynqtHead
from vitgraft.machine.placement import Placement, place
from vitgraft.methods import spec_of
from vitgraft.models.model import Model
from vitgraft.report.figure import Figure
from vitgraft.report.style import INK, MUTED, WIDE, blank, shades
from vitgraft.train.batches import in_order
from vitgraft.train.measure import evaluating

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

GROUPS = ("block outputs", "attention", "FFN")
"""The groups of features in the order of the head's: block outputs, attention branches, mlp branches."""

HIGH, LOW = 0.8, 0.2
COLUMNS = ("sample", "image", "class", "group", "block", "weight")

Weights = NDArray[np.float32]


@dataclass(frozen=True)
class Importance:
    """`weights` (n, 3, L) of n images, by group and block, in about -0.17 to 1; names and classes of the images.

    The first of the 3 L + 1 features, the last block's output, comes twice; its fixed weight of 1 is left out.
    """

    weights: Weights
    names: Sequence[str]
    labels: Sequence[str]

    def high(self, group: int | None = None) -> float:
        """Percent of the weights above `HIGH`, of one group or of all."""
        return 100 * float((self._of(group) > HIGH).mean())

    def low(self, group: int | None = None) -> float:
        """Percent of the weights below `LOW`."""
        return 100 * float((self._of(group) < LOW).mean())

    @property
    def between(self) -> float:
        """How aware of the instance the weights are: the share (%) of their variance that is between images at one
        feature, and not between features."""
        total = float(self.weights.var())
        return 100 * float(self.weights.var(axis=0).mean()) / total if total else 0.0

    def _of(self, group: int | None) -> Weights:
        return self.weights if group is None else self.weights[:, group]


def importance(
    model: Model, split: Split, places: Sequence[int], device: str = "auto", batch_size: int = 64
) -> Importance:
    """The weights that a SynQT model gives the features of some images of a split, without dropout.

    Raises:
        ConfigError: a model of another method.
        DataError: an image that cannot be read.
    """
    head = model.tuned.head
    if not isinstance(head, SynqtHead):
        raise ConfigError(
            f"This is a run of {spec_of(model.method)}, and only synqt weighs features by the image. Name a run "
            "that fit made with --method synqt."
        )
    here = Placement(place(device).device)
    model.tuned.to(here.device)
    images = chosen(split.images, places)
    spans = in_order(len(images), batch_size)
    found = []
    with evaluating(model.tuned):
        for inputs in Reader(model.preprocessing).feed(images, limit=0).stream((0, span) for span in spans):
            features = model.tuned.features(moved(inputs, here.device))
            found.append(head.weights(head.extract(features, model.backbone)).float().cpu())
    weights = torch.cat(found)[:, 1:].numpy().reshape(len(images), len(GROUPS), -1)
    names = split.classes or model.class_names
    return Importance(weights, names_of(images), [names[split.labels[at]] for at in places])


def figure(name: str, command: str, run: str, found: Importance, facts: dict[str, Any]) -> Figure:
    """What stands around the weights."""
    shares = "; ".join(
        f"{group} {found.high(at):.0f} % above {HIGH}, {found.low(at):.0f} % below {LOW}"
        for at, group in enumerate(GROUPS)
    )
    count, _, depth = found.weights.shape
    return Figure(
        name=name,
        title="How much images take of each feature",
        caption=f"Weights that the SynQT model of {run} gives what its queries read at each of {depth} blocks, "
        f"for {count} images, a colour each; a bar is the median. Of all weights {found.high():.0f} % are above "
        f"{HIGH} and {found.low():.0f} % below {LOW}: {shares}. Between images at one feature lies "
        f"{found.between:.0f} % of the weights' variance, the rest between features. The last block's output "
        "comes once more with a fixed weight of 1, which is left out. Weights are tanh(GELU(.)), so the least is "
        "about -0.17.",
        command=command,
        columns=COLUMNS,
        rows=[
            (image, found.names[image], found.labels[image], GROUPS[group], block, round(float(weight), 5))
            for (image, group, block), weight in np.ndenumerate(found.weights)
        ],
        n=count,
        found={
            "above 0.8": {"all": found.high(), **{group: found.high(at) for at, group in enumerate(GROUPS)}},
            "below 0.2": {"all": found.low(), **{group: found.low(at) for at, group in enumerate(GROUPS)}},
            "variance between images": found.between,
        },
        **facts,
    )


def draw(found: Importance) -> "Drawing":
    """Three panels, a point an image and block. Call it within `styled`."""
    count, groups, depth = found.weights.shape
    colours = shades(count + 1 + count // 8)[:count]  # the lightest would be hard to see
    drawn = blank(WIDE, 1.55 * groups + 0.4)
    panels = drawn.subplots(groups, 1, sharex=True, sharey=True)
    shifts = 0.7 * (np.arange(count) / max(count - 1, 1) - 0.5)
    for group, axes in enumerate(panels):
        for line in (LOW, HIGH):
            axes.axhline(line, color=MUTED, linewidth=0.8, linestyle=":")
        for image, colour in enumerate(colours):
            places = np.arange(depth) + shifts[image]
            axes.plot(places, found.weights[image, group], ".", color=colour, markersize=5)
        medians = np.median(found.weights[:, group], axis=0)
        axes.hlines(medians, np.arange(depth) - 0.42, np.arange(depth) + 0.42, color=INK, linewidth=1.2)
        axes.set_title(GROUPS[group])
        axes.set_ylabel("weight")
    panels[0].set_ylim(min(-0.2, float(found.weights.min()) - 0.03), 1.05)
    panels[0].set_yticks([0, LOW, 0.5, HIGH, 1])
    panels[0].set_xlim(-0.6, depth - 0.4)
    panels[-1].set_xlabel("block")
    panels[-1].set_xticks(range(0, depth, -(-depth // 16)))
    return drawn  # type: ignore[no-any-return]
