"""What is said of answers, labels and features, against what one finds by hand, and where nothing can be said."""

import math
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vitgraft.analyze.errors import duplicates
from vitgraft.analyze.errors.reliability import reliability, softmax
from vitgraft.analyze.errors.scores import by_class, checked, confused, interval, mean, worst
from vitgraft.analyze.errors.suspects import OutOfFold, out_of_fold, sure, suspects, thresholds
from vitgraft.errors import DivergedError

LABELS = np.array([0, 0, 1, 1, 1])
PROBABILITIES = np.array([[0.8, 0.1, 0.1], [0.4, 0.5, 0.1], [0.3, 0.6, 0.1], [0.1, 0.7, 0.2], [0.4, 0.05, 0.55]])


def test_by_class__is_what_one_finds_by_hand() -> None:
    first, second, absent = by_class(PROBABILITIES, LABELS, ("a", "b", "c"))
    assert (first.support, first.answered, first.precision, first.recall) == (2, 1, 1.0, 0.5)
    assert first.f1 == pytest.approx(2 / 3)
    assert first.auroc == pytest.approx((3 + 2 + 0.5) / 6)  # 0.4 is tied with one of three
    assert first.average_precision == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert (second.support, second.answered) == (3, 3)
    assert (second.precision, second.recall) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert (absent.support, absent.answered, absent.precision, absent.recall) == (0, 1, 0.0, None)
    assert (absent.f1, absent.average_precision, absent.auroc) == (0.0, None, None)
    assert mean([first.auroc, None, 0.5]) == pytest.approx((5.5 / 6 + 0.5) / 2)
    assert mean([None]) is None


def test_by_class__of_one_image_and_of_answers_that_are_never_right() -> None:
    only, other = by_class(np.array([[0.9, 0.1]]), np.array([0]), ("a", "b"))
    assert (only.precision, only.recall, only.f1, only.auroc, only.average_precision) == (
        1.0,
        1.0,
        1.0,
        None,
        None,
    )
    assert (other.support, other.precision, other.recall, other.f1, other.auroc) == (0, None, None, None, None)
    never = by_class(np.array([[0.1, 0.9], [0.9, 0.1]]), np.array([0, 1]), ("a", "b"))
    assert [(one.precision, one.recall, one.f1, one.auroc) for one in never] == [(0.0, 0.0, 0.0, 0.0)] * 2


def test_confused__and_worst_are_in_order() -> None:
    answers = PROBABILITIES.argmax(axis=1)
    found = confused(answers, LABELS, 3)
    assert [(one.label, one.answer, one.count, one.share) for one in found] == [(0, 1, 1, 0.5), (1, 2, 1, 1 / 3)]
    assert worst(PROBABILITIES, LABELS).tolist() == [4, 1]
    assert confused(LABELS, LABELS, 3) == []


def test_checked__refuses_what_is_not_finite() -> None:
    broken = PROBABILITIES.copy()
    broken[1, 2] = math.nan
    with pytest.raises(DivergedError, match="1 of 5 answers"):
        checked(broken, LABELS)
    with pytest.raises(ValueError, match="0 answers"):
        checked(np.empty((0, 3)), np.empty(0, np.int64))
    assert checked(PROBABILITIES.astype(np.float32), LABELS).dtype == np.float64


def test_interval__is_wilsons() -> None:
    low, high = interval(8, 10)
    z = 1.959963984540054
    middle, reach = 0.8 + z**2 / 20, z * math.sqrt(0.8 * 0.2 / 10 + z**2 / 400)
    assert (low, high) == (
        pytest.approx((middle - reach) / (1 + z**2 / 10)),
        pytest.approx((middle + reach) / (1 + z**2 / 10)),
    )
    assert interval(0, 1)[0] == 0.0


def test_reliability__is_what_one_finds_by_hand() -> None:
    """Two bins: 0.5 and 0.4 are up to a half, the others above."""
    probabilities = np.array([[0.5, 0.3, 0.2], [0.4, 0.35, 0.25], [0.9, 0.1, 0.0], [0.7, 0.2, 0.1]])
    found = reliability(probabilities, np.array([0, 1, 0, 1]), bins=2)
    assert [(one.n, one.confidence, one.accuracy) for one in found.bins] == [
        (2, pytest.approx(0.45), 0.5),
        (2, pytest.approx(0.8), 0.5),
    ]
    assert found.ece == pytest.approx(0.5 * 0.05 + 0.5 * 0.3)
    assert (found.accuracy, found.confidence) == (0.5, pytest.approx(0.625))
    assert found.loss == pytest.approx(-np.log([0.5, 0.35, 0.9, 0.2]).mean())
    squares = (0.25 + 0.09 + 0.04) + (0.16 + 0.65**2 + 0.0625) + (0.01 + 0.01) + (0.49 + 0.64 + 0.01)
    assert found.brier == pytest.approx(squares / 4)


