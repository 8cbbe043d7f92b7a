"""A version that is loaded, and the leases that keep it so."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from serving.engine import Loaded
from serving.errors import VersionNotFound
from serving.repository.layout import GraphKey, Version
from serving.task import Task
from serving.telemetry import RequestMeter


class Resident:
    """A loaded version with all that belongs to it: task (labels, preprocessing), graphs and meters.

    `with resident:` is a lease: it is not unloaded before the last one ends. `task` is None for a plain Triton model.
    """

    def __init__(
        self, version: Version, task: Task[Any] | None, loaded: Mapping[str, Loaded], meter: RequestMeter
    ) -> None:
        self.version = version
        self.task = task
        self.loaded = loaded
        self.meter = meter
        self._leases = 0
        self._unused = asyncio.Event()
        self._unused.set()

    def key(self, role: str) -> GraphKey:
        """The graph that the task knows by `role`; VersionNotFound for one that this version does not have."""
        graph = self.version.graphs.get(role)
        if graph is None:
            raise VersionNotFound(f"{self.version.name} has no graph {role!r}.")
        return graph.key

    def role(self, name: str = "") -> str:
        """The role of the graph of this name; without one, of the model's own or only graph. VersionNotFound."""
        graphs = self.version.graphs
        wanted = name or self.version.model
        for role, graph in graphs.items():
            if graph.key.name == wanted or (len(graphs) == 1 and not name):
                return role
        known = ", ".join(graph.key.name for graph in graphs.values())
        raise VersionNotFound(f"{self.version.name} has no graph of that name.", remedy=f"Name one of {known}.")

    async def unused(self) -> None:
        """Returns when no lease is held."""
        await self._unused.wait()

    def __enter__(self) -> Self:
        self._leases += 1
        if self._leases == 1:
            self._unused.clear()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leases -= 1
        if self._leases == 0:
            self._unused.set()
