"""Sections of a page that show pictures: the worst mistakes, suspected labels, near-duplicates."""

from collections.abc import Iterator, Sequence

from vitgraft.analyze.errors.duplicates import ALIKE, SIDE
from vitgraft.analyze.errors.thumbnails import Album
from vitgraft.analyze.errors.truth import Truth
from vitgraft.report.page import Cell, Column, Html, Row, h, table

SHOWN = 24
"""Pictures of a kind on a page."""

PAIRS = 12
LISTED = 200
"""Rows of a table."""


def mistakes(truth: Truth, album: Album) -> Sequence[object]:
    """The images whose own class has the lowest probability, with what they are taken for."""
    name, split = truth.split, truth.measured
    worst, names = truth.worst, truth.images.names
    if not len(worst):
        return (h("p", f"There is none: all {len(split):,} images of {name} are answered rightly."),)
    cards = []
    for index in worst[:SHOWN].tolist():
        label, row = int(split.labels[index]), truth.probabilities[index]
        best = row.argsort()[::-1][:3]
        path = truth.images.path(index)
        seen = album.thumbnail(split.images, index, f"{path}, labelled {names[label]}")
        lines = [f"labelled {names[label]} ({_percent(row[label])})"]
        lines += [f"{'taken for' if not place else 'then'} {names[other]} ({_percent(row[other])})"
                  for place, other in enumerate(best) if other != label]  # fmt: skip
        cards.append(_card(seen, path, lines))
    count = len(worst)
    which = "all" if count <= SHOWN else f"the {SHOWN} whose own class has the lowest probability"
    told = (
        f"{count:,} of {len(split):,} images of {name} are answered wrongly. Shown are {which}, the worst first."
    )
    return (h("p", told), h("div", *cards, class_="gallery"))


def labels(truth: Truth, album: Album) -> Sequence[object]:
    """Images whose label a regression that never saw them contradicts."""
    found, images = truth.labels, truth.images
    if found is None:
        return (
            h("p", "They are not looked for: there are no features, or fewer than two classes have two images."),
        )
    names, n = images.names, len(images.labels)
    judged = int(found.found.judged.sum())
    where = ", ".join(f"{len(split):,} of {name}" for name, split in images.splits.items())
    told = h(
        "p",
        f"{len(found.suspects):,} of {judged:,} labels are suspected, ",
        f"{_percent(len(found.suspects) / max(1, judged))}, the likeliest errors first. ",
        f"They are sought among {n:,} images ({where}) by a logistic regression on the frozen backbone's "
        "features; ",
        "the run itself has no say in it. The regression agrees with ",
        f"{_percent(found.found.agreement)} of the labels: the lower that is, the more of its suspicions are "
        "its own ",
        "mistakes. Look at the pictures before you change a label.",
    )
    how = (
        f"Confident learning (Northcutt and others, 2021). The regression is fitted {found.found.folds} times, "
        "each time without the images that it then judges. Images that have at least the probability of a "
        "class that images labelled so have on average are surely of it. How many images of a label are surely "
        "of another class says how many such labels are suspected; the difference of the two probabilities "
        "says which."
    )
    more = h("details", h("summary", "How they are found"), h("p", how))
    extra = []
    if judged < n:
        extra.append(f"{n - judged:,} images are the only one of their class, and cannot be judged.")
    if found.found.unfinished:
        extra.append(f"In {found.found.unfinished} of {found.found.folds} fits the regression had not converged.")
    if not found.suspects:
        return (told, more, *(h("p", one) for one in extra))
    cards, rows = [], []
    for place, one in enumerate(found.suspects[:LISTED]):
        split_name, split, inner = images.place(one.index)
        path = images.path(one.index)
        cells = (path, split_name, names[one.label], names[one.answer], _cell(one.own), _cell(one.other))
        rows.append(Row(cells))
        if place < SHOWN:
            seen = album.thumbnail(split.images, inner, f"{path}, labelled {names[one.label]}")
            lines = [
                f"labelled {names[one.label]} ({_percent(one.own)})",
                f"rather {names[one.answer]} ({_percent(one.other)})",
                f"in {split_name}",
            ]
            cards.append(_card(seen, path, lines))
    left = f"; the first {LISTED} of {len(found.suspects):,}" if len(found.suspects) > LISTED else ""
    columns = ("image", "split", "label", "rather", Column("own", number=True), Column("other", number=True))
    listed = table("suspects", f"Suspected labels{left}.", columns, rows, filtered=len(rows) > 15)
    return (told, more, *(h("p", one) for one in extra), h("div", *cards, class_="gallery"), _folded(listed, rows))


