"""Compressed bodies: the same limit while they unfold, damaged ones refused; and how an answer may be compressed."""

from __future__ import annotations

import asyncio
import gzip
import random
import tracemalloc
import zlib

import pytest
from http_rig import Exchange

from serving.errors import BodyInvalid, BodyTooLarge, MediaTypeUnsupported
from serving.gateway.compression import AT_ONCE, FORMATS, accepted, compressed, read_unfolded
from serving.threads import Threads

WAYS = {"gzip": gzip.compress, "deflate": zlib.compress}
LIMIT = 4 * AT_ONCE


def read(body: bytes, encoding: str | None, limit: int = LIMIT, parts: int = 1) -> bytes:
    """The body, unfolded; it comes in that many parts."""
    size = -(-len(body) // parts) or 1
    pieces = tuple(body[i : i + size] for i in range(0, len(body), size)) or (b"",)
    headers = {} if encoding is None else {"content-encoding": encoding}

    async def main():
        threads = Threads(1, 1)
        try:
            return await read_unfolded(Exchange(parts=pieces, headers=headers).inbound, limit, threads)
        finally:
            threads.close()

    return asyncio.run(main())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [0, 1, 1000, AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, LIMIT])
@pytest.mark.parametrize("parts", [1, 7])
def test_a_body_unfolds_to_what_it_was(way, size, parts):
    body = random.Random(0).randbytes(size)
    limit = max(LIMIT, len(WAYS[way](body)))
    assert read(WAYS[way](body), way, limit, parts) == body


@pytest.mark.parametrize("encoding", [None, "identity", "", " Identity "])
def test_a_body_that_is_not_compressed_is_left_alone(encoding):
    assert read(b"as it is", encoding) == b"as it is"


def test_the_name_of_a_way_is_read_in_any_case():
    assert read(gzip.compress(b"x"), " GZip ") == b"x"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("limit", [10, AT_ONCE - 1, AT_ONCE, LIMIT])
def test_one_byte_over_the_limit_is_too_much(way, limit):
    assert read(WAYS[way](bytes(limit)), way, max(limit, 100) if limit == 10 else limit)
    with pytest.raises(BodyTooLarge):
        read(WAYS[way](bytes(max(limit, 100) + 1)), way, max(limit, 100))


@pytest.mark.parametrize("way", WAYS)
def test_a_bomb_costs_no_more_than_its_limit(way):
    """A gigabyte of zeros in a megabyte, of which a quarter of one is allowed."""
    folding = zlib.compressobj(9, wbits=FORMATS[way.encode()])
    bomb = b"".join(folding.compress(bytes(2**20)) for _ in range(1024)) + folding.flush()
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLarge):
            read(bomb, way, 2 * 2**20)
        assert tracemalloc.get_traced_memory()[1] < len(bomb) + 3 * 2 * 2**20
    finally:
        tracemalloc.stop()


def test_the_compressed_body_has_the_limit_too():
    with pytest.raises(BodyTooLarge):
        read(gzip.compress(random.Random(0).randbytes(LIMIT + 1)), "gzip")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [100, 2 * AT_ONCE])
@pytest.mark.parametrize(
    "damage",
    [
        lambda body: body[:-1],
        lambda body: body[: len(body) // 2],
        lambda body: body + b"!",
        lambda body: body[:-1] + bytes([body[-1] ^ 1]),
        lambda body: b"",
        lambda body: b"not compressed",
    ],
    ids=["a byte short", "half", "a byte more", "checksum", "nothing", "text"],
)
def test_a_damaged_body_is_refused(way, size, damage):
    with pytest.raises(BodyInvalid, match="compress"):
        read(damage(WAYS[way](random.Random(0).randbytes(size))), way)


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "x-gzip", "zstd", "gzip;q=1"])
def test_other_ways_are_named_as_unknown(encoding):
    with pytest.raises(MediaTypeUnsupported) as caught:
        read(gzip.compress(b"x"), encoding)
    assert "gzip or deflate" in caught.value.remedy


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None), ("", None), ("identity", None), ("br", None), ("gzip", b"gzip"), ("deflate", b"deflate"),
        ("gzip, deflate", b"gzip"), ("deflate, gzip;q=0.5", b"deflate"), ("gzip;q=0", None), ("gzip; q=0.0", None),
        ("gzip;q=0, deflate", b"deflate"), ("GZIP", b"gzip"), ("br;q=1, gzip;q=0.1", b"gzip"), ("*", None),
        ("gzip;q=x", b"gzip"), ("gzip;level=3", b"gzip"), ("gzip;q=nan", None),
    ],
)  # fmt: skip
def test_the_caller_says_how_an_answer_may_be_compressed(header, expected):
    headers = {} if header is None else {"accept-encoding": header}
    assert accepted(Exchange(headers=headers).inbound) == expected


@pytest.mark.parametrize("size", [10, AT_ONCE, AT_ONCE + 1])
def test_answers_can_be_read_again(size):
    async def main(encoding: bytes):
        threads = Threads(1, 1)
        try:
            return await compressed(bytes(size), encoding, threads)
        finally:
            threads.close()

    assert gzip.decompress(asyncio.run(main(b"gzip"))) == bytes(size)
    assert zlib.decompress(asyncio.run(main(b"deflate"))) == bytes(size)
