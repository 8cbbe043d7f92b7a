"""What a small file could cost: frames, scans and chunks without end. And several pictures at once."""

import io
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL.Image
import pytest

from serving.codecs import jpeg, png_chunks, webp
from serving.codecs.image import open_image
from serving.errors import ImageInvalid

FRAMES = 10_000


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def seconds_to_decode(data: bytes) -> float:
    started = time.perf_counter()
    open_image(data).pixels((16, 16))
    return time.perf_counter() - started


def test_of_an_animated_png_only_the_default_image_is_decoded(encode, noise):
    still = encode(noise(64, 64), "PNG")
    control = chunk(b"acTL", struct.pack(">II", FRAMES, 0))
    frame = struct.pack(">IIIIHHBB", 64, 64, 0, 0, 1, 10, 0, 0)
    # What the later frames hold is no picture: to decode one would fail.
    frames = b"".join(
        chunk(b"fcTL", struct.pack(">I", 2 * index - 1) + frame) + chunk(b"fdAT", struct.pack(">I", 2 * index) + b"?")
        for index in range(1, FRAMES)
    )
    moving = still[:33] + control + chunk(b"fcTL", bytes(4) + frame) + still[33:-12] + frames + still[-12:]
    assert (open_image(moving).pixels((64, 64)) == np.asarray(noise(64, 64))).all()
    assert seconds_to_decode(moving) < 1


def test_of_an_animated_webp_only_the_first_frame_is_decoded(encode, noise):
    first, second = noise(64, 64), noise(64, 65).crop((0, 0, 64, 64))
    two = encode(first, "WEBP", save_all=True, append_images=[second], lossless=True, exact=True)
    at = two.rindex(b"ANMF")
    broken = bytearray(two[at:])
    broken[60:] = bytes(len(broken) - 60)
    body = two[8:at] + bytes(broken) * (FRAMES // 10)
    moving = b"RIFF" + struct.pack("<I", len(body)) + body
    with PIL.Image.open(io.BytesIO(moving)) as picture:
        assert picture.n_frames == 1 + FRAMES // 10
    assert (open_image(moving).pixels((64, 64)) == np.asarray(first)).all()
    assert seconds_to_decode(moving) < 1


def test_of_an_mpo_the_first_picture_is_taken(encode, smooth, noise):
    first = smooth(32, 24)
    data = encode(first, "MPO", save_all=True, append_images=[noise(64, 64)], quality=98)
    image = open_image(data)
    assert (image.format, image.width, image.height) == ("JPEG", 32, 24)
    np.testing.assert_allclose(image.pixels((32, 24)), np.asarray(first), atol=8)


def test_a_jpeg_of_endless_scans_is_refused(encode, smooth):
    data = encode(smooth(64, 64), "JPEG", progressive=True)
    at = data.rindex(b"\xff\xda")
    last, head = data[at:-2], data[:at]
    scans = data.count(b"\xff\xda")
    open_image(head + last * 2 + b"\xff\xd9")  # opening looks at no scan
    for repeated in (jpeg.MAX_SCANS - scans + 2, 5000):
        with pytest.raises(ImageInvalid, match="more than 100 scans"):
            open_image(head + last * repeated + b"\xff\xd9").pixels((8, 8))


def test_scans_behind_the_first_picture_do_not_count(encode, smooth):
    data = encode(smooth(64, 64), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    assert open_image(data + b"\0\2" + scan * 200).pixels((8, 8)).shape == (8, 8, 3)


def test_a_png_of_endless_chunks_is_refused(encode, noise):
    data = encode(noise(8, 8), "PNG")
    with pytest.raises(ImageInvalid, match="more than 65536 chunks"):
        open_image(data[:33] + chunk(b"teSt", b"") * png_chunks.MAX_CHUNKS + data[33:])


def test_a_webp_of_endless_chunks_is_refused(encode, noise):
    data = encode(noise(8, 8), "WEBP", exif=b"II*\0" + bytes(8)).replace(b"EXIF", b"NONE")
    body = data[8:] + (b"teSt" + bytes(4)) * webp.MAX_CHUNKS
    with pytest.raises(ImageInvalid, match="more than 65536 chunks"):
        open_image(b"RIFF" + struct.pack("<I", len(body)) + body)


def test_a_jpeg_may_be_followed_by_anything(encode, smooth):
    data = encode(smooth(32, 32), "JPEG")
    expected = open_image(data).pixels((8, 8))
    assert (open_image(data + b"\xff\xda a film, as telephones append it").pixels((8, 8)) == expected).all()


def test_a_png_may_be_followed_by_anything(encode, noise):
    data = encode(noise(8, 8), "PNG")
    assert (open_image(data + data[8:-12]).pixels((8, 8)) == open_image(data).pixels((8, 8))).all()


def test_pictures_in_several_threads_do_not_mix(encode, photo):
    with PIL.Image.open(io.BytesIO(photo("china"))) as picture:
        files = [encode(picture.rotate(angle), kind) for angle in (0, 90, 180) for kind in ("JPEG", "PNG", "WEBP")]
    expected = [open_image(data).pixels((96, 64)) for data in files]
    with ThreadPoolExecutor(4) as threads:
        for _ in range(3):
            shown = threads.map(lambda data: open_image(data).pixels((96, 64)), files)
            assert all((pixels == wanted).all() for pixels, wanted in zip(shown, expected, strict=True))


def test_an_opened_picture_can_be_asked_again(encode, noise):
    for kind in ("JPEG", "PNG", "WEBP"):
        image = open_image(encode(noise(40, 30), kind))
        assert (image.pixels((9, 9)) == image.pixels((9, 9))).all()
        assert "data" not in repr(image)
