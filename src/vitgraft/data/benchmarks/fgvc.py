"""The five tasks of FGVC, as split by VPT (Jia et al., 2022): fine-grained kinds of birds, flowers, dogs and cars.

Training images are those of the official train split; VPT holds a tenth of them back as val, except for the
flowers, which have an official one. `crop-flip` with the preprocessing `fgvc` is the published augmentation: short
side 256, a random crop of 224, mirrored half of the time.
"""

from vitgraft.data.benchmarks.table import Benchmark, Part, TaskRow


def _counts(train: int, val: int, test: int) -> dict[Part, int]:
    return {"train": train, "val": val, "test": test}


_ROWS = (
    TaskRow(
        *("fgvc", "cub200", "CUB_200_2011", 200, _counts(5394, 600, 5794)),
        aliases=("CUB", "cub_200"),
        images="images",
    ),
    TaskRow(*("fgvc", "nabirds", "nabirds", 555, _counts(21536, 2393, 24633)), images="images"),
    TaskRow(
        *("fgvc", "flowers", "OxfordFlowers", 102, _counts(1020, 1020, 6149)),
        aliases=("OxfordFlower", "oxford_flowers102", "flowers102", "102flowers"),
    ),
    TaskRow(
        *("fgvc", "dogs", "StanfordDogs", 120, _counts(10800, 1200, 8580)),
        aliases=("StanfordDog",),
        images="Images",
    ),
    TaskRow(
        *("fgvc", "cars", "StanfordCars", 196, _counts(7329, 815, 8041)),
        aliases=("StanfordCar",),
        notes=(
            "VPT's splits name the pictures of car_ims.tgz (car_ims/000001.jpg, six digits); copies with "
            "cars_train/ and cars_test/ (five digits) hold the same cars under other names.",
        ),
    ),
)

FGVC = Benchmark(
    name="fgvc",
    title="FGVC",
    rows=_ROWS,
    lists={"train": "train", "val": "val", "test": "test"},
    sources=(
        "Pictures: the data sets' own pages (Caltech, Cornell, Oxford, Stanford), linked by KMnP/vpt.",
        "train.json, val.json and test.json: the splits that the README of KMnP/vpt links; where those links are "
        "dead, the README of FightingFighting/GPS says where they are.",
    ),
    advice=("Papers train with --preprocessing fgvc --augment crop-flip.",),
)
