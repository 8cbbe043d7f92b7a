"""Request ids, deadlines, timings: the small things that every answer carries."""

from __future__ import annotations

import asyncio
import re
import time

import pytest
from http_rig import Exchange
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import ParameterInvalid
from serving.gateway.http import Outbound, deadline_of, read_request, send_answer, server_timing
from serving.telemetry import Stages


def request_id(given: bytes | None) -> bytes:
    headers = [] if given is None else [(b"x-request-id", given)]
    return read_request({"headers": headers}, Exchange().receive).request_id


@pytest.mark.parametrize("word", [b"a", b"5f0c-11.B_2", b"x" * 128], ids=["short", "all kinds of letters", "longest"])
def test_a_callers_id_comes_back_when_it_is_a_plain_word(word):
    assert request_id(word) == word


@pytest.mark.parametrize(
    "text",
    [
        None,
        b"",
        b"x" * 129,
        b"two words",
        b"line\r\nX-Evil: 1",
        b"end\n",
        b'"quoted"',
        b"<b>",
        b"\xe4",
        b"a/b",
        b"\x1b[31m",
    ],
    ids=["none", "empty", "too long", "space", "CRLF", "newline", "quotes", "tag", "latin-1", "slash", "escape"],
)
def test_any_other_id_is_replaced_by_a_fresh_one(text):
    first, second = request_id(text), request_id(text)
    assert first != second
    assert text is None or text == b"" or text not in first
    assert request_id(first) == first  # a fresh one is a plain word itself


@given(st.binary(max_size=200))
def test_what_comes_back_never_ends_a_line_or_a_quotation(text):
    assert re.fullmatch(rb"[A-Za-z0-9._-]{1,128}", request_id(text))


def test_of_a_header_that_is_given_twice_the_last_counts():
    scope = {"headers": [(b"content-type", b"image/png"), (b"content-type", b"image/jpeg")]}
    assert read_request(scope, Exchange().receive).headers[b"content-type"] == b"image/jpeg"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 60.0),
        (b"1", 0.001),
        (b"250", 0.25),
        (b"60000", 60.0),
        (b"60001", 60.0),
        (b"9" * 12, 60.0),
        (b"007", 0.007),
    ],
    ids=["none", "one", "some", "the longest", "more than the longest", "very long", "zeros in front"],
)
def test_the_header_may_only_shorten_the_time(header, seconds):
    before_s = time.monotonic()
    deadline_s = deadline_of({} if header is None else {b"x-request-timeout-ms": header}, 60.0)
    assert before_s + seconds <= deadline_s <= time.monotonic() + seconds


@pytest.mark.parametrize(
    "header", [b"0", b"", b"-1", b"1.5", b"1e3", b" 5", b"abc", b"0x10", b"9" * 13, "٣".encode(), b"9" * 5000]
)
def test_a_time_that_is_no_number_of_milliseconds_is_refused(header):
    with pytest.raises(ParameterInvalid, match="X-Request-Timeout-Ms"):
        deadline_of({b"x-request-timeout-ms": header}, 60.0)


def test_server_timing_is_in_milliseconds():
    stages = Stages(queue_s=0.0015, pre_s=0.25, run_s=1, post_s=0.0000004)
    assert server_timing(stages) == b"queue;dur=1.500, pre;dur=250.000, run;dur=1000.000, post;dur=0.000"


def test_an_answer_announces_its_length_and_its_request():
    exchange = Exchange()
    asyncio.run(send_answer(exchange.send, Outbound(b"{}", 418, headers=((b"x-more", b"1"),)), b"id-1"))
    assert exchange.answer.status == 418
    assert exchange.answer.body == b"{}"
    assert exchange.answer.headers == {
        "content-type": "application/json",
        "content-length": "2",
        "x-request-id": "id-1",
        "x-more": "1",
    }
