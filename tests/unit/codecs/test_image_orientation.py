"""However the camera was held, the pixels are those of the upright picture."""

import struct

import numpy as np
import PIL.Image
import pytest
from PIL.Image import Transpose

from serving.codecs.image import open_image
from serving.codecs.orientation import UPRIGHT, read_orientation

# How a camera that was held so would have stored the upright picture.
STORED_BY = {
    1: None,
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_90,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_270,
}
FORMATS = {
    "JPEG": {"quality": 100, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True, "exact": True},
}
BOXES = {"whole": None, "part": (3, 2, 19, 14), "fractions": (0.5, 1.25, 20.75, 15)}
SIZES = {"as stored": (24, 16), "smaller": (7, 5), "shrunk by half": (9, 6), "wider": (40, 9)}


def turned(encode, picture: PIL.Image.Image, kind: str, orientation: int) -> bytes:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    method = STORED_BY[orientation]
    stored = picture if method is None else picture.transpose(method)
    return encode(stored, kind, exif=exif, **FORMATS[kind])


@pytest.mark.parametrize("resample", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("orientation", STORED_BY)
def test_all_orientations_show_the_same_picture(encode, smooth, noise, *, kind, orientation, resample):
    # Half the contrast: what overshoots and is cut off between the two passes depends on which pass comes first.
    picture = smooth(24, 16) if kind == "JPEG" else noise(24, 16).point(lambda value: 64 + value // 2)
    upright = open_image(encode(picture, kind, **FORMATS[kind]))
    image = open_image(turned(encode, picture, kind, orientation))
    assert (image.width, image.height) == (24, 16)
    for box in BOXES.values():
        for size in SIZES.values():
            expected = upright.pixels(size, box=box, resample=resample).astype(int)
            # Resampling rounds between its horizontal and its vertical pass; JPEG rounds once more.
            tolerance = 4 if kind == "JPEG" else 0 if resample == "nearest" else 2
            np.testing.assert_allclose(
                image.pixels(size, box=box, resample=resample), expected, atol=tolerance, err_msg=f"{box} {size}"
            )


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("orientation", STORED_BY)
@pytest.mark.parametrize("size", [(23, 17), (1, 9), (9, 1)], ids=str)
def test_odd_sizes_unscaled(encode, smooth, noise, *, kind, orientation, size):
    picture = smooth(*size) if kind == "JPEG" else noise(*size)
    image = open_image(turned(encode, picture, kind, orientation))
    assert (image.width, image.height) == size
    np.testing.assert_allclose(image.pixels(size), np.asarray(picture), atol=5 if kind == "JPEG" else 0)


def block(order: str = "<", *, tag: int = 0x0112, kind: int = 3, value: int = 6, before: int = 0) -> bytes:
    """An Exif block whose first directory holds some entries and then this one."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entries = [struct.pack(f"{order}HHIHH", 0x0100, 3, 1, 3, 0)] * before
    entries.append(struct.pack(f"{order}HHIHH", tag, kind, 1, value, 0))
    return mark + struct.pack(f"{order}IH", 8, len(entries)) + b"".join(entries) + bytes(4)


@pytest.mark.parametrize(
    ("exif", "swapped"),
    {
        "little endian": (block(), True),
        "big endian": (block(">"), True),
        "behind others": (block(before=200), True),
        "no value of the tag": (block(value=9), False),
        "zero": (block(value=0), False),
        "not a short": (block(kind=2), False),
        "another tag": (block(tag=0x0113), False),
        "behind more than can be": (block(before=300), False),
        "directory outside": (b"II*\0" + b"\xff" * 4, False),
        "not TIFF": (b"XX" + block()[2:], False),
        "empty": (b"", False),
    }.values(),
    ids=lambda value: "" if isinstance(value, bytes) else None,
)
def test_exif_names_the_orientation_or_is_ignored(exif, swapped):
    assert read_orientation(exif).swapped is swapped


def test_cut_exif_is_ignored():
    exif = block()
    for length in range(len(exif) - 6):  # the tag's value ends there; behind it is filling
        assert read_orientation(exif[:length]) == UPRIGHT, length


def test_damaged_exif_does_not_spoil_the_picture(encode, smooth):
    for kind, options in FORMATS.items():
        data = encode(smooth(16, 8), kind, exif=b"Exif\0\0II*\0" + b"\xff" * 9, **options)
        assert open_image(data).pixels((16, 8)).shape == (8, 16, 3)


def test_webp_exif_may_have_the_prefix_of_jpeg(encode, noise):
    data = encode(noise(6, 4), "WEBP", lossless=True, exif=block())
    at = data.index(b"EXIF")
    exif = b"Exif\0\0" + block()
    data = data[:at] + b"EXIF" + struct.pack("<I", len(exif)) + exif
    data = data[:4] + struct.pack("<I", len(data) - 8) + data[8:]
    assert (open_image(data).width, open_image(data).height) == (4, 6)


def test_webp_exif_counts_only_where_the_header_announces_it(encode, noise):
    data = bytearray(encode(noise(6, 4), "WEBP", lossless=True, exif=block()))
    data[20] &= ~0x08
    assert open_image(bytes(data)).width == 6
    data[20] |= 0x08
    announced_and_missing = bytes(data).replace(b"EXIF", b"EXIX")
    assert open_image(announced_and_missing).width == 6
