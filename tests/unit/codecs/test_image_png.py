"""PNG down to its chunks: all pixels must be there and unharmed, and nothing else counts."""

import struct
import zlib
from contextlib import nullcontext

import PIL.Image
import pytest

from serving.codecs import png_chunks
from serving.codecs.image import open_image
from serving.errors import ImageInvalid


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_header(width: int, height: int, depth: int = 8, colour_type: int = 2, interlaced: int = 0) -> bytes:
    content = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, interlaced)
    return png_chunks.SIGNATURE + chunk(b"IHDR", content)


def test_any_harmed_byte_that_makes_pixels_of_a_png_is_noticed(encode, noise):
    data = encode(noise(9, 7), "PNG")
    for at in range(len(data)):
        harmed = data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]
        with pytest.raises(ImageInvalid):
            open_image(harmed).pixels((4, 4))


@pytest.mark.parametrize(("height", "interlaced"), [(8, 0), (8, 1), (1, 1), (5, 1)])
@pytest.mark.parametrize(("depth", "colour_type", "per_pixel"), [(8, 2, 24), (1, 0, 1), (16, 6, 64), (4, 0, 4)])
@pytest.mark.parametrize("width", [1, 8, 300])
def test_a_png_must_unpack_to_all_its_rows(*, height, interlaced, depth, colour_type, per_pixel, width):
    # Black to the last row, so that nothing but the count can tell a row that is there from one that is not.
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = b""
    for left, top, step_x, step_y in passes if interlaced else [(0, 0, 1, 1)]:
        columns = len(range(left, width, step_x))
        row = bytes(1 + -(-columns * per_pixel // 8)) if columns else b""
        rows += row * len(range(top, height, step_y))

    def file(unpacked: bytes) -> bytes:
        packed = zlib.compress(unpacked, 0)  # zlib keeps whole rows apart from the end of the stream
        header = png_header(width, height, depth, colour_type, interlaced)
        halves = chunk(b"IDAT", packed[:9]) + chunk(b"IDAT", packed[9:])
        return header + halves + chunk(b"IEND", b"")

    assert open_image(file(rows)).pixels((width, height)).shape == (height, width, 3)
    with pytest.raises(ImageInvalid):
        open_image(file(rows[: -len(row) or -1])).pixels((4, 4))


def test_of_an_interlaced_png_the_last_row_tells_nothing():
    # Five rows of white: the last belongs to an early pass, and the second and fourth, which come at the end, are cut.
    rows = [1, 1, 2, 2, 2, 4, 4, 4, 4, 8, 8]  # bytes per row of the seven passes over 8 x 5 pixels of grey
    white = [bytes(1) + b"\xff" * length for length in rows]
    for count, whole in ((len(white), True), (len(white) - 1, False)):
        packed = zlib.compress(b"".join(white[:count]))
        data = png_header(8, 5, 8, 0, 1) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
        with nullcontext() if whole else pytest.raises(ImageInvalid):
            assert (open_image(data).pixels((8, 5)) == 255).all()


@pytest.mark.parametrize("side", [64, 1000, 2048])
def test_a_black_png_of_any_size_is_whole(encode, side):
    assert not open_image(encode(PIL.Image.new("RGB", (side, side)), "PNG")).pixels((4, 4)).any()


def test_chunks_that_make_no_pixels_cost_nothing(encode, noise):
    data = encode(noise(8, 8), "PNG")
    bomb = zlib.compress(bytes(50_000_000))
    extra = chunk(b"zTXt", b"a\0\0" + bomb) + chunk(b"iCCP", b"a\0\0" + bomb) + chunk(b"tEXt", bytes(5_000_000))
    extra += chunk(b"iCCP", b"") + chunk(b"acTL", bytes(8)) + chunk(b"gAMA", b"") + b"\0\0\0\0\xff\xff\xff\xff\0\0\0\0"
    assert (open_image(data[:33] + extra + data[33:]).pixels((8, 8)) == open_image(data).pixels((8, 8))).all()


def test_a_second_header_is_refused(encode, noise):
    data = encode(noise(8, 8), "PNG")
    for width, height in ((8000, 3000), (8, 8)):
        with pytest.raises(ImageInvalid):
            open_image(data[:33] + png_header(width, height)[8:] + data[33:]).pixels((8, 8))
