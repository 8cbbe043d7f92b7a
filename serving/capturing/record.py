"""A captured request, as bytes: a line of JSON, then the payload as it was sent. No key and no header is in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import orjson
from pydantic import TypeAdapter, ValidationError

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Captured:
    """A request and its answer. A hook of the operator's may change any of it before it is kept.

    at: Unix seconds of the answer; duration_s: from routing to reply. task: the verb. kind: of the payload; media_type:
    of the reply that was asked for. parameters: those that were given. reply: as JSON, files in base64.
    """

    request_id: str
    at: float
    model: str
    version: int
    task: str
    kind: str
    media_type: str
    parameters: Mapping[str, Any]
    payload: bytes
    reply: Mapping[str, Any]
    duration_s: float


_CAPTURED: Final = TypeAdapter(Captured)


def write(captured: Captured) -> bytes:
    """TypeError: something in it is no JSON."""
    fields = asdict(captured)
    payload: bytes = fields.pop("payload")
    return orjson.dumps({"format": FORMAT, **fields}) + b"\n" + payload


def read(content: bytes) -> Captured:
    """ValueError: it is none, or of another release."""
    head, line_end, payload = content.partition(b"\n")
    fields = orjson.loads(head)  # its error is a ValueError
    if not line_end or not isinstance(fields, dict) or fields.pop("format", None) != FORMAT:
        raise ValueError("expected a captured request of this release")
    try:
        return _CAPTURED.validate_python({**fields, "payload": payload})
    except ValidationError:
        raise ValueError("expected a captured request") from None
