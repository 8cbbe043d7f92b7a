"""/v1/collections: what is kept, and found by what a model makes of it; and on the admin port, what holds it up."""

from __future__ import annotations

import base64
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import orjson
from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict

from serving.deadline import by_deadline
from serving.engine import Call
from serving.errors import ItemNotFound, ParameterInvalid
from serving.gateway.access import needs
from serving.gateway.body import read_body
from serving.gateway.collection_payload import MOST_ITEMS, SentItem, SentQuery, read_items, read_search
from serving.gateway.departure import Presence
from serving.gateway.direct import DirectRoute
from serving.gateway.http import Handler, Inbound, Outbound, deadline_of
from serving.gateway.routes.admin import ADMIN, by_no_web_page
from serving.gateway.routes.v1 import PROBLEMS, identity_headers
from serving.gateway.traffic import Endpoint, Traffic
from serving.search import Description, Found, Search
from serving.telemetry import Stages
from serving.threads import Threads

T = TypeVar("T")
NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
OWNER: Final = "collections"  # of the worker threads' time
INLINE: Final = 16 * 1024  # bytes of a body that are read here and now; of more, on a worker thread
PREDICT: Any = {"openapi_extra": needs("predict")}
PATH: Final = "/v1/collections/{name}"


_LIST: Final = {"type": "array", "items": SentItem.model_json_schema(), "minItems": 1, "maxItems": MOST_ITEMS}
ITEMS: Final[dict[str, Any]] = {
    "schema": {"type": "object", "required": ["items"], "properties": {"items": _LIST}},
    "example": {"items": [{"id": "apple", "text": "a red apple", "metadata": {"colour": "red"}}]},
}
QUERY: Final[dict[str, Any]] = {
    "schema": SentQuery.model_json_schema(),
    "example": {"text": "fruit", "k": 3, "filter": {"colour": "red"}},
}


ADDED: Final = {"model": "clip", "version": 1, "ids": ["apple"]}
FOUND: Final = {
    "model": "clip",
    "version": 1,
    "hits": [{"id": "apple", "score": 0.71, "metadata": {"colour": "red"}}],
}


class CollectionOrder(BaseModel):
    """model: one that embeds; without it the default one."""

    model_config = ConfigDict(extra="forbid")
    model: str | None = None


class Hits(BaseModel):
    model: str
    version: int
    hits: list[dict[str, Any]]


class Added(BaseModel):
    """version: of the model, whose space is searched."""

    model: str
    version: int
    ids: list[str]


def collection_routes(
    search: Search, traffic: Traffic, threads: Threads, body_limit: int, longest_s: float
) -> list[DirectRoute]:
    """Adding and searching, which carry load."""
    reading = _Reading(threads, body_limit, longest_s)

    async def add(request: Inbound, body: bytes, call: Call) -> Outbound:
        items = await reading.read(lambda: read_items(request, body), len(body))
        model, version = await by_deadline(call.deadline_s, search.add(_name(request), items, call))
        answer = {"model": model, "version": version, "ids": [item.id for item in items]}
        return Outbound(orjson.dumps(answer), headers=identity_headers(model, version, Stages()))

    async def find(request: Inbound, body: bytes, call: Call) -> Outbound:
        query, k, condition = await reading.read(lambda: read_search(request, body), len(body))
        found = await by_deadline(call.deadline_s, search.search(_name(request), query, k, condition, call))
        return _hits(found)

    adding, finding = (reading.handler(answer, traffic.presence) for answer in (add, find))
    return [
        _route(f"{PATH}/items", "Keep items", adding, traffic, sent=ITEMS, given=(Added, ADDED)),
        _route(f"{PATH}/search", "Find items", finding, traffic, sent=QUERY, given=(Hits, FOUND)),
    ]


def collections_router(search: Search) -> APIRouter:
    """The collections themselves, and single items."""
    router = APIRouter(prefix="/v1/collections", tags=["collections"], responses={404: PROBLEMS[404]})

    @router.get("", summary="What collections there are", **PREDICT)
    async def list_collections() -> dict[str, list[Description]]:
        return {"collections": await search.descriptions()}

    @router.put("/{name}", summary="Make a collection of a model's embeddings, if there is none", **PREDICT)
    async def create(name: str, response: Response, order: CollectionOrder | None = None) -> Description:
        made, new = await search.create(_checked(name), order.model if order else None)
        response.status_code = 201 if new else 200
        return made

    @router.get("/{name}", summary="What is in a collection, and which version embedded it", **PREDICT)
    async def show(name: str) -> Description:
        return await search.describe(name)

    @router.delete("/{name}", summary="Forget a collection and all in it", status_code=204, **PREDICT)
    async def drop(name: str) -> None:
        await search.drop(name)

    _add_items(router, search)
    return router


