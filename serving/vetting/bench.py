"""The versions of one job on one engine: loaded as they will serve, but on one thread, and run under a deadline."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from serving import engine as engines
from serving import plugins
from serving.engine import Call, Engine, EngineOptions, Loaded, Run, check_inputs
from serving.errors import DeadlinePassed, RepositoryInvalid, TensorInvalid
from serving.repository.layout import Graph, Version, read_version
from serving.task import Task
from serving.tensors import Tensors, row_count
from serving.threads import Threads
from serving.versions.measurements import Job
from serving.vetting.golden import Golden
from serving.vetting.reasons import Unfit, said

ENGINE: Final = "onnx"  # Triton vets by itself what it loads, out of the gateway's process
T = TypeVar("T")


class NothingToMeasure(Exception):
    """The step does not apply to this version; the text says why."""


@dataclass(slots=True)
class Subject:
    """A version and what the steps have found out about it so far; rows: to warm up with. All by the graphs' roles."""

    version: Version
    task: Task[Any] | None = None
    rows: Mapping[str, Tensors] = field(default_factory=dict)
    loaded: dict[str, Loaded] = field(default_factory=dict)
    golden: dict[str, Golden] = field(default_factory=dict)
    alone: dict[str, Tensors] = field(default_factory=dict)  # what the golden rows gave, each run by itself
    nonfinite: Counter[str] = field(default_factory=Counter)

    def graph(self, role: str) -> Graph:
        """The graph as it is run here: one run at a time, on one thread."""
        graph = self.version.graphs[role]
        return replace(graph, config=replace(graph.config, instances=1, threads_per_run=1))

    def folder(self, role: str) -> Path:
        """Where the graph's files lie."""
        return self.version.graphs[role].file.parent

    def batched(self, role: str) -> bool:
        return self.version.graphs[role].config.rules.max_batch_size > 0


class Bench:
    """The candidate, the stable version beside it if there is one, and the engine. Lends tasks their steps, too."""

    watcher = None  # nobody waits for more than the end

    def __init__(self, job: Job) -> None:
        self._threads = Threads(1, 0)
        self._run_s = job.run_s
        self.engine: Engine = plugins.find(engines.FOLDER, ENGINE, "PLUGIN")(EngineOptions(self._threads))
        self.candidate = Subject(read_version(Path(job.candidate)))
        self.stable = Subject(read_version(Path(job.stable))) if job.stable else None
        self.mismatch: RepositoryInvalid | None = None  # what loading found, that is a matter of the signature

    async def load(self, subject: Subject) -> None:
        """Loads all graphs, nothing run yet. EngineFailed, RepositoryInvalid."""
        for role in subject.version.graphs:
            subject.loaded[role] = await self.engine.load(subject.graph(role), ())

    async def run_on(self, subject: Subject, role: str, inputs: Tensors) -> Run:
        """One run. TensorInvalid: it does not fit the signature; Unfit: it is slow, or is refused though it fits.

        EngineFailed: the run broke down.
        """
        check_inputs(inputs, subject.loaded[role].inputs, batched=subject.batched(role))
        try:
            deadline = Call(deadline_s=time.monotonic() + self._run_s)
            return await self.engine.run(subject.version.graphs[role].key, inputs, deadline)
        except DeadlinePassed:
            raise Unfit(f"A run took more than {self._run_s:g} s and was stopped.") from None
        except TensorInvalid as error:
            raise Unfit(f"A run of {row_count(inputs)} rows was refused. {said(error.__context__)}") from None

    async def pre(self, function: Callable[[], Tensors]) -> Tensors:
        return function()

    async def run(self, graph: str, inputs: Tensors) -> Tensors:
        return (await self.run_on(self.candidate, graph, inputs)).outputs

    def post(self, function: Callable[[], T]) -> T:
        return function()

    async def post_aside(self, function: Callable[[], T]) -> T:
        return function()

    async def close(self) -> None:
        await self.engine.close()
        self._threads.close()
