"""The page about one run: what it is right about, what not, and what of that may be the data's fault."""

from collections.abc import Sequence
from importlib import metadata

from vitgraft.analyze.errors import pictured
from vitgraft.analyze.errors.drawings import chosen, confusion, learnt, matrix, reliable
from vitgraft.analyze.errors.scores import interval, mean
from vitgraft.analyze.errors.thumbnails import Album
from vitgraft.analyze.errors.truth import Truth
from vitgraft.report.page import Cell, Column, Html, Page, Row, facts, figure, h, picture, section, table, together
from vitgraft.report.style import rendered, styled

MOST_ROWS, MOST_PAIRS = 300, 25
"""Rows of the tables of classes and of confused pairs at most: a page of thousands of classes opens at once."""


def page(truth: Truth, command: str) -> str:
    """The page as HTML; `command` makes it again."""
    album = Album()
    with styled():
        sections = [
            section("scores", "Scores", *_summary(truth)),
            section("mistakes", "Worst mistakes", *pictured.mistakes(truth, album)),
            section("confusion", "Confusion", *_confusion(truth)),
            section("classes", "Classes", *_classes(truth)),
            section("calibration", "Calibration", *_calibration(truth)),
            section("labels", "Suspected labels", *pictured.labels(truth, album)),
            section("copies", "Near-duplicates", *pictured.copies(truth, album)),
            section("learning", "Learning", *_learning(truth)),
        ]
    about = f"{truth.data}, {truth.split}: n = {truth.metrics.n:,} images of {len(truth.images.names):,} classes."
    left = f" {album.left_out:,} pictures were left out to keep the page small." if album.left_out else ""
    made = h("span", f"Made by vitgraft {metadata.version('vitgraft')}: ", h("code", command), f".{left}")
    return Page(f"{truth.run.name}: the truth about a run", about, made).add(*sections).text()


def share(value: float | None, digits: int = 1) -> str | None:
    """A share of 0 to 1 in percent."""
    return None if value is None else f"{100 * value:.{digits}f} %"


def _summary(truth: Truth) -> Sequence[object]:
    metrics, record, known = truth.metrics, truth.record, truth.classes
    right = round(metrics.top1 * metrics.n / 100)
    low, high = interval(right, metrics.n)
    there = sum(one.support > 0 for one in known)
    over = f" (over the {there:,} of {len(known):,} classes that have images)" if there < len(known) else ""
    used = truth.calibrated is not None and truth.calibrated.kept
    told = {
        "Top-1": f"{metrics.top1:.1f} % ({right:,} of {metrics.n:,}; 95 % interval {share(low)} to {share(high)})",
        "Top-5": None if metrics.top5 is None else f"{metrics.top5:.1f} %",
        "Mean per class": f"{metrics.mean_per_class:.1f} %{over}",
        "Macro F1": share(mean([one.f1 for one in known if one.support])),
        "Mean average precision": share(mean([one.average_precision for one in known])),
        "Mean AUROC": share(mean([one.auroc for one in known])),
        "Loss": f"{metrics.loss:.4f} nats{' (calibrated)' if used else ''}",
        "Expected calibration error": share(truth.now.ece),
        "Method": record.method.spec if record else None,
        "Backbone": truth.facts["backbone"],
        "Trained": f"{record.ended}, seed {record.seed}, {record.device}" if record else None,
    }
    notes = h("ul", *(h("li", note) for note in truth.notes)) if truth.notes else None
    said = f"All numbers of this section are of {truth.split} (n = {metrics.n:,}) of {truth.data}."
    return (h("p", said), facts(told), h("h3", "To be known") if notes else None, notes)


def _confusion(truth: Truth) -> Sequence[object]:
    names, labels, answers = truth.images.names, truth.measured.labels, truth.answers
    if not truth.confused:
        return (h("p", f"None of the {truth.metrics.n:,} images of {truth.split} is taken for another class."),)
    shown = chosen(truth.confused, len(names))
    support = [truth.classes[label].support for label in shown]
    drawn = confusion(matrix(labels, answers, shown), support, [names[label] for label in shown])
    which = (
        "All classes."
        if len(shown) == len(names)
        else f"The {len(shown)} of {len(names):,} classes that most mistakes are about; answers outside them are "
        "not in the picture."
    )
    said = f"Confusion matrix of {truth.split}, n = {truth.metrics.n:,} images. {which}"
    rows = [
        Row([names[one.label], names[one.answer], f"{one.count:,}", Cell(share(one.share), one.share)])
        for one in truth.confused[:MOST_PAIRS]
    ]
    columns = ("label", "answer", Column("images", number=True), Column("of the label's", number=True))
    told = f"Pairs that are confused in {truth.split}, the most frequent first{_left(truth.confused, MOST_PAIRS)}."
    alt = f"{said} The pairs that are confused most are in the table below."
    return (
        h("div", figure(picture(rendered(drawn, "svg"), "svg", alt), said), class_="scroll", tabindex=0),
        table("confused", told, columns, rows, filtered=len(rows) > 15),
    )


