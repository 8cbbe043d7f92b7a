"""Emoji scenes: the same for everyone, true to their labels, and no ground on two sides."""

from __future__ import annotations

import numpy as np
import pytest
from data_rig import need_emoji
from hypothesis import given
from hypothesis import strategies as st

from exporters.data import backgrounds, emoji
from exporters.data.limits import limits
from exporters.data.scene_rows import load_scenes, padded_boxes, small_class_map
from exporters.data.scenes import LEAST_SEEN, MOST, SIDE, make_scene
from exporters.data.sentences import describe, with_article

SQUEEZED = {"resize": None, "size": 128, "resample": "bilinear", "channels": 3}


@pytest.fixture(scope="module")
def scenes():
    need_emoji()
    return [make_scene("train", number) for number in range(24)]


def test_a_scene_is_the_same_each_time_and_another_in_each_part(scenes):
    again = make_scene("train", 5)
    np.testing.assert_array_equal(again.pixels, scenes[5].pixels)
    np.testing.assert_array_equal(again.boxes, scenes[5].boxes)
    for other in (make_scene("test", 5), scenes[6]):
        assert not np.array_equal(other.pixels, scenes[5].pixels)


def test_boxes_lie_tight_around_masks_that_do_not_overlap(scenes):
    for scene in scenes:
        assert len(scene.class_ids) == len(scene.boxes) == len(scene.masks) <= MOST
        assert scene.masks.sum(axis=0).max() == 1
        for box, mask in zip(scene.boxes, scene.masks, strict=True):
            rows, columns = np.nonzero(mask)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_the_class_map_says_what_the_masks_say(scenes):
    for scene in scenes:
        for class_id, mask in zip(scene.class_ids, scene.masks, strict=True):
            assert (scene.class_map[mask] == class_id + 1).all()
        assert not scene.class_map[~scene.masks.any(axis=0)].any()


def test_what_the_mask_covers_is_the_thing_s_own_colour(scenes):
    """An apple is redder than what is behind it: masks lie where the things are, not beside them."""
    number = next(i for i in range(400) if make_scene("train", i).class_ids.tolist() == [emoji.NAMES.index("apple")])
    scene = make_scene("train", number)
    red, green, blue = scene.pixels[scene.masks[0]].astype(int).mean(axis=0)
    assert red > 1.5 * max(green, blue)


def test_no_thing_is_hidden_by_those_put_on_it_at_once(scenes):
    assert max(len(scene.class_ids) for scene in scenes) == MOST, "there are crowded ones"
    sizes = [mask.sum() for scene in scenes for mask in scene.masks]
    assert min(sizes) > (0.2 * SIDE) ** 2 * 0.1 * LEAST_SEEN


def test_no_photo_is_a_ground_in_two_parts():
    photos = [set(names) for names in backgrounds.PHOTOS.values()]
    assert all(not one & other for i, one in enumerate(photos) for other in photos[i + 1 :])


def test_there_are_forty_things_with_a_picture_each():
    need_emoji()
    assert len(emoji.NAMES) == len(set(emoji.NAMES)) == 40
    pictures = {emoji.cut_out(name).tobytes() for name in emoji.NAMES}
    assert len(pictures) == 40
    with pytest.raises(ValueError, match=r"nothing|no colours"):
        emoji.glyph("\ue000")


def test_rows_are_what_the_model_sees(scenes):
    data = load_scenes(SQUEEZED, padded_boxes, quick=True)
    assert data.card.rows == {"train": 160, "validation": 40, "test": 40}
    assert data.train.inputs["pixels"].shape == (160, 128, 128, 3)
    found = data.train.targets[5]
    count = len(scenes[5].class_ids)
    assert found[:count, 0].tolist() == scenes[5].class_ids.tolist()
    assert (found[count:] == -1).all()
    np.testing.assert_allclose(found[:count, 1:], scenes[5].boxes / 2)
    halved = scenes[5].pixels.reshape(128, 2, 128, 2, 3).mean(axis=(1, 3))
    assert np.abs(data.train.inputs["pixels"][5] - halved).mean() < 4


def test_small_class_maps_are_taken_at_the_middles(scenes):
    small = small_class_map(scenes[3], 64)
    assert small.shape == (64, 64)
    np.testing.assert_array_equal(small, scenes[3].class_map[2::4, 2::4])


def test_rows_of_a_detector_come_with_limits_of_their_own():
    found = limits(60)
    assert {name: array.shape for name, array in found.items()} == dict.fromkeys(found, (60, 1))
    assert len(set(zip(*(array.ravel().tolist() for array in found.values()), strict=True))) == 60


BOX = st.tuples(st.integers(0, 200), st.integers(0, 200), st.integers(5, 50), st.integers(5, 50))


@given(st.lists(BOX, min_size=1, max_size=4))
def test_a_sentence_says_where_its_two_largest_things_are(places):
    boxes = np.array([(x, y, x + width, y + height) for x, y, width, height in places], np.float32)
    names = [f"thing{i}" for i in range(len(places))]
    sentence = describe(names, boxes)
    if len(places) == 1:
        assert sentence == "a thing0"
        return
    first, relation, second = sentence.split(" ", 2)[1], sentence.split(" ", 2)[2], sentence.rsplit(" ", 1)[1]
    centre = {name: ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) for name, box in zip(names, boxes, strict=True)}
    across, down = (centre[second][i] - centre[first][i] for i in (0, 1))
    if relation.startswith("left of"):
        assert across >= abs(down)
    else:
        assert relation.startswith("above")
        assert down > abs(across)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in boxes]
    named = sorted((areas[names.index(name)] for name in (first, second)), reverse=True)
    assert named == sorted(areas, reverse=True)[:2]


@pytest.mark.parametrize(
    ("name", "said"),
    [("dog", "a dog"), ("apple", "an apple"), ("umbrella", "an umbrella"), ("grapes", "grapes"), ("bus", "a bus"),
     ("octopus", "an octopus"), ("cactus", "a cactus"), ("egg", "an egg"), ("house", "a house")],
)  # fmt: skip
def test_articles(name, said):
    assert with_article(name) == said
