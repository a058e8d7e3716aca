"""What a person is told of images as they were read: how they were cut, options without effect, doubled images."""

import filecmp
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vitgraft.data.labelling import Labelling
from vitgraft.data.reading.digests import digests

if TYPE_CHECKING:
    from vitgraft.data.reading.options import Item, Reading

ANEW = "To cut anew, put all images under train, or leave a list's column out (--split-column none)"


def of_cut(
    given: Mapping[str, "Sequence[Item]"],
    splits: Mapping[str, "Sequence[Item]"],
    fractions: Mapping[str, float],
    reading: "Reading",
    cut_by: str,
) -> list[str]:
    """How `fractions` were cut out of the `given` splits' train, and which options had nothing to cut."""
    lines = []
    if cut := {split: share for split, share in fractions.items() if splits.get(split)}:
        shares = " and ".join(f"{split} ({100 * share:g} %)" for split, share in cut.items())
        are = "is" if len(cut) == 1 else "are"
        lines.append(f"The data have no {' and no '.join(cut)}: {shares} {are} cut from train, {cut_by}.")
    if none := [split for split in fractions if split not in cut]:
        lines.append(f"There is no {' and no '.join(none)}: no class has enough images to give one.")
    have = {split: f"a {split} of their own ({_images(len(items))})" for split, items in given.items()}
    for split, share in (("val", reading.val_fraction), ("test", reading.test_fraction)):
        owner = next((name for name in ("val", split) if name in given), None)
        if share is not None and split not in fractions and owner is not None and (share or split in given):
            what = f"{split}_fraction = {share:g} (--{split}-fraction) has no effect"
            lines.append(f"{what}: the data have {have[owner]}. {ANEW}.")
    if reading.seed is not None and not fractions:
        lines.append(f"split_seed = {reading.seed} (--split-seed) has no effect: no split is cut.")
    return lines


def of_twins(
    root: Path, splits: Mapping[str, "Sequence[Item]"], classes: Sequence[str], kind: Labelling
) -> list[str]:
    """Images that are byte for byte the same: in two splits, or under two labels."""
    places = [(name, item) for name, items in splits.items() for item in items]
    groups: defaultdict[bytes, list[tuple[str, Item]]] = defaultdict(list)
    for place, digest in zip(places, digests(root, [item.path for _, item in places]), strict=True):
        groups[digest].append(place)
    across: dict[tuple[str, str], list[tuple[Item, Item]]] = {}
    labelled: list[tuple[Item, Item]] = []
    for group in groups.values():
        for one, other in _same(root, group):
            if one[0] != other[0]:
                across.setdefault((one[0], other[0]), []).append((other[1], one[1]))
            if one[1].label != other[1].label:
                labelled.append((one[1], other[1]))
    lines = []
    for (first, second), pairs in across.items():
        what = (
            f"{_images(len(pairs))} of {second} {'is' if len(pairs) == 1 else 'are'} byte for byte in {first}, too"
        )
        lines.append(f"{what}, such as '{pairs[0][0].path}' and '{pairs[0][1].path}'. Remove one of each.")
    if labelled:
        one_, other_ = labelled[0]
        had = [kind.text(one.label, classes) or "none" for one in labelled[0]]
        pair = f"'{one_.path}' ({had[0]}) and '{other_.path}' ({had[1]})"
        lines.append(
            f"{_images(len(labelled))} {'is' if len(labelled) == 1 else 'are'} there under two labels: {pair}."
        )
    return lines


def _same(
    root: Path, group: "Sequence[tuple[str, Item]]"
) -> "Iterator[tuple[tuple[str, Item], tuple[str, Item]]]":
    """Images that are the same, each with the first before it that has another split or label."""
    for index, place in enumerate(group[1:], start=1):
        before = [one for one in group[:index] if (one[0], one[1].label) != (place[0], place[1].label)]
        if before and filecmp.cmp(root / before[0][1].path, root / place[1].path, shallow=False):
            yield before[0], place


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"
