"""Boxes in the caller's pixels, however the picture was stored and however the model sees it."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_rig import SPOT, STORED, spotted

from serving.codecs.preprocessing import ImagePreprocessing
from serving.errors import OutputInvalid
from serving.repository.layout import scan
from serving.task import Request
from serving.tasks.detect import Detect, DetectParameters

VERB = "detect"
LABELS = ("ink", "shade")
PIXEL = 3.1  # of the model's, in the picture's: what a box may be off by


def corners(prediction):
    return [getattr(prediction.box, name) for name in ("xmin", "ymin", "xmax", "ymax")]


@pytest.mark.parametrize("orientation", STORED)
def test_boxes_are_in_pixels_of_the_upright_picture(answering, orientation):
    reply = answering(spotted(orientation=orientation))
    assert (reply.image.width, reply.image.height) == (96, 72)
    assert [(one.label, one.class_id) for one in reply.predictions] == [("ink", 0), ("shade", 1)]
    assert [one.score for one in reply.predictions] == pytest.approx([0.9, 0.4])
    np.testing.assert_allclose(corners(reply.predictions[0]), SPOT, atol=PIXEL)


@pytest.mark.parametrize("size", [(31, 97), (97, 31), (640, 480), (33, 33)])
def test_boxes_of_pictures_of_other_shapes(answering, size):
    width, height = size
    middle = (width * 0.4, height * 0.4, width * 0.62, height * 0.62)
    spot = tuple(round(edge) for edge in middle)
    reply = answering(spotted(width, height, spot))
    np.testing.assert_allclose(corners(reply.predictions[0]), spot, atol=1 + max(size) / 32)


def test_each_caller_s_thresholds_reach_the_graph(answering):
    picture = spotted()
    assert [one.label for one in answering(picture, score_threshold=0.5).predictions] == ["ink"]
    assert [one.label for one in answering(picture, max_detections=1).predictions] == ["ink"]
    assert answering(picture, score_threshold=0.95).predictions == []
    # The smaller box of class 0 lies within the other, with four fifths of its area.
    assert [one.class_id for one in answering(picture, iou_threshold=0.9).predictions] == [0, 0, 1]


def test_a_picture_of_nothing_has_no_boxes(answering):
    assert answering(spotted(spot=(0, 0, 0, 0))).predictions == []


def test_coco_s_format_says_the_same_box(answering):
    picture = spotted()
    xmin, ymin, xmax, ymax = corners(answering(picture).predictions[0])
    found = answering(picture, format="coco").predictions[0]
    assert found.bbox == [xmin, ymin, xmax - xmin, ymax - ymin]
    assert not hasattr(found, "box")


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    root = tmp_path_factory.mktemp("detect")
    tiny.add_dark(root, "detect", letterbox=True)
    return Detect(scan(root).models["detect"].versions[1])


def outputs(boxes, scores=None, class_ids=None, count=None):
    boxes = np.array(boxes, np.float32).reshape(1, -1, 4)
    number = boxes.shape[1]
    return {
        "boxes": boxes,
        "scores": np.array([scores if scores is not None else [0.5] * number], np.float32),
        "class_ids": np.array([class_ids if class_ids is not None else [0] * number], np.int32),
        "count": np.array([[number if count is None else count]], np.int32),
    }


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (outputs([[0, 0, 1, np.nan]]), "not finite"),
        (outputs([[0, 0, 1, 1]], scores=[np.inf]), "not finite"),
        (outputs([[0, 0, 1, 1]], class_ids=[2]), "none of the 2 labels"),
        (outputs([[0, 0, 1, 1]], class_ids=[-1]), "none of the 2 labels"),
        (outputs([[0, 0, 1, 1]], count=2), "no room"),
        (outputs([[0, 0, 1, 1]], count=-1), "no room"),
    ],
    ids=[
        "a box that is no number",
        "an infinite score",
        "a class too many",
        "a class below",
        "a count too many",
        "less",
    ],
)
def test_what_cannot_be_used_is_no_answer(task, found, said):
    with pytest.raises(OutputInvalid, match=said):
        task.decode(found, Request(spotted(), DetectParameters()))


def test_boxes_beside_the_picture_are_left_out_and_others_cut_off(task):
    """On a letterboxed square of 32 the picture of 96 x 72 fills the rows 4 to 28."""
    found = outputs([[0, 0, 32, 3.5], [4, 0, 8, 32], [-5, 10, 40, 12], [3, 5, 3, 9]])
    reply = task.decode(found, Request(spotted(), DetectParameters()))
    assert [corners(one) for one in reply.predictions] == [[12, 0, 24, 72], [0, 18, 96, 24]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"score_threshold": 1.1},
        {"iou_threshold": -0.1},
        {"max_detections": 0},
        {"max_detections": 301},
        {"format": "x"},
    ],
    ids=str,
)
def test_parameters_out_of_their_range_are_refused(wrong):
    with pytest.raises(ValueError, match="validation error"):
        DetectParameters(**wrong)


def test_versions_agree_as_far_as_their_boxes_do(answering):
    picture = spotted()
    reply, one = answering(picture), answering(picture, score_threshold=0.5)
    assert answering.task.agreement(reply, reply) == 1
    assert answering.task.agreement(reply, one) == pytest.approx(2 / 3)
    assert answering.task.agreement(reply, answering(picture, format="coco")) == 1
    assert answering.task.agreement(reply, answering(spotted(spot=(0, 0, 0, 0)))) == 0


SIDES = st.integers(1, 3000)
BOX = st.tuples(*[st.floats(-10, 60, width=32)] * 4)


@settings(max_examples=200)
@given(width=SIDES, height=SIDES, form=st.sampled_from([{}, {"letterbox": True}, {"resize": 40}]), box=BOX)
def test_to_the_square_and_back_again(width, height, form, box):
    """A frame's two ways undo each other, up to the picture's edges."""
    frame = ImagePreprocessing.model_validate({"resize": None, "size": 32, **form}).frame(width, height)
    boxes = np.array([[min(box[0], box[2]), min(box[1], box[3]), max(box[0], box[2]), max(box[1], box[3])]], np.float64)
    found, seen = frame.to_picture(boxes, 32)
    left, top, right, bottom = found[0]
    assert 0 <= left <= right <= width
    assert 0 <= top <= bottom <= height
    assert seen[0] == (right > left and bottom > top)
    x, y = frame.to_square(np.array([left, right]), np.array([top, bottom]), (32, 32))
    for back, edge, limit in zip((*x, *y), boxes[0][[0, 2, 1, 3]], (width, width, height, height), strict=True):
        inside = (left if limit is width else top) > 1e-6
        if inside and right < width - 1e-6 and bottom < height - 1e-6 and left > 1e-6 and top > 1e-6:
            assert back == pytest.approx(edge, abs=1e-3)


@settings(max_examples=100)
@given(width=st.integers(1, 4000), height=st.integers(1, 4000), size=st.sampled_from([32, 128, 416]))
def test_a_letterboxed_picture_is_whole_in_the_middle_and_keeps_its_shape(width, height, size):
    frame = ImagePreprocessing(resize=None, size=size, letterbox=True).frame(width, height)
    assert frame.left <= 0
    assert frame.top <= 0
    assert frame.right >= width - 1e-6
    assert frame.bottom >= height - 1e-6
    x, y = frame.to_square(np.array([0, width]), np.array([0, height]), (size, size))
    assert max(x[1] - x[0], y[1] - y[0]) == pytest.approx(size)
    assert abs(x[0] - (size - x[1])) <= 1 + 1e-6
    assert abs(y[0] - (size - y[1])) <= 1 + 1e-6
    scale = size / max(width, height)
    assert abs((x[1] - x[0]) - max(1, width * scale)) <= 0.5 + 1e-6
    assert abs((y[1] - y[0]) - max(1, height * scale)) <= 0.5 + 1e-6
