"""Side methods against in-place ones on the built-in tasks: what they reach, and what they cost.

    python studies/side_methods.py                    # every run that is missing, then the table
    python studies/side_methods.py --methods synqt,vqt --workers 2
    python studies/side_methods.py --table            # the table alone

Declared before any run: the nine default tasks, 800 images to train on; for every method two learning rates, its
recipe's and four times that, tried with seed 0 and chosen by accuracy on the 200 validation images; then seeds 1
and 2 with the chosen rate. The test split is read once by each chosen run, after the choice. Every run has one
thread and a process of its own. Runs that are finished are not repeated; one that was stopped goes on.
"""

from grid import Entry, Home, Study, main

IN_PLACE = {"epochs": 15, "precision": "bf16"}
BESIDE = {"epochs": 45, "precision": "fp32"}
"""A method that reads a cache gets three times the epochs, and is done earlier all the same."""

NETWORK = {"epochs": 30, "precision": "fp32", "batch_size": 64}
"""The two that train a network beside the backbone: SynQT's published batch."""

SETTINGS = {
    "linear": BESIDE,
    "lora": IN_PLACE,
    "vpt-deep": IN_PLACE,
    "vqt": BESIDE,
    "head2toe": BESIDE,
    "lst": NETWORK,
    "synqt": NETWORK,
}
STUDY = Study(
    home=Home.of("side_methods"),
    entries={method: Entry(method, settings) for method, settings in SETTINGS.items()},
    common={"batch_size": 32, "device": "cpu", "snapshot_seconds": 60.0},
)

if __name__ == "__main__":
    main(STUDY, __doc__)
