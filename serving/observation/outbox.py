"""Spans on their way to whoever collects them, by OTLP over HTTP, on a thread of their own.

What cannot be delivered is dropped and counted: a collector that is gone, slow or silent costs requests nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

from prometheus_client import Counter

from serving.observation.tracing import Whole

log = logging.getLogger(__name__)

MOST_WAITING: Final = 8192  # spans, of a kilobyte each
MOST_AT_ONCE: Final = 16  # requests: encoded in a millisecond or two, for which the event loop may have to wait
PAUSE_S: Final = 1.0  # between deliveries
LEAVE_S: Final = 1.0  # at the end, for what waits
EXPORTED: Final = "exported"
DROPPED: Final = "dropped"


class Delivery(Protocol):
    """What takes spans to the collector."""

    def deliver(self, wholes: Sequence[Whole]) -> bool:
        """Whether the collector has them. May take seconds."""
        ...

    def end(self) -> None:
        """No try is made again."""
        ...


class Outbox:
    """Keeps what is to be delivered, bounded. spans: counts them by outcome."""

    def __init__(self, delivery: Delivery, spans: Counter) -> None:
        self._delivery = delivery
        self._exported = spans.labels(EXPORTED)
        self._dropped = spans.labels(DROPPED)
        self._waiting: deque[Whole] = deque()
        self._put = self._taken = 0  # spans; each is counted by one thread alone
        self._closing = threading.Event()
        self._leave_s = 0.0
        self._away = False
        self._thread = threading.Thread(target=self._keep_on, name="spans", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, whole: Whole) -> None:
        """Never waits."""
        count = len(whole.parts)
        if self._put - self._taken + count > MOST_WAITING:
            self._dropped.inc(count)
        else:
            self._put += count
            self._waiting.append(whole)

    def close(self) -> None:
        """Delivers what waits, if that is soon done. To be called on a thread that may wait."""
        self._leave_s = time.monotonic() + LEAVE_S
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(LEAVE_S)
        self._delivery.end()

    def _keep_on(self) -> None:
        while not self._closing.wait(PAUSE_S):
            self._deliver_all()
        self._deliver_all()

    def _deliver_all(self) -> None:
        while self._waiting:
            taken = [self._waiting.popleft() for _ in range(min(MOST_AT_ONCE, len(self._waiting)))]
            count = sum(len(whole.parts) for whole in taken)
            self._taken += count
            late = self._closing.is_set() and time.monotonic() >= self._leave_s
            if not late and self._delivered(taken):
                self._exported.inc(count)
            else:
                self._dropped.inc(count)

    def _delivered(self, taken: Sequence[Whole]) -> bool:
        try:
            delivered = self._delivery.deliver(taken)
        except Exception:
            log.exception("spans met a bug")
            return False
        if delivered is self._away:
            self._away = not delivered
            log.warning("spans are delivered again" if delivered else "the collector takes no spans: they are dropped")
        return delivered
