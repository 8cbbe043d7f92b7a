"""Places in traces: read strictly from what callers write, written for whoever comes next, their parts bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.trace import MOST_PARTS, Place, Trace, first_place, headers_of, read_place

PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PLACE = Place(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7, 1)


def test_a_callers_span_is_read_and_written_back():
    assert read_place([PARENT]) == PLACE
    assert PLACE.traceparent == PARENT.decode()
    assert headers_of(read_place([PARENT], [b"congo=t61"])) == (
        ("traceparent", PARENT.decode()),
        ("tracestate", "congo=t61"),
    )


@pytest.mark.parametrize(
    ("flags", "sampled"), [(b"00", False), (b"01", True), (b"02", False), (b"03", True), (b"ff", True), (b"fe", False)]
)
def test_the_last_bit_of_the_flags_says_whether_it_is_sampled(flags, sampled):
    assert read_place([PARENT[:-2] + flags]).sampled is sampled


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"00",
        PARENT[:-1],
        PARENT + b"-",
        PARENT + b"-more",  # of the version that is known there is no more
        b"ff" + PARENT[2:],  # never a version
        PARENT.upper(),
        PARENT.replace(b"-", b"_"),
        b" " + PARENT,
        PARENT + b"\n",
        PARENT.replace(b"4bf92f3577b34da6a3ce929d0e0e4736", b"0" * 32),
        PARENT.replace(b"00f067aa0ba902b7", b"0" * 16),
        PARENT.replace(b"4bf", b"4bg"),
        PARENT.replace(b"4bf", b"4b "),
        "00-٤bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".encode(),
    ],
)
def test_what_is_not_well_formed_is_as_if_it_were_not_there(text):
    assert read_place([text]) is None


def test_two_of_them_say_nothing_and_later_versions_may_say_more():
    assert read_place([PARENT, PARENT]) is None
    assert read_place([]) is None
    assert read_place([b"cc" + PARENT[2:] + b"-what comes later"]) == PLACE
    assert read_place([b"cc" + PARENT[2:] + b"later"]) is None


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ([b"a=1,b@c=2"], "a=1,b@c=2"),
        ([b"a=1 , ,b=x y"], "a=1,b=x y"),
        ([b"a=1", b"b=2"], "a=1,b=2"),  # sent in two headers
        ([b"a=1,a=2"], ""),
        ([b"A=1"], ""),
        ([b"a"], ""),
        ([b"a=\xe9"], ""),
        ([b"a=1\r\nevil: 1"], ""),
        ([b"a=1=2"], ""),
        ([b",".join(b"k%d=v" % i for i in range(33))], ""),
        ([b"a=" + b"v" * 511], ""),
    ],
)
def test_a_state_is_passed_on_only_if_it_is_well_formed(values, kept):
    place = read_place([PARENT], values)
    assert (place.trace_id, place.state) == (PLACE.trace_id, kept)


@given(st.binary(max_size=80), st.lists(st.binary(max_size=600), max_size=3))
def test_nothing_a_caller_writes_is_an_error(parent, states):
    place = read_place([parent], states)
    assert place is None or place.traceparent.isascii()
    assert read_place([PARENT], states).state.isprintable()


def test_what_is_within_has_the_same_trace_and_another_place():
    first = first_place()
    below = first.within()
    assert first.sampled
    assert (below.trace_id, below.flags) == (first.trace_id, first.flags)
    assert below.span_id != first.span_id


def test_parts_are_kept_in_bounds_and_those_left_out_are_counted():
    trace = Trace(first_place())
    for i in range(MOST_PARTS):
        trace.did("step", i, i + 0.5)
    below = trace.below()
    below.did("one more", 0.0, 1.0)
    trace.did("of no time", 1.0, 1.0)
    assert (len(trace.parts), trace.left_out) == (MOST_PARTS, 1)
    assert {part.parent for part in trace.parts} == {trace.place}


def test_of_what_is_only_passed_on_nothing_is_kept():
    trace = Trace(PLACE, recorded=False)
    trace.did("step", 0.0, 1.0)
    assert (trace.parts, trace.below()) == ([], trace)
