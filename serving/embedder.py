"""What versions of models that embed make of pictures and texts, many at once. Drives the pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from serving.engine import Call
from serving.errors import ModelNotReady, NotFound, VectorInvalid
from serving.index import Source
from serving.pipeline import Pipeline
from serving.task import Request
from serving.telemetry import Stages
from serving.tensors import Array
from serving.versions.resident import Resident
from serving.versions.router import Router, Target

VERB: Final = "embed"
AT_ONCE: Final = 8  # sources that one call has embedded at a time: they meet in batches and leave room for others


class Embedder:
    """Embeds by one version, whichever is asked for; never by what the router would choose."""

    def __init__(self, pipeline: Pipeline, router: Router) -> None:
        self._pipeline = pipeline
        self._router = router

    def model(self, name: str | None) -> str:
        """The model of that name, or the default one. ModelNotFound, TaskMismatch: it is none that embeds."""
        with self._router.resolve(Target(name), VERB) as resident:
            return resident.version.model

    async def embed(self, model: str, version: int, sources: Sequence[Source], call: Call) -> Array:
        """What a version makes of the sources: float32 [n, dimensions]; vectors stay as they are.

        VectorInvalid when they are not all of the same dimensions.
        """
        places = asyncio.Semaphore(AT_ONCE)

        async def one(source: Source) -> Array:
            if source.kind == "vector":
                return np.frombuffer(source.content, np.float32)
            async with places:
                return await self.embed_one(model, version, source, call, Stages())

        with self._lease(model, version):  # or it could be let go between two of them
            tasks = [asyncio.create_task(one(source)) for source in sources]
            try:
                vectors = await asyncio.gather(*tasks)
            finally:  # the first failure ends the rest
                for task in tasks:
                    task.cancel()
        if len({vector.shape for vector in vectors}) > 1:
            raise VectorInvalid("The vectors are of different dimensions.", remedy="Send vectors of one model.")
        return np.stack(vectors)

    def resident(self, model: str) -> set[int]:
        """The versions that can embed now."""
        return {resident.version.number for resident in self._router.residents(model)}

    def _lease(self, model: str, version: int) -> Resident:
        try:
            return self._router.resolve(Target(model, version), VERB)
        except NotFound as error:
            detail = f"{model}/{version}, which embedded this collection, is not loaded yet."
            raise ModelNotReady(detail, remedy="Try again in a moment.") from error

    async def embed_one(self, model: str, version: int, source: Source, call: Call, stages: Stages) -> Array:
        """float32 [dimensions]. stages: where its seconds are counted in. ModelNotReady: the version is not loaded."""
        with self._lease(model, version) as resident:
            task: Any = resident.task
            request = Request(source.content, task.parameters(), kind=source.kind)
            answer = await self._pipeline.predict(VERB, Target(model, version), request, call)
        reply: Any = answer.reply
        stages.add(answer.stages)
        vector: Array = np.asarray(reply.embedding, np.float32)
        return vector
