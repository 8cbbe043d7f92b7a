"""GET /v2...: what there is, for clients of the Open Inference Protocol; answers as Triton gives them.

Source: https://github.com/kserve/open-inference-protocol, and Triton's extensions of it for configurations and
statistics: https://github.com/triton-inference-server/server/tree/main/docs/protocol
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import orjson
from fastapi import APIRouter, Response

from serving.engine import Statistics
from serving.errors import ModelNotReady
from serving.gateway.access import Need, needs
from serving.gateway.open_inference import EXTENSIONS, NAME, RELEASE, OpenInference
from serving.gateway.payload import read_version
from serving.repository.config import TensorSpec, config_as_json
from serving.repository.layout import GraphKey

Answer = Callable[[str, int | None], Awaitable[Response]]

REPOSITORY: Final = "model_repository"  # the extension that only the admin port has
ERROR: Final = {"content": {"application/json": {"example": {"error": "There is no model of that name."}}}}
MISSING: Final[dict[int | str, dict[str, Any]]] = {404: {"description": "No such model or version.", **ERROR}}
NOT_NOW: Final[dict[int | str, dict[str, Any]]] = {503: {"description": "Not now.", **ERROR}}


def protocol_router(protocol: OpenInference, need: Need) -> APIRouter:
    """need: the scope for all but health, which probes ask for."""
    router = APIRouter(tags=["Open Inference Protocol"])
    extensions = [name for name in EXTENSIONS if name != REPOSITORY or need == "admin"]
    open_to_all: Any = {"openapi_extra": needs("public"), "response_class": Response}
    scoped: Any = {"openapi_extra": needs(need), "response_class": Response}

    @router.get("/v2", summary="Which server this is, and what it can do", **scoped)
    async def server() -> Response:
        return _json({"name": NAME, "version": RELEASE, "extensions": extensions})

    @router.get("/v2/health/live", summary="Whether this process lives, as the protocol asks", **open_to_all)
    async def live() -> Response:
        return Response()

    @router.get(
        "/v2/health/ready",
        summary="Whether this gateway wants requests, as the protocol asks",
        responses=NOT_NOW,
        **open_to_all,
    )
    async def ready() -> Response:
        if not protocol.ready():
            raise ModelNotReady("This gateway wants no requests now.", remedy="Try again in a moment.")
        return Response()

    @router.get("/v2/models/stats", summary="What became of requests, for all models", **scoped)
    async def all_statistics() -> Response:
        return _json(_model_stats(await protocol.statistics()))

    of = _OfModel(protocol)
    asked: tuple[tuple[str, str, Answer, dict[int | str, dict[str, Any]]], ...] = (
        ("", "The tensors that a model takes and gives", of.metadata, MISSING),
        ("/ready", "Whether a model can answer now", of.is_ready, NOT_NOW),
        ("/config", "A model's configuration, as of Triton", of.config, MISSING),
        ("/stats", "What became of a model's requests", of.statistics, MISSING),
    )
    for path, summary, answer, responses in asked:
        documented: Any = {"methods": ["GET"], "responses": responses, **scoped}
        router.add_api_route(f"/v2/models/{{model}}{path}", _live(answer), summary=summary, **documented)
        pinned = f"/v2/models/{{model}}/versions/{{version}}{path}"
        router.add_api_route(pinned, _pinned(answer), summary=f"{summary}: one version", **documented)
    return router


class _OfModel:
    """What is asked of a model; without a version, of the stable one, and statistics of all that are loaded."""

    def __init__(self, protocol: OpenInference) -> None:
        self._protocol = protocol

    async def metadata(self, name: str, version: int | None) -> Response:
        found = self._protocol.metadata(name, version)
        return _json(
            {
                "name": found.name,
                "versions": found.versions,
                "platform": found.platform,
                "inputs": _tensors(found.inputs),
                "outputs": _tensors(found.outputs),
            }
        )

    async def is_ready(self, name: str, version: int | None) -> Response:
        if not self._protocol.is_ready(name, version):
            detail = "The model, or this version of it, is not ready."
            raise ModelNotReady(detail, remedy="GET /v2/models/stats lists those that are.")
        return Response()

    async def config(self, name: str, version: int | None) -> Response:
        return _json(config_as_json(self._protocol.config(name, version)))

    async def statistics(self, name: str, version: int | None) -> Response:
        return _json(_model_stats(await self._protocol.statistics(name, version)))


def _live(answer: Answer) -> Callable[[str], Awaitable[Response]]:
    async def route(model: str) -> Response:
        return await answer(model, None)

    return route


def _pinned(answer: Answer) -> Callable[[str, str], Awaitable[Response]]:
    async def route(model: str, version: str) -> Response:
        return await answer(model, read_version(version))

    return route


def _json(value: object) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")


def _tensors(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
    return [{"name": spec.name, "datatype": spec.datatype, "shape": spec.shape} for spec in specs]


def _model_stats(found: Sequence[tuple[GraphKey, Statistics]]) -> dict[str, Any]:
    """What is not measured apart, copying in and out and the cache, is there with no time: clients read every field."""
    return {"model_stats": [_of_graph(key, one) for key, one in found]}


def _of_graph(key: GraphKey, one: Statistics) -> dict[str, Any]:
    answered = one.answered
    return {
        "name": key.name,
        "version": str(key.version),
        "last_inference": int(one.last * 1000),
        "inference_count": one.rows,
        "execution_count": one.runs,
        "inference_stats": {
            "success": _duration(answered, one.queue_s + one.run_s),
            "fail": _duration(one.failed, one.failed_s),
            "queue": _duration(answered, one.queue_s),
            "compute_input": _duration(answered),
            "compute_infer": _duration(answered, one.run_s),
            "compute_output": _duration(answered),
            "cache_hit": _duration(0),
            "cache_miss": _duration(0),
        },
        "response_stats": {},
        "batch_stats": [
            {
                "batch_size": rows,
                "compute_input": _duration(runs),
                "compute_infer": _duration(runs, seconds),
                "compute_output": _duration(runs),
            }
            for rows, (runs, seconds) in one.batches.items()
        ],
        "memory_usage": [],
    }


def _duration(count: int, seconds: float = 0.0) -> dict[str, int]:
    return {"count": count, "ns": round(seconds * 1e9)}
