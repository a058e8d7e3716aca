"""The built-in tasks: what is drawn, and that it never changes unnoticed.

`python -m tests.test_builtin` prints the golden table below; run it after a change that was meant, and raise the
task's `version` in the registry with it.
"""

import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vitgraft.data import builtin
from vitgraft.data.builtin import (
    digits,
    dsprites,
    flowers,
    fundus,
    landuse,
    norb,
    raycast,
    scenes,
    store,
)
from vitgraft.data.builtin import textures as surfaces
from vitgraft.data.drawing import stream
from vitgraft.data.task import ArrayImages, Split
from vitgraft.errors import ConfigError

DRAWN = tuple(name for name in builtin.names() if builtin.info(name).most_test is None)
OF_CLASSES = tuple(name for name in builtin.names() if builtin.info(name).kind == "class")

# Of the first training pictures at 32 px, seed 0: 16 labels, and the grey level of the four quarters (upper left,
# upper right, lower left, lower right) of each of the first two pictures.
GOLDEN: dict[str, tuple[list[int], list[float]]] = {
    "glyphs": (
        [2, 1, 5, 9, 1, 7, 7, 3, 6, 0, 1, 5, 2, 5, 8, 1],
        [145.6, 169.3, 155.1, 161.9, 137.1, 141.5, 142.0, 120.7],
    ),
    "textures": (
        [1, 6, 10, 6, 3, 5, 5, 2, 4, 6, 10, 5, 5, 2, 11, 1],
        [116.6, 103.9, 114.4, 102.9, 74.6, 63.8, 83.6, 63.2],
    ),
    "flowers": (
        [28, 28, 13, 21, 30, 18, 21, 10, 15, 0, 27, 6, 19, 26, 28, 13],
        [76.5, 66.5, 78.4, 68.3, 60.9, 70.7, 68.7, 80.0],
    ),
    "landuse": (
        [6, 4, 0, 9, 8, 0, 1, 8, 9, 2, 2, 5, 4, 9, 9, 5],
        [111.5, 123.4, 108.6, 116.3, 189.0, 165.2, 178.9, 159.2],
    ),
    "histology": (
        [1, 1, 1, 0, 1, 0, 0, 0, 0, 1, 1, 0, 0, 1, 0, 1],
        [176.5, 181.0, 185.6, 191.5, 169.7, 180.4, 180.8, 174.6],
    ),
    "fundus": (
        [0, 2, 3, 0, 0, 2, 2, 0, 2, 0, 0, 0, 3, 1, 0, 0],
        [60.8, 57.2, 57.9, 58.0, 48.2, 50.6, 49.8, 52.5],
    ),
    "scene_count": (
        [5, 0, 1, 3, 4, 5, 0, 5, 6, 3, 4, 3, 0, 3, 5, 6],
        [110.4, 109.8, 138.3, 114.7, 118.8, 118.1, 150.2, 130.2],
    ),
    "scene_dist": (
        [4, 5, 0, 5, 5, 5, 4, 4, 2, 0, 2, 4, 2, 3, 2, 4],
        [113.8, 121.3, 125.6, 131.4, 120.4, 116.6, 151.1, 140.7],
    ),
    "dspr_loc": (
        [5, 8, 4, 5, 15, 5, 3, 1, 1, 6, 9, 7, 1, 15, 6, 0],
        [39.1, 0.0, 0.0, 0.0, 7.7, 14.2, 0.0, 0.0],
    ),
    "dspr_ori": (
        [7, 5, 9, 11, 4, 14, 15, 4, 8, 4, 0, 1, 3, 10, 10, 12],
        [22.7, 2.5, 0.0, 0.0, 16.4, 12.7, 0.0, 0.0],
    ),
    "norb_azim": (
        [9, 7, 17, 15, 1, 4, 11, 6, 9, 16, 9, 0, 6, 14, 17, 13],
        [131.7, 134.6, 116.9, 130.7, 126.7, 134.2, 132.7, 128.4],
    ),
    "norb_ele": (
        [3, 0, 5, 3, 2, 1, 3, 3, 5, 3, 0, 0, 4, 7, 4, 4],
        [132.6, 132.6, 128.8, 128.8, 130.5, 128.1, 118.0, 112.2],
    ),
    "road_dist": (
        [3, 0, 1, 1, 2, 0, 3, 2, 1, 0, 3, 0, 2, 1, 2, 1],
        [179.3, 180.3, 99.3, 99.7, 156.9, 157.8, 75.6, 74.0],
    ),
    "digits": (
        [7, 1, 3, 4, 6, 2, 8, 0, 9, 5, 7, 1, 3, 4, 6, 2],
        [67.9, 92.0, 58.1, 10.4, 93.8, 49.1, 93.9, 39.1],
    ),
}


