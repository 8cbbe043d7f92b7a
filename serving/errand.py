"""What a job is to do, and what came of it, as the bytes that a store keeps: requests to a task, and its replies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Base64Bytes, BaseModel, ConfigDict, TypeAdapter

from serving import plugins
from serving.task import FOLDER, Reply, Request, Task
from serving.versions.router import Target


@dataclass(frozen=True, slots=True)
class Errand:
    """Requests that one version of the target answers together, as Pipeline.predict_all has it.

    preview_every: steps; 0 for no previews. traceparent: of the request that ordered it, where that is traced.
    """

    verb: str
    target: Target
    requests: Sequence[Request[Any]]
    preview_every: int = 0
    traceparent: str = ""


class _Sent(BaseModel):
    """A request. parameters: those that were given."""

    payload: Base64Bytes
    parameters: dict[str, Any]
    media_type: str
    kind: str


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid")

    verb: str
    model: str | None
    version: int | None
    label: str | None
    sticky: Base64Bytes
    requests: list[_Sent]
    preview_every: int
    traceparent: str = ""


def write_errand(errand: Errand) -> bytes:
    """The errand as JSON."""
    target = errand.target
    kept = _Kept.model_construct(
        verb=errand.verb,
        model=target.model,
        version=target.version,
        label=target.label,
        sticky=target.sticky,
        requests=[
            _Sent.model_construct(
                payload=request.payload,
                parameters=request.parameters.model_dump(mode="json", exclude_unset=True),
                media_type=request.media_type,
                kind=request.kind,
            )
            for request in errand.requests
        ],
        preview_every=errand.preview_every,
        traceparent=errand.traceparent,
    )
    return kept.model_dump_json(exclude_defaults=True).encode()  # gateways of before know no traceparent


def read_errand(content: bytes) -> Errand:
    """What `write_errand` wrote. NotFound or ValueError when this release cannot read it."""
    kept = _Kept.model_validate_json(content)
    parameters = _task(kept.verb).parameters
    requests = [
        Request(sent.payload, parameters.model_validate(sent.parameters), sent.media_type, sent.kind)
        for sent in kept.requests
    ]
    target = Target(kept.model, kept.version, kept.label, kept.sticky)
    return Errand(kept.verb, target, requests, kept.preview_every, kept.traceparent)


def write_replies(replies: Sequence[Reply]) -> bytes:
    """The replies as a JSON list."""
    return b"[" + b",".join(reply.__pydantic_serializer__.to_json(reply) for reply in replies) + b"]"


def read_replies(verb: str, content: bytes) -> list[Any]:
    """What `write_replies` wrote, as replies of that task."""
    reply: Any = _task(verb).reply
    replies: list[Any] = TypeAdapter(list[reply]).validate_json(content)
    return replies


def _task(verb: str) -> type[Task[Any]]:
    task: type[Task[Any]] = plugins.find(FOLDER, verb, "PLUGIN")
    return task
