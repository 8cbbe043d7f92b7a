"""What is kept of each request, once it has ended: its line in the log, and its trace if it has one."""

from __future__ import annotations

import asyncio

from serving.observation.ended import Ended
from serving.observation.outbox import Outbox
from serving.observation.request_log import RequestLog
from serving.observation.tracing import Tracing
from serving.trace import Trace


class Records:
    """Both together, as those know them where requests come in.

    They ask `tracing.read` at the beginning; and at the end, if there is a trace or `log.wants` it, they tell `keep`.
    """

    def __init__(self, tracing: Tracing, log: RequestLog, outbox: Outbox | None = None) -> None:
        self.tracing = tracing
        self.log = log
        self._outbox = outbox

    def keep(self, ended: Ended, trace: Trace | None, *, logged: bool) -> None:
        """Both of a request. logged: what `log.wants` said."""
        if logged:
            self.log.write(ended, trace)
        if trace is not None:
            self.tracing.end(ended, trace)

    def start(self) -> None:
        """Spans are delivered from here on."""
        if self._outbox is not None:
            self._outbox.start()

    async def close(self) -> None:
        """Delivers what waits, if that is soon done."""
        if self._outbox is not None:
            await asyncio.to_thread(self._outbox.close)


def no_records() -> Records:
    """Nothing is kept."""
    return Records(Tracing(None, 0.0, 0), RequestLog(None, 0.0, 0))
