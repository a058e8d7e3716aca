"""The 19 tasks of VTAB-1k (Zhai et al., 2019): 800 training and 200 validation images each, full test sets.

Sizes and slices are those of google-research/task_adaptation; folders those that the converter of
ZhangYuanhan-AI/NOAH writes; versions those that KMnP/vpt names. train800 is the head of the order in which TFDS
keeps a data set, so it is not stratified: a class may be missing from it, or from val200. How many occur was
counted by VPT's author (task_adaptation, issue 21).
"""

from vitgraft.data.benchmarks.table import Benchmark, Export, Part, Slice, TaskRow

TRAIN, VAL = 800, 200
HEAD = Slice("train", 0, TRAIN)
VALIDATION = Slice("validation", 0, VAL)

TOYS = (
    "val200 is cut from the official test set, which shows other toys than train: train800 to val200 is a shift, "
    "and train800val200 holds 200 pictures of the test's toys.",
)
SPRITES = (
    "orientations 0 and 39 are one picture under labels 0 and 15, and square and ellipse repeat within a turn: a "
    "model that is blind to differences below a step ends near 58 %.",
)


def _counts(test: int) -> dict[Part, int]:
    return {"train": TRAIN, "val": VAL, "test": test}


def _after(start: int) -> Slice:
    """Validation images that task_adaptation cuts out of the train split."""
    return Slice("train", start, start + VAL)


def _sprites(label: str, divisor: float) -> Export:
    return Export(
        *("dsprites", "2.0.0", HEAD, _after(589824), Slice("train", 663552)),
        label=label,
        divisor=divisor,
        gain=255,
    )


def _toys(label: str) -> Export:
    return Export("smallnorb", "2.0.0", HEAD, Slice("test", 0, VAL), Slice("test", 12150), label=label)


def _solids(label: str) -> Export:
    return Export("clevr", "3.1.0", HEAD, _after(63000), Slice("validation"), label=label)


