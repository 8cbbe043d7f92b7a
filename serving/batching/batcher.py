"""An engine that wraps an engine: rows of different callers meet in one run. The queue of each graph is a lane's.

A free engine takes what waits; load makes batches, not a timer. A caller who leaves takes its rows out of the queue;
a batch that fails is run again caller by caller, so that one caller's rows never fail another's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from serving.batching.lane import Batch, Lane
from serving.engine import ANY_TIME, Call, Engine, Loaded, Run, Statistics
from serving.errors import ModelNotReady
from serving.repository.layout import Graph, GraphKey
from serving.tensors import Tensors


class Batcher(Engine):
    """Batches the runs of `engine`, graph by graph. `observe` is told of each batch as it starts.

    quiet_turns: of the loop, after which nothing is on its way: a request that is read in one arrives in the next.
    """

    batches_itself = True

    def __init__(
        self, engine: Engine, observe: Callable[[Batch], None], quiet_turns: Callable[[], int] = lambda: 2
    ) -> None:
        self.engine = engine
        self.observe = observe
        self.quiet_turns = quiet_turns
        self._lanes: dict[GraphKey, Lane] = {}

    @property
    def available(self) -> bool:
        return self.engine.available

    async def load(self, graph: Graph, warm_up: Sequence[Tensors], *, quietly: bool = False) -> Loaded:
        loaded = await self.engine.load(graph, warm_up, quietly=quietly)
        self._lanes[graph.key] = Lane(
            self.engine, graph.key, graph.config.rules, loaded, observe=self.observe, quiet_turns=self.quiet_turns
        )
        return loaded

    async def unload(self, key: GraphKey) -> None:
        if lane := self._lanes.pop(key, None):
            await lane.drain()
            await self.engine.unload(key)

    async def run(self, key: GraphKey, inputs: Tensors, call: Call = ANY_TIME) -> Run:
        """As Engine.run; also QueueFull, at once, when as many rows wait as may."""
        return await self._lane(key).run(inputs, call)

    async def statistics(self, key: GraphKey) -> Statistics:
        return self._lane(key).statistics()

    def tallies(self) -> Mapping[GraphKey, Statistics]:
        return {key: lane.statistics() for key, lane in self._lanes.items()}

    async def close(self) -> None:
        lanes, self._lanes = self._lanes, {}
        await asyncio.gather(*(lane.drain() for lane in lanes.values()))
        await self.engine.close()

    def _lane(self, key: GraphKey) -> Lane:
        lane = self._lanes.get(key)
        if lane is None:
            raise ModelNotReady(f"{key} is not loaded.", remedy="Ask GET /v1/models for what is.")
        return lane
