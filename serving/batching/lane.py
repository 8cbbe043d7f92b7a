"""The queue and the slots of one graph: what waits, what runs, and when the next batch is cut."""

from __future__ import annotations

import asyncio
import math
import time
from bisect import insort
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Final

from serving.batching.counts import Counts
from serving.batching.policy import Reason, affordable, decide
from serving.engine import Call, Engine, Loaded, Run, Statistics, check_admission
from serving.errors import DeadlinePassed, EngineFailed, InvalidInput
from serving.repository.config import BatchRules
from serving.repository.layout import GraphKey
from serving.tensors import Tensors, concatenate, row_count, rows
from serving.trace import Trace
from serving.traced import as_batch

MOST_TURNS: Final = 64
ORDER: Final = attrgetter("priority", "begun_s")  # of those who wait; then by arrival


@dataclass(frozen=True, slots=True)
class Batch:
    """What was cut, for the meters: rows and requests in it, why, and the rows still waiting."""

    key: GraphKey
    rows: int
    requests: int
    reason: Reason
    waiting_rows: int


@dataclass(slots=True, eq=False, kw_only=True)
class _Entry:
    """A request in the queue; satisfies policy.Waiting."""

    inputs: Tensors
    rows: int
    shape: Hashable
    priority: int
    begun_s: float
    enqueued_s: float
    deadline_s: float
    trace: Trace | None
    future: asyncio.Future[Run]


