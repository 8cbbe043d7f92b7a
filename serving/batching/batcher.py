"""An engine that wraps an engine: rows of different callers meet in one run.

A free engine takes what waits; load makes batches, not a timer. A caller who leaves takes its rows out of the queue;
a batch that fails is run again caller by caller, so that one caller's rows never fail another's.
"""

from __future__ import annotations

import asyncio
import math
import time
from bisect import insort
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Final

from serving.batching.policy import Reason, decide, efficient_rows
from serving.engine import ANY_TIME, Call, Engine, Loaded, Run
from serving.errors import DeadlinePassed, EngineFailed, InvalidInput, ModelNotReady, QueueFull, TensorInvalid
from serving.repository.config import BatchRules
from serving.repository.layout import Graph, GraphKey
from serving.tensors import Tensors, concatenate, row_count, rows

QUIET_TURNS: Final = 2  # a request that is read in one turn of the loop arrives here in the next
MOST_TURNS: Final = 64


@dataclass(frozen=True, slots=True)
class Batch:
    """What was cut, for the meters: rows and requests in it, why, and the rows still waiting."""

    key: GraphKey
    rows: int
    requests: int
    reason: Reason
    waiting_rows: int


class Batcher(Engine):
    """Batches the runs of `engine`, graph by graph. `observe` is told of each batch as it starts."""

    batches_itself = True

    def __init__(self, engine: Engine, observe: Callable[[Batch], None]) -> None:
        self._engine = engine
        self._observe = observe
        self._lanes: dict[GraphKey, _Lane] = {}

    async def load(self, graph: Graph, warm_up: Sequence[Tensors], *, quietly: bool = False) -> Loaded:
        loaded = await self._engine.load(graph, warm_up, quietly=quietly)
        self._lanes[graph.key] = _Lane(self._engine, graph.key, graph.config.rules, loaded, self._observe)
        return loaded

    async def unload(self, key: GraphKey) -> None:
        if lane := self._lanes.pop(key, None):
            await lane.drain()
            await self._engine.unload(key)

    async def run(self, key: GraphKey, inputs: Tensors, call: Call = ANY_TIME) -> Run:
        """As Engine.run; also QueueFull, at once, when as many rows wait as may."""
        lane = self._lanes.get(key)
        if lane is None:
            raise ModelNotReady(f"{key} is not loaded.", remedy="Ask GET /v1/models for what is.")
        return await lane.run(inputs, call)

    async def close(self) -> None:
        lanes, self._lanes = self._lanes, {}
        await asyncio.gather(*(lane.drain() for lane in lanes.values()))
        await self._engine.close()


@dataclass(slots=True, eq=False, kw_only=True)
class _Entry:
    """A request in the queue; satisfies policy.Waiting."""

    inputs: Tensors
    rows: int
    shape: Hashable
    priority: int
    enqueued_s: float
    deadline_s: float
    future: asyncio.Future[Run]


