"""/v1/jobs: what became of work that nobody waited for, its events while it goes on, and its cancelling."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from serving.errors import JobNotFound, JobsUnavailable
from serving.gateway.access import needs
from serving.gateway.body import read_body
from serving.gateway.direct import DirectRoute
from serving.gateway.http import Inbound, Stream, caller_of
from serving.gateway.job_reply import (
    BEGINNING,
    EVENTS,
    EXAMPLE,
    PATH,
    SIGN_OF_LIFE,
    last_event_of,
    write_event,
    write_job,
)
from serving.gateway.routes.v1 import PROBLEMS
from serving.gateway.traffic import Endpoint, Traffic
from serving.job_store import Event, Job
from serving.jobs import Jobs

QUIET_S: Final = 10.0  # without an event, after which there is a sign of life
EVENTS_PATH: Final = f"{PATH}/{{ident}}/events"
TAGS: Final = ["jobs"]
NO_STORE: Final = (b"cache-control", b"no-store")
UNBUFFERED: Final = (b"x-accel-buffering", b"no")  # by nginx, which would keep events back
SHOWN: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The job as it stands.", "content": {"application/json": {"example": EXAMPLE}}},
    **{status: PROBLEMS[status] for status in (404, 503)},
}


def jobs_router(jobs: Jobs) -> APIRouter:
    """GET and DELETE of a job."""
    router = APIRouter(prefix=PATH, tags=[*TAGS], responses=SHOWN)

    @router.get("/{ident}", summary="How far a job is, and its result", openapi_extra=needs("predict"))
    async def show(ident: str, request: Request) -> Response:
        return _shown(await jobs.get(ident, caller_of(request.scope)))

    @router.delete("/{ident}", summary="Cancel a job, unless it has come to its end", openapi_extra=needs("predict"))
    async def cancel(ident: str, request: Request) -> Response:
        return _shown(await jobs.cancel(ident, caller_of(request.scope)))

    return router


def events_route(jobs: Jobs, traffic: Traffic) -> DirectRoute:
    """GET of a job's events."""

    async def handle(request: Inbound) -> Stream:
        await read_body(request, 0)
        after = last_event_of(request.headers)
        job = await jobs.get(request.path_parameters["ident"], request.caller)
        return Stream(_parts(jobs, job, after, traffic), EVENTS, (NO_STORE, UNBUFFERED))

    return DirectRoute(
        EVENTS_PATH,
        Endpoint(EVENTS_PATH, handle, traffic),
        need="predict",
        methods=["GET"],
        name="job_events",
        summary="A job's events as they happen, up to its end",
        description="Server-sent events: `started`, `progress` with the step and of how many, `preview` with a picture "
        "now and then, and in the end `done` with the job. `Last-Event-ID` goes on after an event.",
        tags=[*TAGS],
        responses={200: {"description": "The events.", "content": {EVENTS.decode(): {}}}, **_problems()},
        openapi_extra={"parameters": [{"name": "ident", "in": "path", "required": True, "schema": {"type": "string"}}]},
    )


def _parts(jobs: Jobs, job: Job, after: int, traffic: Traffic) -> AsyncGenerator[bytes, None]:
    """Busy, before anything is sent."""
    happening = jobs.follow(job, after)

    async def parts() -> AsyncGenerator[bytes, None]:
        yield BEGINNING
        said_s = time.monotonic()
        # Whatever ends it too soon, the client asks again from its last event on, here or at another gateway.
        with suppress(JobsUnavailable, JobNotFound):
            async with aclosing(happening) as events:
                async for event in events:
                    if event is not None:
                        yield await written(event)
                        said_s = time.monotonic()
                    elif time.monotonic() - said_s > QUIET_S:
                        yield SIGN_OF_LIFE
                        said_s = time.monotonic()
                    if traffic.closing:
                        return

    async def written(event: Event) -> bytes:
        return write_event(event, write_job(await jobs.get(job.id, job.owner)) if event.kind == "done" else event.data)

    return parts()


def _shown(job: Job) -> Response:
    return Response(write_job(job), media_type="application/json")


def _problems() -> dict[int | str, dict[str, Any]]:
    return {status: PROBLEMS[status] for status in (401, 403, 404, 422, 503)}
