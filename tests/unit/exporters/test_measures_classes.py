"""Measures of classes, probabilities and class maps, against figures computed by hand."""

import numpy as np
import pytest

from exporters.classification import classification_measures
from exporters.data.splits import Rows, Splits
from exporters.measures import calibration, classes
from exporters.measures import segmentation as maps
from exporters.segmentation import segmentation_measures
from serving.repository.manifest import Data

LABELS = ("a", "b", "c")


def certain(found: list[int], sure: float = 1.0) -> np.ndarray:
    """Probabilities of three classes, `sure` for the one found."""
    return np.where(np.eye(3)[found] > 0, sure, (1 - sure) / 2).astype(np.float32)


def test_classes_are_counted_one_by_one():
    found, targets = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    table = classes.per_class_table(found, targets, LABELS)
    assert table.columns == ("class", "precision", "recall", "f1", "support")
    assert table.rows == (("a", 0.5, 1.0, 0.6667, 1), ("b", 1.0, 0.6667, 0.8, 3), ("c", 0.0, 0.0, 0.0, 0))
    assert classes.confusion_table(found, targets, LABELS).rows == (("a", 1, 0, 0), ("b", 1, 2, 0), ("c", 0, 0, 0))


def test_macro_f1_counts_classes_alike_and_leaves_out_the_absent():
    found, targets = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    assert classes.macro_f1(found, targets, 3) == pytest.approx((2 / 3 + 4 / 5) / 2)


def test_top_k_counts_a_target_among_the_first_k():
    probabilities = np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]], np.float32)
    targets = np.array([1, 2])
    assert [classes.top_k_accuracy(probabilities, targets, k) for k in (1, 2)] == [0, 0.5]
    assert classes.accuracy(probabilities, targets) == 0


def test_calibration_by_hand():
    """Ten rows said with 0.8, eight of them right: no error. The same with five of them right: 0.3."""
    probabilities = certain([0] * 10, 0.8)
    good, poor = np.array([0] * 8 + [1] * 2), np.array([0] * 5 + [1] * 5)
    assert calibration.expected_calibration_error(probabilities, good) == pytest.approx(0, abs=1e-6)
    assert calibration.expected_calibration_error(probabilities, poor) == pytest.approx(0.3, abs=1e-6)
    (row,) = calibration.reliability_table(probabilities, poor).rows
    assert row[2:] == (0.8, 0.5, 10)
    assert row[0] <= 0.8 <= row[1]


def test_bins_hold_each_row_once_also_at_the_edges():
    probabilities = np.array([[1, 0, 0], [0.34, 0.33, 0.33], [0.6, 0.4, 0]], np.float32)
    bins = calibration.reliability(probabilities, np.zeros(3, np.int64))
    assert len(bins) == 15
    assert sum(each.rows for each in bins) == 3
    assert bins[-1].rows == 1


def test_brier_score_by_hand():
    targets = np.array([0, 1])
    assert calibration.brier_score(certain([0, 1]), targets) == 0
    assert calibration.brier_score(certain([1, 0]), targets) == pytest.approx(2)
    assert calibration.brier_score(np.full((2, 3), 1 / 3), targets) == pytest.approx(2 / 3)


def splits(targets: list[int]) -> Splits:
    pixels = np.random.default_rng(0).integers(0, 256, (len(targets), 4, 4, 1), np.uint8)
    rows = Rows({"pixels": pixels}, np.array(targets))
    return Splits(Data(name="d", source="", licence=""), rows, train=rows, validation=rows)


def test_a_classifiers_metrics_stand_beside_their_baselines():
    targets = [0] * 6 + [1] * 2 + [2] * 2
    measured = classification_measures(lambda _: {"probabilities": certain(targets)}, splits(targets), LABELS)
    values = {name: metric.value for name, metric in measured.metrics.items()}
    assert values == {"accuracy": 1, "macro_f1": 1, "expected_calibration_error": 0, "brier_score": 0}
    baselines = {name: metric.baseline for name, metric in measured.metrics.items()}
    assert baselines["macro_f1"] == pytest.approx(0.75 / 3)
    assert baselines["expected_calibration_error"] == pytest.approx(0.4)
    assert baselines["brier_score"] == pytest.approx(1 - 0.36 - 0.04 - 0.04)
    assert not measured.metrics["brier_score"].higher_is_better
    assert set(measured.tables) == {"per_class", "reliability", "confusion"}


# Two pictures of 2 x 2: background 0, cat 1, dog 2, and a class that is nowhere.
TRUTH = np.array([[[0, 0], [1, 1]], [[0, 0], [0, 2]]], np.uint8)
FOUND = np.array([[[0, 1], [1, 1]], [[0, 0], [0, 0]]], np.uint8)


def test_class_maps_by_hand():
    matrix = maps.pixel_confusion(FOUND, TRUTH, 4)
    assert matrix.tolist() == [[4, 1, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(maps.iou_by_class(matrix), [4 / 6, 2 / 3, 0, np.nan])
    np.testing.assert_allclose(maps.dice_by_class(matrix), [8 / 10, 4 / 5, 0, np.nan])
    assert maps.mean_of_present(maps.iou_by_class(matrix)) == pytest.approx((4 / 6 + 2 / 3 + 0) / 3)
    assert maps.pixel_accuracy(matrix) == 6 / 8
    assert maps.per_class_table(matrix, ["background", "cat", "dog", "ox"]).rows[2] == ("dog", 0.0, 0.0, 1)
    assert len(maps.per_class_table(matrix, ["background", "cat", "dog", "ox"]).rows) == 3


def test_maps_are_summed_over_pictures_in_any_order():
    assert (maps.pixel_confusion(FOUND[::-1], TRUTH[::-1], 3) == maps.pixel_confusion(FOUND, TRUTH, 3)).all()


def test_maps_of_other_sizes_or_classes_are_refused():
    with pytest.raises(ValueError, match=r"\[2, 2\] was found where the truth is \[3, 3\]"):
        maps.pixel_confusion(FOUND[:1], np.zeros((1, 3, 3), np.uint8), 3)
    with pytest.raises(ValueError, match="Class 2 is on a map of 2"):
        maps.pixel_confusion(FOUND, TRUTH, 2)


def test_no_pixels_are_no_figure():
    matrix = maps.pixel_confusion([], [], 2)
    assert np.isnan(maps.mean_of_present(maps.iou_by_class(matrix)))
    assert np.isnan(maps.pixel_accuracy(matrix))


def test_a_mask_of_one_thing_has_its_own_iou():
    truth = (TRUTH > 0).astype(np.uint8)
    pixels = np.zeros((2, 2, 2, 3), np.uint8)
    found = {"class_map": (FOUND > 0).astype(np.uint8)}
    measured = segmentation_measures(lambda _: found, pixels, truth, ("background", "person"))
    assert measured.metrics["foreground_iou"].value == pytest.approx(2 / 4)
    assert measured.metrics["foreground_iou"].baseline == 0
    assert measured.metrics["mean_iou"].baseline == pytest.approx(5 / 8 / 2)
