"""The way to a gateway: keep-alive connections, as many as requests are open, each used by one of them at a time."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx
from geventhttpclient import HTTPClient
from geventhttpclient.response import HTTPParseError

from loadtests.outcome import BROKEN, NAMELESS
from loadtests.payloads import TASKS, Models, Shot

ANSWER_LIMIT_S: Final = 60.0  # as long as a gateway lets a caller wait
IDLE_S: Final = 2.0  # one that rested longer is not used again: the server may be closing it this very moment


@dataclass(frozen=True, slots=True)
class Answer:
    """version: 0 where none is named. code: empty if it counts."""

    status: int
    version: int = 0
    code: str = ""


def headers() -> dict[str, str]:
    """With the key of TIDEGATE_KEY, as the tidegate command sends it."""
    key = os.environ.get("TIDEGATE_KEY", "").strip()
    return {"authorization": f"Bearer {key}"} if key else {}


def ready_models(url: str) -> Models:
    """Task -> the names of its models that are ready. httpx.HTTPError."""
    answer = httpx.get(f"{url.rstrip('/')}/v1/models", headers=headers(), timeout=30).raise_for_status()
    found: dict[str, list[str]] = {}
    for model in answer.json()["models"]:
        if model["ready"] and model["task"] is not None:
            found.setdefault(model["task"], []).append(model["name"])
    return found


def documented(url: str) -> dict[str, bytes]:
    """Of each route that was written for its task, the JSON that the server's documentation has. httpx.HTTPError."""
    paths = httpx.get(f"{url.rstrip('/')}/openapi.json", timeout=30).raise_for_status().json()["paths"]
    written = [task.path for task in TASKS.values() if task.path is not None and task.path in paths]
    bodies = {path: paths[path]["post"]["requestBody"]["content"]["application/json"] for path in written}
    return {path: json.dumps(body["example"]).encode() for path, body in bodies.items()}


class Connections:
    """To one gateway. Asking blocks a greenlet, and no other."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._headers = headers()
        self._idle: list[tuple[HTTPClient, float]] = []  # and when it was last used

    def ask(self, shot: Shot) -> Answer:
        """The whole answer was read when this returns. Nothing is raised: a connection that broke is an answer too."""
        client = self._take()
        try:
            given = {"content-type": shot.content_type}
            response = client.request("POST", shot.path, body=shot.body, headers=given)
            body = response.read()
        except (OSError, HTTPParseError):  # HTTPConnectionClosed among the latter
            client.close()
            return Answer(0, 0, BROKEN)
        self._idle.append((client, time.monotonic()))
        return judged(response.status_code, dict(response.headers), bytes(body), shot.model)

    def close(self) -> None:
        while self._idle:
            self._idle.pop()[0].close()

    def _take(self) -> HTTPClient:
        now_s = time.monotonic()
        while self._idle:
            client, used_s = self._idle.pop()
            if now_s < used_s + IDLE_S:
                return client
            client.close()
        return HTTPClient.from_url(
            self._url,
            headers=self._headers,
            concurrency=1,
            network_timeout=ANSWER_LIMIT_S,
            connection_timeout=ANSWER_LIMIT_S,
        )


def judged(status: int, given: Mapping[str, str], body: bytes, model: str) -> Answer:
    """An answer counts if it is 200 and names the model that was asked and a version of it."""
    named = {name.lower(): value for name, value in given.items()}
    version = int(named["tidegate-version"]) if named.get("tidegate-version", "").isdecimal() else 0
    if status != 200:
        return Answer(status, version, _code(body) or f"http_{status}")
    if named.get("tidegate-model") != model or not version:
        return Answer(status, version, NAMELESS)
    return Answer(status, version)


def _code(body: bytes) -> str:
    """Of RFC 9457's or OpenAI's error shape."""
    try:
        found: Any = json.loads(body)
    except ValueError:
        return ""
    if isinstance(found, dict) and isinstance(found.get("error"), dict):
        found = found["error"]
    return str(found.get("code") or "")[:60] if isinstance(found, dict) else ""