@cache
def drawn(name: str, split: str = "train", count: int = 16, size: int = 32, seed: int = 0) -> store.Arrays:
    return store.generate(builtin.info(name), {split: count}, size=size, seed=seed)


def pictures(name: str, **options: int | str) -> NDArray[np.uint8]:
    return next(iter(drawn(name, **options).values()))[0]


def labels(name: str, **options: int | str) -> NDArray[np.int64]:
    return next(iter(drawn(name, **options).values()))[1]


def pixels(split: Split) -> NDArray[np.uint8]:
    assert isinstance(split.images, ArrayImages)
    return split.images.pixels


def quarters(picture: NDArray[np.uint8]) -> list[float]:
    half = len(picture) // 2
    grey = picture.mean(axis=-1).reshape(2, half, 2, half).mean(axis=(1, 3))
    return [round(float(value), 1) for value in grey.ravel()]


def summary(name: str) -> tuple[list[int], list[float]]:
    size = {"train": 16, "val": 0, "test": 0}
    arrays = store.generate(builtin.info(name), size, size=32, seed=0)["train"]
    return arrays[1].tolist(), quarters(arrays[0][0]) + quarters(arrays[0][1])


# --- the listing ---


def test_listing__rows_are_complete_and_distinct() -> None:
    rows = [builtin.info(name) for name in builtin.names()]
    assert len(rows) == 16
    assert len({row.key for row in rows}) == 16
    for row in rows:
        assert len(set(row.classes)) == len(row.classes) > 1
        assert row.description.endswith(".")
        assert row.imitates


def test_listing__default_suite_has_three_of_each_group() -> None:
    groups = [builtin.info(name).group for name in builtin.DEFAULT_SUITE]
    assert groups == ["natural"] * 3 + ["specialized"] * 3 + ["structured"] * 3
    assert "norb_azim" in builtin.DEFAULT_SUITE
    assert "norb_ele" not in builtin.DEFAULT_SUITE