def copies(truth: Truth, album: Album) -> Sequence[object]:
    """Pairs of pictures with nearly the same features."""
    found, images = truth.copies, truth.images
    if found is None:
        return (h("p", "They are not looked for: there are no features."),)
    n, names = len(images.labels), images.names
    how = (
        f"{found.count:,} pairs of {n:,} images have features with a cosine of at least {found.threshold:g} (of "
        "the frozen backbone's pooled vectors, around the mean of all). "
        + (f"The {found.looked:,} pairs with the highest cosines" if found.looked < found.count else "They")
        + f" were looked at: {len(found.pairs):,} are alike in their pixels, too (in {SIDE} x {SIDE} shades of "
        f"grey, with a correlation of at least {ALIKE:g}; mirrored or strongly cut copies are not)."
    )
    told = [h("p", how), *_across(truth)]
    if not found.pairs:
        return told
    cards, rows = [], []
    for place, pair in enumerate(found.pairs[:LISTED]):
        (one, first, at), (other, second, there) = images.place(pair.first), images.place(pair.second)
        paths = images.path(pair.first), images.path(pair.second)
        classes = names[first.labels[at]], names[second.labels[there]]
        differ = "another label" if classes[0] != classes[1] else ""
        cosine = Cell(f"{pair.cosine:.4f}", pair.cosine)
        rows.append(Row((paths[0], one, classes[0], paths[1], other, classes[1], cosine, differ)))
        if place < PAIRS:
            seen = (
                album.thumbnail(first.images, at, f"{paths[0]}, in {one}"),
                album.thumbnail(second.images, there, f"{paths[1]}, in {other}"),
            )
            lines = [f"{one}: {classes[0]}", f"{other}: {classes[1]}", f"cosine {pair.cosine:.3f}"]
            cards.append(_card(h("span", *seen, class_="pair"), " · ".join(paths), lines))
    left = f"; those with the highest cosines of {len(found.pairs):,}" if len(found.pairs) > len(rows) else ""
    columns = (
        "image",
        "split",
        "label",
        "other image",
        "its split",
        "its label",
        Column("cosine", number=True),
        "",
    )
    listed = table("near", f"Near-duplicates{left}.", columns, rows, filtered=len(rows) > 15)
    return (*told, h("div", *cards, class_="gallery pairs"), _folded(listed, rows))


def _across(truth: Truth) -> Sequence[Html]:
    """What near-duplicates in training mean for the number that is measured."""
    assert truth.copies is not None, "near-duplicates were looked for"
    seen, split = truth.copies.seen, truth.measured
    if seen is None:
        return ()
    if not seen.any():
        return (h("p", f"None of the {len(seen):,} images of {truth.split} has a near-duplicate in train."),)
    right = truth.answers == split.labels
    told = (
        f"{int(seen.sum()):,} of the {len(seen):,} images of {truth.split} have a near-duplicate in train, and "
        f"{_percent(right[seen].mean())} of these are answered rightly."
    )
    rest = int((~seen).sum())
    if rest:
        told += f" Of the other {rest:,} it is {_percent(right[~seen].mean())}."
    told += " Where these are copies, that share says little about new pictures."
    return (h("p", told),)


def _folded(listed: Html, rows: Sequence[Row]) -> Html:
    """A long table that is opened by those who want it."""
    return h("details", h("summary", f"As a table of {len(rows):,}"), listed)


def _card(seen: Html, path: str, lines: Sequence[str]) -> Html:
    told = (h("span", line, class_="line") for line in lines)
    return h("figure", seen, h("figcaption", *told, h("span", *_breaking(path), class_="path")))


def _breaking(path: str) -> Iterator[object]:
    """A path that goes on in the next line behind a slash, if it must."""
    *folders, name = path.split("/")
    for folder in folders:
        yield from (f"{folder}/", h("wbr"))
    yield name


def _cell(value: float) -> Cell:
    return Cell(_percent(value), value)


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
