"""An engine that runs nothing: for tests, and for measuring all of tidegate but the model.

Deterministic: each output row depends on its input row alone, service time is a function of the row count, and a
gate holds runs back until it is opened.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from serving.engine import ANY_TIME, Call, Engine, EngineOptions, Loaded, Run
from serving.errors import ModelNotReady
from serving.repository.config import TensorSpec
from serving.repository.layout import Graph, GraphKey
from serving.tensors import DTYPES, Array, Tensors, row_count

EMBEDDING: Final = "embedding"
Compute = Callable[[GraphKey, Tensors], Tensors]


class _Held:
    """A graph that is loaded, and how many runs of it go on."""

    __slots__ = ("graph", "idle", "running")

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.running = 0
        self.idle = asyncio.Event()
        self.idle.set()


class FakeEngine(Engine):
    """Runs `compute` after `service_s(rows)` seconds, `instance_group.count` runs at once.

    gate: runs wait here while it is cleared; it begins open. runs: what was run, as (graph, rows), in order.
    Without `compute`, an output row of n numbers is the row's mean, plus 0 to n-1, modulo 1; as an embedding it is
    brought to length 1, without which it would be none.
    """

    def __init__(
        self,
        options: EngineOptions | None = None,
        *,
        service_s: Callable[[int], float] = lambda _: 0.0,
        compute: Compute | None = None,
    ) -> None:
        del options  # a fake has no cores to count
        self.gate = asyncio.Event()
        self.gate.set()
        self.runs: list[tuple[GraphKey, int]] = []
        self._service_s = service_s
        self._compute = compute
        self._graphs: dict[GraphKey, _Held] = {}

    async def load(self, graph: Graph, warm_up: Sequence[Tensors], *, quietly: bool = False) -> Loaded:
        del warm_up, quietly
        self._graphs[graph.key] = _Held(graph)
        return Loaded(graph.config.instances, graph.config.inputs, graph.config.outputs)

    async def unload(self, key: GraphKey) -> None:
        if held := self._graphs.pop(key, None):
            await held.idle.wait()

    async def run(self, key: GraphKey, inputs: Tensors, call: Call = ANY_TIME) -> Run:
        del call
        held = self._graphs.get(key)
        if held is None:
            raise ModelNotReady(f"{key} is not loaded.")
        held.running += 1
        held.idle.clear()
        try:
            return await self._run(held.graph, inputs)
        finally:
            held.running -= 1
            if not held.running:
                held.idle.set()

    async def close(self) -> None:
        for key in list(self._graphs):
            await self.unload(key)

    async def _run(self, graph: Graph, inputs: Tensors) -> Run:
        count = row_count(inputs)
        self.runs.append((graph.key, count))
        started_s = time.monotonic()
        await self.gate.wait()
        await asyncio.sleep(self._service_s(count))
        outputs = self._compute(graph.key, inputs) if self._compute else _outputs(graph.config.outputs, inputs)
        return Run(outputs, 0.0, time.monotonic() - started_s, count)


def _outputs(specs: Sequence[TensorSpec], inputs: Tensors) -> Tensors:
    means = _row_means(inputs)
    outputs: dict[str, Array] = {}
    for spec in specs:
        shape = tuple(max(1, size) for size in spec.shape)
        steps = np.arange(int(np.prod(shape)), dtype=np.float64)
        values = np.mod(means[:, np.newaxis] + steps / max(1, steps.size), 1.0)
        if spec.name == EMBEDDING:
            values /= np.linalg.norm(values, axis=1, keepdims=True)
        outputs[spec.name] = values.reshape(len(means), *shape).astype(DTYPES[spec.datatype])
    return outputs


def _row_means(inputs: Tensors) -> Array:
    count = row_count(inputs)
    numeric = [array.reshape(count, -1) for array in inputs.values() if array.dtype.kind in "fiub" and array.size]
    return np.sum([array.mean(axis=1) for array in numeric], axis=0) if numeric else np.zeros(count)


PLUGIN = FakeEngine
