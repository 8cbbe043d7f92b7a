"""What a key may use: a bucket of tokens, time being a number, and requests at once."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import QuotaExceeded
from serving.gateway.quota import FULL, Quotas, take
from serving.keys import LEAST_RATE, Key


def key(name: str = "phone", **limits) -> Key:
    return Key(name=name, scopes=("predict",), digest="0" * 64, created=datetime.now(UTC), **limits)


class Host:
    """Quotas whose clock and number of gateways are in our hands."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.gateways = 1
        self.names = {"phone", "another"}
        self.quotas = Quotas(lambda: self.gateways, lambda: self.names, lambda: self.now_s)

    def admitted(self, key: Key, tries: int = 1) -> int:
        """How many of so many requests, each ended at once, get in."""
        count = 0
        for _ in range(tries):
            try:
                usage = self.quotas.enter(key)
            except QuotaExceeded:
                continue
            if usage is not None:
                usage.leave()
            count += 1
        return count


@pytest.mark.parametrize(
    ("rate", "times", "waits"),
    [
        (1.0, [0, 0, 0.5, 1, 2], [0, 1, 0.5, 0, 0]),
        (2.0, [0, 0, 0, 0.25, 0.5], [0, 0, 0.5, 0.25, 0]),
        (0.5, [0, 0, 1, 2, 2], [0, 2, 1, 0, 2]),
        (10.0, [0] * 11, [0] * 10 + [0.1]),
        (2.0, [0, 0, 100, 100, 100], [0, 0, 0, 0, 0.5]),
    ],
    ids=[
        "one a second",
        "two a second",
        "one in two seconds",
        "a second's worth at once",
        "rest saves no more than that",
    ],
)
def test_a_bucket_gives_tokens_as_they_come(rate, times, waits):
    bucket, waited = FULL, []
    for time_s in times:
        bucket, wait_s = take(bucket, rate, time_s)
        waited.append(wait_s)
    assert waited == pytest.approx(waits)


RATES = st.one_of(st.floats(LEAST_RATE, 1000), st.integers(1, 10_000).map(lambda part: 1 / part), st.just(1.0))
PAUSES = st.one_of(st.just(0.0), st.floats(0, 0.1), st.floats(0, 10), st.floats(0, 1e6))
MONTH_S = 30 * 86_400.0  # a clock that has run so long has coarser floats


@given(RATES, st.floats(0, MONTH_S), st.lists(PAUSES, max_size=60))
def test_no_window_has_more_than_its_time_allows(rate, now_s, pauses):
    bucket, taken = FULL, []
    for pause_s in pauses:
        now_s += pause_s
        before = bucket
        bucket, wait_s = take(bucket, rate, now_s)
        if wait_s:
            assert bucket == before, "a refusal takes nothing"
        else:
            taken.append(now_s)
    for i, first_s in enumerate(taken):
        for count, last_s in enumerate(taken[i:], 1):
            assert count <= max(1.0, rate) + rate * (last_s - first_s) + 1e-4


@given(RATES, st.floats(0, MONTH_S), st.lists(PAUSES, max_size=20), st.integers(0, 5))
def test_who_waits_as_long_as_they_are_told_gets_in(rate, now_s, pauses, more_s):
    bucket = FULL
    for pause_s in pauses:
        now_s += pause_s
        bucket, _ = take(bucket, rate, now_s)
    _, wait_s = take(bucket, rate, now_s)
    assert take(bucket, rate, now_s + math.ceil(wait_s) + more_s)[1] == 0
    assert wait_s <= 1 / rate * (1 + 1e-9), "and is never told more than one token's time"


@pytest.mark.parametrize("seconds", range(1, 200))
@pytest.mark.parametrize("now_s", [0.1, 12_345.678, MONTH_S + 0.3])
def test_a_wait_of_whole_seconds_is_long_enough_whatever_the_clock_shows(now_s, seconds):
    bucket, _ = take(FULL, 1 / seconds, now_s)
    _, wait_s = take(bucket, 1 / seconds, now_s)
    assert take(bucket, 1 / seconds, now_s + wait_s)[1] == 0


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 4)), max_size=80))
def test_gateways_that_share_a_rate_let_no_more_through_together(steps):
    """Each takes its part, whichever is asked."""
    rate, gateways, now_s, admitted = 20.0, 4, 0.0, 0
    buckets = [FULL] * gateways
    for pause_s, which in steps:
        now_s += pause_s
        for _ in range(8):
            buckets[which - 1], wait_s = take(buckets[which - 1], rate / gateways, now_s)
            admitted += not wait_s
    assert admitted <= rate + rate * now_s + 1e-4


