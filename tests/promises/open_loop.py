"""Load whose arrivals do not wait for answers: Poisson, over keep-alive connections that are reused as they fall free.

Closed loops hide queueing: their callers wait, so an overloaded server is asked less. This one asks on.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

IDLE_S = 2.0  # a connection that rested longer is not used again: the server may be closing it this very moment


class Reply(NamedTuple):
    """status 0 stands for a connection that broke; header names are lower case."""

    status: int
    headers: Mapping[str, str] = MappingProxyType({})
    body: bytes = b""


Judge = Callable[[Reply], str | None]  # what is wrong with a reply


@dataclass
class Outcome:
    """Seconds from the moment a request was due to its answer, by status; and what a judge found wrong.

    late_s: by how much the latest request was begun after it was due: whoever asks stood still, or the whole machine.
    """

    offered_s: float
    seconds: dict[int, list[float]] = field(default_factory=dict)
    retry_after: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    late_s: float = 0.0

    def add(self, status: int, seconds: float) -> None:
        self.seconds.setdefault(status, []).append(seconds)

    def count(self, status: int) -> int:
        return len(self.seconds.get(status, []))

    def rate(self, status: int) -> float:
        """Answers of that status per second of the load."""
        return self.count(status) / self.offered_s

    def percentile(self, status: int, share: float) -> float:
        ordered = sorted(self.seconds[status])
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Caller:
    """One request after another over one connection."""

    def __init__(self, host: str, port: int, request: bytes) -> None:
        self._address = host, port
        self._request = request
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._answered_s = 0.0

    async def ask(self) -> Reply:
        if time.monotonic() > self._answered_s + IDLE_S:
            self.close()
        try:
            if self._reader is None or self._writer is None:
                self._reader, self._writer = await asyncio.open_connection(*self._address)
            self._writer.write(self._request)
            head = await self._reader.readuntil(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode("latin-1").lower().split("\r\n")[1:] if line)
            body = await self._reader.readexactly(int(headers["content-length"]))
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            return Reply(0)
        self._answered_s = time.monotonic()
        return Reply(int(head[9:12]), headers, body)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


async def closed_loop(host: str, port: int, request: bytes, *, callers: int, seconds: float) -> Outcome:
    """As many requests as the server answers to `callers` who each wait for theirs."""
    outcome = Outcome(seconds)
    end_s = time.monotonic() + seconds

    async def loop() -> None:
        caller = Caller(host, port, request)
        while (started_s := time.monotonic()) < end_s:
            reply = await caller.ask()
            outcome.add(reply.status, time.monotonic() - started_s)
        caller.close()

    await asyncio.gather(*(loop() for _ in range(callers)))
    return outcome


async def open_loop(
    host: str,
    port: int,
    request: bytes,
    *,
    rate: float,
    seconds: float,
    seed: int = 0,
    judge: Judge | None = None,
) -> Outcome:
    """`rate` requests a second on average for so many seconds, each timed from when it was due, each reply judged."""
    outcome = Outcome(seconds)
    arrivals = random.Random(seed)
    idle: list[Caller] = []
    asking: set[asyncio.Task[None]] = set()

    async def ask(due_s: float) -> None:
        caller = idle.pop() if idle else Caller(host, port, request)
        reply = await caller.ask()
        outcome.add(reply.status, time.monotonic() - due_s)
        if "retry-after" in reply.headers:
            outcome.retry_after.add(reply.headers["retry-after"])
        if judge is not None and (fault := judge(reply)):
            outcome.wrong.append(fault)
        idle.append(caller)

    started_s = due_s = time.monotonic()
    while due_s < started_s + seconds:
        if (wait_s := due_s - time.monotonic()) > 0:
            await asyncio.sleep(wait_s)
        outcome.late_s = max(outcome.late_s, time.monotonic() - due_s)
        task = asyncio.create_task(ask(due_s))
        asking.add(task)
        task.add_done_callback(asking.discard)
        due_s += arrivals.expovariate(rate)
    await asyncio.gather(*asking)
    for caller in idle:
        caller.close()
    return outcome
