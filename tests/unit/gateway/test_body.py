"""Bodies are read under their limit while they arrive, whatever their head says of them."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from http_rig import Exchange
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import BodyInvalid, BodyTooLarge, MediaTypeUnsupported
from serving.gateway.body import read_body
from serving.gateway.departure import CallerLeft

LIMIT = 10


def read(exchange: Exchange) -> bytes:
    return asyncio.run(read_body(exchange.inbound, LIMIT))


@pytest.mark.parametrize(
    "parts",
    [(b"",), (b"0123456789",), (b"01234", b"56789"), (b"", b"0", b"", b"1"), (b"0",) * LIMIT],
    ids=["empty", "whole", "halves", "with empty parts", "byte by byte"],
)
def test_a_body_within_the_limit_arrives_whole(parts):
    assert read(Exchange(parts)) == b"".join(parts)


@pytest.mark.parametrize(
    ("parts", "asked"),
    [
        ((b"0123456789a",), 1),
        ((b"01234", b"56789a"), 2),
        ((b"0123456789", b"a", b"never read"), 2),
        ((b"x" * 11, b"y"), 1),
    ],
    ids=["at once", "by the second part", "by one byte", "by the first part of several"],
)
def test_nothing_is_read_beyond_the_part_that_breaks_the_limit(parts, asked):
    exchange = Exchange(parts)
    with pytest.raises(BodyTooLarge, match="more than 10 bytes"):
        read(exchange)
    assert exchange.read == asked


def test_a_body_without_end_is_cut_at_the_limit():
    class Endless(Exchange):
        async def receive(self):
            self.read += 1
            return {"type": "http.request", "body": b"x", "more_body": True}

    exchange = Endless()
    with pytest.raises(BodyTooLarge):
        read(exchange)
    assert exchange.read == LIMIT + 1


@pytest.mark.parametrize("length", ["11", "999999999999999999"])
def test_an_announced_length_over_the_limit_is_refused_unread(length):
    exchange = Exchange((b"0",), {"content-length": length})
    with pytest.raises(BodyTooLarge):
        read(exchange)
    assert exchange.read == 0


@pytest.mark.parametrize("length", ["0", "1", "10"], ids=["none", "less", "within the limit"])
def test_a_length_that_lies_changes_nothing(length):
    with pytest.raises(BodyTooLarge):
        read(Exchange((b"01234", b"56789a"), {"content-length": length}))


@pytest.mark.parametrize("length", ["", "-1", "+1", "1.0", "0x5", "ten", "1, 1", "9" * 19, "9" * 5000])
def test_a_length_that_is_no_number_is_refused(length):
    with pytest.raises(BodyInvalid, match="Content-Length"):
        read(Exchange((b"0",), {"content-length": length}))


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd", "identity, gzip", "x"])
def test_compressed_bodies_are_refused_unread(encoding):
    exchange = Exchange((b"0",), {"content-encoding": encoding})
    with pytest.raises(MediaTypeUnsupported, match="compressed"):
        read(exchange)
    assert exchange.read == 0


@pytest.mark.parametrize("encoding", ["identity", "Identity", "", " identity "])
def test_bodies_that_say_they_are_not_compressed_are_taken(encoding):
    assert read(Exchange((b"0",), {"content-encoding": encoding})) == b"0"


def test_a_request_for_another_protocol_is_told_so_rather_than_that_its_body_is_empty():
    with pytest.raises(BodyInvalid, match="another protocol"):
        read(Exchange((b"",), {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c"}))


def test_an_upgrade_that_the_connection_does_not_name_is_none():
    assert read(Exchange((b"0",), {"connection": "keep-alive", "upgrade": "h2c"})) == b"0"


@pytest.mark.parametrize("parts", [(), (b"0",), (b"0", b"1")], ids=["at once", "after a part", "after two"])
def test_a_caller_who_leaves_in_mid_body_is_noticed(parts):
    with pytest.raises(CallerLeft):
        read(Exchange(parts, leaves=True))


@given(st.binary(max_size=2 * LIMIT), st.lists(st.integers(1, 2 * LIMIT)))
def test_however_it_is_cut_the_limit_decides(body, cuts):
    bounds = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    parts = tuple(body[start:end] for start, end in itertools.pairwise(bounds)) or (b"",)
    try:
        assert read(Exchange(parts)) == body
        assert len(body) <= LIMIT
    except BodyTooLarge:
        assert len(body) > LIMIT