def test_a_key_without_limits_has_none():
    host = Host()
    assert host.admitted(key(), 1000) == 1000
    assert len(host.quotas) == 0, "and nothing is kept of it"


def test_a_rate_is_over_all_gateways():
    host = Host()
    assert host.admitted(key(rate=10), 30) == 10
    host.gateways = 2
    host.now_s += 100
    assert host.admitted(key(rate=10), 30) == 5


def test_a_rate_that_was_changed_counts_from_then_on():
    host = Host()
    assert host.admitted(key(rate=2), 5) == 2
    host.now_s += 1
    assert host.admitted(key(rate=8), 20) == 8


def test_who_must_wait_is_told_how_long():
    host = Host()
    host.admitted(key(rate=0.1))
    with pytest.raises(QuotaExceeded, match=r"0\.1 requests a second") as caught:
        host.quotas.enter(key(rate=0.1))
    assert caught.value.wait_s == 10
    host.admitted(key("another", rate=0.3))
    with pytest.raises(QuotaExceeded) as caught:
        host.quotas.enter(key("another", rate=0.3))
    assert caught.value.wait_s == 4, "rounded up"


def test_requests_at_once_are_counted_until_they_end():
    host = Host()
    limited = key(concurrency=2)
    first = host.quotas.enter(limited)
    host.quotas.enter(limited)
    with pytest.raises(QuotaExceeded, match="2 requests at once"):
        host.quotas.enter(limited)
    host.quotas.enter(key("another", concurrency=1))
    first.leave()
    host.quotas.enter(limited)


def test_each_gateway_takes_a_part_of_what_may_run_at_once_and_one_at_least():
    host = Host()
    host.gateways = 3
    host.quotas.enter(key(concurrency=2))
    with pytest.raises(QuotaExceeded):
        host.quotas.enter(key(concurrency=2))


def test_who_finds_no_place_uses_no_token():
    host = Host()
    limited = key(rate=2, concurrency=1)
    usage = host.quotas.enter(limited)
    for _ in range(200):
        with pytest.raises(QuotaExceeded, match="at once"):
            host.quotas.enter(limited)
    usage.leave()
    host.quotas.enter(limited).leave()
    with pytest.raises(QuotaExceeded, match="a second"):
        host.quotas.enter(limited)
    assert usage.running == 0, "and who finds no token takes no place"


def test_a_request_counts_for_the_name_it_came_with_whatever_becomes_of_the_key():
    host = Host()
    old = host.quotas.enter(key(concurrency=1))
    assert host.admitted(key(concurrency=2)) == 1, "made anew with more"
    assert host.admitted(key()) == 1, "or with no limit"
    with pytest.raises(QuotaExceeded):
        host.quotas.enter(key(concurrency=1))
    old.leave()
    assert host.admitted(key(concurrency=1)) == 1


def test_what_still_runs_counts_when_its_key_is_gone_for_a_while():
    host = Host()
    host.names = {"phone"}
    host.quotas.enter(key(concurrency=1))
    host.names = {"another"}
    host.quotas.enter(key("another", concurrency=1))
    assert host.admitted(key(concurrency=1)) == 0


def test_what_is_kept_is_bounded_by_the_keys_there_are():
    host = Host()
    host.names = {"stays"}
    running = host.quotas.enter(key("stays", concurrency=1))
    assert host.admitted(key("stays", rate=1, concurrency=2)) == 1
    left = [host.quotas.enter(key(f"gone-{i}", concurrency=1)) for i in range(10)]
    for i in range(1000):
        host.names = {"stays", f"fresh-{i}"}
        host.admitted(key(f"fresh-{i}", rate=1))
        assert len(host.quotas) <= 3 + len(left), "keys, one that went just now, and those whose requests run"
    for usage in left:
        usage.leave()
    host.names = {"stays", "last"}
    host.admitted(key("last", rate=1))
    assert len(host.quotas) == 2
    assert host.admitted(key("stays", rate=1, concurrency=2)) == 0, "what it used is not forgotten"
    assert running.running == 1


def test_the_smallest_rate_of_many_gateways_still_gives_a_number_to_wait():
    host = Host()
    host.gateways = 1000
    host.admitted(key(rate=LEAST_RATE))
    with pytest.raises(QuotaExceeded) as caught:
        host.quotas.enter(key(rate=LEAST_RATE))
    assert caught.value.wait_s < 2**31
