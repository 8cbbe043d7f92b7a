"""Masks in the caller's pixels, in COCO's run lengths and as a palette PNG."""

from __future__ import annotations

import io
import time

import numpy as np
import PIL.Image
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_rig import SPOT, STORED, spotted

from serving.codecs.frame import Frame
from serving.codecs.mask import colour, enlarge, from_run_lengths, palette_png, run_lengths
from serving.errors import OutputInvalid
from serving.repository.layout import scan
from serving.task import FileReply, Request
from serving.tasks.segment import PNG, SegmentParameters, SegmentTask

VERB = "segment"
LABELS = ("background", "ink")


def mask_of(segment):
    return from_run_lengths(segment.mask.size, segment.mask.counts)


@pytest.mark.parametrize("orientation", STORED)
def test_masks_lie_on_the_upright_picture(answering, orientation):
    reply = answering(spotted(orientation=orientation))
    (ink,) = reply.predictions
    assert (ink.label, ink.class_id) == ("ink", 1)
    assert ink.score == pytest.approx(0.8)
    mask = mask_of(ink)
    assert mask.shape == (72, 96)
    wanted = np.zeros((72, 96), np.bool_)
    wanted[SPOT[1] : SPOT[3], SPOT[0] : SPOT[2]] = True
    assert (mask & wanted).sum() / (mask | wanted).sum() > 0.8


def test_area_and_box_are_those_of_the_mask(answering):
    (ink,) = answering(spotted()).predictions
    mask = mask_of(ink)
    rows, columns = np.nonzero(mask)
    assert ink.area == mask.sum()
    box = ink.box
    assert (box.xmin, box.ymin, box.xmax, box.ymax) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_the_png_says_what_the_masks_say(answering):
    picture = spotted()
    reply = answering(picture, media_type=PNG)
    assert isinstance(reply, FileReply)
    assert (reply.model, reply.version, reply.media_type) == ("segment", 1, "image/png")
    found = PIL.Image.open(io.BytesIO(reply.content))
    assert (found.mode, found.size) == ("P", (96, 72))
    np.testing.assert_array_equal(np.array(found) == 1, mask_of(answering(picture).predictions[0]))
    assert found.convert("RGB").getpixel((0, 0)) == (0, 0, 0)
    assert found.convert("RGB").getpixel((45, 35)) == colour(1, background=True)


def test_masks_are_drawn_aside(answering):
    before = answering.steps.aside
    answering(spotted())
    assert answering.steps.aside == before + 1


def test_a_picture_of_nothing_has_no_masks(answering):
    assert answering(spotted(spot=(0, 0, 0, 0))).predictions == []


