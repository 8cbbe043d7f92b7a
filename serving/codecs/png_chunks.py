"""PNG as a file: its chunks, their checksums, and whether as many pixels are in it as its header says."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from serving.codecs import refusals

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS = 65_536

GREY, COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6  # colour types
_SAMPLES = {GREY: 1, COLOUR: 3, PALETTE: 1, GREY_ALPHA: 2, COLOUR_ALPHA: 4}
# Where each pass of an interlaced picture starts, and by which steps it goes: x, y, step of x, step of y.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_PIECE = 1 << 16  # bytes handed to zlib at once


class Layout(NamedTuple):
    """The header chunk: size in pixels, bits per sample, colour type, whether interlaced."""

    width: int
    height: int
    depth: int
    colour_type: int
    interlaced: bool

    def length(self) -> int:
        """Bytes of all rows before compression, each row with the byte in front that names its filter."""
        bits = self.depth * _SAMPLES[self.colour_type]
        total = 0
        for left, top, step_x, step_y in _PASSES if self.interlaced else ((0, 0, 1, 1),):
            columns, rows = -(-(self.width - left) // step_x), -(-(self.height - top) // step_y)
            if columns > 0:
                total += rows * (1 + (columns * bits + 7) // 8)
        return total


def read_layout(data: bytes) -> Layout:
    """What the first chunk says; ImageInvalid if it is not a sound header."""
    kind, start, end = next(_chunks(data), (b"", 0, 0))
    if kind != b"IHDR" or end - start != 13 or not _sound(data, start, end):
        raise refusals.damaged("PNG")
    width, height, depth, colour_type, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, start)
    return Layout(width, height, depth, colour_type, bool(interlaced))


def content(data: bytes, wanted: bytes) -> bytes:
    """What stands in the first chunk of that name; empty if there is none."""
    return next((data[start:end] for kind, start, end in _chunks(data) if kind == wanted), b"")


def essence(data: bytes, layout: Layout) -> bytes:
    """The file with nothing in it but the chunks that make the pixels; ImageInvalid if one of them is damaged."""
    wanted = {b"IHDR", b"PLTE", b"IDAT", b"IEND"} | ({b"tRNS"} if layout.colour_type == PALETTE else set())
    chunks = [chunk for chunk in _chunks(data) if chunk[0] in wanted]
    kinds = [kind for kind, _, _ in chunks]
    whole = kinds[-1] == b"IEND" and kinds.count(b"IHDR") == 1
    if not whole or not all(_sound(data, start, end) for _, start, end in chunks):
        raise refusals.damaged("PNG")
    return b"".join([SIGNATURE, *(data[start - 8 : end + 4] for _, start, end in chunks)])


def unpacks_fully(data: bytes, layout: Layout) -> bool:
    """Whether the pixel data unpacks to as many bytes as the layout asks for. Nothing is kept of them."""
    unpack, missing = zlib.decompressobj(), layout.length()
    for kind, start, end in _chunks(data):
        for at in range(start, end if kind == b"IDAT" else start, _PIECE):
            packed = data[at : min(at + _PIECE, end)]
            while packed and missing > 0:
                missing -= len(unpack.decompress(packed, _PIECE))
                packed = unpack.unconsumed_tail
    return missing <= 0


def _sound(data: bytes, start: int, end: int) -> bool:
    """Whether the chunk with this content carries the right checksum, which counts its name in."""
    return zlib.crc32(memoryview(data)[start - 4 : end]) == int.from_bytes(data[end : end + 4], "big")


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Each whole chunk up to IEND: its name, where its content starts and where it ends."""
    at, kind = len(SIGNATURE), b""
    for _ in range(MAX_CHUNKS):
        if kind == b"IEND" or at + 12 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, at)
        start, end = at + 8, at + 8 + length
        at = end + 4
        if at > len(data):
            return
        yield kind, start, end
    raise refusals.too_many("PNG", "chunks", MAX_CHUNKS)
