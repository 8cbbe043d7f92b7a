"""What requests and replies of a version look like, from what its family would be asked: the way of a request, through
the task's own encoding, features and replies, on the serving engine.
"""

from __future__ import annotations

import asyncio
import io
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import PIL.Image

from exporters import publish
from exporters.family import Family, find_family
from exporters.parity import ENGINE
from serving import engine, plugins, task
from serving.atomic_file import replace_file
from serving.errors import NotFound
from serving.monitoring.features import Features
from serving.monitoring.reference import Reference, columns_of, make_reference
from serving.repository.layout import MODEL_NAME, VERSION_NAME, Version, read_version
from serving.repository.manifest import MANIFEST, with_reference
from serving.task import FileReply, Request, Task
from serving.tensors import Array, Tensors
from serving.threads import Threads

T = TypeVar("T")


def of_release(release: publish.Release, asked: Sequence[Tensors | str]) -> Reference | None:
    """Of what is to be published, which lies in a scratch repository for it."""
    with tempfile.TemporaryDirectory() as scratch:
        return of_version(read_version(publish.publish(release, Path(scratch))), asked)


def of_version(version: Version, asked: Sequence[Tensors | str]) -> Reference | None:
    """Of a published version; None where too little is asked, or nothing that has features."""
    if version.manifest is None:
        return None
    bound: Task[Any] = plugins.find(task.FOLDER, version.manifest.task, "PLUGIN")(version)
    taken = [one if isinstance(one, str) else _taken(version, one) for one in asked]
    seen = asyncio.run(see_all(version, bound, [one for one in taken if one]))
    if not seen:
        return None
    reference = make_reference(
        len(seen), columns_of(inputs for inputs, _ in seen), columns_of(outputs for _, outputs in seen)
    )
    return reference if reference.inputs or reference.outputs else None


def write_references(repository: Path, model: str) -> list[Path]:
    """Writes a reference into the manifests of a model's versions, which else stay as they are. The files written.

    NotFound: no such model, or none that a family here makes.
    """
    if not MODEL_NAME.fullmatch(model) or not (repository / model).is_dir():
        raise NotFound(f"There is no model {model!r} in {repository}.", remedy="`exporters list` shows the models.")
    family: Family[Any] = find_family(model)
    asked = family.asked()
    written = []
    for folder in sorted(path for path in (repository / model).iterdir() if VERSION_NAME.fullmatch(path.name)):
        reference = of_version(read_version(folder), asked)
        if reference is not None:
            path = folder / MANIFEST
            replace_file(path, with_reference(path.read_text(encoding="utf-8"), reference))
            written.append(path)
    return written


async def see_all(
    version: Version, bound: Task[Any], asked: Sequence[Tensors | str]
) -> list[tuple[Features, Features]]:
    """Features of each request and of its reply."""
    threads = Threads(os.cpu_count() or 1, 0)
    made: engine.Engine = plugins.find(engine.FOLDER, ENGINE, "PLUGIN")(engine.EngineOptions(threads))
    try:
        if not issubclass(bound.reply, FileReply):  # of a file there are no features
            for graph in version.graphs.values():
                await made.load(graph, ())
        return [await _see(bound, version, made, one) for one in asked]
    finally:
        await made.close()
        threads.close()


async def _see(
    bound: Task[Any], version: Version, made: engine.Engine, one: Tensors | str
) -> tuple[Features, Features]:
    """Features of a request and of its reply."""
    if isinstance(one, str):
        request = Request(one.encode(), bound.parameters(), kind="text")
        inputs = bound.encode(request)
        features = bound.features(request, inputs)
    else:
        request, inputs = _encoded(bound, one)
        # Nobody knows how large the picture was that was sent, or what the text was: the request has no payload.
        features = bound.features(Request(b"", bound.parameters(), kind=request.kind), inputs)
    if issubclass(bound.reply, FileReply):
        return features, {}
    return features, bound.outcome(await bound.answer(request, _Given(version, made, inputs)))


def _taken(version: Version, row: Tensors) -> Tensors:
    """What of a row some graph takes: a family's rows may be of towers that this version does not have."""
    names = {spec.name for graph in version.graphs.values() for spec in graph.config.inputs}
    return {name: array for name, array in row.items() if name in names}


def _encoded(bound: Task[Any], row: Tensors) -> tuple[Request[Any], Tensors]:
    """A row as if it had been sent with parameters that nobody set, its pixels in place of those of a blank picture."""
    pixels = [(name, array) for name, array in row.items() if array.dtype == np.uint8 and array.ndim == 4]
    if not pixels:
        return Request(b"", bound.parameters(), kind="tokens"), row
    name, array = pixels[0]
    request = Request(_blank(array[0]), bound.parameters())
    return request, {**bound.encode(request), name: array}


@dataclass(frozen=True, slots=True)
class _Given:
    """Satisfies task.Steps for a request that is encoded already."""

    version: Version
    engine: engine.Engine
    inputs: Tensors
    watcher: None = None

    async def pre(self, function: Callable[[], Tensors]) -> Tensors:
        del function
        return self.inputs

    async def run(self, graph: str, inputs: Tensors) -> Tensors:
        return (await self.engine.run(self.version.graphs[graph].key, inputs)).outputs

    def post(self, function: Callable[[], T]) -> T:
        return function()

    async def post_aside(self, function: Callable[[], T]) -> T:
        return function()


def _blank(pixels: Array) -> bytes:
    """A picture of the size of uint8 [height, width, channels], in whose place others are looked at."""
    file = io.BytesIO()
    PIL.Image.new("L", (pixels.shape[1], pixels.shape[0])).save(file, "PNG")
    return file.getvalue()
