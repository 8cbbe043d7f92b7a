"""What stands before an engine that makes its own batches: only what keeps it busy goes there, the rest waits here.

A row that waits here can still be dropped when its caller leaves or its time is up, goes in order of its priority, and
is counted; one that was sent can only be asked back.
"""

from __future__ import annotations

import asyncio
import time
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from serving.batching.lane import ORDER
from serving.batching.policy import admit
from serving.engine import ANY_TIME, Call, Engine, Loaded, Run, Statistics, check_admission
from serving.errors import DeadlinePassed, ModelNotReady
from serving.repository.config import BatchRules
from serving.repository.layout import Graph, GraphKey
from serving.tensors import Tensors, row_count

BATCHES: Final = 2  # of each slot: one runs, and one lies ready, or batches would begin with what comes first


class Admission(Engine):
    """Bounds what is under way at `engine`, graph by graph."""

    batches_itself = True

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lanes: dict[GraphKey, _Lane] = {}

    @property
    def available(self) -> bool:
        return self._engine.available

    async def load(self, graph: Graph, warm_up: Sequence[Tensors], *, quietly: bool = False) -> Loaded:
        loaded = await self._engine.load(graph, warm_up, quietly=quietly)
        self._lanes[graph.key] = _Lane(self._engine, graph.key, graph.config.rules, loaded.slots)
        return loaded

    async def unload(self, key: GraphKey) -> None:
        if lane := self._lanes.pop(key, None):
            await lane.idle.wait()
            await self._engine.unload(key)

    async def run(self, key: GraphKey, inputs: Tensors, call: Call = ANY_TIME) -> Run:
        """As Engine.run; also QueueFull, at once, when as many rows wait as may."""
        lane = self._lanes.get(key)
        if lane is None:
            raise ModelNotReady(f"{key} is not loaded.", remedy="Ask GET /v1/models for what is.")
        return await lane.run(inputs, call)

    async def statistics(self, key: GraphKey) -> Statistics:
        return await self._engine.statistics(key)

    async def close(self) -> None:
        lanes, self._lanes = self._lanes, {}
        await asyncio.gather(*(lane.idle.wait() for lane in lanes.values()))
        await self._engine.close()


@dataclass(slots=True, eq=False)
class _Entry:
    """A request that waits; satisfies policy.Arriving."""

    rows: int
    priority: int
    begun_s: float
    deadline_s: float
    turn: asyncio.Future[None]


class _Lane:
    """The queue of one graph, and the rows that may still be sent."""

    def __init__(self, engine: Engine, key: GraphKey, rules: BatchRules, slots: int) -> None:
        self.idle = asyncio.Event()
        self.idle.set()
        self._engine = engine
        self._key = key
        self._rules = rules
        self._free_rows = BATCHES * slots * max(1, rules.max_batch_size)
        self._waiting: list[_Entry] = []
        self._present = 0  # requests that wait or run

    async def run(self, inputs: Tensors, call: Call) -> Run:
        rows = row_count(inputs) if self._rules.max_batch_size else 1
        check_admission(self._key.name, rows, sum(entry.rows for entry in self._waiting), self._rules, call)
        self._present += 1
        self.idle.clear()
        try:
            arrived_s = time.monotonic()
            await self._turn(rows, call)
            queue_s = time.monotonic() - arrived_s
            try:
                run = await self._engine.run(self._key, inputs, call)
            finally:
                self._leave(rows)
            return replace(run, queue_s=run.queue_s + queue_s)
        finally:
            self._present -= 1
            if not self._present:
                self.idle.set()

    async def _turn(self, rows: int, call: Call) -> None:
        """Returns when the rows may be sent; they count as sent from then on."""
        if not self._waiting and rows <= self._free_rows:
            self._free_rows -= rows
            return
        rules = self._rules
        priority = min(call.priority or rules.default_priority, rules.priority_levels)
        entry = _Entry(rows, priority, call.begun_s, call.deadline_s, asyncio.get_running_loop().create_future())
        insort(self._waiting, entry, key=ORDER)
        try:
            await entry.turn
        except asyncio.CancelledError:
            if entry in self._waiting:
                self._waiting.remove(entry)
                self._pump()  # it may have stood before a smaller one
            elif not entry.turn.cancelled():
                self._leave(rows)
            raise

    def _leave(self, rows: int) -> None:
        self._free_rows += rows
        self._pump()

    def _pump(self) -> None:
        """Lets those go whose turn it is."""
        if not self._waiting:
            return
        taken, expired = admit(self._waiting, time.monotonic(), self._free_rows)
        out = {*taken, *expired}
        entries, self._waiting = self._waiting, [one for i, one in enumerate(self._waiting) if i not in out]
        for i in expired:
            if not entries[i].turn.done():
                entries[i].turn.set_exception(DeadlinePassed("The deadline passed while the request waited its turn."))
        for i in taken:
            entry = entries[i]
            if not entry.turn.done():  # else it was cancelled in this very moment
                self._free_rows -= entry.rows
                entry.turn.set_result(None)
