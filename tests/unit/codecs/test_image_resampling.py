"""Which part of a picture is shown, and that JPEG's shortcut of decoding it smaller does not show."""

import io

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL.Image import Resampling

from serving.codecs import jpeg
from serving.codecs.image import open_image


def by_pillow(data, size, box=None, resample=Resampling.BICUBIC):
    with PIL.Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB").resize(size, resample, box)).astype(int)


@pytest.mark.parametrize("name", ["rocket", "china", "flower"])
@pytest.mark.parametrize("size", [(320, 213), (160, 106), (80, 53), (200, 200), (31, 47), (5, 3)], ids=str)
def test_shrunk_jpeg_is_close_to_the_whole_resized(photo, name, size):
    data = photo(name)
    image = open_image(data)
    box = (image.width * 0.1, image.height * 0.05, image.width * 0.9, image.height)
    for part in (None, box):
        difference = np.abs(image.pixels(size, box=part) - by_pillow(data, size, part))
        assert difference.mean() < 4  # of 255; the box off by one pixel of the result makes 10 and more


@pytest.mark.parametrize("resample", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_not_shrunk_is_pillows_own_result(photo, resample):
    data = photo("china")
    expected = by_pillow(data, (400, 300), (10.5, 20, 500, 400.25), Resampling[resample.upper()])
    pixels = open_image(data).pixels((400, 300), box=(10.5, 20, 500, 400.25), resample=resample)
    assert (pixels == expected).all()


def test_nearest_takes_stored_pixels(photo):
    data = photo("china")
    assert (open_image(data).pixels((20, 10), resample="nearest") == by_pillow(data, (20, 10), None, 0)).all()


@settings(deadline=None, max_examples=150)
@given(width=st.integers(1, 90), height=st.integers(1, 90), reduction=st.floats(0.1, 20))
def test_a_jpeg_is_never_shrunk_below_what_is_needed(encode, width, height, reduction):
    data = encode(PIL.Image.new("RGB", (width, height)), "JPEG")
    picture, shrink = jpeg.decode(data, open_image(data).stored, reduction, grey=False)
    assert picture.size == (-(-width // shrink), -(-height // shrink))
    assert shrink <= max(1, reduction / 2), "resampling has half of it left to do"
    if max(width, height) >= 8:
        assert shrink == 8 or shrink * 4 > reduction


@pytest.mark.parametrize("size", [(33, 17), (64, 9), (7, 7), (8, 3), (100, 63)], ids=str)
def test_pixels_of_a_shrunk_picture_lie_where_they_belong(encode, smooth, size):
    data = encode(smooth(*size), "JPEG", quality=100, subsampling=0)
    target = (max(1, size[0] // 8), max(1, size[1] // 8))
    assert np.abs(open_image(data).pixels(target) - by_pillow(data, target)).max() <= 6


def test_shrinking_spares_work(photo):
    data = photo("china")
    picture, shrink = jpeg.decode(data, open_image(data).stored, 8.5, grey=True)
    assert (picture.mode, picture.size, shrink) == ("L", (160, 107), 4)


def test_a_long_thin_picture_makes_no_giant(encode):
    data = encode(PIL.Image.linear_gradient("L").resize((8192, 1)), "PNG")
    assert open_image(data).pixels((64, 64), box=(4000, 0, 4001, 1)).shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((0, 4), None),
        ((4, -1), None),
        ((4, 4), (-1, 0, 4, 4)),
        ((4, 4), (0, 0, 17, 4)),
        ((4, 4), (0, 0, 4, 8.5)),
        ((4, 4), (3, 0, 3, 4)),
        ((4, 4), (0, 5, 4, 4)),
        ((4, 4), (0, float("nan"), 4, 4)),
    ],
    ids=str,
)
def test_what_cannot_be_asked_for(encode, noise, size, box):
    image = open_image(encode(noise(16, 8), "PNG"))
    with pytest.raises(ValueError, match=r"^(size|box) \("):
        image.pixels(size, box=box)
