"""Some of the requests, kept as files with their answers, for `tidegate replay`: only where an operator asks for it.

The request's own way ends at a queue; a thread writes. What comes too fast is dropped and counted, never waited for.
"""

from __future__ import annotations

import base64
import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple, TypeAlias

import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge

from serving.capturing.folder import CaptureFolder
from serving.capturing.record import Captured
from serving.observation.seen import Seen
from serving.task import FileReply, Reply, Request

log = logging.getLogger(__name__)

Redact: TypeAlias = Callable[[Captured], Captured | None]
WAITING: Final = 256  # captures that wait to be written
WAITING_BYTES: Final = 64 * 2**20  # their payloads together
ENDS_S: Final = 5.0  # for what waits, when the gateway ends


class CaptureMeters:
    """Labels: models that answered."""

    def __init__(self, registry: CollectorRegistry, folder: CaptureFolder) -> None:
        self._captured = Counter(
            "tidegate_captured",
            "Requests that were to be captured: kept; left_out by the hook, dropped (too many at once, or too large), "
            "failed.",
            ("model", "outcome"),
            registry=registry,
        )
        size = Gauge("tidegate_capture_bytes", "What captured requests take of the disk.", registry=registry)
        size.set_function(lambda: folder.bytes)

    def count(self, model: str, outcome: str) -> None:
        """One request."""
        self._captured.labels(model, outcome).inc()


class _Taken(NamedTuple):
    """What is written of later."""

    request_id: bytes
    at: float
    model: str
    version: int
    task: str
    request: Request[Any]
    reply: Reply
    duration_s: float


class Capture:
    """Takes a share of what is answered. redact: the operator's hook, called on the writing thread."""

    def __init__(
        self,
        folder: CaptureFolder,
        share: float,
        redact: Redact | None,
        meters: CaptureMeters,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._folder = folder
        self._share = share
        self._redact = redact
        self._meters = meters
        self._chance = chance
        self._queue: queue.Queue[_Taken | None] = queue.Queue(WAITING)
        self._offered_bytes = 0  # by the event loop; what is taken by the thread
        self._taken_bytes = 0
        self._failure = ""
        self._thread = threading.Thread(target=self._work, name="capture", daemon=True)

    def start(self) -> None:
        """Begins to write."""
        self._thread.start()

    def close(self) -> None:
        """Writes what waits, for some seconds at most. Blocking."""
        if self._thread.is_alive():
            try:
                self._queue.put(None, timeout=ENDS_S)
            except queue.Full:
                return
            self._thread.join(ENDS_S)

    def saw(self, seen: Seen) -> None:
        """A witness (observation/seen.py)."""
        task = seen.resident.task
        # What nobody outside asked for, such as embedding a collection anew, would push their requests out.
        if task is None or not seen.call.request_id or self._chance() >= self._share:
            return
        request = seen.request
        taken = _Taken(
            seen.call.request_id, time.time(), task.model, task.version, task.verb, request, seen.reply, seen.duration_s
        )
        waiting = self._offered_bytes - self._taken_bytes
        if waiting and waiting + len(request.payload) > WAITING_BYTES:
            self._meters.count(task.model, "dropped")
            return
        try:
            self._queue.put_nowait(taken)
        except queue.Full:
            self._meters.count(task.model, "dropped")
            return
        self._offered_bytes += len(request.payload)

    def _work(self) -> None:
        self._try(self._folder.open)
        while (taken := self._queue.get()) is not None:
            self._meters.count(taken.model, self._keep(taken))
            self._taken_bytes += len(taken.request.payload)
            del taken  # or its payload would live on while this thread waits

    def _keep(self, taken: _Taken) -> str:
        """The outcome."""
        return self._try(lambda: self._write(taken)) or "failed"

    def _write(self, taken: _Taken) -> str:
        captured = _captured(taken)
        if self._redact is not None:
            changed = self._redact(captured)
            if changed is None:
                return "left_out"
            # A hook may change what is said, not which version said it.
            captured = replace(changed, model=taken.model, version=taken.version, task=taken.task)
        return "kept" if self._folder.add(captured) else "dropped"

    def _try(self, work: Callable[[], Any]) -> Any:
        """What it gives; None where it fails: logged once, not each time that it fails alike."""
        try:
            result = work()
        except Exception as error:  # the operator's hook may raise anything
            said = f"{type(error).__name__}: {error}"
            if said != self._failure:
                log.warning("requests cannot be captured: %s", said, exc_info=not isinstance(error, OSError))
            self._failure = said
            return None
        self._failure = ""
        return result


def _captured(taken: _Taken) -> Captured:
    request = taken.request
    return Captured(
        request_id=taken.request_id.decode(),
        at=taken.at,
        model=taken.model,
        version=taken.version,
        task=taken.task,
        kind=request.kind,
        media_type=request.media_type,
        parameters=request.parameters.model_dump(mode="json", exclude_unset=True),
        payload=request.payload,
        reply=_as_json(taken.reply),
        duration_s=taken.duration_s,
    )


def _as_json(reply: Reply) -> Mapping[str, Any]:
    if isinstance(reply, FileReply):
        return {**reply.model_dump(), "content": base64.b64encode(reply.content).decode()}
    fields: dict[str, Any] = orjson.loads(reply.__pydantic_serializer__.to_json(reply))
    return fields
