"""From a folder to a version that can answer: digests, task, graphs, warm-up. And back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import numpy as np

from serving import plugins
from serving.engine import Engine, Loaded
from serving.errors import NotFound, RepositoryInvalid
from serving.repository.config import GraphConfig
from serving.repository.digests import verify_version
from serving.repository.layout import Graph, Version
from serving.task import FOLDER as TASKS
from serving.task import Task
from serving.telemetry import Meters
from serving.tensors import DTYPES, Tensors
from serving.versions.resident import Resident

WARM_UP_SIZES: Final = (1, 2, 4, 8)  # and max_batch_size: engines plan their memory by the sizes that they see
NO_WEIGHTS: Final = frozenset({".json", ".npz", ".png", ".txt"})  # of the files beside a graph
PLAIN: Final = "infer"  # the task label of models that have no task of ours


class Loader:
    """Loads versions into one engine."""

    def __init__(self, engine: Engine, meters: Meters) -> None:
        self._engine = engine
        self._meters = meters

    async def load(self, version: Version, *, quietly: bool = False) -> Resident:
        """The version, warm. RepositoryInvalid or EngineFailed say why not; then nothing of it stays loaded.

        quietly: requests are being answered meanwhile, and come first.
        """
        with self._meters.loads.timed(version.model):
            weights = await asyncio.to_thread(weight_bytes, version)
            resident = await self._load(version, quietly)
        self._meters.model_ready.labels(version.model, str(version.number)).set(1)
        self._meters.loads.taken(version.model, version.number, weights)
        return resident

    async def _load(self, version: Version, quietly: bool) -> Resident:
        task, rows = await asyncio.to_thread(bind, version)
        loaded: dict[str, Loaded] = {}
        try:
            for role, graph in version.graphs.items():
                loaded[role] = await self._engine.load(graph, warm_up_rows(graph, rows.get(role)), quietly=quietly)
        except BaseException:
            for role in loaded:
                await self._engine.unload(version.graphs[role].key)
            raise
        verb = task.verb if task else PLAIN
        return Resident(version, task, loaded, self._meters.request_meter(version.model, version.number, verb))

    async def unload(self, resident: Resident) -> None:
        """Waits for the last lease, then lets the version's graphs go."""
        await resident.unused()
        version = resident.version
        self._meters.model_ready.remove(version.model, str(version.number))
        self._meters.loads.gone(version.model, version.number)
        for graph in version.graphs.values():
            await self._engine.unload(graph.key)


def weight_bytes(version: Version) -> int:
    """Of the files that its graphs are: model files, and what lies beside them in files of any name. Blocking."""
    folders = {graph.file.parent for graph in version.graphs.values()}
    with suppress(OSError):  # a folder that has gone fails to load, which says more
        files = [file for folder in folders for file in folder.iterdir()]
        return sum(file.stat().st_size for file in files if file.suffix not in NO_WEIGHTS)
    return 0


def bind(version: Version) -> tuple[Task[Any] | None, Mapping[str, Tensors]]:
    """The version's task and one row for each of its graphs, its files compared with their digests. Blocking."""
    manifest = version.manifest
    if manifest is None:
        return None, {}
    verify_version(version)
    try:
        plugin: type[Task[Any]] = plugins.find(TASKS, manifest.task, "PLUGIN")
    except NotFound:
        known = ", ".join(plugins.names(TASKS))
        raise RepositoryInvalid(f"{version.name}/manifest.json", "task", f"expected one of {known}") from None
    task = plugin(version)
    return task, task.warm_up()


def warm_up_rows(graph: Graph, row: Tensors | None) -> Sequence[Tensors]:
    """The row, repeated to several batch sizes; of zeros where no task gives one."""
    if row is None:
        row = _zeros(graph.config)
    limit = graph.config.rules.max_batch_size
    if not row or not limit:
        return [row] if row else []
    sizes = sorted({size for size in (*WARM_UP_SIZES, limit) if size <= limit})
    return [{name: np.repeat(array[:1], size, axis=0) for name, array in row.items()} for size in sizes]


def _zeros(config: GraphConfig) -> Tensors:
    """Zeros as the configuration states the inputs, one row, free sizes 1; BYTES are empty strings."""
    batch = (1,) if config.rules.max_batch_size else ()
    tensors = {}
    for spec in config.inputs:
        shape = batch + tuple(max(1, size) for size in spec.shape)
        fill = b"" if spec.datatype == "BYTES" else 0
        tensors[spec.name] = np.full(shape, fill, dtype=DTYPES[spec.datatype])
    return tensors