class _Lane:
    """The queue and the slots of one graph."""

    def __init__(
        self, engine: Engine, key: GraphKey, rules: BatchRules, loaded: Loaded, observe: Callable[[Batch], None]
    ) -> None:
        self._engine = engine
        self._key = key
        self._most_rows = max(1, rules.max_batch_size)  # of one request
        self._rules = _measured(rules, loaded)
        self._free = loaded.slots
        self._observe = observe
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

    def _enqueue(self, inputs: Tensors, call: Call) -> _Entry:
        rules = self._rules
        count = row_count(inputs) if rules.max_batch_size else 1
        if count > self._most_rows:
            raise TensorInvalid(
                f"{count} rows in one request; the model takes at most {self._most_rows}.",
                remedy="Send fewer rows a request.",
            )
        if self._waiting_rows + count > rules.max_queue_rows:
            raise QueueFull(f"{self._waiting_rows} rows wait for {self._key.name} already.", remedy="Try again later.")
        priority = min(call.priority or rules.default_priority, rules.priority_levels)
        now_s = time.monotonic()
        entry = _Entry(
            inputs=inputs,
            rows=count,
            shape=tuple((name, array.dtype, array.shape[1:]) for name, array in inputs.items()),
            priority=priority,
            enqueued_s=now_s,
            deadline_s=call.deadline_s,
            future=self._loop.create_future(),
        )
        if rules.priority_levels:
            insort(self._waiting, entry, key=attrgetter("priority"))
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

        No timer: some turns of the loop, of microseconds each, and none more once a batch is full.
        """
        if not self._settling:
            self._settling = True
            self._arrived = False
            self._loop.call_soon(self._turn, 0, 1)

    def _turn(self, quiet: int, turns: int) -> None:
        quiet = 0 if self._arrived else quiet + 1
        self._arrived = False
        full = self._waiting_rows >= max(1, self._rules.max_batch_size)
        if full or quiet >= QUIET_TURNS or turns >= MOST_TURNS:
            self._settling = False
            self._pump()
        else:
            self._loop.call_soon(self._turn, quiet, turns + 1)

    def _pump(self) -> None:
        """Starts what the policy says may start."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            decision = decide(self._waiting, time.monotonic(), self._free, self._rules)
            taken = [self._waiting[i] for i in decision.take]
            for entry in [self._waiting[i] for i in decision.expired]:
                self._forget(entry)
                late = DeadlinePassed("The deadline passed while the request waited its turn.")
                _fail([entry], late)
            if not taken:
                if decision.wake_s < math.inf:
                    self._timer = self._loop.call_later(decision.wake_s - time.monotonic(), self._pump)
                return
            self._start(taken, decision.reason)

    def _start(self, entries: list[_Entry], reason: Reason) -> None:
        chosen = set(map(id, entries))
        self._waiting = [entry for entry in self._waiting if id(entry) not in chosen]
        count = sum(entry.rows for entry in entries)
        self._waiting_rows -= count
        self._free -= 1
        self._observe(Batch(self._key, count, len(entries), reason, self._waiting_rows))
        task = self._loop.create_task(self._execute(entries))
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._free += 1
        if self._waiting:
            self._settle()

    async def _execute(self, entries: list[_Entry]) -> None:
        """Runs the entries as one batch. If that fails and one of them may be to blame, each runs alone."""
        try:
            await self._run_together(entries)
        except (EngineFailed, InvalidInput) as error:
            if len(entries) == 1:
                _fail(entries, error)
            else:
                for entry in entries:
                    if not entry.future.done():
                        await self._execute([entry])
        except Exception as error:  # noqa: BLE001  (whatever it is, those who wait must hear of it)
            _fail(entries, error)

    async def _run_together(self, entries: list[_Entry]) -> None:
        started_s = time.monotonic()
        call = Call(deadline_s=max(entry.deadline_s for entry in entries))  # it is worth running until the last one's
        inputs = entries[0].inputs if len(entries) == 1 else concatenate([entry.inputs for entry in entries])
        run = await self._engine.run(self._key, inputs, call)
        start = 0
        for entry in entries:
            stop = start + entry.rows
            outputs = run.outputs if len(entries) == 1 else rows(run.outputs, start, stop)
            start = stop
            if not entry.future.done():
                queue_s = started_s - entry.enqueued_s + run.queue_s
                entry.future.set_result(Run(outputs, queue_s, run.run_s, run.batch_rows))


def _measured(rules: BatchRules, loaded: Loaded) -> BatchRules:
    """The rules with batches no larger than pays on this host, unless the model's configuration prefers sizes."""
    if rules.max_batch_size < 2 or rules.preferred_batch_sizes or not loaded.row_costs_s:
        return rules
    return replace(rules, max_batch_size=min(rules.max_batch_size, efficient_rows(loaded.row_costs_s)))


def _fail(entries: list[_Entry], error: Exception) -> None:
    for entry in entries:
        if not entry.future.done():
            entry.future.set_exception(error)
