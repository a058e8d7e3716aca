"""The built-in tasks by name: what they are, not how they are drawn.

Imports nothing heavy, so listing them is instant.
"""

from dataclasses import dataclass

from vitgraft.errors import ConfigError, unknown

TRAIN, VAL = 800, 200  # as VTAB-1k
NORMAL_TEST = 1000


@dataclass(frozen=True)
class TaskInfo:
    """One row of the listing.

    `key` seeds the pictures and never changes; `version` counts changes of the pictures, so that old cache files
    are passed over. `generator` is "module:function" in this package; `unseen` is another one for validation
    and test, where those show other objects than training. `most_test` is the size of a task whose pictures are
    given, not drawn: its generator returns all splits at once. `kind` is that of its labels: class, multi (a
    picture has any number of `classes`) or number (`classes` are what the numbers are called).
    """

    name: str
    group: str
    classes: tuple[str, ...]
    description: str
    imitates: str
    key: int
    generator: str
    unseen: str | None = None
    most_test: int | None = None
    default: bool = False
    version: int = 1
    kind: str = "class"


def _numbers(first: int, last: int, unit: str = "", step: int = 1) -> tuple[str, ...]:
    return tuple(f"{number}{unit}" for number in range(first, last + 1, step))


FLORA = (
    "single azure, 11 petals, pink core",
    "single blue, 11 petals, lime core",
    "single green, 7 petals, violet core",
    "double cyan, 3 petals, violet core",
    "double pink, 11 petals, cyan core",
    "double rose, 3 petals, mint core",
    "double mint, 12 petals, blue core",
    "single blue, 8 petals, lime core",
    "double orange, 5 petals, rose core",
    "double violet, 10 petals, blue core",
    "double red, 11 petals, mint core",
    "double azure, 8 petals, pink core",
    "single pink, 3 petals, cyan core",
    "single green, 5 petals, violet core",
    "double green, 4 petals, pink core",
    "single red, 4 petals, blue core",
    "double azure, 8 petals, green core",
    "single cyan, 10 petals, green core",
    "single violet, 12 petals, orange core",
    "double pink, 7 petals, azure core",
    "single violet, 9 petals, orange core",
    "single azure, 6 petals, rose core",
    "single cyan, 8 petals, cyan core",
    "single orange, 10 petals, violet core",
    "double violet, 6 petals, green core",
    "single azure, 5 petals, red core",
    "single azure, 9 petals, blue core",
    "single yellow, 8 petals, azure core",
    "double azure, 8 petals, orange core",
    "single cyan, 7 petals, pink core",
    "double lime, 6 petals, red core",
    "double mint, 3 petals, blue core",
)
SURFACES = (
    *("stripes", "checks", "dots", "lines", "zigzag", "waves"),
    *("cells", "cracks", "marble", "wood", "noise", "weave"),
)
LAND = (
    *("annual crop", "forest", "herbaceous vegetation", "highway", "industrial"),
    *("pasture", "permanent crop", "residential", "river", "sea or lake"),
)
GRADES = ("healthy", "mild", "moderate", "severe", "proliferative")
COLOURS = ("grey", "red", "blue", "green", "brown", "purple", "cyan", "yellow")
DEPTHS = ("nearest sixth", "second sixth", "third sixth", "fourth sixth", "fifth sixth", "farthest sixth")

