"""WebP by Pillow, whose decoder takes room for the whole canvas when it opens a file: so the size is read here first.

Of an animation the first frame is decoded and no other. Colour profiles are ignored.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator

import PIL.Image

from serving.codecs import refusals
from serving.codecs.flattening import flatten
from serving.codecs.header import Header

SIGNATURE = b"RIFF"
MAX_CHUNKS = 65_536

_HAS_EXIF = 0x08  # a flag of VP8X
_VP8_START = b"\x9d\x01\x2a"
_VP8L_START = 0x2F


def matches(data: bytes) -> bool:
    """Whether the file calls itself WebP; RIFF alone may as well be sound or film."""
    return data.startswith(SIGNATURE) and data[8:12] == b"WEBP"


def read_header(data: bytes) -> Header:
    """Size and Exif; ImageInvalid if the file is cut short or its first chunk tells no size."""
    with refusals.decoding("WEBP"):
        (length,) = struct.unpack_from("<I", data, 4)
        if 8 + length > len(data):
            raise refusals.damaged("WEBP")
        width, height = _size(data)
    return Header(width, height, _exif(data))


def decode(data: bytes) -> PIL.Image.Image:
    """The stored pixels over white, as mode RGB. ImageInvalid for damaged data."""
    with refusals.decoding("WEBP"):
        picture = PIL.Image.open(io.BytesIO(data), formats=("WEBP",))
        picture.load()
        return flatten(picture)


def _size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":  # two numbers of 24 bits, each less one
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L" and data[20] == _VP8L_START:  # two of 14 bits, each less one
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and data[23:26] == _VP8_START:  # two of 14 bits, above each a scale of 2 that nobody uses
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise refusals.damaged("WEBP")


def _exif(data: bytes) -> bytes:
    if data[12:16] != b"VP8X" or not data[20] & _HAS_EXIF:
        return b""
    content = next((data[start:end] for kind, start, end in _chunks(data) if kind == b"EXIF"), b"")
    return content.removeprefix(b"Exif\0\0")  # as in JPEG; some writers put it, the format does not ask for it


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Each chunk: its name, where its content starts and where it ends."""
    at = 12
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data):
            return
        kind, length = struct.unpack_from("<4sI", data, at)
        yield kind, at + 8, at + 8 + length
        at += 8 + length + length % 2
    raise refusals.too_many("WEBP", "chunks", MAX_CHUNKS)