TEST = Slice("test")
_NATURAL = (
    TaskRow(
        *("vtab1k", "cifar100", "cifar", 100, _counts(10000), "natural"),
        aliases=("cifar(num_classes=100)",),
        pixels=(32, 32),
        occurring={"val": 90},
        export=Export("cifar100", "3.0.2", HEAD, _after(45000), TEST),
    ),
    TaskRow(
        *("vtab1k", "caltech101", "caltech101", 102, _counts(6084), "natural"),
        aliases=("caltech",),
        occurring={"val": 86},
        export=Export("caltech101", "3.0.1", HEAD, _after(2754), TEST),
    ),
    TaskRow(
        *("vtab1k", "dtd", "dtd", 47, _counts(1880), "natural"),
        export=Export("dtd", "3.0.1", HEAD, VALIDATION, TEST),
    ),
    TaskRow(
        *("vtab1k", "flowers102", "oxford_flowers102", 102, _counts(6149), "natural"),
        aliases=("flowers", "oxford_flowers"),
        occurring={"val": 90},
        export=Export("oxford_flowers102", "2.1.1", HEAD, VALIDATION, TEST),
    ),
    TaskRow(
        *("vtab1k", "pets", "oxford_iiit_pet", 37, _counts(3669), "natural"),
        aliases=("pet", "oxford_pet", "oxford_pets", "oxford_iiit_pets"),
        export=Export("oxford_iiit_pet", "3.2.0", HEAD, _after(2944), TEST),
    ),
    TaskRow(
        *("vtab1k", "svhn", "svhn", 10, _counts(26032), "natural"),
        aliases=("svhn_cropped",),
        pixels=(32, 32),
        export=Export("svhn_cropped", "3.0.0", HEAD, _after(65931), TEST),
    ),
    TaskRow(
        *("vtab1k", "sun397", "sun397", 397, _counts(21750), "natural"),
        aliases=("sun",),
        occurring={"train": 309, "trainval": 325},
        notes=(
            "many classes do not occur in train800 or val200. One file of the data set does not decode in TFDS.",
        ),
        export=Export("sun397", "4.0.0", HEAD, VALIDATION, TEST, config="tfds"),
    ),
)
_SPECIALIZED = (
    TaskRow(
        *("vtab1k", "camelyon", "patch_camelyon", 2, _counts(32768), "specialized"),
        aliases=("pcam",),
        pixels=(96, 96),
        export=Export("patch_camelyon", "2.0.0", HEAD, VALIDATION, TEST),
    ),
    TaskRow(
        *("vtab1k", "eurosat", "eurosat", 10, _counts(5400), "specialized"),
        pixels=(64, 64),
        export=Export("eurosat", "2.0.0", HEAD, _after(16200), Slice("train", 21600), config="rgb"),
    ),
    TaskRow(
        *("vtab1k", "resisc45", "resisc45", 45, _counts(6300), "specialized"),
        aliases=("resisc",),
        pixels=(256, 256),
        notes=("TFDS cannot download it: put NWPU-RESISC45.rar into its manual_dir.",),
        export=Export("resisc45", "3.0.0", HEAD, _after(18900), Slice("train", 25200)),
    ),
    TaskRow(
        *("vtab1k", "retinopathy", "diabetic_retinopathy", 5, _counts(42670), "specialized"),
        aliases=("diabetic_retinopathy_detection", 'diabetic_retinopathy(config="btgraham-300")'),
        notes=(
            "grades are skewed: a constant answer is right on about 73.6 % of the test, and published results "
            "reach 73 to 76.5.",
            "TFDS cannot download it: put Kaggle's files into its manual_dir.",
        ),
        export=Export(*("diabetic_retinopathy_detection", "3.0.0", HEAD, VALIDATION, TEST), config="btgraham-300"),
    ),
)
_STRUCTURED = (
    TaskRow(
        *("vtab1k", "clevr_count", "clevr_count", 8, _counts(15000), "structured"),
        aliases=('clevr(task="count_all")',),
        pixels=(320, 480),
        export=_solids("number of objects"),
    ),
    TaskRow(
        *("vtab1k", "clevr_dist", "clevr_dist", 6, _counts(15000), "structured"),
        aliases=("clevr_distance", 'clevr(task="closest_object_distance")'),
        pixels=(320, 480),
        export=_solids("nearest object"),
    ),
    TaskRow(
        *("vtab1k", "dmlab", "dmlab", 6, _counts(22735), "structured"),
        pixels=(360, 480),
        export=Export("dmlab", "2.0.1", HEAD, VALIDATION, TEST),
    ),
    TaskRow(
        *("vtab1k", "kitti_dist", "kitti", 4, _counts(711), "structured"),
        aliases=("kitti_distance", 'kitti(task="closest_vehicle_distance")'),
        notes=("the test holds 711 images, so chance alone moves an accuracy by 1.6 points.",),
        export=Export("kitti", "3.2.0", HEAD, VALIDATION, TEST, label="nearest vehicle"),
    ),
    TaskRow(
        *("vtab1k", "dspr_loc", "dsprites_loc", 16, _counts(73728), "structured"),
        aliases=(
            *("dsprites_location", "ds_loc"),
            'dsprites(predicted_attribute="label_x_position",num_classes=16)',
        ),
        pixels=(64, 64),
        export=_sprites("label_x_position", 2),
    ),
    TaskRow(
        *("vtab1k", "dspr_ori", "dsprites_ori", 16, _counts(73728), "structured"),
        aliases=(
            *("dsprites_orientation", "dsprites_orient", "dspr_orient", "dspr_orientation", "ds_ori"),
            'dsprites(predicted_attribute="label_orientation",num_classes=16)',
        ),
        pixels=(64, 64),
        notes=SPRITES,
        export=_sprites("label_orientation", 2.5),
    ),
    TaskRow(
        *("vtab1k", "snorb_azim", "smallnorb_azi", 18, _counts(12150), "structured"),
        aliases=(
            "snorb_azi",
            "smallnorb_azim",
            "smallnorb_azimuth",
            'smallnorb(predicted_attribute="label_azimuth")',
        ),
        pixels=(96, 96),
        notes=TOYS,
        export=_toys("label_azimuth"),
    ),
    TaskRow(
        *("vtab1k", "snorb_ele", "smallnorb_ele", 9, _counts(12150), "structured"),
        aliases=(
            *("snorb_elev", "smallnorb_elev", "smallnorb_elevation"),
            'smallnorb(predicted_attribute="label_elevation")',
        ),
        pixels=(96, 96),
        notes=TOYS,
        export=_toys("label_elevation"),
    ),
)

VTAB1K = Benchmark(
    name="vtab1k",
    title="VTAB-1k",
    rows=(*_NATURAL, *_SPECIALIZED, *_STRUCTURED),
    lists={"train": "train800", "val": "val200", "trainval": "train800val200", "test": "test"},
    sources=(
        "Lists with JPEG pictures: the archive that the READMEs of ZhangYuanhan-AI/NOAH and luogen1996/RepAdapter "
        "link; NOAH's get_vtab1k.py writes it.",
        "PNG with JSON lists: the archive that the README of taolinzhang/SynQT links.",
        "TensorFlow Datasets, the originals: VTAB_SETUP.md of KMnP/vpt; in short, "
        "tfds.builder(NAME, data_dir=DIR).download_and_prepare().",
    ),
    advice=(
        "Papers stretch the whole picture: --preprocessing vtab. They train 100 epochs on train and val together: "
        "vtab1k:NAME:trainval, when all is chosen on val.",
    ),
)
