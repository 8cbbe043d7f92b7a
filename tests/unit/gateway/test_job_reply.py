"""How jobs are asked for over HTTP, and what is read of the headers."""

from __future__ import annotations

import orjson
import pytest
from http_rig import Exchange

from serving.errors import ParameterInvalid
from serving.gateway.job_reply import digest_of, key_of, last_event_of, prefers_job, write_event, write_job
from serving.job_store import Event, Job


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, False),
        (b"", False),
        (b"respond-async", True),
        (b"Respond-Async", True),
        (b"return=minimal, respond-async", True),
        (b"respond-async;wait=10", True),
        (b"wait=10,  respond-async ", True),
        (b"respond-asynchronously", False),
        (b"return=representation", False),
    ],
)
def test_who_wants_a_job_says_so(value, expected):
    assert prefers_job({} if value is None else {b"prefer": value}) is expected


@pytest.mark.parametrize("key", [b"a", b"8e03978e-40d5-43dd-bc93-6894a57f9324", b'"quoted, too"', b"x" * 255])
def test_a_key_is_anything_that_can_be_read(key):
    assert key_of({b"idempotency-key": key}) == key.decode()


@pytest.mark.parametrize("key", [b"", b" ", b"x ", b"x" * 256, b"\xc3\xa9", b"a\tb"])
def test_other_keys_are_refused(key):
    with pytest.raises(ParameterInvalid):
        key_of({b"idempotency-key": key})


def test_without_one_there_is_none():
    assert key_of({}) == ""


@pytest.mark.parametrize(("value", "number"), [(None, 0), (b"", 0), (b"7", 7), (b"9" * 18, int("9" * 18))])
def test_where_a_listener_was(value, number):
    assert last_event_of({} if value is None else {b"last-event-id": value}) == number


@pytest.mark.parametrize("value", [b"-1", b"1.5", b"x", b"9" * 19, b"\xb2"])
def test_what_is_no_place_to_have_been_at(value):
    with pytest.raises(ParameterInvalid):
        last_event_of({b"last-event-id": value})


def test_all_that_says_what_is_asked_for_is_in_the_digest():
    asked = [("/a", "", b"x"), ("/b", "", b"x"), ("/a", "n=2", b"x"), ("/a", "", b"y"), ("/a", "", b"")]
    digests = {digest_of(Exchange(path=path, query=query).inbound, body) for path, query, body in asked}
    assert len(digests) == len(asked)


def test_a_result_that_another_release_kept_is_told_as_it_is():
    job = Job("j", "ann", b'{"of": "another release"}', "succeeded", 1.5, result=b'[{"a":1}]', ended=2.5, expires=9.0)
    told = orjson.loads(write_job(job))
    assert told["result"] == [{"a": 1}]
    assert (told["created"], told["ended"], told["expires_at"]) == (1, 2, 9)


def test_an_event_is_written_as_streams_have_it():
    assert write_event(Event(7, "progress", b""), b'{"step":1}') == b'id: 7\nevent: progress\ndata: {"step":1}\n\n'
