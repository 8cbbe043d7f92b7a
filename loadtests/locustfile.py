"""Locust users made from the tasks themselves: they post the tasks' own examples to every model that does them.

    locust -f loadtests/locustfile.py --host http://127.0.0.1:8080

A verb with no model on that server is left out. TIDEGATE_LOADTEST_IMAGE=photo.jpg is sent in place of example pictures.
"""

from __future__ import annotations

import json
import logging
import mimetypes
import os
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlencode

import httpx
from locust import FastHttpUser, events, task

from serving import plugins
from serving.task import FOLDER, Example, Task

log = logging.getLogger(__name__)
# Imported before the test's time begins to run.
TASKS: dict[str, type[Task[Any]]] = {name: plugins.find(FOLDER, name, "PLUGIN") for name in plugins.names(FOLDER)}


@dataclass(frozen=True, slots=True)
class Shot:
    """A request that is sent over and over, and the model that is to answer it."""

    model: str
    path: str
    body: bytes
    content_type: str
    parameters: Mapping[str, Any]

    @property
    def url(self) -> str:
        return f"{self.path}?{urlencode({'model': self.model, **self.parameters})}"


class Caller(FastHttpUser):  # type: ignore[misc]  # locust's types are not followed
    """Sends one shot after another, whichever comes by chance, and waits for each answer."""

    shots: ClassVar[list[Shot]] = []

    @task  # type: ignore[untyped-decorator]
    def ask(self) -> None:
        """A failure unless the answer is 200 and names the model and a version of it."""
        shot = random.choice(self.shots)
        post = self.client.post(
            shot.url,
            data=shot.body,
            headers={"content-type": shot.content_type},
            name=f"{shot.path} {shot.model}",
            catch_response=True,
        )
        with post as answer:
            if answer.status_code != 200:
                answer.failure(f"{answer.status_code} {(answer.text or str(answer.error))[:300]}")
            elif answer.headers.get("tidegate-model") != shot.model or not answer.headers.get("tidegate-version"):
                answer.failure("The answer does not say which version of the model gave it.")


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def _take_aim(environment: Any, **_: Any) -> None:
    """Looks what the server has. With nothing to ask the test ends at once, as a failure."""
    try:
        Caller.shots = list(_shots(_ready_models(environment.host), environment.host))
        reason = "No model there is ready to do a task."
    except (httpx.HTTPError, OSError) as error:
        reason = f"{environment.host} cannot be asked: {error}"
    if not Caller.shots:
        log.error(reason)
        environment.process_exit_code = 1
        environment.runner.quit()


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def _judge(environment: Any, **_: Any) -> None:
    """Locust fails a test in which a request failed by itself, but not one in which nothing was answered."""
    if environment.stats.total.num_requests == 0:
        environment.process_exit_code = 1


def _ready_models(host: str) -> Mapping[str, list[str]]:
    """Task -> the names of its models that are ready."""
    response = httpx.get(f"{host.rstrip('/')}/v1/models").raise_for_status()
    found: dict[str, list[str]] = {}
    for model in response.json()["models"]:
        if not model["ready"]:
            log.warning("%s is not ready and left out.", model["name"])
        elif model["task"] is not None:
            found.setdefault(model["task"], []).append(model["name"])
    return found


def _shots(models: Mapping[str, list[str]], host: str) -> Iterator[Shot]:
    picture = os.environ.get("TIDEGATE_LOADTEST_IMAGE")
    for name, plugin in TASKS.items():
        if plugin.path is not None:
            for model in models.get(name, []):
                yield Shot(model, plugin.path, _documented(host, plugin.path), "application/json", {})
            continue
        example = plugin.example()
        if picture and example.kind == "image":
            media_type = mimetypes.guess_type(picture)[0] or "application/octet-stream"
            example = Example(Path(picture).read_bytes(), media_type, example.parameters, example.reply)
        for model in models.get(name, []):
            yield Shot(model, f"/v1/{plugin.verb}", example.payload, example.content_type, example.parameters)


def _documented(host: str, path: str) -> bytes:
    """The example of a route that was written for its task, as the server's own documentation has it."""
    document = httpx.get(f"{host.rstrip('/')}/openapi.json").raise_for_status().json()
    content = document["paths"][path]["post"]["requestBody"]["content"]
    return json.dumps(content["application/json"]["example"]).encode()