def test_reliability__of_one_sure_image_and_at_the_edges_of_bins() -> None:
    found = reliability(np.array([[1.0, 0.0]]), np.array([0]))
    assert (found.ece, found.loss, found.n, found.bins[-1].n) == (0.0, 0.0, 1, 1)
    assert found.bins[0].accuracy is None
    assert math.isfinite(reliability(np.array([[1.0, 0.0]]), np.array([1])).loss)
    edge = reliability(np.array([[0.6, 0.4]]), np.array([0]), bins=5)
    assert [one.n for one in edge.bins] == [0, 0, 1, 0, 0]


def test_reliability__is_good_where_probabilities_are_true() -> None:
    draw = np.random.default_rng(0)
    probabilities = softmax(draw.standard_normal((5_000, 4)).astype(np.float32) * 2)
    labels = np.array([draw.choice(4, p=row) for row in probabilities])
    assert reliability(probabilities, labels).ece < 0.03
    sharp = softmax(np.log(probabilities), 0.5)
    assert reliability(sharp, labels).ece > 0.1
    np.testing.assert_allclose(softmax(np.log(sharp), 2.0), probabilities)


def test_suspects__are_what_one_finds_by_hand() -> None:
    """Thresholds are 0.6 and 0.8: the third is surely of the other class, the fourth of none."""
    own = np.array([0.9, 0.8, 0.1, 0.3, 0.1])
    found = OutOfFold(np.column_stack([own, 1 - own]), np.full(5, True), 5, 4, 0, 0.8)
    labels = np.array([0, 0, 0, 1, 1])
    assert thresholds(found.probabilities, labels, found.judged) == pytest.approx([0.6, 0.8])
    (one,) = suspects(found, labels)
    assert (one.index, one.label, one.answer) == (2, 0, 1)
    assert (one.own, one.other) == (pytest.approx(0.1), pytest.approx(0.9))
    assert one.margin == pytest.approx(0.8)
    unjudged = OutOfFold(found.probabilities, np.array([True, True, False, True, True]), 5, 4, 0, 0.8)
    assert suspects(unjudged, labels) == []


def test_suspects__are_scaled_up_to_all_images_of_a_label() -> None:
    """Of six images labelled 0, four are surely of a class, one of these of the other: 1.5 labels should be so."""
    own = np.array([0.99, 0.98, 0.02, 0.4, 0.45, 0.6, 0.05, 0.04])
    found = OutOfFold(np.column_stack([own, 1 - own]), np.full(8, True), 5, 4, 0, 0.8)
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    assert sure(found.probabilities, labels, found.judged).tolist() == [0, 0, 1, -1, -1, 0, -1, 1]
    assert [(one.index, one.answer) for one in suspects(found, labels)] == [(2, 1), (3, 1)]
    first_alone = OutOfFold(found.probabilities, labels != 0, 5, 4, 0, 0.8)
    assert suspects(first_alone, labels) == []


def blobs(n: int = 60, classes: int = 3) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    draw = np.random.default_rng(0)
    labels = np.arange(n) % classes
    return (4 * np.eye(8)[labels] + draw.standard_normal((n, 8))).astype(np.float32), labels


def test_out_of_fold__finds_labels_that_were_swapped() -> None:
    features, labels = blobs(300)
    swapped = np.arange(4, 300, 25)
    given = labels.copy()
    given[swapped] = (given[swapped] + 1) % 3
    told: list[int] = []
    found = out_of_fold(features, given, 4, done=lambda: told.append(1))
    assert found is not None
    assert (found.folds, found.fitted_on, found.unfinished, len(told)) == (5, 240, 0, 5)
    assert found.agreement == pytest.approx(1 - len(swapped) / 300, abs=0.02)
    assert found.probabilities.sum(axis=1) == pytest.approx(np.ones(300))
    assert (found.probabilities[:, 3] == 0).all()  # a class without images is nobody's
    suspected = suspects(found, given)
    assert {one.index for one in suspected} <= set(swapped.tolist())
    assert len(suspected) >= 10
    assert all(one.answer == labels[one.index] for one in suspected)
    again = out_of_fold(features, given, 4)
    assert again is not None
    np.testing.assert_array_equal(found.probabilities, again.probabilities)


