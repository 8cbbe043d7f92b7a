"""Average precision against a case computed by hand, and what must hold for any case."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.detection import boxes_found, detection_measures, padded_truth
from exporters.measures.detection import Boxes, average_precision, per_class_table

CAT, DOG = 0, 1


def boxes(*found: tuple[int, float, tuple[float, ...]]) -> Boxes:
    """Of (class, score, box)."""
    return Boxes(
        np.array([box for _, _, box in found], np.float32).reshape(-1, 4),
        np.array([class_id for class_id, _, _ in found], np.int64),
        np.array([score for _, score, _ in found], np.float32),
    )


def picture(seed: int) -> Boxes:
    generator = np.random.default_rng(seed)
    count = int(generator.integers(1, 5))
    corner = generator.uniform(0, 150, (count, 2))
    sides = generator.uniform(10, 120, (count, 2))
    return Boxes(np.hstack([corner, corner + sides]), generator.integers(0, 2, count), generator.random(count))


def test_a_case_computed_by_hand():
    """Two cats of 40 x 40. Found in order of score: one with an overlap of 0.8, then nothing, then the other exactly.

    Up to an overlap of 0.8, precisions are 1, 1/2, 2/3 at recalls 1/2, 1/2, 1; of COCO's 101 recalls 51 are at most
    1/2. Above it the first does not match: precisions 0, 0, 1/3 at recalls 0, 0, 1/2.
    """
    truth = [boxes((CAT, 1, (0, 0, 40, 40)), (CAT, 1, (100, 100, 140, 140)))]
    found = [boxes((CAT, 0.9, (0, 0, 40, 32)), (CAT, 0.8, (200, 0, 240, 40)), (CAT, 0.7, (100, 100, 140, 140)))]
    measured = average_precision(found, truth, 2)
    low, high = (51 * 1 + 50 * 2 / 3) / 101, 51 / 3 / 101
    assert measured.ap50 == pytest.approx(low)
    assert measured.ap75 == pytest.approx(low)
    assert measured.ap == pytest.approx((7 * low + 3 * high) / 10)  # 0.5, 0.55 ... 0.8; 0.85, 0.9, 0.95
    assert measured.ar100 == pytest.approx((7 * 1 + 3 * 0.5) / 10)
    assert measured.ap_medium == pytest.approx(measured.ap)
    assert (measured.ap_small, measured.ap_large) == (None, None)
    assert measured.by_class == (pytest.approx(measured.ap), None)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=6))
def test_perfect_answers_are_1(seeds):
    truth = [picture(seed) for seed in seeds]
    measured = average_precision(truth, truth, 2)
    assert [measured.ap, measured.ap50, measured.ar100] == pytest.approx([1, 1, 1])


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=6, unique=True), st.randoms())
def test_the_order_of_pictures_and_of_boxes_does_not_matter(seeds, random):
    pairs = [(picture(seed + 1), picture(seed)) for seed in seeds]
    shuffled = random.sample(pairs, len(pairs))
    turned = [(Boxes(a.boxes[::-1], a.class_ids[::-1], a.scores[::-1]), b) for a, b in shuffled]
    one, other = (average_precision(*map(list, zip(*each, strict=True)), 2) for each in (pairs, turned))
    assert one.ap == pytest.approx(other.ap)
    assert one.ar100 == pytest.approx(other.ar100)


def test_a_box_found_twice_counts_against_it():
    truth = [boxes((CAT, 1, (0, 0, 40, 40)), (CAT, 1, (100, 100, 140, 140)))]
    once = boxes((CAT, 0.9, (0, 0, 40, 40)), (CAT, 0.7, (100, 100, 140, 140)))
    twice = boxes((CAT, 0.9, (0, 0, 40, 40)), (CAT, 0.8, (0, 0, 40, 40)), (CAT, 0.7, (100, 100, 140, 140)))
    assert average_precision([twice], truth, 1).ap < average_precision([once], truth, 1).ap == pytest.approx(1)


def test_the_right_box_of_another_class_is_wrong():
    box = (0, 0, 40, 40)
    measured = average_precision([boxes((DOG, 0.9, box))], [boxes((CAT, 1, box))], 2)
    assert (measured.ap, measured.by_class) == (0, (0, None))


def test_nothing_found_is_0_and_nothing_to_find_is_no_figure():
    some, none = boxes((CAT, 0.9, (0, 0, 40, 40))), boxes()
    assert average_precision([none], [some], 1).ap == 0
    for found in (some, none):
        measured = average_precision([found], [none], 1)
        assert (measured.ap, measured.ar100, measured.by_class) == (None, None, (None,))
    assert per_class_table(average_precision([], [], 1), [], ["cat"]).rows == (("cat", None, None, 0),)


def test_it_is_silent(capfd):
    average_precision([picture(1)], [picture(2)], 2)
    assert capfd.readouterr() == ("", "")


def test_pictures_without_truth_and_boxes_without_scores_are_refused():
    with pytest.raises(ValueError, match="2 pictures; there is truth of 1"):
        average_precision([boxes(), boxes()], [boxes()], 1)
    with pytest.raises(ValueError, match="need scores"):
        average_precision([Boxes(np.zeros((0, 4)), np.zeros(0))], [boxes()], 1)


def test_a_detectors_outputs_are_measured_up_to_their_count():
    """What stands behind `count` in outputs of fixed shape is no box; limits let nearly all boxes through."""
    asked = {}

    def predict(inputs):
        asked.update(inputs)
        rows = len(inputs["pixels"])
        return {
            "boxes": np.tile(np.array([[0, 0, 40, 40], [0, 0, 20, 20]], np.float32), (rows, 1, 1)),
            "scores": np.tile(np.array([0.9, 0.95], np.float32), (rows, 1)),
            "class_ids": np.zeros((rows, 2), np.int32),
            "count": np.ones((rows, 1), np.int32),
        }

    targets = np.array([[[CAT, 0, 0, 40, 40], [-1, -1, -1, -1, -1]]] * 2, np.float32)
    measured = detection_measures(predict, np.zeros((2, 64, 64, 3), np.uint8), padded_truth(targets), ["cat", "dog"])
    assert {name: metric.value for name, metric in measured.metrics.items()} == pytest.approx(
        {"ap": 1, "ap50": 1, "ap75": 1, "ap_medium": 1, "ar100": 1}
    )
    assert measured.tables["per_class"].rows == (("cat", 1.0, 1.0, 2), ("dog", None, None, 0))
    assert asked["score_threshold"].tolist() == [[pytest.approx(0.01)]] * 2
    assert asked["max_detections"].tolist() == [[100]] * 2
    assert len(boxes_found(predict(asked))[0].boxes) == 1
