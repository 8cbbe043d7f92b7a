"""The open loop, with a clock of its own: nobody waits for answers, and latencies count from when requests were due."""

from __future__ import annotations

from itertools import repeat

import gevent
import pytest
from gevent.event import Event

from loadtests.connection import Answer, judged
from loadtests.outcome import UNSENT
from loadtests.payloads import Shot
from loadtests.source import Clock, Source

SHOT = Shot("classify", "m", "/v1/classify?model=m", b"x", "text/plain")
FINE = Answer(200, 1)


class Time:
    """Goes on when somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        gevent.sleep(0)

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.now_s, self.sleep)


def test_requests_are_sent_when_they_are_due_whatever_became_of_those_before():
    time, answers, outcomes, sent = Time(), Event(), [], []

    def ask(shot):
        sent.append(time.now_s)
        answers.wait()
        return FINE

    source = Source(ask, outcomes.append, clock=time.clock)
    source.open_loop([0.0, 1.0, 1.5, 4.0], repeat(SHOT))
    gevent.sleep(0)
    assert sent == [100.0, 101.0, 101.5, 104.0]
    assert outcomes == []
    time.now_s = 110.0
    answers.set()
    source.finish()
    assert sorted(one.latency_s for one in outcomes) == [6.0, 8.5, 9.0, 10.0]
    assert [one.late_s for one in outcomes] == [0.0] * 4


def test_what_the_generator_is_late_counts_as_latency_and_is_told():
    time, outcomes = Time(), []

    def ask(shot):
        time.now_s += 3.0  # nobody else runs meanwhile, as when a processor is taken
        return FINE

    source = Source(ask, outcomes.append, clock=time.clock)
    source.open_loop([0.0, 1.0], repeat(SHOT))
    source.finish()
    assert [(one.due_s, one.late_s, one.latency_s) for one in outcomes] == [(0.0, 0.0, 3.0), (1.0, 2.0, 5.0)]


def test_more_than_may_be_open_are_not_sent_and_said_to_be():
    time, answers, outcomes = Time(), Event(), []

    def ask(shot):
        answers.wait()
        return FINE

    source = Source(ask, outcomes.append, clock=time.clock, most_open=2)
    source.open_loop([0.0, 0.1, 0.2, 0.3], repeat(SHOT))
    assert [(one.due_s, one.code) for one in outcomes] == [(0.2, UNSENT), (0.3, UNSENT)]
    answers.set()
    source.finish()
    assert len(outcomes) == 4


def test_callers_who_wait_ask_one_after_another():
    time, outcomes = Time(), []

    def ask(shot):
        time.sleep(1.0)
        return FINE

    Source(ask, outcomes.append, clock=time.clock).closed_loop(1, 3.0, repeat(SHOT))
    assert [(one.due_s, one.latency_s) for one in outcomes] == [(0.0, 1.0), (1.0, 1.0), (2.0, 1.0)]


def test_a_request_that_is_lost_here_is_no_good_run(capsys):
    def ask(shot):
        raise ZeroDivisionError

    source = Source(ask, [].append, clock=Time().clock)
    source.open_loop([0.0], repeat(SHOT))
    with pytest.raises(RuntimeError, match="1 requests were sent and never recorded"):
        source.finish()
    capsys.readouterr()  # gevent prints the error


NAMED = {"Tidegate-Model": "m", "tidegate-version": "3"}


@pytest.mark.parametrize(
    ("status", "headers", "body", "expected"),
    [
        (200, NAMED, b"{}", Answer(200, 3)),
        (200, {**NAMED, "Tidegate-Model": "other"}, b"{}", Answer(200, 3, "nameless")),
        (200, {"Tidegate-Model": "m"}, b"{}", Answer(200, 0, "nameless")),
        (503, NAMED, b'{"code": "queue_full"}', Answer(503, 3, "queue_full")),
        (429, {}, b'{"error": {"code": "quota_exceeded"}}', Answer(429, 0, "quota_exceeded")),
        (502, {}, b"<html>", Answer(502, 0, "http_502")),
        (500, {}, b"[1]", Answer(500, 0, "http_500")),
    ],
)
def test_an_answer_counts_if_it_is_200_and_names_its_version(status, headers, body, expected):
    assert judged(status, headers, body, "m") == expected