def test_out_of_fold__what_is_alone_in_its_class_is_not_judged() -> None:
    features, labels = blobs(21)
    labels[0] = 3
    found = out_of_fold(features, labels, 4)
    assert found is not None
    assert np.flatnonzero(~found.judged).tolist() == [0]
    assert all(one.index != 0 for one in suspects(found, labels))
    assert out_of_fold(features[:3], np.array([0, 1, 2]), 3) is None
    assert out_of_fold(features[:3], np.array([0, 0, 1]), 3) is None
    few = out_of_fold(features[:4], np.array([0, 0, 1, 1]), 2)
    assert few is not None
    assert few.folds == 2


def test_out_of_fold__of_too_many_images_some_are_fitted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitgraft.analyze.errors.suspects.WORK", 8 * 3 * 20)
    features, labels = blobs()
    found = out_of_fold(features, labels, 3)
    assert found is not None
    assert found.fitted_on == 20
    assert (found.probabilities.argmax(axis=1) == labels).mean() > 0.8


@pytest.mark.parametrize("memory", [1, 4 * 40 * 7, 1 << 20])
def test_near__is_what_every_pair_says(memory: int) -> None:
    draw = np.random.default_rng(0)
    features = draw.standard_normal((40, 6)).astype(np.float32) + 50
    features[7] = features[3] + 0.01
    vectors = duplicates.directions(features)
    told: list[int] = []
    found = duplicates.near(vectors, 0.5, memory=memory, done=told.append)
    whole = vectors.astype(np.float64) @ vectors.T
    pairs = [(i, j) for i in range(40) for j in range(i + 1, 40) if whole[i, j] >= 0.5]
    assert found.count == len(pairs) > 10
    assert {(pair.first, pair.second) for pair in found.pairs} == set(pairs)
    assert [pair.cosine for pair in found.pairs] == sorted((pair.cosine for pair in found.pairs), reverse=True)
    assert (found.pairs[0].first, found.pairs[0].second) == (3, 7)
    assert sum(told) == 40
    few = duplicates.near(vectors, 0.5, most=3, memory=memory)
    assert few.pairs == found.pairs[:3]
    assert few.count == found.count


def test_near__of_equal_pictures_and_of_one() -> None:
    same = duplicates.near(duplicates.directions(np.ones((4, 3))), 0.9)
    assert same.count == 0  # nothing tells them from the mean of all
    pair = duplicates.directions(np.array([[1.0, 0], [1, 0], [-1, 0], [-1, 0]]))
    assert [(one.first, one.second) for one in duplicates.near(pair, 0.99).pairs] == [(0, 1), (2, 3)]
    assert duplicates.near(pair[:1], 0.9).count == 0


def test_confirmed__are_pictures_that_look_alike() -> None:
    draw = np.random.default_rng(0)
    scene = Image.fromarray(draw.integers(0, 255, (6, 6, 3), dtype=np.uint8)).resize(
        (120, 90), Image.Resampling.BICUBIC
    )
    other = Image.fromarray(draw.integers(0, 255, (6, 6, 3), dtype=np.uint8)).resize(
        (120, 90), Image.Resampling.BICUBIC
    )
    file = BytesIO()
    scene.resize((50, 40)).save(file, "JPEG", quality=60)
    pictures = [scene, Image.open(file), scene.crop((3, 2, 118, 88)), other, Image.new("RGB", (9, 9), "red"),
                Image.new("RGB", (5, 7), "red")]  # fmt: skip
    shades = [duplicates.grey(one) for one in pictures]
    pairs = [duplicates.Pair(i, j, 0.99) for i in range(6) for j in range(i + 1, 6)]
    found = duplicates.confirmed(pairs, lambda number: shades[number])
    assert [(one.first, one.second) for one in found] == [(0, 1), (0, 2), (1, 2), (4, 5)]
    assert duplicates.confirmed(pairs, lambda number: None) == []
    beside = duplicates.beside(found, np.array([0, 1, 1, 0, 0, 0]))
    assert beside.tolist() == [
        [False, True], [True, True], [True, True], [False, False], [True, False], [True, False]
    ]  # fmt: skip