def test_versions_agree_as_far_as_their_masks_overlap(answering):
    whole, half = answering(spotted()), answering(spotted(spot=(30, 20, 45, 50)))
    agreement = answering.task.agreement
    assert agreement(whole, whole) == 1
    assert 0.3 < agreement(whole, half) < 0.7
    assert agreement(answering(spotted(), media_type=PNG), answering(spotted(), media_type=PNG)) == 1
    nothing = answering(spotted(spot=(0, 0, 0, 0)))
    assert agreement(nothing, nothing) == 1
    assert agreement(whole, nothing) == 0


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A version of three classes, none of them nothing."""
    root = tmp_path_factory.mktemp("segment")
    tiny.add_dark(root, "segment", labels=("sky", "ink", "sea"))
    return SegmentTask(scan(root).models["segment"].versions[1])


def test_without_a_background_every_class_has_its_mask(three):
    class_map = np.repeat(np.array([[0, 1, 2, 2]], np.uint8), 4, axis=0)[np.newaxis]
    confidence = np.full((1, 4, 4), 0.9, np.float32)
    reply = three.decode({"class_map": class_map, "confidence": confidence}, Request(spotted(), SegmentParameters()))
    assert [(one.label, one.area) for one in reply.predictions] == [("sky", 1728), ("ink", 1728), ("sea", 3456)]
    assert sum(mask_of(one).astype(int) for one in reply.predictions).tolist() == np.ones((72, 96), int).tolist()


@pytest.mark.parametrize(
    ("class_map", "confidence", "said"),
    [
        (np.full((1, 4, 4), 3, np.uint8), np.ones((1, 4, 4), np.float32), "none of the 3 labels"),
        (np.zeros((1, 4, 4), np.uint8), np.full((1, 4, 4), np.nan, np.float32), "not finite"),
        (np.zeros((1, 4, 4), np.uint8), np.ones((1, 4, 5), np.float32), "another size"),
        (np.zeros((1, 0, 4), np.uint8), np.ones((1, 0, 4), np.float32), "another size"),
    ],
    ids=["a class too many", "no number", "two sizes", "nothing at all"],
)
def test_what_cannot_be_used_is_no_answer(three, class_map, confidence, said):
    with pytest.raises(OutputInvalid, match=said):
        three.decode({"class_map": class_map, "confidence": confidence}, Request(spotted(), SegmentParameters()))


MAPS = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).integers(0, 4, np.random.default_rng(seed).integers(1, 9, 2), np.uint8)
)


@settings(max_examples=60)
@given(class_map=MAPS, times=st.integers(1, 9))
def test_certain_maps_are_enlarged_as_they_are(class_map, times):
    """Where all is equally certain, a cell's class wins wherever its own weight is the greatest, so at its middle."""
    rows, columns = class_map.shape
    frame = Frame(0, 0, columns * times, rows * times, columns * times, rows * times)
    found = enlarge(class_map, np.ones(class_map.shape, np.float32), frame, classes=4)
    assert found.shape == (rows * times, columns * times)
    middles = found[times // 2 :: times, times // 2 :: times]
    if times % 2:
        np.testing.assert_array_equal(middles, class_map)
    if times == 1:
        np.testing.assert_array_equal(found, class_map)


def test_edges_between_two_classes_lie_where_they_are_equally_probable():
    class_map = np.array([[0, 1]], np.uint8)
    frame = Frame(0, 0, 200, 100, 200, 100)
    even = enlarge(class_map, np.array([[0.9, 0.9]], np.float32), frame, classes=2)
    assert np.flatnonzero(even[50] == 1)[0] == 100
    surer = enlarge(class_map, np.array([[0.6, 1.0]], np.float32), frame, classes=2)
    assert np.flatnonzero(surer[50] == 1)[0] == 67


def test_what_the_model_did_not_see_is_class_0():
    frame = Frame(10, 0, 30, 20, 40, 20)  # a crop from the middle
    found = enlarge(np.ones((4, 4), np.uint8), np.ones((4, 4), np.float32), frame, classes=2)
    assert found[:, 10:30].all()
    assert not found[:, :10].any()
    assert not found[:, 30:].any()


def test_large_pictures_take_neither_seconds_nor_gigabytes():
    """25 megapixels in bands: the same as at once, and no more than a few numbers a pixel at a time."""
    generator = np.random.default_rng(0)
    class_map = generator.integers(0, 3, (16, 16), np.uint8)
    confidence = generator.uniform(0.5, 1, (16, 16)).astype(np.float32)
    frame = Frame(0, 0, 5000, 5000, 5000, 5000)
    started_s = time.process_time()
    found = enlarge(class_map, confidence, frame, classes=3)
    assert time.process_time() - started_s < 20  # about one on an idle machine
    small = enlarge(class_map, confidence, Frame(0, 0, 1000, 1000, 1000, 1000), classes=3)
    assert (found[2::5, 2::5] == small).mean() > 0.999


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_run_lengths_go_there_and_back(seed):
    generator = np.random.default_rng(seed)
    mask = generator.random(generator.integers(1, 40, 2)) < generator.random()
    size, counts = run_lengths(mask)
    assert size == list(mask.shape)
    assert counts.isascii()
    np.testing.assert_array_equal(from_run_lengths(size, counts), mask)


def test_each_class_has_its_own_colour():
    colours = {colour(number, background=True) for number in range(41)}
    assert len(colours) == 41
    assert (0, 0, 0) in colours
    assert colour(0, background=False) != (0, 0, 0)
    png = PIL.Image.open(io.BytesIO(palette_png(np.arange(6, dtype=np.uint8).reshape(2, 3), background=True)))
    assert np.array(png).tolist() == [[0, 1, 2], [3, 4, 5]]