def _left(rows: Sequence[object], most: int) -> str:
    return "" if len(rows) <= most else f": {most} of {len(rows):,}"


def _classes(truth: Truth) -> Sequence[object]:
    there = [one for one in truth.classes if one.support or one.answered]
    ordered = sorted(there, key=lambda one: (1.0 if one.f1 is None else one.f1, one.name))
    numbers = ("precision", "recall", "F1", "average precision", "AUROC")
    said = {
        "precision": "Of the images that are taken for the class, those that are of it.",
        "recall": "Of the images of the class, those that are taken for it.",
        "F1": "The harmonic mean of precision and recall.",
        "average precision": "The mean precision over all thresholds of the class's probability.",
        "AUROC": "How often an image of the class has a higher probability of it than one of another class.",
    }
    columns = [
        Column("class"),
        Column("images", number=True, said="Images of the class: its support."),
        Column("answers", number=True, said="Images that are taken for it."),
        *(Column(name, number=True, said=said[name]) for name in numbers),
    ]
    rows = []
    for one in ordered[:MOST_ROWS]:
        values = (one.precision, one.recall, one.f1, one.average_precision, one.auroc)
        rows.append(
            Row(
                [
                    one.name,
                    f"{one.support:,}",
                    f"{one.answered:,}",
                    *(Cell(share(value), value) for value in values),
                ]
            )
        )
    silent = len(truth.classes) - len(there)
    more = f" {silent:,} classes have neither images nor answers." if silent else ""
    told = (
        f"Each class against all others, on {truth.split} (n = {truth.metrics.n:,}), the worst F1 "
        f"first{_left(ordered, MOST_ROWS)}.{more} A dash stands where nothing can be said."
    )
    return (table("by-class", told, columns, rows, filtered=len(rows) > 15),)


def _calibration(truth: Truth) -> Sequence[object]:
    found, before = truth.calibrated, truth.before
    shown = [("as trained", before)]
    if found is not None:
        shown.append((f"temperature {found.temperature.value:.3g}", found.after))
    lines = []
    for title, one in shown:
        shares = (Cell(share(value), value) for value in (one.ece, one.confidence, one.accuracy))
        lines.append(Row([title, f"{one.n:,}", *shares, f"{one.loss:.4f}", f"{one.brier:.4f}"]))
    numbers = ("images", "ECE", "mean confidence", "accuracy", "loss", "Brier score")
    columns = [Column("probabilities"), *(Column(name, number=True) for name in numbers)]
    said = (
        f"Reliability on {truth.split}, n = {before.n:,} images, in {len(before.bins)} bins. Bars are the share "
        "of right answers among those of a probability; hatched is the gap to what the probability says."
    )
    alt = f"{said} " + "; ".join(f"{title}: ECE {share(one.ece)}" for title, one in shown)
    each = (
        picture(rendered(reliable([one]), "svg"), "svg", f"{alt if place == 0 else one[0]}")
        for place, one in enumerate(shown)
    )
    gap = before.confidence - before.accuracy
    words = "are higher than its accuracy" if gap > 0 else "are lower than its accuracy"
    first = (
        f"On average its answers have a probability of {share(before.confidence)}, and {share(before.accuracy)} "
        f"are right: as trained, its probabilities {words}, by {abs(100 * gap):.1f} points."
    )
    return (
        h("p", first),
        h("p", _advice(truth)),
        figure(h("div", *each, class_="side"), said),
        table("reliability", f"Calibration on {truth.split}.", columns, lines),
    )


def _advice(truth: Truth) -> Html:
    found = truth.calibrated
    if found is None:
        return h("span", "No temperature was fitted: see the notes above.")
    told = f"{found.temperature.told()[0].upper()}{found.temperature.told()[1:]}."
    if found.kept:
        return h("span", f"{told} It is kept with the run, and predict and eval use it.")
    how = h("code", f"vitgraft calibrate {truth.run}")
    return together(
        (
            told,
            " It is fitted for this page alone, and the page's other numbers are as trained; ",
            how,
            " keeps it.",
        )
    )


def _learning(truth: Truth) -> Sequence[object]:
    of = truth.curves
    if of is None:
        return (h("p", "The run's log is not there or cannot be read: there are no curves."),)
    best = None if truth.record is None else truth.record.history.best_epoch
    kept = "" if best is None else f" Epoch {best} was best on validation."
    measured = any(value is not None for value in of.val_top1)
    what = "Loss in training and on validation, and validation accuracy" if measured else "Loss in training"
    said = f"{what}, over {len(of.epochs)} epochs.{kept}"
    drawn = [picture(rendered(learnt(of, best, ("loss",)), "svg"), "svg", said)]
    if measured:
        drawn.append(picture(rendered(learnt(of, best, ("accuracy",)), "svg"), "svg", "Validation accuracy."))
    return (figure(h("div", *drawn, class_="side"), said),)
