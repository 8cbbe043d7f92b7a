"""/v1: a route for each task, made from what the task says of itself, and what models there are."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any, Final

from fastapi import APIRouter
from pydantic import ValidationError

from serving import plugins
from serving.deadline import by_deadline
from serving.engine import Call
from serving.errors import ModelNotFound, ParameterInvalid
from serving.gateway.accept import choose
from serving.gateway.access import needs
from serving.gateway.body import read_body
from serving.gateway.departure import Presence
from serving.gateway.direct import DirectRoute
from serving.gateway.errors import PROBLEM_JSON
from serving.gateway.http import JSON, Handler, Header, Inbound, Outbound, deadline_of, server_timing
from serving.gateway.payload import read_payload, sticky_of, take_target
from serving.gateway.traffic import Endpoint, Traffic
from serving.pipeline import Pipeline
from serving.task import FOLDER, Example, FileReply, Parameters, Request, Task
from serving.telemetry import Stages
from serving.versions.catalog import ModelList, ModelState

TASK_EXTENSION: Final = "x-tidegate-task"  # the verb, by which /v1/models says what a model does
TARGET_PARAMETERS: Final = (
    ("model", {"type": "string"}, "Which model; without it the task's default answers."),
    ("version", {"type": "integer", "minimum": 1}, "Pins a version; without it the router decides."),
    ("label", {"type": "string", "enum": ["stable", "canary"]}, "Pins what is live under this label."),
)
JSON_SCHEMAS: Final = {"image": {"type": "string", "contentEncoding": "base64"}, "text": {"type": "string"}}
PART_SCHEMAS: Final = {"image": {"type": "string", "format": "binary"}, "text": {"type": "string"}}
RAW_TYPES: Final = {"image": ("image/jpeg", "image/png", "image/webp"), "text": ("text/plain",)}
PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"description": description, "content": {"application/problem+json": {}}}
    for status, description in {
        400: "The body is not what it is announced as.",
        401: "This gateway wants a key, and there is none with the request that it knows.",
        403: "The key is for other things.",
        404: "No such model or version.",
        409: "Several models could answer, or the named one does another task.",
        413: "The body is too large.",
        415: "The content type is not accepted.",
        422: "The payload or a parameter cannot be used.",
        429: "Many wrong keys came from this address; Retry-After says when to try again.",
        503: "Too busy, or the model is not ready; Retry-After says when to try again.",
        504: "The deadline passed.",
    }.items()
}


def task_routes(pipeline: Pipeline, traffic: Traffic, body_limit: int, longest_s: float) -> list[DirectRoute]:
    """A route for each file of `serving/tasks/` that has none of its own."""
    tasks: list[type[Task[Any]]] = [plugins.find(FOLDER, name, "PLUGIN") for name in plugins.names(FOLDER)]
    made = [task for task in tasks if task.path is None]
    return [_task_route(task, pipeline, traffic, body_limit, longest_s) for task in made]


def models_router(models: Callable[[], ModelList]) -> APIRouter:
    """GET /v1/models and /v1/models/{model}."""
    router = APIRouter(prefix="/v1", tags=["models"])

    @router.get("/models", summary="What models there are, and which versions are live", openapi_extra=needs("predict"))
    async def list_models() -> ModelList:
        return models().without_tables()

    @router.get(
        "/models/{model}",
        summary="One model and its card",
        responses={404: PROBLEMS[404]},
        openapi_extra=needs("predict"),
    )
    async def show_model(model: str) -> ModelState:
        for state in models().models:
            if state.name == model:
                return state
        raise ModelNotFound("There is no model of that name.", remedy="Ask GET /v1/models for them.")

    return router


def identity_headers(model: str, version: int, stages: Stages) -> tuple[Header, ...]:
    """Who answered, and where the time went."""
    return (
        (b"tidegate-model", model.encode()),
        (b"tidegate-version", b"%d" % version),
        (b"server-timing", server_timing(stages)),
    )


def _task_route(
    task: type[Task[Any]], pipeline: Pipeline, traffic: Traffic, body_limit: int, longest_s: float
) -> DirectRoute:
    path = f"/v1/{task.verb}"
    endpoint = Endpoint(path, _task_handler(task, pipeline, traffic.presence, body_limit, longest_s), traffic)
    return DirectRoute(
        path,
        endpoint,
        need="predict",
        methods=["POST"],
        name=task.verb,
        summary=task.summary,
        description=task.__doc__,
        tags=["tasks"],
        responses={200: _reply_documentation(task), **_problems(task)},
        openapi_extra=_request_documentation(task),
    )


def _problems(task: type[Task[Any]]) -> dict[int | str, dict[str, Any]]:
    if len(task.media_types) == 1:
        return PROBLEMS
    return {**PROBLEMS, 406: {"description": "Accept takes no type of answer.", "content": {PROBLEM_JSON.decode(): {}}}}


def _task_handler(
    task: type[Task[Any]], pipeline: Pipeline, presence: Presence, body_limit: int, longest_s: float
) -> Handler:
    async def handle(request: Inbound) -> Outbound:
        due_s = deadline_of(request.headers, longest_s)
        call = Call(due_s, request_id=request.request_id, caller=request.caller, trace=request.trace)
        body = await by_deadline(call.deadline_s, read_body(request, body_limit))
        media_type = choose(request.headers.get(b"accept"), task.media_types)
        kind, payload, fields = read_payload(request, body, task.payloads)
        target = take_target(fields, sticky_of(request))
        wanted = Request(payload, _parameters(task.parameters, fields), media_type, kind)
        answer = await presence.hold(request.receive, pipeline.predict(task.verb, target, wanted, call))
        reply = answer.reply
        headers = identity_headers(reply.model, reply.version, answer.stages) + varies
        if isinstance(reply, FileReply):
            body, sent = reply.content, reply.media_type.encode()
        else:
            body, sent = reply.__pydantic_serializer__.to_json(reply), JSON
        return Outbound(body, media_type=sent, headers=headers, afterwards=answer.afterwards)

    varies: tuple[Header, ...] = ((b"vary", b"accept"),) if len(task.media_types) > 1 else ()
    return handle


def _parameters(kind: type[Parameters], fields: dict[str, Any]) -> Parameters:
    # pydantic takes JSON's true for 1; a query's "true" it does not.
    fields = {name: str(value).lower() if isinstance(value, bool) else value for name, value in fields.items()}
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "extra_forbidden":
            known = ", ".join(["model", "version", "label", *kind.model_fields])
            raise ParameterInvalid("There is a parameter of an unknown name.", remedy=f"There are: {known}.") from None
        name = str(first["loc"][0])
        raise ParameterInvalid(f"{name}: {first['msg']}.", remedy="GET /docs says what it may be.") from None


def _request_documentation(task: type[Task[Any]]) -> dict[str, Any]:
    example = task.example()
    schema = task.parameters.model_json_schema()
    parameters = [
        {"name": name, "in": "query", "schema": kind, "description": description}
        for name, kind, description in TARGET_PARAMETERS
    ]
    for name, kind in schema.get("properties", {}).items():
        documented = {"name": name, "in": "query", "schema": kind, "description": kind.get("description", "")}
        if name in example.parameters:
            documented["example"] = example.parameters[name]
        parameters.append(documented)
    own = schema.get("properties", {})
    content: dict[str, Any] = {
        "application/json": {"schema": _one_of(task, JSON_SCHEMAS, own), "example": _json_example(example)},
        "multipart/form-data": {"schema": _one_of(task, PART_SCHEMAS, {})},
    }
    for kind in task.payloads:
        content.update({media_type: {"schema": PART_SCHEMAS[kind]} for media_type in RAW_TYPES[kind]})
    body = {"required": True, "content": content}
    return {TASK_EXTENSION: task.verb, "parameters": parameters, "requestBody": body}


def _one_of(task: type[Task[Any]], schemas: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """An object with one of the task's payloads under its name."""
    properties = {**{kind: schemas[kind] for kind in task.payloads}, **more}
    if len(task.payloads) == 1:
        return {"type": "object", "required": list(task.payloads), "properties": properties}
    return {"type": "object", "oneOf": [{"required": [kind]} for kind in task.payloads], "properties": properties}


def _json_example(example: Example) -> dict[str, Any]:
    text = example.payload.decode() if example.kind == "text" else base64.b64encode(example.payload).decode()
    return {example.kind: text, **example.parameters}


def _reply_documentation(task: type[Task[Any]]) -> dict[str, Any]:
    files = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in task.media_types[1:]}
    return {
        "description": "The model's answer, with the version that gave it.",
        "model": task.reply,
        "content": {"application/json": {"example": dict(task.example().reply)}, **files},
    }