def test_listing__imports_nothing_heavy() -> None:
    code = (
        "import sys; from vitgraft.data import builtin; [builtin.info(n) for n in builtin.names()];"
        "print(sorted({'torch', 'numpy', 'PIL', 'sklearn', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_listing__class_names_are_the_generators_own() -> None:
    assert builtin.info("textures").classes == tuple(surfaces.PATTERNS)
    assert builtin.info("landuse").classes == tuple(landuse.PAINTERS)
    assert builtin.info("flowers").classes == tuple(
        flowers.species(number).describe() for number in range(flowers.SPECIES)
    )
    assert builtin.info("norb_azim").classes == tuple(f"{angle} degrees" for angle in norb.AZIMUTHS)
    assert builtin.info("norb_ele").classes == tuple(f"{angle} degrees" for angle in norb.ELEVATIONS)
    assert len(builtin.info("scene_count").classes) == scenes.MOST - scenes.FEWEST + 1
    assert len(builtin.info("dspr_loc").classes) == len(builtin.info("dspr_ori").classes) == dsprites.CLASSES
    assert builtin.info("digits").key == digits.TASK_KEY


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "glyfs"}, r"no built-in task 'glyfs'. Did you mean 'glyphs'\?"),
        ({"name": "glyphs", "size": 4}, "size is 4, but must be from 8 to 512"),
        ({"name": "glyphs", "seed": -1}, "seed is -1"),
        ({"name": "glyphs", "test": 0}, "test is 0, but must be from 1"),
    ],
)
def test_load__says_what_is_wrong(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        builtin.load(**options)  # type: ignore[arg-type]


# --- pictures and labels ---


@pytest.mark.parametrize("name", OF_CLASSES)
def test_golden__labels_exactly_and_pixels_nearly(name: str) -> None:
    """FFT, FreeType and libm may move a grey level, never a label."""
    found_labels, found_quarters = summary(name)
    expected_labels, expected_quarters = GOLDEN[name]
    assert found_labels == expected_labels
    np.testing.assert_allclose(found_quarters, expected_quarters, atol=1.5)


@pytest.mark.parametrize("name", DRAWN)
def test_drawing__depends_on_seed_split_and_index_alone(name: str) -> None:
    first = pictures(name)
    again = store.generate(builtin.info(name), {"val": 2, "train": 3}, size=32, seed=0)["train"]
    np.testing.assert_array_equal(first[:3], again[0])
    np.testing.assert_array_equal(labels(name)[:3], again[1])
    for other in (pictures(name, seed=1, count=4), pictures(name, split="test", count=4)):
        assert (first[:4] != other).any(axis=(1, 2, 3)).all()
    assert len({picture.tobytes() for picture in first}) == len(first)


@pytest.mark.parametrize("name", DRAWN)
def test_drawing__fills_the_range_and_keeps_labels_at_other_sizes(name: str) -> None:
    first, larger = pictures(name), pictures(name, count=4, size=64)
    assert first.shape == (16, 32, 32, 3)
    assert larger.shape == (4, 64, 64, 3)
    assert first.dtype == np.uint8
    assert (first.reshape(16, -1).std(axis=1) > 4).all(), "a picture is nearly blank"
    np.testing.assert_array_equal(labels(name)[:4], labels(name, count=4, size=64))


@pytest.mark.parametrize("name", [name for name in DRAWN if name in OF_CLASSES])
def test_drawing__classes_come_in_their_shares(name: str) -> None:
    count, classes = 256, len(builtin.info(name).classes)
    found = np.bincount(labels(name, count=count, size=8), minlength=classes)
    assert len(found) == classes
    shares = np.array(fundus.PREVALENCE) if name == "fundus" else np.full(classes, 1 / classes)
    spread = np.sqrt(count * shares * (1 - shares))
    assert (abs(found - count * shares) < 4.5 * spread).all(), found


def test_drawing__landuse_can_be_learned() -> None:
    """Ridge regression on pixels, 300 pictures: far from the majority's tenth, far from solved."""
    features = pictures("landuse", count=500, size=16).reshape(500, -1) / 255 - 0.5
    answers = labels("landuse", count=500, size=16)
    train, test = features[:300], features[300:]
    weights = train.T @ np.linalg.solve(train @ train.T + 30 * np.eye(300), np.eye(10)[answers[:300]])
    accuracy = ((test @ weights).argmax(axis=1) == answers[300:]).mean()
    assert 0.2 < accuracy < 0.7


# --- dSprites ---


def sprite(shape: int, orientation: int, column: int = 16) -> NDArray[np.float64]:
    return dsprites.draw_sprite(dsprites.Latents(shape, 5, orientation, column, 16), 64)[..., 0].astype(float)


def test_dsprites__forty_turns_of_a_heart_are_forty_pictures() -> None:
    hearts = [sprite(2, orientation) for orientation in range(dsprites.ORIENTATIONS)]
    gaps = [abs(hearts[a] - hearts[b]).mean() for a in range(40) for b in range(a)]
    assert min(gaps) > 0.4


@pytest.mark.parametrize(("shape", "period"), [(0, 10), (1, 20)])
def test_dsprites__squares_and_ellipses_repeat_exactly(shape: int, period: int) -> None:
    np.testing.assert_allclose(sprite(shape, 3), sprite(shape, 3 + period), atol=64)
    assert abs(sprite(shape, 3) - sprite(shape, 3 + period)).mean() < 0.1
    assert abs(sprite(shape, 3) - sprite(shape, 3 + period // 2)).mean() > 1


def test_dsprites__bins_and_columns() -> None:
    turns = [dsprites.orientation_class(dsprites.Latents(0, 0, turn, 0, 0)) for turn in range(40)]
    assert turns == [int(turn // 2.5) for turn in range(40)]
    columns = [dsprites.column_class(dsprites.Latents(0, 0, 0, column, 0)) for column in range(32)]
    assert columns == [column // 2 for column in range(32)]
    middles = [
        (sprite(1, 0, column).sum(axis=0) @ np.arange(64)) / sprite(1, 0, column).sum() for column in range(32)
    ]
    assert (np.diff(middles) > 1).all(), "the label grows to the right"


def test_dsprites__place_is_where_the_picture_is_bright() -> None:
    sprites, places = pictures("dspr_place", count=24, size=64), labels("dspr_place", count=24, size=64)
    assert places.shape == (24, 2)
    bright = sprites[..., 0].astype(float)
    total = bright.sum(axis=(1, 2))
    middle = (np.arange(64) + 0.5) / 0.64
    centres = np.stack([bright.sum(axis=1) @ middle / total, bright.sum(axis=2) @ middle / total], axis=1)
    np.testing.assert_allclose(places, centres, atol=2.5)  # a heart's middle is not its centre of mass
    assert places[0].tolist() == [25.0, 41.0]


# --- rendered tasks ---


def test_norb__training_and_evaluation_show_different_toys(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[int] = set()
    original = norb.toy

    def spy(category: int, instance: int) -> tuple[raycast.Solid, ...]:
        seen.add(instance)
        return original(category, instance)

    monkeypatch.setattr(norb, "toy", spy)
    for name in ("norb_azim", "norb_ele"):
        for split, expected in (("train", norb.SEEN), ("val", norb.UNSEEN), ("test", norb.UNSEEN)):
            seen.clear()
            store.generate(builtin.info(name), {split: 60}, size=8, seed=0)
            assert seen == set(expected)


def test_norb__fifty_toys_differ() -> None:
    views = {
        norb.draw_toy(norb.toy(category, instance), 40, 45, 0, 16).tobytes()
        for category in range(5)
        for instance in range(10)
    }
    assert len(views) == 50


def test_scenes__count_is_the_number_of_solids_that_stand_apart() -> None:
    counts = set()
    for index in range(200):
        solids = scenes.sample_scene(stream(1, index)).solids
        counts.add(len(solids))
        for first in range(len(solids)):
            for second in range(first):
                gap = np.linalg.norm((solids[first].centre - solids[second].centre)[:2])
                assert gap > (solids[first].half + solids[second].half)[0]
    assert counts == set(range(3, 11))


def test_scenes__distance_edges_are_sextiles() -> None:
    found = [scenes.distance_class(scenes.sample_scene(stream(2, index)).nearest()) for index in range(3000)]
    shares = np.bincount(found, minlength=6) / 3000
    np.testing.assert_allclose(shares, 1 / 6, atol=0.03)


def test_scenes__colours_are_those_of_the_solids() -> None:
    rows = labels("scene_colours", count=40, size=8)
    assert rows.dtype == np.bool_
    assert rows.shape == (40, len(scenes.PALETTE))
    assert 1 < rows.sum(axis=1).mean() < 8
    assert ((rows.mean(axis=0) > 0.2) & (rows.mean(axis=0) < 0.9)).all()
    for index, row in enumerate(rows):
        solids = scenes.sample_scene(
            stream(0, builtin.info("scene_colours").key, store.SPLITS["train"], index)
        ).solids
        for colour, there in zip(scenes.PALETTE, row, strict=True):
            shades = [one.colour / colour for one in solids]
            assert there == any(np.ptp(shade) < 1e-9 for shade in shades)


# --- digits ---


def test_digits__every_picture_once_and_classes_in_their_shares(tmp_path: Path) -> None:
    task = builtin.load("digits", size=16, root=tmp_path)
    assert {split: len(part) for split, part in task.splits.items()} == {"train": 800, "val": 200, "test": 797}
    per_class = {split: np.bincount(part.labels, minlength=10) for split, part in task.splits.items()}
    whole = sum(per_class.values())
    assert isinstance(whole, np.ndarray)
    assert whole.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    for split, part in task.splits.items():
        np.testing.assert_allclose(per_class[split], whole * len(part) / 1797, atol=1.5)
    everything = np.concatenate([pixels(part) for part in task.splits.values()])
    expected, _ = digits.splits({"all": 1797}, size=16, seed=5)["all"]
    assert sorted(picture.tobytes() for picture in everything) == sorted(picture.tobytes() for picture in expected)
    assert builtin.load("digits", size=16, seed=1, root=tmp_path).fingerprint() != task.fingerprint()


if __name__ == "__main__":
    for task_name in OF_CLASSES:
        answers, grey = summary(task_name)
        print(f'    "{task_name}": (\n        {answers},\n        {grey},\n    ),')
