"""Our spans as OpenTelemetry's, made after the fact. The only file that imports its SDK, which is done where wanted."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from serving.observation.tracing import Whole
from serving.trace import Part, Place

DELIVERY_S: Final = 5.0  # the longest that one may take, with all its tries
PACKAGE: Final = "tidegate"


class _Ids(IdGenerator):
    """Gives out the ids that a span has already: others were told of them while it was going on."""

    def __init__(self) -> None:
        self.next = Place(0, 0)

    def generate_span_id(self) -> int:
        return self.next.span_id

    def generate_trace_id(self) -> int:
        return self.next.trace_id

    def is_trace_id_random(self) -> bool:
        return True


class _Gathered(SpanProcessor):
    """What was made, until it is taken."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


class OtlpDelivery:
    """Satisfies outbox.Delivery. endpoint: the URL that takes traces; headers: sent with each message."""

    def __init__(self, endpoint: str, headers: Mapping[str, str]) -> None:
        # It says of each try that it failed; Outbox says it once, and the meter has the rest.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._exporter = OTLPSpanExporter(endpoint, headers=headers, timeout=DELIVERY_S)
        self._ids = _Ids()
        self._gathered = _Gathered()
        version = metadata.version(PACKAGE)
        provider = TracerProvider(
            ALWAYS_ON,
            Resource.create({"service.name": PACKAGE, "service.version": version}),
            shutdown_on_exit=False,
            id_generator=self._ids,
            span_limits=SpanLimits(max_span_attributes=32, max_links=128, max_span_attribute_length=256),
        )
        provider.add_span_processor(self._gathered)
        self._tracer = provider.get_tracer(PACKAGE, version)

    def deliver(self, wholes: Sequence[Whole]) -> bool:
        """As Delivery.deliver."""
        for whole in wholes:
            for part in whole.parts:
                self._make(part, whole.offset_ns)
            time.sleep(0)  # to whoever waits for the interpreter: requests go first
        spans, self._gathered.spans = self._gathered.spans, []
        return self._exporter.export(spans) is SpanExportResult.SUCCESS

    def end(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _make(self, part: Part, offset_ns: int) -> None:
        self._ids.next = part.place
        parent = None
        if part.parent is not None:
            above = _context(part.parent, remote=part.kind != "internal")
            parent = set_span_in_context(NonRecordingSpan(above))
        span = self._tracer.start_span(
            part.name,
            parent,
            SpanKind[part.kind.upper()],
            part.attributes,
            [Link(_context(place)) for place in part.links],
            round(part.start_s * 1e9) + offset_ns,
        )
        if part.error:
            span.set_attribute("error.type", part.error)
            span.set_status(Status(StatusCode.ERROR))
        span.end(round(part.end_s * 1e9) + offset_ns)


def _context(place: Place, *, remote: bool = False) -> SpanContext:
    state = TraceState.from_header([place.state]) if place.state else None
    flags = TraceFlags(place.flags)
    return SpanContext(place.trace_id, place.span_id, is_remote=remote, trace_flags=flags, trace_state=state)
