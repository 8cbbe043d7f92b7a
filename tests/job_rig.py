"""Jobs for tests: pictures drawn by tiny networks, ordered and followed over HTTP."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import httpx

from serving.gateway.errors import IMAGES_PATH

MODEL = "generate-images"
ASYNC = {"prefer": "respond-async"}


class Sent(NamedTuple):
    """A server-sent event. data: out of its JSON."""

    id: int
    kind: str
    data: Any


def order(**fields: Any) -> dict[str, Any]:
    return {"prompt": "a red disc", "seed": 3, **fields}


async def begin(client: httpx.AsyncClient, headers: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    """A job that was accepted."""
    answer = await client.post(IMAGES_PATH, json=order(**fields), headers={**ASYNC, **(headers or {})})
    assert answer.status_code == 202, answer.text
    return answer.json()


async def ended(client: httpx.AsyncClient, ident: str, patience_s: float = 20.0) -> dict[str, Any]:
    """The job at its end."""
    path = f"/v1/jobs/{ident}/events"
    async with asyncio.timeout(2 * patience_s), client.stream("GET", path, timeout=patience_s) as answer:
        assert answer.status_code == 200
        async for event in events(answer):
            if event.kind == "done":
                return event.data
    raise AssertionError("the events ended before the job did")


async def events(answer: httpx.Response) -> AsyncIterator[Sent]:
    lines: list[str] = []
    async for line in answer.aiter_lines():
        if line:
            lines.append(line)
        else:
            if event := _event(lines):
                yield event
            lines = []


def events_now(answer: httpx.Response) -> Iterator[Sent]:
    """As `events`, for tests without an event loop."""
    lines: list[str] = []
    for line in answer.iter_lines():
        if line:
            lines.append(line)
        else:
            if event := _event(lines):
                yield event
            lines = []


def ended_now(client: httpx.Client, ident: str, patience_s: float = 30.0) -> dict[str, Any]:
    """The job at its end, asked for now and then, whatever becomes of single answers."""
    deadline_s = time.monotonic() + patience_s
    job: dict[str, Any] = {}
    while time.monotonic() < deadline_s:
        answer = client.get(f"/v1/jobs/{ident}")
        if answer.status_code != 503:
            assert answer.status_code == 200, answer.text
            job = answer.json()
            if job["ended"] is not None:
                return job
        time.sleep(0.05)
    raise AssertionError(f"it never ends: {job}")


def _event(lines: list[str]) -> Sent | None:
    fields = dict(line.split(": ", 1) for line in lines if not line.startswith(":"))
    if "data" not in fields:
        return None
    return Sent(int(fields["id"]), fields["event"], json.loads(fields["data"]))
