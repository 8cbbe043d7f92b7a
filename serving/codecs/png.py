"""PNG by Pillow, from the chunks that make the pixels and no others.

Text, colour profiles and animation never reach the decoder, so they cost nothing and cannot fail: of an animated PNG
the default image is taken. Checksums are verified and the file must be whole to its last byte.
"""

from __future__ import annotations

import io
import struct

import numpy as np
import PIL.Image

from serving.codecs import png_chunks, refusals
from serving.codecs.flattening import flatten
from serving.codecs.header import Header
from serving.tensors import Array

SIGNATURE = png_chunks.SIGNATURE


def read_header(data: bytes) -> Header:
    """Size and Exif; ImageInvalid if the first chunk is not a sound header."""
    layout = png_chunks.read_layout(data)
    return Header(layout.width, layout.height, png_chunks.content(data, b"eXIf"))


def decode(data: bytes) -> PIL.Image.Image:
    """The stored pixels over white as mode L or RGB; of 16 bits the upper 8. ImageInvalid for damaged data."""
    with refusals.decoding("PNG"):
        layout = png_chunks.read_layout(data)
        picture = PIL.Image.open(io.BytesIO(png_chunks.essence(data, layout)), formats=("PNG",))
        picture.load()
        if not _reaches_last_row(picture, layout) and not png_chunks.unpacks_fully(data, layout):
            raise refusals.damaged("PNG")
        has_key = layout.colour_type in {png_chunks.GREY, png_chunks.COLOUR}
        key = png_chunks.content(data, b"tRNS") if has_key else b""
        return _without_key(picture, key, layout.depth) if key else _opaque(picture)


def _reaches_last_row(picture: PIL.Image.Image, layout: png_chunks.Layout) -> bool:
    """Whether the last row has anything in it but zeros. Rows that a file lacks stay so, and Pillow says nothing."""
    last = picture.crop((0, layout.height - 1, layout.width, layout.height))
    return not layout.interlaced and bool(np.asarray(last).any())


def _opaque(picture: PIL.Image.Image) -> PIL.Image.Image:
    match picture.mode:
        case "I;16":
            return PIL.Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
        case "1":
            return picture.convert("L")
        case "P":
            return flatten(picture.convert("RGBA" if "transparency" in picture.info else "RGB"))
        case _:
            return flatten(picture)


def _without_key(picture: PIL.Image.Image, key: bytes, depth: int) -> PIL.Image.Image:
    """White wherever a pixel has the one value that stands for transparent.

    Pillow drops the lower bytes of 16-bit colour, so there only the upper ones are compared.
    """
    stored = np.asarray(picture).reshape(picture.height, picture.width, -1)
    transparent = (stored == _as_decoded(key, picture.mode, depth)).all(axis=2)
    opaque = np.array(_opaque(picture))
    opaque[transparent] = 255
    return PIL.Image.fromarray(opaque)


def _as_decoded(key: bytes, mode: str, depth: int) -> Array:
    """The key's samples in the range to which Pillow brings those of the picture."""
    samples = np.array(struct.unpack_from(">HHH" if mode == "RGB" else ">H", key)) & ((1 << depth) - 1)
    if mode == "RGB":
        return samples >> (depth - 8)
    return samples * (255 // ((1 << depth) - 1)) if depth in {2, 4} else samples
