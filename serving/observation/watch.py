"""Those who look on at one gateway, put together: the only place where they are named."""

from __future__ import annotations

from dataclasses import dataclass

from serving.log_lines import Lines
from serving.observation.collector import open_outbox
from serving.observation.records import Records
from serving.observation.request_log import RequestLog
from serving.observation.seen import Witness
from serving.observation.tracing import Tracing
from serving.settings import Settings
from serving.telemetry import Meters
from serving.threads import Threads


@dataclass(frozen=True, slots=True)
class Watch:
    """All who look on. `witnesses`: in the order in which they are shown what was answered."""

    witnesses: tuple[Witness, ...]
    records: Records

    async def start(self) -> None:
        """Begins what they do by themselves."""
        self.records.start()

    async def close(self) -> None:
        """Ends it."""
        await self.records.close()


def open_watch(settings: Settings, meters: Meters, threads: Threads, lines: Lines | None = None) -> Watch:
    """As the settings want it. lines: where requests are logged."""
    del threads  # of those to come
    return Watch((), _open_records(settings, meters, lines))


def _open_records(settings: Settings, meters: Meters, lines: Lines | None) -> Records:
    log = RequestLog(lines, settings.request_log, settings.request_log_per_s)
    log.register(meters.registry)
    outbox = open_outbox(settings, meters.registry)
    send = None if outbox is None else outbox.put
    return Records(Tracing(send, settings.trace_ratio, settings.trace_per_s), log, outbox)