class Lane:
    """Runs one graph's requests in batches. observe, quiet_turns: as of Batcher."""

    def __init__(
        self,
        engine: Engine,
        key: GraphKey,
        rules: BatchRules,
        loaded: Loaded,
        *,
        observe: Callable[[Batch], None],
        quiet_turns: Callable[[], int],
    ) -> None:
        self._engine = engine
        self._key = key
        self._stated = rules  # what a request may have; batches may be smaller
        self._rules = affordable(rules, loaded.row_costs_s)
        self.counts = Counts()
        self._free = loaded.slots
        self._observe = observe
        self._quiet_turns = quiet_turns
        self._waiting: list[_Entry] = []
        self._waiting_rows = 0
        self._running: set[asyncio.Task[None]] = set()
        self._arrived = False
        self._settling = False
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    async def run(self, inputs: Tensors, call: Call) -> Run:
        entry = self._enqueue(inputs, call)
        try:
            return await entry.future
        except asyncio.CancelledError:
            self._forget(entry)
            raise

    async def drain(self) -> None:
        """Returns when nothing waits and nothing runs. What waits for company waits no longer."""
        self._rules = replace(self._rules, max_queue_delay_s=0.0)
        self._pump()
        while self._waiting or self._running:
            await (asyncio.wait(self._running) if self._running else asyncio.sleep(0))

    def statistics(self) -> Statistics:
        return replace(self.counts.statistics(), waiting=len(self._waiting))

    def _enqueue(self, inputs: Tensors, call: Call) -> _Entry:
        rules = self._rules
        count = row_count(inputs) if rules.max_batch_size else 1
        check_admission(self._key.name, count, self._waiting_rows, self._stated, call)
        priority = min(call.priority or rules.default_priority, rules.priority_levels)
        now_s = time.monotonic()
        entry = _Entry(
            inputs=inputs,
            rows=count,
            shape=tuple((name, array.dtype, array.shape[1:]) for name, array in inputs.items()),
            priority=priority,
            begun_s=call.begun_s,
            enqueued_s=now_s,
            deadline_s=call.deadline_s,
            trace=call.trace if call.trace is not None and call.trace.recorded else None,
            future=self._loop.create_future(),
        )
        if rules.priority_levels or call.begun_s < math.inf:
            insort(self._waiting, entry, key=ORDER)
        else:
            self._waiting.append(entry)
        self._waiting_rows += count
        self._arrived = True
        if self._free:
            self._settle()
        return entry

    def _forget(self, entry: _Entry) -> None:
        """The caller left: its rows no longer wait. If they already run, the run goes on for its neighbours."""
        if entry in self._waiting:
            self._waiting.remove(entry)
            self._waiting_rows -= entry.rows

    def _settle(self) -> None:
        """Starts a batch as soon as the loop has nothing more to read: what lies in its sockets waits already.

        No timer: some turns of the loop, of microseconds each, and none once a batch is full.
        """
        if self._full():
            self._pump()
        elif not self._settling:
            self._settling = True
            self._arrived = False
            self._loop.call_soon(self._turn, 0, 1)

    def _turn(self, quiet: int, turns: int) -> None:
        quiet = 0 if self._arrived else quiet + 1
        self._arrived = False
        if self._full() or quiet >= self._quiet_turns() or turns >= MOST_TURNS:
            self._settling = False
            self._pump()
        else:
            self._loop.call_soon(self._turn, quiet, turns + 1)

    def _full(self) -> bool:
        """Whether there are rows enough for a batch: who comes later would be in the next."""
        return self._waiting_rows >= max(1, self._rules.max_batch_size)

    def _pump(self) -> None:
        """Starts what the policy says may start."""
        while entries := self._cut():
            task = self._loop.create_task(self._work(entries))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def _cut(self) -> list[_Entry]:
        """The batch that the policy says may start now, out of the queue and with a slot; [] when none may yet."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            decision = decide(self._waiting, time.monotonic(), self._free, self._rules)
            taken = [self._waiting[i] for i in decision.take]
            for entry in [self._waiting[i] for i in decision.expired]:
                self._forget(entry)
                self._fail([entry], DeadlinePassed("The deadline passed while the request waited its turn."))
            if taken:
                self._take(taken, decision.reason)
                return taken
            if not decision.expired:
                if decision.wake_s < math.inf:
                    self._timer = self._loop.call_later(decision.wake_s - time.monotonic(), self._pump)
                break
        return []

    def _take(self, entries: list[_Entry], reason: Reason) -> None:
        chosen = set(map(id, entries))
        self._waiting = [entry for entry in self._waiting if id(entry) not in chosen]
        count = sum(entry.rows for entry in entries)
        self._waiting_rows -= count
        self._free -= 1
        self._observe(Batch(self._key, count, len(entries), reason, self._waiting_rows))

    async def _work(self, entries: list[_Entry]) -> None:
        """Runs a batch, and while full ones wait, the next one in the same turn of the loop in which the last ended.

        Under overload a turn is as long as all that callers sent meanwhile, and the engine would be idle for each.
        """
        while entries:
            try:
                await self._execute(entries)
            finally:
                self._free += 1
            entries = self._cut() if self._full() else []
        if self._waiting:
            self._settle()

    async def _execute(self, entries: list[_Entry]) -> None:
        """Runs the entries as one batch. If that fails and one of them may be to blame, each runs alone."""
        try:
            await self._run_together(entries)
        except (EngineFailed, InvalidInput) as error:
            if len(entries) == 1:
                self._fail(entries, error)
            else:
                for entry in entries:
                    if not entry.future.done():
                        await self._execute([entry])
        except Exception as error:  # noqa: BLE001  (whatever it is, those who wait must hear of it)
            self._fail(entries, error)

    async def _run_together(self, entries: list[_Entry]) -> None:
        started_s = time.monotonic()
        call = Call(deadline_s=max(entry.deadline_s for entry in entries))  # it is worth running until the last one's
        inputs = entries[0].inputs if len(entries) == 1 else concatenate([entry.inputs for entry in entries])
        work = self._engine.run(self._key, inputs, call)
        if traces := [entry.trace for entry in entries if entry.trace is not None and not entry.future.done()]:
            work = as_batch(work, traces, self._key, len(entries))
        run = await work
        self.counts.ran(run)
        start = 0
        for entry in entries:
            stop = start + entry.rows
            outputs = run.outputs if len(entries) == 1 else rows(run.outputs, start, stop)
            start = stop
            if not entry.future.done():
                queue_s = started_s - entry.enqueued_s + run.queue_s
                entry.future.set_result(Run(outputs, queue_s, run.run_s, run.batch_rows, run.batch))
                self.counts.answered(entry.rows, queue_s, run.run_s)

    def _fail(self, entries: list[_Entry], error: Exception) -> None:
        now_s = time.monotonic()
        for entry in entries:
            if not entry.future.done():
                entry.future.set_exception(error)
                self.counts.failed(now_s - entry.enqueued_s)
