"""Sends requests when they are due, whatever became of those before; and, for comparison, as callers who wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import gevent
from gevent.pool import Pool

from loadtests.connection import Answer
from loadtests.outcome import UNSENT, Outcome
from loadtests.payloads import Shot

MOST_OPEN: Final = 4096  # requests at once: gateways take a quarter of it, so who needs more is not answered

Ask = Callable[[Shot], Answer]
Record = Callable[[Outcome], None]


@dataclass(frozen=True, slots=True)
class Clock:
    """now_s does not go back; `sleep` lets others run."""

    now_s: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], Any] = gevent.sleep


class Source:
    """Asks, and records what came of it, in seconds since `begun_s`."""

    def __init__(self, ask: Ask, record: Record, *, clock: Clock | None = None, most_open: int = MOST_OPEN) -> None:
        self.clock = clock or Clock()
        self.begun_s = self.clock.now_s()
        self._ask = ask
        self._record = record
        self._pool = Pool(most_open)
        self._unrecorded = 0

    def open_loop(self, dues: Iterable[float], shots: Iterator[Shot]) -> None:
        """Sends one shot at each due time. Returns when the last is sent; `finish` waits for the answers."""
        clock = self.clock
        for due_s in dues:
            if (wait_s := self.begun_s + due_s - clock.now_s()) > 0:
                clock.sleep(wait_s)
            shot = next(shots)
            if self._pool.full():
                late_s = clock.now_s() - self.begun_s - due_s
                self._record(_outcome(shot, due_s, late_s, late_s, Answer(0, 0, UNSENT)))
            else:
                self._unrecorded += 1
                self._pool.spawn(self._send, shot, due_s)
                clock.sleep(0)  # it is sent now, also when this source is behind and never sleeps

    def closed_loop(self, callers: int, seconds: float, shots: Iterator[Shot]) -> None:
        """So many callers who wait for their answers; returns when each has its last."""

        def call() -> None:
            while (due_s := self.clock.now_s() - self.begun_s) < seconds:
                self._unrecorded += 1
                self._send(next(shots), due_s)

        for _ in range(callers):
            self._pool.spawn(call)
        self.finish()

    def finish(self) -> None:
        """Returns when all that was sent is answered. RuntimeError when some of it was lost here: a bug, not a run."""
        self._pool.join()
        if self._unrecorded:
            raise RuntimeError(f"{self._unrecorded} requests were sent and never recorded.")

    def stop(self) -> None:
        """What is open is given up, and not recorded."""
        self._pool.kill()

    def _send(self, shot: Shot, due_s: float) -> None:
        late_s = self.clock.now_s() - self.begun_s - due_s
        answer = self._ask(shot)
        self._unrecorded -= 1
        self._record(_outcome(shot, due_s, late_s, self.clock.now_s() - self.begun_s - due_s, answer))


def _outcome(shot: Shot, due_s: float, late_s: float, latency_s: float, answer: Answer) -> Outcome:
    return Outcome(
        due_s=due_s,
        late_s=late_s,
        latency_s=latency_s,
        task=shot.task,
        model=shot.model,
        version=answer.version,
        status=answer.status,
        code=answer.code,
        sent_bytes=len(shot.body),
    )
