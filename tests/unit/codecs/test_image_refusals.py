"""Whatever is no whole, decodable picture of a kind and size that is accepted is refused with one type of error.

Warnings are errors in these tests: each of them also shows that the decoders stay silent.
"""

import random
import struct
import zlib

import PIL.Image
import pytest

from serving.codecs import jpeg, png_chunks
from serving.codecs.image import MAX_PIXELS, MAX_SIDE, open_image
from serving.errors import ImageInvalid, ImageTooLarge

FILES = {
    "baseline JPEG": ("JPEG", {}),
    "progressive JPEG": ("JPEG", {"progressive": True}),
    "JPEG with restarts": ("JPEG", {"restart_marker_rows": 1}),
    "JPEG with Exif": ("JPEG", {"exif": b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"}),
    "PNG": ("PNG", {}),
    "lossy WebP": ("WEBP", {}),
    "lossless WebP": ("WEBP", {"lossless": True}),
    "WebP with Exif": ("WEBP", {"exif": b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"}),
}
SIZES = [(8, 8), (3, 2)]  # of which JPEG decodes the second at an eighth of the size


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_header(width: int, height: int, depth: int = 8, colour_type: int = 2, interlaced: int = 0) -> bytes:
    content = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, interlaced)
    return png_chunks.SIGNATURE + chunk(b"IHDR", content)


def webp_file(kind: bytes, content: bytes) -> bytes:
    body = b"WEBP" + kind + struct.pack("<I", len(content)) + content
    return b"RIFF" + struct.pack("<I", len(body)) + body


def jpeg_of(encode, width: int, height: int) -> bytes:
    data = encode(PIL.Image.new("RGB", (8, 8)), "JPEG")
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


@pytest.mark.parametrize(("kind", "options"), FILES.values(), ids=FILES)
def test_no_part_of_a_file_passes_for_the_whole(encode, noise, kind, options):
    data = encode(noise(40, 24), kind, **options)
    for size in SIZES:
        open_image(data).pixels(size)
        for length in range(len(data)):
            with pytest.raises(ImageInvalid):
                open_image(data[:length]).pixels(size)


@pytest.mark.parametrize(("kind", "options"), FILES.values(), ids=FILES)
def test_damage_is_refused_or_survived(encode, smooth, kind, options):
    chance = random.Random(kind + str(options))
    data = encode(smooth(24, 18), kind, **options)
    details, refused = set(), 0
    for _ in range(400):
        harmed = bytearray(data)
        for _ in range(chance.choice([1, 1, 2, 8])):
            harmed[chance.randrange(len(harmed))] ^= 1 << chance.randrange(8)
        try:
            pixels = open_image(bytes(harmed)).pixels((8, 8))
        except ImageInvalid as error:
            details.add(error.detail)
            refused += 1
        else:
            assert pixels.shape == (8, 8, 3)
    assert refused > 40
    assert not [detail for detail in details if "0x" in detail]  # none of a decoder's own text, which shows objects


@pytest.mark.parametrize(
    "data",
    {
        "text": b"hello, this is no picture",
        "one byte": b"\xff",
        "zeros": bytes(100),
        "PDF": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "sound in RIFF": b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0" + bytes(40),
        "PNG signature alone": png_chunks.SIGNATURE,
        "JPEG signature alone": jpeg.SIGNATURE,
        "WebP signature alone": b"RIFF\x04\0\0\0WEBP",
        "WebP of a kind that is unknown": webp_file(b"VP8Y", bytes(40)),
        "WebP whose frame does not start": webp_file(b"VP8 ", bytes(40)),
        "lossless WebP that does not start": webp_file(b"VP8L", bytes(40)),
        "PNG whose first chunk is not the header": png_chunks.SIGNATURE + chunk(b"IDAT", bytes(13)),
        "PNG with a short header": png_chunks.SIGNATURE + chunk(b"IHDR", bytes(12)),
        "PNG with a header that is damaged": png_header(8, 8)[:-1] + b"?",
        "PNG of 0 x 0": png_header(0, 0),
        "PNG of 8 x 0": png_header(8, 0),
    }.values(),
    ids=lambda data: data[:8].decode("latin-1"),
)
def test_not_a_picture(data):
    with pytest.raises(ImageInvalid, match="picture") as caught:
        open_image(data)
    assert caught.value.remedy
    assert caught.value.code == "image_invalid"


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "ICO", "PPM", "JPEG2000", "AVIF"])
def test_other_formats_are_refused_by_content(encode, noise, kind):
    with pytest.raises(ImageInvalid, match="not a JPEG, PNG or WebP picture"):
        open_image(encode(noise(16, 16), kind))


def test_an_empty_body_is_called_empty():
    with pytest.raises(ImageInvalid, match="empty"):
        open_image(b"")


@pytest.mark.parametrize(
    ("width", "height"),
    [(30_000, 30_000), (65_500, 65_500), (MAX_SIDE + 1, 1), (1, MAX_SIDE + 1), (5001, 5000)],
)
def test_too_many_pixels_are_refused_by_the_header(encode, width, height):
    numbers = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    files = [png_header(width, height), jpeg_of(encode, width, height), webp_file(b"VP8X", bytes(4) + numbers)]
    if max(width, height) <= 1 << 14:
        files += [
            webp_file(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height)),
            webp_file(b"VP8L", b"\x2f" + struct.pack("<I", width - 1 | (height - 1) << 14)),
        ]
    for data in files:
        with pytest.raises(ImageTooLarge, match=f"{width} x {height}.*{MAX_SIDE}.*{MAX_PIXELS}") as caught:
            open_image(data)
        assert "Shrink" in caught.value.remedy


@pytest.mark.parametrize(("width", "height"), [(MAX_SIDE, 3051), (5000, 5000)])
def test_the_largest_that_is_accepted(width, height):
    assert open_image(png_header(width, height)).width == width
