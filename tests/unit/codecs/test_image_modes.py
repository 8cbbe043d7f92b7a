"""Every way in which a file may store its pixels, against expectations computed by hand."""

import struct
import zlib

import numpy as np
import PIL.Image
import pytest

from serving.codecs.image import open_image

WIDTH, HEIGHT = 16, 4
RAMP = np.arange(WIDTH * HEIGHT, dtype=np.uint8).reshape(HEIGHT, WIDTH)
COLOURS = np.stack([RAMP * 3, 255 - RAMP, RAMP + 40], axis=2)
ALPHA = RAMP * 4


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(depth: int, colour_type: int, samples: np.ndarray, *extra: bytes) -> bytes:
    """A PNG written by hand; samples [height, width * samples per pixel]."""
    height, row = samples.shape
    per_pixel = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    header = struct.pack(">IIBBBBB", row // per_pixel, height, depth, colour_type, 0, 0, 0)
    if depth == 16:
        packed = samples.astype(">u2").view(np.uint8)
    else:
        bits = (samples[:, :, None] >> np.arange(depth - 1, -1, -1)) & 1
        packed = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)
    rows = np.concatenate([np.zeros((height, 1), np.uint8), packed], axis=1)
    body = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows.tobytes())), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def over_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return np.round(colours * share + 255 * (1 - share))


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=2)


