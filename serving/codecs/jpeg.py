"""JPEG by libjpeg-turbo, which outside the interpreter lock decodes at a half, a quarter or an eighth of the size.

Decoding is strict: data that libjpeg would mend with a guess is refused. Of several pictures in one file (MPO) the
first is taken. Colour profiles are ignored.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import PIL.Image
import simplejpeg

from serving.codecs import refusals
from serving.codecs.header import Header
from serving.tensors import Array

SIGNATURE = b"\xff\xd8\xff"
# Cameras and editors write up to about a dozen. Each costs a pass over the whole picture and may be a few bytes long.
MAX_SCANS = 100

_SOS, _EOI, _APP0, _APP1, _APP14, _APP15 = 0xDA, 0xD9, 0xE0, 0xE1, 0xEE, 0xEF
# Not zeros stuffed behind 0xFF, not restart markers, not fill bytes, and none of the markers that have no length.
_MARKER = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])")
_EXIF = b"Exif\0\0"
# Only these sizes of the inverse cosine transform have vector code: 5/8 takes longer than the whole.
_SHRINKS = (8, 4, 2)
# Resampling has to halve what is decoded at least, so that its filter decides what is seen and not the decoder's plain
# averages. Measured on 200 JPEGs against decoding whole: with 1 the first of 1,000 classes differed on 9, with 2 on 1.
_GAP = 2.0


def read_header(data: bytes) -> Header:
    """Size and Exif; ImageInvalid if the header cannot be decoded."""
    with refusals.decoding("JPEG"):
        if _colorspace(data) is None:
            with _by_pillow(data) as picture:
                width, height = picture.size
        else:
            height, width, *_ = simplejpeg.decode_jpeg_header(data)
    return Header(width, height, _exif(data))


def decode(data: bytes, header: Header, reduction: float, *, grey: bool) -> tuple[PIL.Image.Image, int]:
    """The stored pixels shrunk by 1, 2, 4 or 8, but by no more than half of `reduction`, and that number.

    Mode RGB, or L if grey is wanted and the file holds it apart. A shrunk pixel covers exactly that many stored ones
    each way; the last of a row or column may reach over the edge.
    ImageInvalid for damaged data.
    """
    if sum(marker == _SOS for marker, _, _ in _segments(data)) > MAX_SCANS:
        raise refusals.too_many("JPEG", "scans", MAX_SCANS)
    with refusals.decoding("JPEG"):
        colorspace = _colorspace(data)
        if colorspace is None:
            with _by_pillow(data) as picture:
                return picture.convert("RGB"), 1
        shrink = _shrink(header, reduction)
        if colorspace in {"CMYK", "YCCK"}:
            return _cmyk(_pixels(data, "CMYK", header, shrink)), shrink
        pixels = _pixels(data, "GRAY" if grey else "RGB", header, shrink)
        return PIL.Image.fromarray(pixels[..., 0] if grey else pixels), shrink


def _shrink(header: Header, reduction: float) -> int:
    # Below 8 pixels different fractions round up to one size, and which of them was decoded could not be told.
    if max(header.width, header.height) < 8:
        return 1
    return next((shrink for shrink in _SHRINKS if shrink * _GAP <= reduction), 1)


def _pixels(data: bytes, colorspace: str, header: Header, shrink: int) -> Array:
    """Decoded with libjpeg-turbo: uint8 [height, width, channels of the colour space]."""
    width, height = (-(-side // shrink) if shrink > 1 else 0 for side in (header.width, header.height))  # 0: whole
    pixels: Array = simplejpeg.decode_jpeg(data, colorspace, min_width=width, min_height=height, strict=True)
    return pixels


def _cmyk(pixels: Array) -> PIL.Image.Image:
    """Ink amounts as RGB. They are stored inverted, as Adobe does and everyone after it."""
    height, width, _ = pixels.shape
    return PIL.Image.frombytes("CMYK", (width, height), pixels.tobytes(), "raw", "CMYK;I").convert("RGB")


def _colorspace(data: bytes) -> str | None:
    """Its name; None for chroma subsampling that TurboJPEG has no name for and refuses, though libjpeg decodes it."""
    try:
        return str(simplejpeg.decode_jpeg_header(data)[2])
    except ValueError as error:
        if "subsampling" in str(error):
            return None
        raise


def _by_pillow(data: bytes) -> PIL.Image.Image:
    """Opened by Pillow without what it would warn about: Exif and the list of further pictures."""
    kept, at = [], 0
    for marker, start, end in _segments(data):
        if marker == _SOS:
            break
        if _APP0 <= marker <= _APP15 and marker != _APP14:  # 14 tells how the colours are meant
            kept.append(data[at : start - 4])
            at = end
    kept.append(data[at:])
    return PIL.Image.open(io.BytesIO(b"".join(kept)), formats=("JPEG",))


def _exif(data: bytes) -> bytes:
    for marker, start, end in _segments(data):
        if marker == _SOS:
            break
        if marker == _APP1 and data.startswith(_EXIF, start):
            return data[start + len(_EXIF) : end]
    return b""


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Each segment of the first picture: its marker's second byte, where its content starts and where it ends."""
    found = _MARKER.search(data, 2)
    while found and found[1][0] != _EOI:
        start = found.end()
        end = start + max(2, int.from_bytes(data[start : start + 2], "big"))
        yield found[1][0], start + 2, end
        found = _MARKER.search(data, end)
