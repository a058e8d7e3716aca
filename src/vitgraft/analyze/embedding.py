"""What classifiers read, by t-SNE and PCA, and how far apart classes are, as numbers (SynQT, fig. 3)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vitgraft.core.backbone import Backbone
from vitgraft.core.sites import Tap
from vitgraft.data.preprocessing import Preprocessing
from vitgraft.data.task import ImageSource, Labels
from vitgraft.features.feed import Reader, moved
from vitgraft.machine.placement import Placement, place
from vitgraft.models.model import Model
from vitgraft.report.figure import Figure
from vitgraft.report.labels import legend_below
from vitgraft.report.style import INK, MARKERS, PALETTE, blank
from vitgraft.train.batches import in_order
from vitgraft.train.measure import evaluating

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

PERPLEXITY = 30.0
"""t-SNE's; a third of the images where that is less."""

NAMED = 12
"""Up to so many classes stand in the legend."""

PANEL = 2.3
COLUMNS = ("model", "image", "class", "t-SNE x", "t-SNE y", "PCA x", "PCA y")

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Embedding:
    """What one model's classifier reads of n images, (n, F), as points (n, 2) of t-SNE and of PCA.

    `knn` is the leave-one-out accuracy (%) of the k nearest neighbours, `silhouette` in -1 to 1 how much nearer an
    image is to its own class than to the next; both of all F features, not of the pictures. `explained` is the
    share (%) of variance that the two components of PCA hold.
    """

    title: str
    features: int
    tsne: Array
    pca: Array
    knn: float
    silhouette: float
    explained: float


def frozen_features(
    frozen: Backbone, images: ImageSource, preprocessing: Preprocessing, device: str, advance: Callable[[], None]
) -> Array:
    """The pooled vectors (n, D) of the plain backbone: of most models the class token after the final norm."""
    tap = Tap(frozen.depth, "pooled")
    return _walked(frozen, images, preprocessing, device, advance, lambda batch: frozen.read(batch, (tap,))[tap])


def classifier_features(model: Model, images: ImageSource, device: str, advance: Callable[[], None]) -> Array:
    """What a model's last linear layer reads (n, F), without dropout."""
    read: list[Tensor] = []
    hook = model.tuned.head.classifier.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    try:
        with evaluating(model.tuned):

            def last(batch: Tensor) -> Tensor:
                model.tuned(batch)
                return read.pop().flatten(1)

            return _walked(model.tuned, images, model.preprocessing, device, advance, last)
    finally:
        hook.remove()


def _walked(
    module: nn.Module,
    images: ImageSource,
    preprocessing: Preprocessing,
    device: str,
    advance: Callable[[], None],
    read: Callable[[Tensor], Tensor],
) -> Array:
    here = Placement(place(device).device)
    module.to(here.device)
    found, spans = [], in_order(len(images), 32)
    with torch.no_grad():
        for batch in Reader(preprocessing).feed(images, limit=0).stream((0, span) for span in spans):
            sent = moved(batch, here.device)
            assert isinstance(sent, Tensor), "images are read on demand"
            found.append(read(sent).float().cpu().numpy())
            for _ in range(len(found[-1])):
                advance()
    return np.concatenate(found)