def _add_items(router: APIRouter, search: Search) -> None:
    """Single items, by ids that may have slashes in them."""

    @router.get("/{name}/items/{ident:path}", summary="One item, as it was sent", **PREDICT)
    async def item(name: str, ident: str) -> dict[str, Any]:
        found = await search.item(name, ident)
        kind, content = found.source.kind, found.source.content
        sent = {"text": content.decode()} if kind == "text" else {}
        if kind == "image":
            sent = {"image": base64.b64encode(content).decode()}
        return {"id": found.id, "metadata": dict(found.metadata), **sent}

    @router.delete("/{name}/items/{ident:path}", summary="Forget one item", status_code=204, **PREDICT)
    async def forget(name: str, ident: str) -> None:
        if not await search.delete(name, [ident]):
            raise ItemNotFound("The collection has no item of that id.")


def collections_admin_router(search: Search) -> APIRouter:
    """Whether a collection's items are embedded anew."""
    router = APIRouter(prefix="/admin/collections", responses={404: PROBLEMS[404]})
    guard = [Depends(by_no_web_page)]

    @router.get("", summary="What collections there are", **ADMIN)
    async def list_collections() -> dict[str, list[Description]]:
        return {"collections": await search.descriptions()}

    @router.post("/{name}/pause", summary="Embed nothing anew for now", dependencies=guard, **ADMIN)
    async def pause(name: str) -> Description:
        return await search.pause(name, paused=True)

    @router.post("/{name}/resume", summary="Go on embedding anew", dependencies=guard, **ADMIN)
    async def resume(name: str) -> Description:
        return await search.pause(name, paused=False)

    return router


class _Reading:
    """From a request to a handler's body and call, and large bodies from JSON on a worker thread."""

    def __init__(self, threads: Threads, body_limit: int, longest_s: float) -> None:
        self._threads = threads
        self._body_limit = body_limit
        self._longest_s = longest_s

    def handler(self, answer: Callable[[Inbound, bytes, Call], Awaitable[Outbound]], presence: Presence) -> Handler:
        async def handle(request: Inbound) -> Outbound:
            deadline_s = deadline_of(request.headers, self._longest_s)
            call = Call(deadline_s, request_id=request.request_id, trace=request.trace)
            body = await by_deadline(call.deadline_s, read_body(request, self._body_limit))
            return await presence.hold(request.receive, answer(request, body, call))

        return handle

    async def read(self, function: Callable[[], T], size: int) -> T:
        if size <= INLINE:
            return function()
        result, _, _ = await self._threads.prepare(OWNER, function)
        return result


def _route(
    path: str,
    summary: str,
    handler: Handler,
    traffic: Traffic,
    *,
    sent: dict[str, Any],
    given: tuple[type[BaseModel], dict[str, Any]],
) -> DirectRoute:
    """given: the reply and an example of it."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    content: dict[str, Any] = {"application/json": sent}
    content |= {"image/jpeg": binary, "image/png": binary, "image/webp": binary}
    content["text/plain"] = {"schema": {"type": "string"}}
    return DirectRoute(
        path,
        Endpoint(path, handler, traffic),
        need="predict",
        methods=["POST"],
        name=summary.lower().replace(" ", "_"),
        summary=summary,
        tags=["collections"],
        responses={200: {"model": given[0], "content": {"application/json": {"example": given[1]}}}, **PROBLEMS},
        openapi_extra={
            "parameters": [
                {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}, "example": "shop"}
            ],
            "requestBody": {"required": True, "content": content},
        },
    )


def _name(request: Inbound) -> str:
    return request.path_parameters["name"]


def _checked(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ParameterInvalid(
            "The collection's name cannot be used.",
            remedy="Use a-z, 0-9, _ and -, at most 63, beginning with a letter or a digit.",
        )
    return name


def _hits(found: Found) -> Outbound:
    hits = [{"id": hit.id, "score": hit.score, "metadata": hit.metadata} for hit in found.hits]
    answer = {"model": found.model, "version": found.version, "hits": hits}
    return Outbound(orjson.dumps(answer), headers=identity_headers(found.model, found.version, found.stages))
