"""/v1/images/generations: the task generate-images for clients of OpenAI's API. All of a request by one version."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, TypeAlias

from serving import plugins
from serving.deadline import by_deadline
from serving.engine import Call
from serving.errand import Errand
from serving.gateway.body import read_body
from serving.gateway.departure import Presence
from serving.gateway.direct import DirectRoute
from serving.gateway.errors import IMAGES_PATH, openai_error
from serving.gateway.http import Handler, Inbound, Outbound, deadline_of
from serving.gateway.job_reply import EXAMPLE, JOB_HEADERS, accepted, digest_of, key_of, prefers_job
from serving.gateway.openai_images import EXAMPLE_REPLY, AskedImages, read_images, request_schema, write_images
from serving.gateway.routes.v1 import TASK_EXTENSION, identity_headers
from serving.gateway.traffic import Endpoint, Traffic
from serving.jobs import Jobs
from serving.pipeline import Pipeline
from serving.task import FOLDER, Parameters, Task
from serving.threads import Threads

VERB: Final = "generate-images"
OWNER: Final = "images"  # of the worker threads' time
INLINE_BYTES: Final = 256 * 1024  # of pictures that are written here and now; more on a worker thread
PREVIEW_EVERY: Final = 5  # steps of a job: each preview costs a run of the decoder
Draw: TypeAlias = Callable[[AskedImages, Call], Awaitable[Outbound]]
Later: TypeAlias = Callable[[Inbound, bytes, AskedImages], Awaitable[Outbound]]
STATUSES: Final = (400, 401, 403, 404, 409, 413, 429, 502, 503, 504)


def images_route(
    pipeline: Pipeline, jobs: Jobs, traffic: Traffic, threads: Threads, *, body_limit: int, longest_s: float
) -> DirectRoute:
    """POST /v1/images/generations."""
    task: type[Task[Any]] = plugins.find(FOLDER, VERB, "PLUGIN")
    example = task.example()
    request = request_schema(task.parameters, {"prompt": example.payload.decode(), **example.parameters})
    draw = _drawing(pipeline, threads)
    later = _ordering(jobs)
    handler = _handler(task.parameters, _Ways(draw, later, traffic.presence), body_limit, longest_s)
    return DirectRoute(
        IMAGES_PATH,
        Endpoint(IMAGES_PATH, handler, traffic, openai_error),
        need="predict",
        methods=["POST"],
        name=VERB,
        summary=task.summary,
        description=f"{task.__doc__} As OpenAI's endpoint of this path; pictures come as base64. With"
        " `Prefer: respond-async` the answer is a job, at once, whose pictures are fetched from /v1/jobs; with an"
        " `Idempotency-Key` it is the same job each time.",
        tags=["OpenAI"],
        responses={
            200: {"description": "The pictures, as PNG.", "content": EXAMPLE_REPLY},
            202: {"description": "A job; Location says where.", "content": {"application/json": {"example": EXAMPLE}}},
            **{status: {"description": f"{HTTPStatus(status).phrase}, in OpenAI's shape."} for status in STATUSES},
        },
        openapi_extra={
            TASK_EXTENSION: VERB,
            "parameters": list(JOB_HEADERS),
            "requestBody": {"required": True, "content": request},
        },
    )


def _drawing(pipeline: Pipeline, threads: Threads) -> Draw:
    """Draws for whoever waits for it."""

    async def draw(asked: AskedImages, call: Call) -> Outbound:
        answers = await pipeline.predict_all(VERB, asked.target, asked.requests, call)
        replies: Any = answers.replies
        created = int(time.time())
        if sum(len(reply.content) for reply in replies) > INLINE_BYTES:
            content = (await threads.run(OWNER, lambda: write_images(replies, created)))[0]
        else:
            content = write_images(replies, created)
        headers = identity_headers(replies[0].model, replies[0].version, answers.stages)
        return Outbound(content, headers=headers, afterwards=answers.afterwards)

    return draw


def _ordering(jobs: Jobs) -> Later:
    """Takes the order for whoever does not wait."""

    async def later(request: Inbound, body: bytes, asked: AskedImages) -> Outbound:
        parent = "" if request.trace is None else request.trace.place.traceparent
        errand = Errand(VERB, asked.target, asked.requests, PREVIEW_EVERY, parent)
        key, digest = key_of(request.headers), digest_of(request, body)
        return accepted(await jobs.accept(errand, request.caller, key, digest))

    return later


@dataclass(frozen=True, slots=True)
class _Ways:
    """What becomes of a request: pictures for whoever waits, a job for whoever does not."""

    draw: Draw
    later: Later
    presence: Presence


def _handler(parameters: type[Parameters], ways: _Ways, body_limit: int, longest_s: float) -> Handler:
    async def handle(request: Inbound) -> Outbound:
        call = Call(deadline_of(request.headers, longest_s), request_id=request.request_id, trace=request.trace)
        body = await by_deadline(call.deadline_s, read_body(request, body_limit))
        asked = read_images(request, body, parameters)
        if prefers_job(request.headers):
            return await ways.later(request, body, asked)
        return await ways.presence.hold(request.receive, by_deadline(call.deadline_s, ways.draw(asked, call)))

    return handle
