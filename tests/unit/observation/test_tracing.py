"""Which requests are traced, and what becomes of spans that nobody takes."""

from __future__ import annotations

import threading
import time

import pytest
from http_rig import wait_until
from prometheus_client import CollectorRegistry, Counter

from serving.errors import SettingsInvalid
from serving.observation import outbox as outbox_module
from serving.observation.collector import endpoint_of, open_outbox, read_headers
from serving.observation.outbox import MOST_WAITING, Outbox
from serving.observation.tracing import Tracing, Whole
from serving.settings import read_settings
from serving.trace import Part, Place, first_place

SAMPLED = Place(1, 2, 1)
NOT_SAMPLED = Place(1, 2, 0)
WHOLE = Whole((Part("a", SAMPLED, None, 0.0, 1.0), Part("b", SAMPLED, None, 0.0, 1.0)), 0)


def nobody(_: Whole) -> None: ...


# Decisions


def test_a_caller_s_decision_is_followed():
    tracing = Tracing(nobody, 0.0, 100)
    trace = tracing.begin(SAMPLED)
    assert trace.recorded
    assert (trace.parent, trace.place.trace_id) == (SAMPLED, 1)
    assert trace.place.span_id != 2
    for ratio in (0.0, 1.0):
        passed = Tracing(nobody, ratio, 100).begin(NOT_SAMPLED)
        assert (passed.recorded, passed.place) == (False, NOT_SAMPLED)


@pytest.mark.parametrize(("ratio", "least", "most"), [(0.0, 0, 0), (0.25, 800, 1200), (1.0, 4000, 4000)])
def test_without_one_a_share_is_taken(ratio, least, most):
    tracing = Tracing(nobody, ratio, 100_000)
    assert least <= sum(tracing.begin(None) is not None for _ in range(4000)) <= most


def test_no_more_than_so_many_a_second_whoever_wants_it():
    tracing = Tracing(nobody, 1.0, 5)
    traces = [tracing.begin(place) for place in [SAMPLED] * 50 + [None] * 50]
    recorded = [trace for trace in traces if trace is not None and trace.recorded]
    assert 5 <= len(recorded) <= 10  # a second may end between them
    assert all(trace.place == SAMPLED for trace in traces[:50] if not trace.recorded)


def test_switched_off_it_passes_on_what_callers_say():
    tracing = Tracing(None, 1.0, 100)
    passed = tracing.begin(SAMPLED)
    assert (passed.recorded, passed.place) == (False, SAMPLED)
    assert tracing.begin(None) is None
    assert tracing.read([b"garbage"], []) is None


# Deliveries


class Slow:
    """A collector that takes nothing until it is let."""

    def __init__(self) -> None:
        self.let = threading.Event()
        self.answer = True
        self.taken = 0

    def deliver(self, wholes) -> bool:
        self.let.wait()
        self.taken += len(wholes)
        return self.answer

    def end(self) -> None:
        self.let.set()


@pytest.fixture
def counts():
    return Counter("spans", "Spans.", ("outcome",), registry=CollectorRegistry())


def counted(counts: Counter) -> dict[str, float]:
    return {outcome: counts.labels(outcome)._value.get() for outcome in ("exported", "dropped")}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(outbox_module, "PAUSE_S", 0.01)
    monkeypatch.setattr(outbox_module, "LEAVE_S", 0.1)


def test_what_waits_is_bounded_and_the_rest_dropped_at_once(counts):
    slow = Slow()
    outbox = Outbox(slow, counts)
    outbox.start()
    started_s = time.monotonic()
    for _ in range(MOST_WAITING):  # of two spans each
        outbox.put(WHOLE)
    assert time.monotonic() - started_s < 1.0
    assert counted(counts)["dropped"] >= MOST_WAITING - 2 * outbox_module.MOST_AT_ONCE
    outbox.close()
    assert time.monotonic() - started_s < 2.0
    wait_until(lambda: sum(counted(counts).values()) == 2 * MOST_WAITING, "each span is counted once")


def test_what_is_delivered_and_what_is_refused_is_counted_and_said_once(counts, caplog):
    collector = Slow()
    collector.let.set()
    outbox = Outbox(collector, counts)
    outbox.start()
    outbox.put(WHOLE)
    wait_until(lambda: counted(counts)["exported"] == 2, "it is delivered")
    collector.answer = False
    for _ in range(3):
        before = counted(counts)["dropped"]
        outbox.put(WHOLE)
        wait_until(lambda before=before: counted(counts)["dropped"] == before + 2, "it is dropped")
    collector.answer = True
    outbox.put(WHOLE)
    outbox.close()
    assert counted(counts) == {"exported": 4, "dropped": 6}
    assert [record.message for record in caplog.records] == [
        "the collector takes no spans: they are dropped",
        "spans are delivered again",
    ]


# Settings


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("http://collector:4318", "http://collector:4318/v1/traces"),
        ("http://collector:4318/", "http://collector:4318/v1/traces"),
        ("https://traces.example/otlp/v1/traces", "https://traces.example/otlp/v1/traces"),
    ],
)
def test_a_collector_is_named_by_its_url(given, found):
    assert endpoint_of(given) == found


@pytest.mark.parametrize(
    "given",
    ["", "collector:4318", "ftp://collector", "http://", "http://user:secret@collector", "http://c/?key=secret",
     "http://[::1", "http://c:99999", "http://c/a\nb"],
)  # fmt: skip
def test_other_urls_are_refused_and_not_repeated(given):
    with pytest.raises(SettingsInvalid) as refused:
        endpoint_of(given)
    assert "secret" not in str(refused.value)


def test_headers_come_from_a_file_which_no_message_repeats(tmp_path):
    file = tmp_path / "headers"
    file.write_text("Authorization: Bearer a b c\n\nX-Scope-OrgID:me \n")
    assert read_headers(file) == {"Authorization": "Bearer a b c", "X-Scope-OrgID": "me"}
    for wrong in ("secret", "a b: secret", "a: sec\x00ret", "a:", ": secret"):
        file.write_text(f"ok: 1\n{wrong}\n")
        with pytest.raises(SettingsInvalid, match="line 2") as refused:
            read_headers(file)
        assert "secret" not in str(refused.value)
    with pytest.raises(SettingsInvalid, match="No such file"):
        read_headers(tmp_path / "missing")


def test_without_a_collector_there_is_nothing(tmp_path):
    assert open_outbox(read_settings(state=tmp_path), CollectorRegistry()) is None


def test_spans_are_within_each_other_in_time():
    sent: list[Whole] = []
    tracing = Tracing(sent.append, 1.0, 100)
    trace = tracing.begin(None)
    trace.did("step", 5.0, 6.0)
    tracing.finish(trace, "whole", "server", attributes={}, times=(4.0, 7.0))
    whole, step = sent[0].parts
    assert (step.parent, whole.parent, whole.kind) == (whole.place, None, "server")
    assert first_place() != whole.place
    assert abs(sent[0].offset_ns + time.monotonic_ns() - time.time_ns()) < 1e9
