"""Each task's answer against a truth, and truths that fit none."""

from __future__ import annotations

import json
from contextlib import suppress

import numpy as np
import pycocotools.mask
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from picture_rig import spotted

from serving import plugins
from serving.codecs.mask import read_run_lengths, run_lengths
from serving.errors import TruthInvalid
from serving.repository.layout import scan
from serving.task import FOLDER, Reply, Request
from serving.tasks.caption import CaptionReply
from serving.tasks.classify import ClassifyReply
from serving.tasks.detect import DetectReply
from serving.tasks.segment import SegmentReply

INK = {"label": "ink", "box": {"xmin": 0, "ymin": 0, "xmax": 10, "ymax": 10}}
FULL = {"size": [4, 6], "counts": [0, 24]}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    root = tmp_path_factory.mktemp("truths")
    tiny.add_classifier(root, "classify")
    tiny.add_dark(root, "detect")
    tiny.add_dark(root, "segment", labels=("background", "ink", "shade"))
    tiny.add_captioner(root, "caption")
    tiny.add_embedder(root, "embed")
    models = scan(root).models
    return {verb: plugins.find(FOLDER, verb, "PLUGIN")(model.versions[1]) for verb, model in models.items()}


def named(kind: type[Reply], **fields) -> Reply:
    return kind.model_validate({"model": "m", "version": 1, **fields})


def quality(task, reply: Reply, truth: object) -> float:
    score = task.score(task.gist(reply), json.loads(json.dumps(truth)))
    assert 0 <= score.quality <= 1
    return score.quality


@pytest.mark.parametrize(("truth", "right"), [("green", 1), (1, 1), ("red", 0), (0, 0)])
def test_a_label_or_its_place(tasks, truth, right):
    reply = named(ClassifyReply, predictions=[{"label": "green", "class_id": 1, "score": 0.9}])
    assert quality(tasks["classify"], reply, truth) == right


def test_two_classes_of_one_label_are_the_same_to_a_truth_that_is_a_label(tmp_path):
    folder = tiny.add_classifier(tmp_path, "classify")
    (folder / "labels.txt").write_text("crane\ndog\ncrane\n")
    tiny.write_classifier_manifest(folder)
    task = plugins.find(FOLDER, "classify", "PLUGIN")(scan(tmp_path).models["classify"].versions[1])
    reply = named(ClassifyReply, predictions=[{"label": "crane", "class_id": 2, "score": 0.9}])
    assert [quality(task, reply, truth) for truth in ("crane", 2, 0, "dog")] == [1, 1, 0, 0]


def found(*boxes) -> DetectReply:
    made = [{**box, "class_id": ("ink", "shade").index(box["label"]), "score": 0.9} for box in boxes]
    return named(DetectReply, image={"width": 40, "height": 40}, predictions=made)


@pytest.mark.parametrize(
    ("reply", "truth", "expected"),
    [
        (found(INK), [INK], 1),
        (found(INK), [{"class_id": 0, "bbox": [0, 0, 10, 10]}], 1),
        (found(INK), [{"class_id": 1, "bbox": [0, 0, 10, 10]}], 0),
        (found(INK), [INK, {"label": "shade", "bbox": [20, 20, 5, 5]}], 2 / 3),
        (found(INK), [{"label": "ink", "bbox": [0, 0, 10, 6]}], 1),
        (found(INK), [{"label": "ink", "bbox": [0, 0, 10, 4]}], 0),
        (found(INK), [], 0),
        (found(), [], 1),
        (found({"label": "ink", "bbox": [0, 0, 10, 10]}), [INK], 1),
    ],
    ids=["same", "bbox", "class", "one missed", "overlap", "too little", "too many", "nothing", "coco"],
)
def test_boxes(tasks, reply, truth, expected):
    assert quality(tasks["detect"], reply, truth) == pytest.approx(expected)


def segments(**masks) -> SegmentReply:
    predictions = []
    for label, mask in masks.items():
        size, counts = run_lengths(mask)
        box = {"xmin": 0, "ymin": 0, "xmax": 1, "ymax": 1}
        place = ("background", "ink", "shade").index(label)
        made = {"label": label, "class_id": place, "score": 1, "area": int(mask.sum()), "box": box}
        predictions.append({**made, "mask": {"size": size, "counts": counts}})
    return named(SegmentReply, predictions=predictions)


def half(left: bool = True):
    mask = np.zeros((4, 6), bool)
    mask[:, :3] = True
    return mask if left else ~mask


@pytest.mark.parametrize(
    ("reply", "truth", "expected"),
    [
        (segments(ink=half()), [{"label": "ink", "mask": FULL}], 0.5),
        (segments(ink=half()), [{"class_id": 1, "mask": {"size": [4, 6], "counts": [0, 12, 12]}}], 1),
        (segments(ink=half()), [{"label": "shade", "mask": {"size": [4, 6], "counts": [0, 12, 12]}}], 0),
        (segments(ink=half()), [{"label": "background", "mask": FULL}], 0),
        (segments(ink=half(), shade=half(left=False)), [{"label": "ink", "mask": FULL}], 0.25),
        (segments(), [{"label": "ink", "mask": FULL}], 0),
        (segments(), [{"label": "background", "mask": FULL}], 1),
        (segments(), [], 1),
    ],
    ids=["half", "same", "class", "background", "two classes", "nothing found", "nothing there", "nothing"],
)
def test_masks(tasks, reply, truth, expected):
    assert quality(tasks["segment"], reply, truth) == pytest.approx(expected)


