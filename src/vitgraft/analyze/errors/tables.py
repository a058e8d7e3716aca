"""What is found, whole, as tables for programs: a page shows the beginning of each."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO

import numpy as np

from vitgraft.analyze.errors.truth import Truth

Value = str | float | int | None


@dataclass(frozen=True)
class Table:
    """Rows with the names of their columns."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Value]]

    def csv(self) -> bytes:
        """The table as a file; what is not known is empty, and names that are no UTF-8 are the bytes they are."""
        file = StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(["" if value is None else value for value in row] for row in self.rows)
        return file.getvalue().encode("utf-8", errors="surrogateescape")


def tables(truth: Truth) -> dict[str, Table]:
    """Every table by its name: classes, mistakes, labels, copies. Those that were not looked for have no rows."""
    return {
        "classes": classes(truth),
        "mistakes": Table(
            ("image", "label", "answer", "probability_of_label", "probability_of_answer"), [*_mistakes(truth)]
        ),
        "labels": Table(
            ("image", "split", "label", "rather", "probability_of_label", "probability_of_other"),
            [*_labels(truth)],
        ),
        "copies": Table(
            ("image", "split", "label", "other_image", "other_split", "other_label", "cosine"), [*_copies(truth)]
        ),
    }


def classes(truth: Truth) -> Table:
    """Each class against all others; shares are of 0 to 1."""
    columns = ("class", "support", "answered", "precision", "recall", "f1", "average_precision", "auroc")
    return Table(columns, [tuple(vars(one).values()) for one in truth.classes])


def confusion(truth: Truth) -> Table:
    """How many images of each label have each answer; what never occurs has no row."""
    names, count = truth.images.names, len(truth.images.names)
    pairs, numbers = np.unique(truth.measured.labels * count + truth.answers, return_counts=True)
    rows = [(names[pair // count], names[pair % count], int(n)) for pair, n in zip(pairs, numbers, strict=True)]
    return Table(("label", "answer", "images"), rows)


def reliability(truth: Truth) -> Table:
    """The bins of every reliability diagram."""
    columns = ("probabilities", "low", "high", "images", "confidence", "accuracy")
    shown = [("as trained", truth.before)]
    if truth.calibrated is not None:
        shown.append(("calibrated", truth.calibrated.after))
    return Table(columns, [(title, *vars(one).values()) for title, of in shown for one in of.bins])


def learning(truth: Truth) -> Table:
    """Loss and accuracy an epoch."""
    of = truth.curves
    rows = [] if of is None else [*zip(of.epochs, of.train_loss, of.val_loss, of.val_top1, strict=True)]
    return Table(("epoch", "train_loss", "val_loss", "val_top1"), rows)


def _mistakes(truth: Truth) -> Iterator[tuple[Value, ...]]:
    names, split = truth.images.names, truth.measured
    for index in truth.worst.tolist():
        label, answer = int(split.labels[index]), int(truth.answers[index])
        own, other = truth.probabilities[index, [label, answer]].tolist()
        yield truth.images.path(index), names[label], names[answer], own, other


def _labels(truth: Truth) -> Iterator[tuple[Value, ...]]:
    names = truth.images.names
    for one in truth.labels.suspects if truth.labels else ():
        split, _, _ = truth.images.place(one.index)
        yield truth.images.path(one.index), split, names[one.label], names[one.answer], one.own, one.other


def _copies(truth: Truth) -> Iterator[tuple[Value, ...]]:
    names = truth.images.names
    for pair in truth.copies.pairs if truth.copies else ():
        (one, first, at), (other, second, there) = truth.images.place(pair.first), truth.images.place(pair.second)
        labels = names[first.labels[at]], names[second.labels[there]]
        paths = truth.images.path(pair.first), truth.images.path(pair.second)
        yield paths[0], one, labels[0], paths[1], other, labels[1], pair.cosine