WIDE = RAMP.astype(np.uint16) * 1021 + 7  # 16 bits, whose lower bytes differ from the upper
WIDE_COLOURS = np.stack([WIDE, 65535 - WIDE, WIDE // 2], axis=2)
PALETTE = np.random.default_rng(1).integers(0, 256, (64, 3), dtype=np.uint8)
PLTE = chunk(b"PLTE", PALETTE.tobytes())
HOLES = bytes(range(0, 256, 5))  # alpha of the first 52 entries; those behind are opaque
PALETTE_ALPHA = np.array([*HOLES, *[255] * 12])


def flat(array: np.ndarray) -> np.ndarray:
    return array.reshape(HEIGHT, -1)


def keyed(colours: np.ndarray, transparent: np.ndarray) -> np.ndarray:
    return np.where(transparent[..., None], 255, colours)


CASES = {
    "1": (png(1, 0, RAMP % 3 % 2), grey(RAMP % 3 % 2 * 255)),
    "1 + key": (png(1, 0, RAMP % 2, chunk(b"tRNS", b"\0\0")), grey(RAMP * 0 + 255)),
    "L, 2 bits": (png(2, 0, RAMP % 4), grey(RAMP % 4 * 85)),
    "L, 2 bits + key": (
        png(2, 0, RAMP % 4, chunk(b"tRNS", b"\0\1")),
        keyed(grey(RAMP % 4 * 85), RAMP % 4 == 1),
    ),
    "L, 4 bits": (png(4, 0, RAMP % 16), grey(RAMP % 16 * 17)),
    "L, 4 bits + key": (
        png(4, 0, RAMP % 16, chunk(b"tRNS", b"\0\5")),
        keyed(grey(RAMP % 16 * 17), RAMP % 16 == 5),
    ),
    "L, 4 bits + key of more bits": (
        png(4, 0, RAMP % 16, chunk(b"tRNS", b"\xff\xf5")),
        keyed(grey(RAMP % 16 * 17), RAMP % 16 == 5),
    ),
    "L": (png(8, 0, ALPHA), grey(ALPHA)),
    "L + key": (png(8, 0, RAMP, chunk(b"tRNS", b"\0\x0a")), keyed(grey(RAMP), RAMP == 10)),
    "I;16": (png(16, 0, WIDE), grey(WIDE >> 8)),
    "I;16 + key": (
        png(16, 0, WIDE, chunk(b"tRNS", struct.pack(">H", WIDE[2, 3]))),
        keyed(grey(WIDE >> 8), WIDE[2, 3] == WIDE),
    ),
    "LA": (png(8, 4, flat(np.stack([RAMP, ALPHA], 2))), over_white(grey(RAMP), ALPHA)),
    "LA, 16 bits": (png(16, 4, flat(np.stack([WIDE, WIDE * 0 + 65535], 2))), grey(WIDE >> 8)),
    "P": (png(8, 3, RAMP, PLTE), PALETTE[RAMP]),
    "P, 4 bits": (png(4, 3, RAMP % 16, PLTE), PALETTE[RAMP % 16]),
    "P + alphas": (png(8, 3, RAMP, PLTE, chunk(b"tRNS", HOLES)), over_white(PALETTE[RAMP], PALETTE_ALPHA[RAMP])),
    "P + one transparent": (
        png(8, 3, RAMP, PLTE, chunk(b"tRNS", b"\xff\xff\0")),
        keyed(PALETTE[RAMP], RAMP == 2),
    ),
    "RGB": (png(8, 2, flat(COLOURS)), COLOURS),
    "RGB + key": (
        png(8, 2, flat(COLOURS), chunk(b"tRNS", COLOURS[1, 2].astype(">u2").tobytes())),
        keyed(COLOURS, (COLOURS[1, 2] == COLOURS).all(axis=2)),
    ),
    "RGB, 16 bits": (png(16, 2, flat(WIDE_COLOURS)), WIDE_COLOURS >> 8),
    "RGB, 16 bits + key": (
        png(16, 2, flat(WIDE_COLOURS), chunk(b"tRNS", WIDE_COLOURS[1, 2].astype(">u2").tobytes())),
        keyed(WIDE_COLOURS >> 8, WIDE[1, 2] == WIDE),
    ),
    "RGBA": (png(8, 6, flat(np.dstack([COLOURS, ALPHA]))), over_white(COLOURS, ALPHA)),
    "RGBA, 16 bits": (png(16, 6, flat(np.dstack([WIDE_COLOURS, WIDE * 0]))), grey(RAMP * 0 + 255)),
    "RGBA, a key that must not count": (
        png(8, 6, flat(np.dstack([COLOURS, RAMP * 0 + 255])), chunk(b"tRNS", COLOURS[1, 2].astype(">u2").tobytes())),
        COLOURS,
    ),
}


@pytest.mark.parametrize(("data", "expected"), CASES.values(), ids=CASES)
def test_png_stores_pixels_in_many_ways(data, expected):
    image = open_image(data)
    colours = image.pixels((WIDTH, HEIGHT))
    assert (image.format, colours.dtype, colours.shape) == ("PNG", np.uint8, (HEIGHT, WIDTH, 3))
    assert colours.flags.writeable
    assert colours.flags.c_contiguous
    np.testing.assert_allclose(colours, expected, atol=1)
    luma = image.pixels((WIDTH, HEIGHT), channels=1)
    assert luma.shape == (HEIGHT, WIDTH, 1)
    np.testing.assert_allclose(luma[..., 0], expected @ np.array([0.299, 0.587, 0.114]), atol=1.6)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_webp_is_laid_over_white(encode, mode):
    stored = np.dstack([COLOURS, ALPHA])[..., : len(mode)]
    image = open_image(encode(PIL.Image.fromarray(stored), "WEBP", lossless=True, exact=True))
    assert image.format == "WEBP"
    expected = over_white(COLOURS, ALPHA) if mode == "RGBA" else COLOURS
    np.testing.assert_allclose(image.pixels((WIDTH, HEIGHT)), expected, atol=1)


@pytest.mark.parametrize("shrink", [1, 2, 8])
def test_cmyk_jpeg_counts_ink(encode, shrink):
    cyan, magenta, yellow, black = ink = (200, 30, 90, 60)
    image = open_image(encode(PIL.Image.new("CMYK", (32, 32), ink), "JPEG", quality=100))
    light = np.array([255 - cyan, 255 - magenta, 255 - yellow]) * (255 - black) / 255
    colours = image.pixels((32 // shrink, 32 // shrink))
    np.testing.assert_allclose(colours, np.broadcast_to(light, colours.shape), atol=2)
    np.testing.assert_allclose(image.pixels((8, 8), channels=1), light @ [0.299, 0.587, 0.114], atol=2)


def test_ycck_jpeg_counts_ink(encode):
    luma, blue, red, black = stored = (180, 110, 150, 220)
    file = bytearray(
        encode(PIL.Image.new("CMYK", (16, 16), tuple(255 - value for value in stored)), "JPEG", quality=100)
    )
    file[file.index(b"Adobe") + 11] = 2  # the transform byte: the same numbers, now meant as YCCK
    red, blue = red - 128, blue - 128
    inverted = np.array([luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue])
    expected = (255 - inverted) * black / 255
    np.testing.assert_allclose(open_image(bytes(file)).pixels((4, 4)), np.broadcast_to(expected, (4, 4, 3)), atol=2)


def test_jpeg_in_rgb_and_in_grey(encode, smooth):
    picture = smooth(32, 24)
    data = encode(picture, "JPEG", quality=98, keep_rgb=True)
    np.testing.assert_allclose(open_image(data).pixels((32, 24)), np.asarray(picture), atol=6)
    luma = open_image(encode(picture.convert("L"), "JPEG", quality=98))
    for shown in (luma.pixels((32, 24), channels=1)[..., 0], luma.pixels((32, 24))[..., 2]):
        np.testing.assert_allclose(shown, np.asarray(picture.convert("L")), atol=4)


@pytest.mark.parametrize("name", ["rocket", "china", "flower"])
def test_grey_of_jpeg_is_pillows_grey(photo, name):
    image = open_image(photo(name))
    size = (image.width, image.height)
    expected = np.asarray(PIL.Image.fromarray(image.pixels(size)).convert("L")).astype(int)
    assert np.abs(image.pixels(size, channels=1)[..., 0] - expected).mean() < 0.6


def test_jpeg_with_subsampling_that_has_no_name(encode):
    # One unit of 16 x 16: four blocks of luma, two of blue, one of red. The first has a level of 256 / 8 above 128.
    plain = encode(PIL.Image.new("RGB", (16, 16)), "JPEG", quality=100, subsampling=0, exif=b"Exif\0\0II*\0 damaged")
    frame, scan = plain.index(b"\xff\xc0"), plain.index(b"\xff\xda")
    bits = "1111110" + "100000000" + "1010" + "001010" * 3 + "0000" * 3
    bits = bits.ljust(-(-len(bits) // 8) * 8, "1")
    head = bytearray(plain[: scan + 14])
    head[frame + 11], head[frame + 14], head[frame + 17] = 0x22, 0x21, 0x11
    data = bytes(head) + int(bits, 2).to_bytes(len(bits) // 8, "big") + b"\xff\xd9"
    image = open_image(data)
    assert (image.width, image.height) == (16, 16)
    assert (image.pixels((16, 16)) == 160).all()
    assert (image.pixels((4, 4), channels=1) == 160).all()
