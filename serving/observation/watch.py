"""Those who look on at one gateway, put together: the only place where they are named."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from serving.capturing.folder import CaptureFolder
from serving.log_lines import Lines
from serving.observation.answers import Answers
from serving.observation.capture import Capture, CaptureMeters
from serving.observation.collector import open_outbox
from serving.observation.drift import Drift
from serving.observation.feedback import Feedback
from serving.observation.feedback_meters import FeedbackMeters
from serving.observation.records import Records
from serving.observation.redaction import open_hook
from serving.observation.request_log import RequestLog
from serving.observation.seen import Witness
from serving.observation.tracing import Tracing
from serving.observation.truths import KEY, Stream, Truths
from serving.settings import Settings, option
from serving.telemetry import Meters
from serving.threads import Threads
from serving.versions.router import Router


@dataclass(frozen=True, slots=True)
class Watch:
    """All who look on. `witnesses`: in the order in which they are shown what was answered."""

    witnesses: tuple[Witness, ...]
    drift: Drift
    feedback: Feedback
    truths: Truths
    records: Records
    capture: Capture | None = None

    async def start(self) -> None:
        """Begins what they do by themselves."""
        self.records.start()
        await self.truths.start()
        if self.capture is not None:
            self.capture.start()

    async def close(self) -> None:
        """Ends it."""
        await self.drift.close()
        await self.truths.close()
        if self.capture is not None:
            await asyncio.to_thread(self.capture.close)
        await self.records.close()


def open_watch(
    settings: Settings,
    meters: Meters,
    threads: Threads,
    router: Router,
    *,
    connected: Callable[[], bool],
    lines: Lines | None = None,
) -> Watch:
    """As the settings want it. connected: whether what gateways share can be reached. lines: of the log of requests."""
    answers = Answers(settings.feedback_answers, settings.feedback_bytes, settings.feedback_age_s)
    feedback = Feedback(answers, FeedbackMeters(meters.registry, lambda: answers.count(time.monotonic())), threads)
    drift = Drift(router, threads, meters.registry, settings.drift_rate)
    wanted: list[tuple[float, Witness]] = [(settings.drift_rate, drift), (settings.feedback_answers, feedback)]
    witnesses = [witness for amount, witness in wanted if amount]
    capture = _open_capture(settings, meters) if settings.capture else None
    if capture is not None:
        witnesses.append(capture)
    truths = Truths(feedback, _open_stream(settings.redis) if settings.redis else None, connected)
    return Watch(tuple(witnesses), drift, feedback, truths, _open_records(settings, meters, lines), capture)


def _open_stream(url: str) -> Stream:
    from serving.redis.stream import RedisStream  # noqa: PLC0415  (redis-py is an extra)

    return RedisStream(url, KEY)


def _open_capture(settings: Settings, meters: Meters) -> Capture:
    """SettingsInvalid: the hook is not there."""
    folder = CaptureFolder(settings.state, settings.capture_bytes)
    redact = open_hook(settings.capture_redact, option("capture_redact")) if settings.capture_redact else None
    return Capture(folder, settings.capture, redact, CaptureMeters(meters.registry, folder))


def _open_records(settings: Settings, meters: Meters, lines: Lines | None) -> Records:
    log = RequestLog(lines, settings.request_log, settings.request_log_per_s)
    log.register(meters.registry)
    outbox = open_outbox(settings, meters.registry)
    send = None if outbox is None else outbox.put
    return Records(Tracing(send, settings.trace_ratio, settings.trace_per_s), log, outbox)
