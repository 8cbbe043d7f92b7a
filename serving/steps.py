"""What a task is lent for one request: worker threads, its version's graphs, and a meter of where the seconds go."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from serving.engine import Call, Engine, Run, check_inputs
from serving.task import Watcher
from serving.telemetry import Stages
from serving.tensors import Tensors
from serving.threads import Threads
from serving.traced import traced_run, waited
from serving.versions.resident import Resident

T = TypeVar("T")


class LentSteps:
    """Satisfies task.Steps for one request."""

    __slots__ = (
        "_begun_s", "_call", "_counted_s", "_engine", "_loop_begun_s", "_resident", "_stages", "_threads", "inputs",
        "watcher",
    )  # fmt: skip

    def __init__(
        self,
        resident: Resident,
        engine: Engine,
        threads: Threads,
        call: Call,
        *,
        stages: Stages,
        watcher: Watcher | None,
    ) -> None:
        self.watcher = watcher
        self.inputs: Tensors = {}  # of the first run
        self._resident = resident
        self._engine = engine
        self._threads = threads
        self._call = call
        self._stages = stages
        self._counted_s = 0.0  # up to when runs are
        self._begun_s: dict[str, float] = {}  # role -> when its first run ended
        self._loop_begun_s = math.inf  # as above, of the first role that is run again

    async def pre(self, function: Callable[[], Tensors]) -> Tensors:
        started_s = time.monotonic()
        tensors, waited_s, ran_s = await self._threads.prepare(self._resident.version.model, function)
        self._stages.queue_s += waited_s
        self._stages.pre_s += ran_s
        if self._call.trace is not None:
            waited(self._call.trace, "pre", started_s, waited_s, ran_s)
        return tensors

    async def run(self, graph: str, inputs: Tensors) -> Tensors:
        resident = self._resident
        key = resident.key(graph)
        self.inputs = self.inputs or inputs
        batched = resident.version.graphs[graph].config.rules.max_batch_size > 0
        check_inputs(inputs, resident.loaded[graph].inputs, batched=batched)
        if graph in self._begun_s:
            self._loop_begun_s = min(self._loop_begun_s, self._begun_s[graph])
        call = self._call
        begun_s = self._begun_s.get(graph, self._loop_begun_s)  # what ends a loop has begun with it
        if begun_s < math.inf:
            call = replace(call, begun_s=begun_s)
        run: Run
        if call.trace is None:
            run = await self._engine.run(key, inputs, call)
        else:
            run = await traced_run(self._engine, key, inputs, call, call.trace)
        self._count(run)
        self._begun_s.setdefault(graph, self._counted_s)
        return run.outputs

    def _count(self, run: Run) -> None:
        """Of runs at the same time, each second counts once."""
        ended_s, lasted_s = time.monotonic(), run.queue_s + run.run_s
        share = min(1.0, (ended_s - self._counted_s) / lasted_s) if lasted_s else 0.0
        self._counted_s = ended_s
        self._stages.queue_s += share * run.queue_s
        self._stages.run_s += share * run.run_s

    def post(self, function: Callable[[], T]) -> T:
        started_s = time.monotonic()
        result = function()
        ended_s = time.monotonic()
        self._stages.post_s += ended_s - started_s
        if self._call.trace is not None:
            self._call.trace.did("post", started_s, ended_s)
        return result

    async def post_aside(self, function: Callable[[], T]) -> T:
        started_s = time.monotonic()
        result, waited_s, ran_s = await self._threads.run(self._resident.version.model, function)
        self._stages.queue_s += waited_s
        self._stages.post_s += ran_s
        if self._call.trace is not None:
            waited(self._call.trace, "post", started_s, waited_s, ran_s)
        return result
