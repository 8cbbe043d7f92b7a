"""/v2/repository: Triton's extension that lists, loads and unloads models, on the admin port only.

Source: https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_repository.md
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson
from fastapi import APIRouter, Depends, Request, Response

from serving.errors import BodyInvalid, Forbidden, MediaTypeUnsupported, ParameterInvalid
from serving.gateway.access import needs
from serving.gateway.body import read_body
from serving.gateway.departure import CallerLeft
from serving.gateway.http import caller_of, read_request
from serving.gateway.payload import read_json
from serving.versions.catalog import GraphState
from serving.versions.changes import Changes

ORDER_LIMIT: Final = 64 * 1024
KNOWN: Final = "unload_dependents"  # the one parameter that is taken: graphs of a model come and go together anyway
FORMS: Final = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")
WHY: Final = "asked for over /v2/repository"
ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"description": "The order is not understood, or the pointers or the gate say no."},
    404: {"description": "No such model."},
    503: {"description": "The ledger cannot be reached; inference goes on."},
}


def repository_router(states: Callable[[], list[GraphState]], changes: Changes) -> APIRouter:
    """states: of all graphs at this gateway."""
    router = APIRouter(prefix="/v2/repository", tags=["Open Inference Protocol"])

    def order(example: dict[str, Any]) -> Any:
        content = {"application/json": {"schema": {"type": "object"}, "example": example}}
        return {
            "dependencies": [Depends(_by_no_web_page)],
            "response_class": Response,
            "openapi_extra": {"requestBody": {"required": False, "content": content}, **needs("admin")},
        }

    @router.post("/index", summary="Every version of every graph, and whether it is loaded", **order({"ready": True}))
    async def index(request: Request) -> Response:
        ready = (await _read(request)).get("ready", False)
        if not isinstance(ready, bool):
            raise ParameterInvalid("ready is neither true nor false.")
        listed = [
            {"name": one.name, "version": str(one.version), "state": one.state, "reason": one.reason}
            for one in states()
            if one.state == "READY" or not ready
        ]
        return Response(orjson.dumps(listed), media_type="application/json")

    @router.post("/models/{model}/load", summary="Load a model on all gateways", responses=ERRORS, **order({}))
    async def load(model: str, request: Request) -> Response:
        _check(model, await _read(request))
        await changes.load(model, _who(request), WHY)
        return Response()

    @router.post("/models/{model}/unload", summary="Unload a model on all gateways", responses=ERRORS, **order({}))
    async def unload(model: str, request: Request) -> Response:
        _check(model, await _read(request))
        await changes.unload(model, _who(request), WHY)
        return Response()

    return router


def _who(request: Request) -> str:
    return caller_of(request.scope) or "admin port"


def _check(name: str, order: dict[str, Any]) -> None:
    """ParameterInvalid for what cannot be done."""
    model, dot, _ = name.partition(".")
    if dot:
        raise ParameterInvalid("The graphs of a model come and go together.", remedy=f"Name the model: {model}.")
    parameters = order.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise ParameterInvalid("parameters is not an object.")
    if parameters.keys() - {KNOWN}:
        raise ParameterInvalid(
            "Configurations and files come from the model repository only.",
            remedy="Publish a version there, then promote it. Load without parameters.",
        )


async def _read(request: Request) -> dict[str, Any]:
    """The order's JSON, which may be left out."""
    try:
        body = await read_body(read_request(request.scope, request.receive), ORDER_LIMIT)
    except CallerLeft:
        raise BodyInvalid("The request never ended.") from None
    return read_json(body) if body.strip() else {}


async def _by_no_web_page(request: Request) -> None:
    """As of /admin's orders. Clients of this protocol send no Content-Type, so it is pages' own marks that are looked
    for: browsers put an origin, or where the page is, on all that a page posts; and no client sends a form.
    """
    headers = request.headers
    if headers.get("origin") is not None or headers.get("sec-fetch-site", "none") != "none":
        raise Forbidden("Web pages may not give orders here.", remedy="Use the tidegate command, or any HTTP client.")
    if headers.get("content-type", "").partition(";")[0].strip().lower() in FORMS:
        raise MediaTypeUnsupported("Orders are JSON.", remedy="Send Content-Type: application/json, or none.")
