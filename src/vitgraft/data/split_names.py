"""What people call train, val and test: names of folders, lists and values of a column, in any case."""

import re

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


def needs_telling(text: str) -> bool:
    """True of a name whose meaning was guessed: `eval` may be a val to one and a test to another."""
    return text.strip().lower() not in PLAIN