def embed(title: str, features: Array, labels: Labels, neighbours: int, seed: int) -> Embedding:
    """Place features (n, F) of n images in two dimensions, and measure how far apart their classes are.

    Vectors are scaled to length 1 first, so that distances are those of angles. Raises no error for few images:
    t-SNE's perplexity and the neighbours give way.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from sklearn.metrics import silhouette_score

    scaled = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    components = PCA(2, random_state=seed, svd_solver="full").fit(scaled)
    perplexity = min(PERPLEXITY, (len(scaled) - 1) / 3)
    points = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(scaled)
    return Embedding(
        title,
        features.shape[1],
        np.asarray(points, dtype=np.float32),
        np.asarray(components.transform(scaled), dtype=np.float32),
        leave_one_out(scaled, labels, neighbours),
        float(silhouette_score(scaled, labels)),
        100 * float(components.explained_variance_ratio_.sum()),
    )


def leave_one_out(features: Array, labels: Labels, neighbours: int) -> float:
    """Percent of images whose k nearest others vote for their class; of classes with as many votes the nearest."""
    from sklearn.neighbors import NearestNeighbors

    count = min(neighbours, len(features) - 1)
    near = NearestNeighbors(n_neighbors=count).fit(features).kneighbors(return_distance=False)  # never itself
    hits = 0
    for label, others in zip(labels, labels[near], strict=True):
        votes = np.bincount(others)
        first = next(int(other) for other in others if votes[other] == votes.max())
        hits += first == label
    return 100 * hits / len(labels)


def figure(
    name: str,
    command: str,
    found: Sequence[Embedding],
    names: Sequence[str],
    classes: Sequence[str],
    told: str,
    facts: dict[str, Any],
) -> Figure:
    """What stands around the pictures; `names` and `classes` are those of the n images, `told` says which."""
    numbers = "; ".join(
        f"{one.title}: {one.knn:.1f} % and {one.silhouette:.2f} of {one.features:,} features" for one in found
    )
    return Figure(
        name=name,
        title="What classifiers read",
        caption=f"What the last linear layer of each model reads of {told}, scaled to length 1, by t-SNE (upper "
        f"row, seed {facts['seeds'][0]}) and PCA (lower row); colours and marks are classes. The numbers are the "
        "leave-one-out accuracy of nearest neighbours among these images and the silhouette, both by all features "
        f"and not by the picture. {numbers}.",
        command=command,
        columns=COLUMNS,
        rows=[
            (one.title, image, label, *(round(float(value), 5) for value in (*above, *below)))
            for one in found
            for image, label, above, below in zip(names, classes, one.tsne, one.pca, strict=True)
        ],
        n=len(names),
        found={one.title: {"knn": one.knn, "silhouette": one.silhouette} for one in found},
        **facts,
    )


def draw(found: Sequence[Embedding], labels: Labels, classes: Sequence[str], neighbours: int) -> "Drawing":
    """A column a model: t-SNE above, PCA below. Call it within `styled`."""
    present = sorted(set(labels.tolist()))
    drawn = blank(max(PANEL * len(found), 4.4), 2 * PANEL + 0.9)
    panels = drawn.subplots(2, len(found), squeeze=False)
    for column, one in enumerate(found):
        for line, points in enumerate((one.tsne, one.pca)):
            axes = panels[line][column]
            for number, label in enumerate(present):
                axes.plot(*points[labels == label].T, linestyle="none", **_look(number))
            axes.set_xticks([])
            axes.set_yticks([])
            axes.grid(visible=False)
        panels[0][column].set_title(one.title)
        panels[1][column].set_xlabel(
            f"{neighbours}-NN {one.knn:.1f} %, silhouette {one.silhouette:.2f}\nPCA holds {one.explained:.0f} %",
            color=INK,
        )
    panels[0][0].set_ylabel("t-SNE")
    panels[1][0].set_ylabel("PCA")
    if len(present) <= NAMED:
        legend_below(drawn, _entries(present, classes), max(2 * len(found), 3))
    return drawn  # type: ignore[no-any-return]


def _look(number: int) -> dict[str, Any]:
    colour, marker = PALETTE[number % len(PALETTE)], MARKERS[number % len(MARKERS)]
    return {"color": colour, "marker": marker, "markersize": 3.5, "alpha": 0.8}


def _entries(present: Sequence[int], classes: Sequence[str]) -> list[Any]:
    from matplotlib.lines import Line2D

    shown = {"linestyle": "none", "markersize": 5}
    return [
        Line2D([], [], label=classes[label], **{**_look(number), **shown}) for number, label in enumerate(present)
    ]
