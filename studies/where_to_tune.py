"""Does sensitivity help? SPT's placements against fixed ones and against chance, at one budget of trained values.

    python studies/where_to_tune.py                   # every run that is missing, then the tables
    python studies/where_to_tune.py --methods spt-lora,random --workers 2
    python studies/where_to_tune.py --table           # the tables alone

Declared before any run. The budget is what LoRA-8 trains on the built-in backbone, 36,864 values without the
classifier; every method trains as many or fewer (`adapter` 35,892, `vpt-deep` its usual 11,520). The protocol is
that of side_methods.py for in-place methods: the nine default tasks, 800 images to train on, 15 epochs in bf16
with batches of 32; two learning rates, the recipe's and four times that, tried with seed 0 and chosen by accuracy
on the 200 validation images; then seeds 1 and 2 with the chosen rate; the test split is read once by each chosen
run, after the choice.

Three methods are excepted, and skip that grid:

- `random` and `magnitude`, which are spt-lora with scores that ask no image, take the rate that `spt-lora` chose
  on the task;
- `noah` takes the recipe's rate alone, and less of everything than its defaults (a supernet of 30 epochs, 100
  candidates), as its supernet, search and retraining cost several runs all the same.

`lora` and `vpt-deep` are the runs of side_methods.py, and lie there: what that study has done is not done again.
The second table tells where the trained values of SPT's chosen runs went.
"""

from grid import Entry, Home, Study, main
from side_methods import IN_PLACE
from side_methods import STUDY as SIDE

BUDGET = 36_864
"""Values of LoRA-8 on q and v of the built-in backbone; tests/test_studies.py holds it against the formula."""

SHORTER = "supernet=2,population=20,generations=5"


def shared(method: str) -> Entry:
    """An entry of side_methods.py, whose runs serve here, too."""
    entry = SIDE.entries[method]
    return Entry(entry.method, entry.settings, home=SIDE.home)


STUDY = Study(
    home=Home.of("where_to_tune"),
    entries={
        "lora": shared("lora"),
        "adapter": Entry("adapter:hidden=15", IN_PLACE),
        "spt-lora": Entry(f"spt-lora:budget={BUDGET}", IN_PLACE),
        "spt-adapter": Entry(f"spt-adapter:budget={BUDGET}", IN_PLACE),
        "random": Entry(f"spt-lora:budget={BUDGET},score=random", IN_PLACE, rate_of="spt-lora"),
        "magnitude": Entry(f"spt-lora:budget={BUDGET},score=magnitude", IN_PLACE, rate_of="spt-lora"),
        "vpt-deep": shared("vpt-deep"),
        "noah": Entry(f"noah:limit={BUDGET},{SHORTER}", IN_PLACE, rates=(1,)),
    },
    common=SIDE.common,
)

if __name__ == "__main__":
    main(STUDY, __doc__)
