"""The two applications: what callers reach, and what operators reach. FastAPI, with direct routes in front."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import TidegateError
from serving.gateway.access import Access, Needs
from serving.gateway.accounts import Accounts, failure_of, trace_headers
from serving.gateway.direct import DirectRoute, DirectTable
from serving.gateway.errors import HeadersTooMany, problem, shaped
from serving.gateway.fastapi_errors import CODE, EXCEPTION_HANDLERS
from serving.gateway.http import CALLER, Inbound, Outbound, credentials_of, read_request, send_answer
from serving.gateway.open_inference import OpenInference
from serving.gateway.quota import Usage
from serving.gateway.routes.admin import admin_router, changes_router, drift_router
from serving.gateway.routes.collections import collection_routes, collections_admin_router, collections_router
from serving.gateway.routes.docs import docs_router, document_router
from serving.gateway.routes.embeddings import embeddings_route
from serving.gateway.routes.feedback import feedback_route, live_metrics_router
from serving.gateway.routes.guard import guard_router
from serving.gateway.routes.images import images_route
from serving.gateway.routes.jobs import events_route, jobs_router
from serving.gateway.routes.playground import playground_router
from serving.gateway.routes.probes import probes_router
from serving.gateway.routes.repository import repository_router
from serving.gateway.routes.v1 import models_router, task_routes
from serving.gateway.routes.v2 import Bounds, infer_routes
from serving.gateway.routes.v2_models import protocol_router
from serving.gateway.traffic import Traffic, check_head
from serving.guard.guard import Guard
from serving.jobs import Jobs
from serving.observation.drift import Drift
from serving.observation.ended import CALLER_LEFT, QUIET
from serving.observation.feedback import Feedback
from serving.observation.records import Records, no_records
from serving.observation.truths import Truths
from serving.pipeline import Pipeline
from serving.search import Search
from serving.telemetry import Meters
from serving.threads import Threads
from serving.versions.catalog import GraphState, ModelList
from serving.versions.changes import Changes

log = logging.getLogger(__name__)

TITLE: Final = "tidegate"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes of a body, bytes of JSON with tensors in it, and the longest a request may take."""

    body: int
    tensor_json: int
    request_s: float


class Gateway:
    """One port's ASGI application: direct routes first, FastAPI for all else; every answer has its X-Request-Id.

    TypeError when a route declares no scope.
    """

    def __init__(
        self, app: FastAPI, direct: Sequence[DirectRoute], access: Access, records: Records | None = None
    ) -> None:
        self._app: ASGIApp = app
        self._accounts = Accounts(records or no_records())
        self._access = access
        self._needs = Needs(app.router.routes)
        self._direct = DirectTable(list(direct))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1000})
            return
        route = self._direct.find(scope)
        usage: Usage | None = None
        if self._access.closed:
            try:
                need = route.need if route is not None else self._needs.of(scope)
                scope[CALLER], usage = self._access.admit(*credentials_of(scope), need)
            except TidegateError as error:
                request = read_request(scope, receive)
                self._accounts.begin(request, traced=False)  # who was not let in decides nothing
                await self._refuse(send, request, shaped(error, scope["path"]), error, route)
                return
        try:
            if route is not None:
                await route.app(scope, receive, send)
            else:
                await self._by_fastapi(scope, receive, send)
        finally:  # however it ended
            if usage is not None:
                usage.leave()

    async def _by_fastapi(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = read_request(scope, receive)
        self._accounts.begin(request, traced=scope["path"] not in QUIET)
        try:
            check_head(scope)
        except HeadersTooMany as error:
            await self._refuse(send, request, problem(error, scope["path"]), error)
            return
        status = 0

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = ((b"x-request-id", request.request_id), *trace_headers(request))
                message["headers"] = [*message["headers"], *own]
            await send(message)

        try:
            await self._app(scope, receive, named)
        except Exception:  # answered already, by _bug
            log.exception("request %s failed", request.request_id.decode())
        finally:
            path = getattr(scope.get("route"), "path", "")
            self._accounts.end(request, path, status, code=scope.get(CODE, "" if status else CALLER_LEFT))

    async def _refuse(
        self, send: Send, request: Inbound, answer: Outbound, error: TidegateError, route: DirectRoute | None = None
    ) -> None:
        await send_answer(send, answer, request.request_id, trace_headers(request))
        self._accounts.end_failed(request, "" if route is None else route.path, answer.status, failure_of(error))


def public_app(
    pipeline: Pipeline,
    search: Search,
    jobs: Jobs,
    protocol: OpenInference,
    models: Callable[[], ModelList],
    *,
    truths: Truths,
    traffic: Traffic,
    threads: Threads,
    limits: Limits,
    access: Access,
) -> Gateway:
    """What callers reach: tasks, jobs, models, /v2, probes, the documentation and the playground."""
    direct = [
        *task_routes(pipeline, traffic, limits.body, limits.request_s),
        embeddings_route(pipeline, traffic, threads, limits.body, limits.request_s),
        images_route(pipeline, jobs, traffic, threads, body_limit=limits.body, longest_s=limits.request_s),
        events_route(jobs, traffic),
        feedback_route(truths, traffic, threads, limits.body, limits.request_s),
        *collection_routes(search, traffic, threads, limits.body, limits.request_s),
        *infer_routes(protocol, traffic, threads, Bounds(limits.body, limits.tensor_json, limits.request_s)),
    ]
    routers = [
        models_router(models),
        collections_router(search),
        jobs_router(jobs),
        protocol_router(protocol, "predict"),
        probes_router(protocol.ready),
        docs_router(TITLE),
        playground_router(),
    ]
    return Gateway(_app(routers, direct), direct, access, traffic.records)


def admin_app(
    protocol: OpenInference,
    search: Search,
    models: Callable[[], ModelList],
    states: Callable[[], list[GraphState]],
    changes: Changes,
    *,
    guard: Guard,
    drift: Drift,
    feedback: Feedback,
    meters: Meters,
    access: Access,
    records: Records,
) -> Gateway:
    """What operators reach."""
    routers = [
        admin_router(models, meters),
        changes_router(changes),
        guard_router(changes, guard),
        drift_router(drift),
        live_metrics_router(feedback),
        collections_admin_router(search),
        protocol_router(protocol, "admin"),
        repository_router(states, changes),
        probes_router(protocol.ready),
    ]
    return Gateway(_app(routers, []), [], access, records)


def _app(routers: Sequence[APIRouter], direct: Sequence[DirectRoute]) -> FastAPI:
    app = FastAPI(
        title=TITLE,
        version="1",
        summary="Every family of deep-learning model behind one REST API, with a way back.",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers=EXCEPTION_HANDLERS,
    )
    app.router.routes.extend(direct)
    for router in (*routers, document_router(app.openapi)):
        app.router.routes.extend(router.routes)  # flat, so that each can be asked what it declares
    return app