def test_a_map_that_was_sent_as_png_is_held_against_masks_too(tasks):
    task, picture = tasks["segment"], spotted()
    width, height = 96, 72
    outputs = {
        "class_map": np.ones((1, 32, 32), np.uint8),
        "confidence": np.ones((1, 32, 32), np.float32),
    }
    for media_type in ("application/json", "image/png"):
        reply = task.decode(outputs, Request(picture, task.parameters(), media_type))
        all_of_it = [{"label": "ink", "mask": {"size": [height, width], "counts": [0, height * width]}}]
        assert quality(task, reply, all_of_it) == 1
        assert quality(task, reply, [{**all_of_it[0], "label": "shade"}]) == 0


@pytest.mark.parametrize(
    ("truth", "expected"),
    [("a red spot", 1), ("A Red Spot", 1), (["no", "a red disc"], 2 / 3), ("nothing", 0)],
)
def test_texts(tasks, truth, expected):
    reply = named(CaptionReply, text="a red spot", score=-0.1, tokens=4)
    assert quality(tasks["caption"], reply, truth) == pytest.approx(expected)


REPLIES = {
    "classify": named(ClassifyReply, predictions=[{"label": "green", "class_id": 1, "score": 0.9}]),
    "detect": found(INK),
    "segment": segments(ink=half()),
    "caption": named(CaptionReply, text="a red spot", score=-0.1, tokens=4),
}
UNFIT = {
    "classify": [None, True, 1.0, -1, 3, 10**30, "purple", "", [], {}, ["green"], "x" * 10**6],
    "detect": [
        None, "ink", {}, [[]], [{}], [{"label": "ink"}], [{"box": INK["box"]}], [{**INK, "class_id": 0}],
        [{**INK, "bbox": [0, 0, 1, 1]}], [{"label": "ink", "box": {"xmin": 0}}], [{"label": "ink", "bbox": [0, 0, 1]}],
        [{"label": "ink", "bbox": [0, 0, 1e300, 1]}], [{"label": "ink", "bbox": [0, 0, True, 1]}],
        [{"label": "ink", "bbox": ["0", 0, 1, 1]}], [{"class_id": 10**30, "bbox": [0, 0, 1, 1]}], [INK] * 1001,
        [{**INK, "x" * 10_000: 1}],
    ],
    "segment": [
        None, "ink", [{}], [{"label": "ink", "mask": {"size": [4], "counts": ""}}],
        [{"label": "ink", "mask": {"size": [4, 5], "counts": [0, 20]}}],
        [{"label": "ink", "mask": {"size": [4, 6], "counts": [0, 25]}}],
        [{"label": "ink", "mask": {"size": [4, 6], "counts": [-1, 25]}}],
        [{"label": "ink", "mask": {"size": [4, 6], "counts": [0, 10**30]}}],
        [{"label": "ink", "mask": {"size": [4, 6], "counts": "oooooooooooooooooooo"}}],
        [{"label": "ink", "mask": {"size": [4, 6], "counts": "\u00e9\ud7ff"}}],
        [{"label": "ink", "mask": {"size": [4, 6], "counts": ""}}], [{"label": "dog", "mask": FULL}],
        [{"label": "ink", "mask": {"size": [10**9, 10**9], "counts": [0, 10**18]}}],
        [{"label": "ink", "mask": FULL}] * 257,
    ],
    "caption": [None, 1, [], [1], ["a"] * 21, "a" * 10_001, {"text": "a"}],
}  # fmt: skip


@pytest.mark.parametrize("verb", UNFIT)
def test_a_truth_that_does_not_fit_is_refused_with_a_remedy(tasks, verb):
    task = tasks[verb]
    gist = task.gist(REPLIES[verb])
    for truth in UNFIT[verb]:
        with pytest.raises(TruthInvalid) as caught:
            task.score(gist, truth)
        assert caught.value.remedy, truth
        assert len(str(caught.value)) < 600, truth


def test_a_task_that_takes_no_truths_keeps_nothing(tasks):
    assert tasks["embed"].gist(named(tasks["embed"].reply, embedding=[1.0], dimensions=1)) is None
    with pytest.raises(TruthInvalid):
        tasks["embed"].score("", "anything")


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(1, 7))
def test_run_lengths_are_read_as_pycocotools_writes_them(lengths, height):
    total = sum(lengths)
    lengths = [*lengths, -total % height or height]
    size = [height, sum(lengths) // height]
    mask = read_run_lengths(size, lengths)
    written, counts = run_lengths(mask)
    assert written == size
    np.testing.assert_array_equal(read_run_lengths(size, counts), mask)
    np.testing.assert_array_equal(pycocotools.mask.decode({"size": size, "counts": counts.encode()}).astype(bool), mask)


@given(st.text(max_size=30) | st.text("0123456789OPQ_abcdefgno", max_size=30))
def test_no_text_is_more_than_refused(text):
    with suppress(ValueError):
        assert read_run_lengths([3, 4], text).shape == (3, 4)
