"""What people call train, val and test: names of folders, lists and values of a column, in any case."""

import re
from collections.abc import Sequence

SPLITS = ("train", "val", "test")
ALL = "all"
"""What the images are that have no splits of their own, where they are to be measured and not cut."""

NAMES = {  # without case, spaces, dashes and underscores -> ours
    **dict.fromkeys(("train", "training", "tr", "trn", "trainset", "trainingset"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "development", "eval", "evaluation"), "val"),
    **dict.fromkeys(("valset", "validset", "validationset", "devset"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "te", "testset", "holdout", "heldout"), "test"),
}
PLAIN = ("train", "training", "val", "valid", "validation", "test", "testing")
"""Names that mean one thing to everybody: that they were understood need not be told."""

FRACTION = 0.15
"""The share of train that becomes val, and test, unless a user says otherwise."""


def split_named(text: str) -> str | None:
    """The split that a name means, if it means one."""
    return NAMES.get(re.sub(r"[-_ ]", "", text.strip().lower()))


def split_hinted(text: str) -> bool:
    """True of a name that has a split's or a fold's in it, such as seg_train or fold3."""
    words = re.split(r"[^a-z]+", text.lower())
    return any(word in PLAIN or word in ("fold", "folds", "holdout") for word in words)


def splits_of_paths(paths: Sequence[str]) -> tuple[str, ...]:
    """The split of each path, where all of them lie in folders at one depth that are called like splits, and not
    all like the same one; nothing otherwise."""
    parts = [path.replace("\\", "/").split("/")[:-1] for path in paths]
    for depth in range(min(map(len, parts), default=0)):
        names = [one[depth].lower().rstrip("0123456789") for one in parts]  # such as train2017
        if all(name in PLAIN for name in names):
            found = tuple(NAMES[name] for name in names)
            if len(set(found)) > 1:
                return found
    return ()


def needs_telling(text: str) -> bool:
    """True of a name whose meaning was guessed: `eval` may be a val to one and a test to another."""
    return text.strip().lower() not in PLAIN
