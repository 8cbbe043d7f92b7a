"""How far two versions agree: figures worked out by hand, and what holds of any answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from serving.monitoring.agreement import box_iou, cosine, mask_iou, matched_boxes, same_tensors, same_top

A, B, FAR = (0, 0, 10, 10), (0, 0, 10, 20), (100, 100, 110, 110)


@pytest.mark.parametrize(
    ("one", "other", "agreement"),
    [
        (["a", "b"], ["a", "c"], 1),
        (["a", "b"], ["b", "a"], 0),
        ([], [], 1),
        (["a"], [], 0),
    ],
)
def test_labels_agree_in_the_first(one, other, agreement):
    assert same_top(one, other) == agreement


def boxes(*found):
    """(box, class) pairs as two arrays."""
    return np.array([box for box, _ in found], np.float32).reshape(-1, 4), np.array([kind for _, kind in found], int)


@pytest.mark.parametrize(
    ("one", "other", "agreement"),
    [
        ([], [], 1),
        ([(A, 1)], [], 0),
        ([(A, 1)], [(A, 1)], 1),
        ([(A, 1)], [(A, 2)], 0),
        ([(A, 1)], [(B, 1)], 1),
        ([(A, 1)], [((0, 0, 10, 20.1), 1)], 0),
        ([(A, 1), (FAR, 1)], [(A, 1)], 2 / 3),
        ([(A, 1), (A, 1)], [(A, 1)], 2 / 3),
        ([(A, 1), (B, 1)], [(B, 1), (A, 1)], 1),
        ([(B, 1), (A, 1)], [(A, 1), (FAR, 1)], 1 / 2),
        ([((5, 5, 5, 5), 1)], [((5, 5, 5, 5), 1)], 0),
    ],
    ids=[
        "nothing found",
        "one found nothing",
        "the same",
        "another class",
        "half shared is enough",
        "less is not",
        "one too many",
        "each box has one partner",
        "in any order",
        "the best partner first",
        "a box of no size",
    ],
)
def test_boxes_agree_as_far_as_they_find_partners(one, other, agreement):
    assert matched_boxes(*boxes(*one), *boxes(*other)) == pytest.approx(agreement)


@pytest.mark.parametrize(
    ("one", "other", "iou"),
    [(A, A, 1), (A, B, 0.5), (A, FAR, 0), (A, (5, 5, 15, 15), 25 / 175), (A, (10, 0, 20, 10), 0), (A, (9, 9, 1, 1), 0)],
)
def test_overlap_of_boxes(one, other, iou):
    assert box_iou(np.array([one]), np.array([other])) == pytest.approx(iou)


@pytest.mark.parametrize(
    ("one", "other", "agreement"),
    [
        ([[0, 0], [0, 0]], [[0, 0], [0, 0]], 1),
        ([[1, 1], [0, 0]], [[1, 1], [0, 0]], 1),
        ([[1, 1], [0, 0]], [[1, 0], [0, 0]], 0.5),
        ([[1, 1], [2, 2]], [[1, 1], [0, 0]], 0.5),
        ([[1, 1], [0, 0]], [[0, 0], [0, 0]], 0),
        ([[1, 1]], [[1, 1], [1, 1]], 0),
    ],
    ids=["nothing", "the same", "half of it", "one class of two", "nothing against all", "another size"],
)
def test_masks_agree_by_the_mean_over_their_classes(one, other, agreement):
    assert mask_iou(np.array(one), np.array(other)) == agreement


@pytest.mark.parametrize(
    ("one", "other", "agreement"),
    [
        ([1, 0], [2, 0], 1),
        ([1, 0], [0, 1], 0),
        ([1, 1], [1, 0], 0.5**0.5),
        ([1, 0], [-1, 0], 0),
        ([0, 0], [0, 0], 1),
        ([0, 0], [1, 0], 0),
        ([1], [1, 0], 0),
        ([np.nan], [np.nan], 0),
        ([np.inf], [np.inf], 0),
        ([np.inf], [1], 0),
        ([1e308, 1e308], [1e308, 0], 0),
    ],
)
def test_vectors_agree_by_their_angle(one, other, agreement):
    assert cosine(np.array(one, float), np.array(other, float)) == pytest.approx(agreement)


@pytest.mark.parametrize(
    ("one", "other", "agreement"),
    [
        ({}, {}, 1),
        ({"y": [1.0, 0]}, {"y": [2.0, 0]}, 1),
        ({"y": [1.0, 0]}, {"z": [1.0, 0]}, 0),
        ({"y": [1.0, 0]}, {"y": [1.0]}, 0),
        ({"y": [1, 2, 3, 4]}, {"y": [1, 2, 0, 0]}, 0.5),
        ({"y": ["a", "b"]}, {"y": ["a", "c"]}, 0.5),
        ({"y": [1.0, 0], "n": [1, 2]}, {"y": [1.0, 0], "n": [1, 3]}, 0.75),
        ({"n": []}, {"n": []}, 1),
    ],
)
def test_tensors_agree_by_the_mean_over_outputs(one, other, agreement):
    given_, others = ({name: np.array(values) for name, values in some.items()} for some in (one, other))
    assert same_tensors(given_, others) == agreement


BOXES = st.lists(
    st.tuples(
        st.tuples(*[st.integers(0, 20)] * 4).map(lambda b: (*b[:2], b[0] + b[2], b[1] + b[3])), st.integers(0, 2)
    ),
    max_size=5,
)
MASKS = arrays.arrays(np.int64, (4, 4), elements=st.integers(0, 3))
VECTORS = arrays.arrays(np.float32, 4, elements=st.floats(width=32))


@given(BOXES, BOXES)
def test_agreement_of_boxes_is_a_share_and_each_box_counts_once(one, other):
    agreement = matched_boxes(*boxes(*one), *boxes(*other))
    most = 2 * min(len(one), len(other)) / (len(one) + len(other)) if one or other else 1
    assert 0 <= agreement <= most
    solid = [(box, kind) for box, kind in one if box[2] > box[0] and box[3] > box[1]]
    assert matched_boxes(*boxes(*solid), *boxes(*solid)) == 1


@given(MASKS, MASKS)
def test_agreement_of_masks_is_a_share_and_takes_no_side(one, other):
    assert 0 <= mask_iou(one, other) <= 1
    assert mask_iou(one, other) == mask_iou(other, one)
    assert mask_iou(one, one) == 1


@given(VECTORS, VECTORS)
def test_agreement_of_vectors_is_a_share_and_takes_no_side(one, other):
    assert 0 <= cosine(one, other) <= 1
    assert cosine(one, other) == pytest.approx(cosine(other, one))
    assert cosine(one, one) == np.isfinite(one).all()
    assert 0 <= same_tensors({"y": one}, {"y": other}) <= 1
