"""Features of requests and replies: what each one says, and what is left out."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import PIL.Image
import PIL.ImageFilter
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from serving.monitoring.features import request_features, row_features, size_features
from serving.monitoring.outcomes import embedding_features, reply_features, surest
from serving.monitoring.picture_features import picture_features
from serving.monitoring.text_features import text_features, token_features

NOISE = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)


def plain(red: int, green: int, blue: int, side: int = 12):
    return np.full((side, side, 3), (red, green, blue), np.uint8)


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        ((0, 0, 0), {"brightness": 0, "contrast": 0, "sharpness": 0, "saturation": 0}),
        ((255, 255, 255), {"brightness": 1, "saturation": 0}),
        ((255, 0, 0), {"brightness": 1 / 3, "saturation": 1, "red_share": 1, "blue_share": 0}),
        ((0, 0, 128), {"brightness": 128 / 765, "saturation": 1, "red_share": 0, "blue_share": 1}),
        ((100, 200, 100), {"saturation": 0.5, "red_share": 0, "blue_share": 0}),
    ],
)
def test_of_a_picture_of_one_colour(colour, expected):
    found = picture_features(plain(*colour))
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert ("red_share" in found) == (found["saturation"] > 0), "what is grey has no hue"


def test_darker_pictures_are_less_bright_and_blurred_ones_less_sharp():
    clear, dark = picture_features(NOISE), picture_features(NOISE // 2)
    blurred = PIL.Image.fromarray(NOISE).filter(PIL.ImageFilter.GaussianBlur(2))
    soft = picture_features(np.asarray(blurred))
    assert dark["brightness"] == pytest.approx(clear["brightness"] / 2, rel=0.01)
    assert dark["contrast"] == pytest.approx(clear["contrast"] / 2, rel=0.02)
    assert soft["sharpness"] < clear["sharpness"] / 50
    assert soft["brightness"] == pytest.approx(clear["brightness"], rel=0.02)


def test_sharpness_is_the_variance_of_the_laplacian_of_the_middle():
    middle = NOISE[12:108, 32:128, 1].astype(float)
    laplacian = [
        middle[y - 1, x] + middle[y + 1, x] + middle[y, x - 1] + middle[y, x + 1] - 4 * middle[y, x]
        for y in range(1, 95)
        for x in range(1, 95)
    ]
    assert picture_features(NOISE)["sharpness"] == pytest.approx(np.var(laplacian), rel=1e-4)


@given(arrays(np.uint8, array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=4)))
def test_any_picture_has_finite_features(pixels):
    assert np.isfinite(list(picture_features(pixels).values())).all()


def test_pixels_are_found_among_a_tasks_inputs_and_other_kinds_of_payload_have_nothing():
    inputs = {"threshold": np.zeros((1, 1), np.float32), "pixels": NOISE[np.newaxis]}
    assert request_features("image", b"", inputs) == picture_features(NOISE)
    assert request_features("image", b"", {"threshold": inputs["threshold"]}) == {}
    assert request_features("text", "née".encode(), {}) == text_features("née")
    assert size_features(640, 480) == {"size": 307_200.0, "aspect": pytest.approx(4 / 3)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {"characters": 0}),
        ("Ab 12!", {"characters": 6, "letters": 2 / 6, "digits": 2 / 6, "signs": 1 / 6, "capitals": 0.5}),
        ("née", {"letters": 1, "non_ascii": 1 / 3, "capitals": 0, "script": "latin"}),
        ("привет world", {"non_ascii": 0.5, "script": "cyrillic"}),
        ("世界へ", {"script": "han", "non_ascii": 1}),
        ("καλημέρα", {"script": "greek"}),
        ("12 34", {"letters": 0}),
        ("x" * 5000 + "1" * 5000, {"characters": 10_000, "letters": 1, "digits": 0}),  # the beginning tells
    ],
)
def test_of_a_text(text, expected):
    found = text_features(text)
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert ("script" in found) == any(map(str.isalpha, text[:2000]))


@given(st.text(max_size=60))
def test_any_text_has_shares_from_0_to_1(text):
    found = text_features(text)
    shares = [found[name] for name in ("letters", "digits", "signs", "non_ascii", "capitals") if name in found]
    assert all(-1e-9 <= share <= 1 for share in shares)


def test_of_tokens():
    assert token_features(4, 1, 18) == {"tokens": 4.0, "unknown_share": 0.25, "characters_to_token": 4.5}
    assert token_features(4, 0, 0) == {"tokens": 4.0, "unknown_share": 0.0}, "the text was not sent"
    assert token_features(0, 0, 0) == {}


def test_of_a_row_of_a_table():
    row = {"sqft": 900, "price": 1.5, "city": "Bern", "garden": True, "built": None, "note": "", "age": float("nan")}
    assert row_features(row) == {
        "sqft": 900.0, "price": 1.5, "city": "Bern", "garden": "True", "missing_share": pytest.approx(3 / 7)
    }  # fmt: skip
    assert row_features({}) == {}


def thing(label, score):
    return SimpleNamespace(label=label, score=score)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (SimpleNamespace(predictions=[]), {"reply_things": 0}),
        (
            SimpleNamespace(predictions=[thing("cat", 0.2), thing("dog", 0.7)]),
            {"reply_things": 2, "reply_class": "dog", "reply_score": 0.7},
        ),
        (SimpleNamespace(text="a grey disc"), {"reply_characters": 11}),
        (SimpleNamespace(content=b"a file"), {}),
    ],
)
def test_of_a_reply(reply, expected):
    assert reply_features(reply) == expected


def test_the_surest_of_nothing_is_nothing():
    assert surest([]) == {}


def test_of_an_embedding():
    even, alone = np.full(16, 0.25), np.eye(16)[3]
    assert embedding_features(even.tolist())["reply_mean"] == pytest.approx(1)
    assert embedding_features(even.tolist())["reply_spread"] == pytest.approx(1)
    found = embedding_features(alone.tolist())
    assert found["reply_spread"] == pytest.approx(0.25)
    assert found["reply_largest"] == 1
    assert reply_features(SimpleNamespace(embedding=alone.tolist())) == found
    directions = [found[f"reply_direction_{i}"] for i in (1, 2, 3)]
    assert directions == pytest.approx([-0.25, -0.25, 0.25]), "3 is 011 in binary"
