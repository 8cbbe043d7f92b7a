"""NVIDIA Triton over gRPC: for GPU hosts, where one process is not enough. It batches by itself.

Explicit model control; several versions of a graph stand beside each other. Several gateways may share one Triton.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from serving.engine import ANY_TIME, Call, Engine, EngineOptions, Loaded, Run, Statistics
from serving.errors import EngineAway, EngineFailed, ModelNotReady, SettingsInvalid, TensorInvalid, TidegateError
from serving.repository.layout import Graph, GraphKey
from serving.tensorrt import misfit
from serving.tensors import Tensors, row_count
from serving.triton.link import NotLoaded, NotSent, ProcessDied, TritonLink, away
from serving.triton.messages import (
    infer_request,
    metadata_request,
    read_outputs,
    read_specs,
    read_statistics,
    statistics_request,
)
from serving.triton.residency import Residency

log = logging.getLogger(__name__)

WARM_UP_S: Final = 120.0
PROBE_S: Final = 2.0


@dataclass(slots=True, eq=False)
class _Held:
    """A graph that this gateway has loaded, and what of it is under way. `probe`: an input that it answers.

    graph: what Triton runs, which may be TensorRT's plan of the graph that was asked for.
    """

    graph: Graph
    probe: Tensors | None
    runs: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.idle.set()


class TritonEngine(Engine):
    """Runs graphs on one Triton, which has the same model repository."""

    batches_itself = True

    def __init__(self, options: EngineOptions) -> None:
        if not options.url or options.claims is None:
            raise SettingsInvalid(
                "--engine triton: no Triton is named.", remedy="Name one with --triton-url HOST:8001."
            )
        self._link = TritonLink(options.url)
        self._residency = Residency(self._link, options.claims, options.url)
        self._host = options.host
        self._held: dict[GraphKey, _Held] = {}

    @property
    def available(self) -> bool:
        return self._residency.settled

    async def load(self, graph: Graph, warm_up: Sequence[Tensors], *, quietly: bool = False) -> Loaded:
        """As Engine.load; the warm-up is one run after another and so quiet in any case.

        A plan that was built for Triton's host is loaded in place of its graph, and the graph where that fails.
        """
        del quietly
        planned = graph.planned
        if planned is not None and (reason := misfit(planned.record, self._host)):
            log.info("%s runs as ONNX and not as its plan: %s", graph.key, reason)
        elif planned is not None:
            try:
                return await self._take(graph.key, planned.graph, warm_up)
            except (EngineFailed, TensorInvalid) as error:
                log.warning("%s runs as ONNX: its plan cannot be used: %s", graph.key, error)
        return await self._take(graph.key, graph, warm_up)

    async def _take(self, key: GraphKey, graph: Graph, warm_up: Sequence[Tensors]) -> Loaded:
        """Loads `graph`, to run for whoever asks for `key`."""
        await self._residency.add(graph)
        try:
            for inputs in warm_up:
                await self._infer(graph.key, inputs, Call(time.monotonic() + WARM_UP_S))
            loaded = await self._describe(graph)
        except BaseException:
            await self._residency.remove(graph.key)
            raise
        self._held[key] = _Held(graph, warm_up[0] if warm_up else None)
        return loaded

    async def unload(self, key: GraphKey) -> None:
        if held := self._held.pop(key, None):
            await held.idle.wait()
            await self._residency.remove(held.graph.key)

    async def run(self, key: GraphKey, inputs: Tensors, call: Call = ANY_TIME) -> Run:
        """As Engine.run; also EngineAway."""
        held = self._held.get(key)
        if held is None:
            raise ModelNotReady(f"{key} is not loaded.", remedy="Ask GET /v1/models for what is.")
        held.runs += 1
        held.idle.clear()
        try:
            started_s = time.monotonic()
            outputs = await self._infer(held.graph.key, inputs, call, held)
            return Run(outputs, 0.0, time.monotonic() - started_s, row_count(inputs))
        finally:
            held.runs -= 1
            if not held.runs:
                held.idle.set()

    async def statistics(self, key: GraphKey) -> Statistics:
        """As Triton tells it, of the requests of all its callers."""
        held = self._held.get(key)
        if held is None:
            raise ModelNotReady(f"{key} is not loaded.", remedy="Ask GET /v1/models for what is.")
        found = await self._link.ask("ModelStatistics", statistics_request(held.graph.key))
        return read_statistics(found.model_stats[0])

    async def close(self) -> None:
        held, self._held = self._held, {}
        await asyncio.gather(*(one.idle.wait() for one in held.values()))
        await self._residency.close()
        await self._link.close()

    async def _infer(self, key: GraphKey, inputs: Tensors, call: Call, held: _Held | None = None) -> Tensors:
        """The outputs; tried once more when nothing was sent. held: None during warm-up."""
        request = infer_request(key, inputs, call.priority)
        if held is not None and self._link.up and not self._residency.ready(key):
            raise _loading_anew()
        try:
            response = await self._sent(key, request, call)
        except NotLoaded:
            self._residency.lost(key)
            raise _loading_anew() from None
        except ProcessDied:
            if held is not None:
                self._residency.broken(key, lambda: self._answers(held))
            raise EngineFailed(f"{key.name} failed over this run.") from None
        return read_outputs(key, response)

    async def _sent(self, key: GraphKey, request: Any, call: Call) -> Any:
        try:
            return await self._link.infer(key, request, call.deadline_s, trace=call.trace)
        except NotSent:
            with suppress(NotSent):
                return await self._link.infer(key, request, call.deadline_s, again=True, trace=call.trace)
            raise away() from None

    async def _answers(self, held: _Held) -> bool:
        if held.probe is None:
            return False
        request = infer_request(held.graph.key, held.probe, 0)
        try:
            await self._link.infer(held.graph.key, request, time.monotonic() + PROBE_S)
        except (TidegateError, NotSent, NotLoaded, ProcessDied):
            return False
        return True

    async def _describe(self, graph: Graph) -> Loaded:
        found = await self._link.ask("ModelMetadata", metadata_request(graph.key))
        config = graph.config
        batched = config.rules.max_batch_size > 0
        inputs = config.inputs or read_specs(found.inputs, batched=batched)
        outputs = config.outputs or read_specs(found.outputs, batched=batched)
        if not inputs or not outputs:
            raise EngineFailed(f"Triton does not say what {graph.key} takes and gives.")
        return Loaded(config.instances, inputs, outputs)


def _loading_anew() -> EngineAway:
    return EngineAway("The engine is loading the model anew.", remedy="Try again in a moment.")


PLUGIN = TritonEngine
