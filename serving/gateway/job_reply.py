"""Jobs as HTTP has them: how they are asked for, what is said of them, and their events as a stream.

Sources: RFC 7240 for `Prefer: respond-async`, draft-ietf-httpapi-idempotency-key-header for `Idempotency-Key`,
https://html.spec.whatwg.org/multipage/server-sent-events.html for the stream.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from serving.errand import read_errand, read_replies
from serving.errors import ParameterInvalid, TidegateError
from serving.gateway.http import Inbound, Outbound
from serving.gateway.openai_images import write_images
from serving.job_store import Event, Job

PATH: Final = "/v1/jobs"
EVENTS: Final = b"text/event-stream"
KEY: Final = re.compile(rb"[\x21-\x7e]([\x20-\x7e]{0,253}[\x21-\x7e])?")
NUMBER: Final = re.compile(rb"[0-9]{1,18}")
BEGINNING: Final = b"retry: 1000\n\n"  # ms until another try, where the connection is lost
SIGN_OF_LIFE: Final = b":\n\n"
# How the replies of a task are told, as its own route tells them: given them and the time, in Unix seconds.
WRITERS: Final[Mapping[str, Callable[[list[Any], int], bytes]]] = {"generate-images": write_images}
EXAMPLE: Final[Mapping[str, Any]] = {
    "id": "8b1f0c9e4a7d42e6b5c3a19d7f60e258",
    "object": "job",
    "status": "running",
    "created": 1767225600,
    "attempts": 1,
    "progress": {"step": 4, "of": 20},
    "result": None,
    "error": None,
    "ended": None,
    "expires_at": None,
}


JOB_HEADERS: Final[tuple[Mapping[str, Any], ...]] = (
    {
        "name": "Prefer",
        "in": "header",
        "description": "respond-async: a job instead of a wait.",
        "schema": {"type": "string", "enum": ["respond-async"]},
    },
    {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "Of a job: the same one is given each time that the same is asked for with the same key.",
        "schema": {"type": "string", "maxLength": 255},
    },
)


def prefers_job(headers: Mapping[bytes, bytes]) -> bool:
    """Whether the caller would rather have a job than wait."""
    preferences = headers.get(b"prefer", b"").lower().replace(b";", b",").split(b",")
    return b"respond-async" in (one.strip() for one in preferences)


def key_of(headers: Mapping[bytes, bytes]) -> str:
    """The caller's Idempotency-Key; empty where there is none. ParameterInvalid."""
    key = headers.get(b"idempotency-key")
    if key is None:
        return ""
    if not KEY.fullmatch(key):
        detail = "Idempotency-Key is not 1 to 255 characters of ASCII that can be read."
        raise ParameterInvalid(detail, remedy="Send a UUID, for example.")
    return key.decode()


def digest_of(request: Inbound, body: bytes) -> str:
    """Of all that says what is asked for."""
    return hashlib.sha256(b"\0".join((request.path.encode(), request.scope["query_string"], body))).hexdigest()


def last_event_of(headers: Mapping[bytes, bytes]) -> int:
    """The number of the event up to which the caller has them; 0 where nothing is said. ParameterInvalid."""
    number = headers.get(b"last-event-id", b"") or b"0"
    if not NUMBER.fullmatch(number):
        remedy = "Send the id of the last event that came, or leave it out."
        raise ParameterInvalid("Last-Event-ID is not the id of an event.", remedy=remedy)
    return int(number)


def accepted(job: Job) -> Outbound:
    """202, and where the job is."""
    headers = ((b"location", f"{PATH}/{job.id}".encode()), (b"preference-applied", b"respond-async"))
    return Outbound(write_job(job), 202, headers=headers)


def write_job(job: Job) -> bytes:
    """The job's JSON, with its result as the waiting route gives it. Times are Unix seconds."""
    failure, progress = job.failure, job.progress
    return orjson.dumps(
        {
            "id": job.id,
            "object": "job",
            "status": job.status,
            "created": int(job.created),
            "attempts": job.attempts,
            "progress": None if progress is None else {"step": progress.step, "of": progress.of},
            "result": None if job.result is None else orjson.Fragment(_result(job, job.result)),
            "error": None if failure is None else {"code": failure.code, "message": failure.detail},
            "ended": None if job.ended is None else int(job.ended),
            "expires_at": None if job.expires is None else int(job.expires),
        }
    )


def write_event(event: Event, data: bytes) -> bytes:
    """An event of a stream; data: JSON in one line."""
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (event.number, event.kind.encode(), data)


def _result(job: Job, content: bytes) -> bytes:
    """As the task's route writes it; as it was kept, where there is none or another release kept it."""
    try:
        verb = read_errand(job.content).verb
        return WRITERS[verb](read_replies(verb, content), int(job.ended or 0))
    except (KeyError, ValueError, TidegateError):
        return content