_ROWS = (
    TaskInfo(
        name="glyphs",
        group="natural",
        classes=_numbers(0, 9),
        description="Read the middle digit of a house number.",
        imitates="SVHN",
        key=1,
        generator="glyphs:middle_digit",
        default=True,
    ),
    TaskInfo(
        name="textures",
        group="natural",
        classes=SURFACES,
        description="Name the pattern of a surface in any colours, turn and scale.",
        imitates="DTD",
        key=2,
        generator="textures:pattern",
        default=True,
    ),
    TaskInfo(
        name="flowers",
        group="natural",
        classes=FLORA,
        description="Tell 32 invented species of flower apart by the form of their petals.",
        imitates="Oxford Flowers",
        key=3,
        generator="flowers:specimen",
        default=True,
    ),
    TaskInfo(
        name="landuse",
        group="specialized",
        classes=LAND,
        description="Name the use of a square of ground seen from above.",
        imitates="EuroSAT",
        key=4,
        generator="landuse:ground",
        default=True,
    ),
    TaskInfo(
        name="histology",
        group="specialized",
        classes=("no tumour", "tumour"),
        description="Find atypical nuclei in the centre of stained tissue.",
        imitates="PatchCamelyon",
        key=5,
        generator="histology:patch",
        default=True,
    ),
    TaskInfo(
        name="fundus",
        group="specialized",
        classes=GRADES,
        description="Grade the damage to a retina; half of the eyes are healthy.",
        imitates="Diabetic Retinopathy",
        key=6,
        generator="fundus:grade",
        default=True,
    ),
    TaskInfo(
        name="scene_count",
        group="structured",
        classes=_numbers(3, 10),
        description="Count the solids on a floor.",
        imitates="CLEVR count",
        key=7,
        generator="scenes:count",
        default=True,
    ),
    TaskInfo(
        name="scene_dist",
        group="structured",
        classes=DEPTHS,
        description="Tell how near the nearest solid on a floor is.",
        imitates="CLEVR distance",
        key=8,
        generator="scenes:distance",
    ),
    TaskInfo(
        name="dspr_loc",
        group="structured",
        classes=tuple(f"column {number}" for number in range(16)),
        description="Tell in which sixteenth of the picture's width a white sprite lies.",
        imitates="dSprites location",
        key=9,
        generator="dsprites:location",
        default=True,
    ),
    TaskInfo(
        name="dspr_ori",
        group="structured",
        classes=tuple(f"from {22.5 * number:g} degrees" for number in range(16)),
        description="Tell into which sixteenth of a turn a white sprite is turned.",
        imitates="dSprites orientation",
        key=10,
        generator="dsprites:orientation",
    ),
    TaskInfo(
        name="norb_azim",
        group="structured",
        classes=_numbers(0, 340, " degrees", step=20),
        description="Tell from which side a grey toy is seen; the test shows other toys.",
        imitates="smallNORB azimuth",
        key=11,
        generator="norb:azimuth",
        unseen="norb:azimuth_unseen",
        default=True,
    ),
    TaskInfo(
        name="norb_ele",
        group="structured",
        classes=_numbers(30, 70, " degrees", step=5),
        description="Tell from how high a grey toy is seen; the test shows other toys.",
        imitates="smallNORB elevation",
        key=12,
        generator="norb:elevation",
        unseen="norb:elevation_unseen",
    ),
    TaskInfo(
        name="road_dist",
        group="structured",
        classes=("4 to 8 m", "8 to 20 m", "20 to 45 m", "no car"),
        description="Tell how far ahead the nearest car is.",
        imitates="KITTI distance",
        key=13,
        generator="road:nearest_car",
    ),
    TaskInfo(
        name="scene_colours",
        group="structured",
        classes=COLOURS,
        description="Name every colour that some solid on a floor has: several labels a picture.",
        imitates="CLEVR",
        key=15,
        generator="scenes:colours",
        kind="multi",
    ),
    TaskInfo(
        name="dspr_place",
        group="structured",
        classes=("x", "y"),
        description="Tell where a white sprite lies, in percent of the picture's width and height: two numbers.",
        imitates="dSprites location",
        key=16,
        generator="dsprites:place",
        kind="number",
    ),
    TaskInfo(
        name="digits",
        group="natural",
        classes=_numbers(0, 9),
        description="Read a handwritten digit: real pictures, shipped by scikit-learn.",
        imitates="MNIST",
        key=14,
        generator="digits:splits",
        most_test=797,
    ),
)
TASKS = {row.name: row for row in _ROWS}
DEFAULT_SUITE = tuple(row.name for row in _ROWS if row.default)


def names() -> tuple[str, ...]:
    """Every built-in task, the groups in VTAB's order and digits last."""
    return tuple(TASKS)


def info(name: str) -> TaskInfo:
    """The row of one task.

    Raises: ConfigError for a name that does not exist.
    """
    if name not in TASKS:
        raise ConfigError(unknown("built-in task", name, TASKS))
    return TASKS[name]
