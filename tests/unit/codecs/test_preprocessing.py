import io

import numpy as np
import PIL.Image
import pytest
from pydantic import ValidationError

from serving.codecs.image import open_image
from serving.codecs.preprocessing import ImagePreprocessing


@pytest.mark.parametrize("shape", [(300, 200), (200, 300), (256, 256), (97, 41)], ids=str)
@pytest.mark.parametrize(("resize", "size"), [(64, 56), (64, 64), (256, 224), (65, 40)])
def test_short_side_is_resized_and_the_centre_cropped(encode, smooth, shape, resize, size):
    picture = smooth(*shape)
    seen = ImagePreprocessing(resize=resize, size=size).apply(open_image(encode(picture, "PNG")))
    short = min(shape)
    resized = picture.resize((round(shape[0] * resize / short), round(shape[1] * resize / short)))
    left, top = (resized.width - size) / 2, (resized.height - size) / 2
    expected = np.asarray(resized.resize((size, size), box=(left, top, left + size, top + size))).astype(int)
    assert seen.shape == (size, size, 3)
    assert np.abs(seen - expected).max() <= 4


def test_without_resize_the_whole_is_squeezed(encode, noise):
    picture = noise(40, 12)
    seen = ImagePreprocessing(resize=None, size=20).apply(open_image(encode(picture, "PNG")))
    assert (seen == np.asarray(picture.resize((20, 20), PIL.Image.Resampling.BICUBIC))).all()


def test_filter_and_channels_are_obeyed(encode, noise):
    picture = noise(40, 40)
    form = ImagePreprocessing(resize=None, size=20, resample="nearest", channels=1)
    seen = form.apply(open_image(encode(picture, "PNG")))
    assert (seen[..., 0] == np.asarray(picture.convert("L").resize((20, 20), PIL.Image.Resampling.NEAREST))).all()


@pytest.mark.parametrize("shape", [(8192, 1), (1, 8192), (1, 1), (8191, 3000)], ids=str)
def test_extreme_shapes(encode, shape):
    data = encode(PIL.Image.new("RGB", shape, "red"), "PNG")
    seen = ImagePreprocessing(resize=256, size=224).apply(open_image(data))
    assert (seen == (255, 0, 0)).all()


def test_the_box_never_leaves_the_picture(encode):
    # 0.7 of 3 pixels and the like: floating point must not push an edge outside.
    for short in range(1, 40):
        image = open_image(encode(PIL.Image.new("L", (short, short + 1)), "PNG"))
        for resize in range(1, 60):
            size = max(1, resize - short % 2)
            assert ImagePreprocessing(resize=resize, size=size).apply(image).shape == (size, size, 3)


@pytest.mark.parametrize(
    "fields",
    [
        {"resize": 200, "size": 224},
        {"size": 224},
        {"resize": 0, "size": 0},
        {"resize": None, "size": 4097},
        {"resize": None, "size": 0},
        {"resize": None, "size": 8, "resample": "area"},
        {"resize": None, "size": 8, "channels": 4},
        {"resize": None, "size": 8, "mean": 0},
    ],
    ids=str,
)
def test_what_a_manifest_may_not_say(fields):
    with pytest.raises(ValidationError):
        ImagePreprocessing.model_validate(fields)


def test_it_cannot_be_changed():
    with pytest.raises(ValidationError):
        ImagePreprocessing(resize=None, size=8).size = 9


def test_pillow_would_agree(photo):
    data = photo("flower")
    with PIL.Image.open(io.BytesIO(data)) as picture:
        side = 427 * 0.875
        box = ((640 - side) / 2, (427 - side) / 2, (640 + side) / 2, (427 + side) / 2)
        expected = np.asarray(picture.resize((224, 224), PIL.Image.Resampling.BICUBIC, box))
    assert (ImagePreprocessing(resize=256, size=224).apply(open_image(data)) == expected).all()
