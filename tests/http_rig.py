"""Gateways for tests to talk to: one ASGI exchange by hand, a gateway in this event loop, a gateway in a process.

All are real: real sockets, the real server, the real program. Only engines are fakes, where a test needs a gate.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import select
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import httpx
import PIL.Image
import tiny
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from serving.bootstrap import Parts, build
from serving.engine import Engine
from serving.engines.fake import FakeEngine
from serving.gateway.http import Inbound
from serving.gateway.server import Listener, _Server, bind
from serving.log_lines import Lines
from serving.settings import read_settings
from serving.versions.changes import Gatekeeper

PATIENCE_S = 15.0
STARTS_S = 240.0  # for a gateway to load all committed models, on Triton and beside other tests


# Pictures


def picture(red: int = 0, green: int = 0, blue: int = 0) -> bytes:
    """A PNG of one colour, of the size that the tiny classifier takes."""
    file = io.BytesIO()
    PIL.Image.new("RGB", (8, 8), (red, green, blue)).save(file, "PNG")
    return file.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header says so, with no pixels behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


# One exchange by hand


@dataclass
class Exchange:
    """A server's side of one request: what it hands over and, in `sent`, what it is told to send."""

    parts: tuple[bytes, ...] = (b"",)
    headers: Mapping[str, str] = field(default_factory=dict)
    more_headers: Sequence[tuple[bytes, bytes]] = ()  # as they go over the wire: names may repeat
    query: str = ""
    path: str = "/"
    method: str = "POST"
    leaves: bool = False  # after the parts that there are, before the body's end
    sent: list[dict[str, Any]] = field(default_factory=list)
    read: int = 0  # how often it was asked for something

    @property
    def scope(self) -> dict[str, Any]:
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in self.headers.items()]
        return {
            "type": "http",
            "method": self.method,
            "path": self.path,
            "query_string": self.query.encode("latin-1"),
            "headers": [*headers, *self.more_headers],
        }

    @property
    def inbound(self) -> Inbound:
        scope = self.scope
        return Inbound(scope, self.receive, dict(scope["headers"]), b"id")

    async def receive(self) -> dict[str, Any]:
        self.read += 1
        if self.read > len(self.parts):
            if not self.leaves:
                await asyncio.Event().wait()  # the caller waits for its answer
            return {"type": "http.disconnect"}
        more = self.leaves or self.read < len(self.parts)
        return {"type": "http.request", "body": self.parts[self.read - 1], "more_body": more}

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    @property
    def answer(self) -> Answer:
        start, *bodies = self.sent
        headers = {name.decode(): value.decode() for name, value in start["headers"]}
        return Answer(start["status"], headers, b"".join(message["body"] for message in bodies))


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


# Waiting


async def until(condition: Callable[[], Any], what: str) -> None:
    """Returns when the condition holds."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"never: {what}"
        await asyncio.sleep(0.001)


def wait_until(condition: Callable[[], Any], what: str) -> None:
    """As `until`, for tests without an event loop."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"never: {what}"
        time.sleep(0.005)


# A gateway in this event loop


@dataclass(frozen=True)
class Live:
    """A gateway that serves in this event loop, and a client of its public port."""

    parts: Parts
    url: str
    admin_url: str
    client: httpx.AsyncClient
    servers: Sequence[_Server]

    @property
    def connections(self) -> int:
        return sum(len(server.server_state.connections) for server in self.servers)

    @property
    def waiting_rows(self) -> int:
        return sum(lane._waiting_rows for lane in self.parts.engine._lanes.values())

    async def classify(self, content: bytes | None = None, **headers: str) -> httpx.Response:
        content = picture() if content is None else content
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post("/v1/classify", content=content, headers={"content-type": "image/png", **named})

    def outcomes(self, model: str = "colours") -> dict[str, float]:
        """How the model's requests ended: code -> count."""
        self.parts.meters.exposition()
        families = self.parts.meters.registry.collect()
        samples = [sample for family in families for sample in family.samples]
        return {
            sample.labels["code"]: sample.value
            for sample in samples
            if sample.name == "tidegate_requests_total" and sample.labels["model"] == model
        }


def build_tiny(
    folder: Path,
    engine: Engine | None,
    settings: Mapping[str, Any],
    gate: Gatekeeper | None = None,
    lines: Lines | None = None,
    **config: Any,
) -> Parts:
    """A gateway of `colours` (classify) and `double` (plain), not yet started. `config`: of colours' config.pbtxt."""
    repository = folder / "repository"
    if not repository.exists():
        tiny.add_classifier(repository, **config)
        tiny.add_plain(repository)
    read = read_settings(repository=repository, state=folder / "state", **settings)
    return build(read, engine=engine, gate=gate, lines=lines)


@asynccontextmanager
async def serving(
    folder: Path,
    engine: FakeEngine | None = None,
    settings: Mapping[str, Any] | None = None,
    gate: Gatekeeper | None = None,
    lines: Lines | None = None,
    **config: Any,
) -> AsyncIterator[Live]:
    engine = engine or FakeEngine()
    parts = build_tiny(folder, engine, settings or {}, gate, lines, **config)
    listeners = [Listener(app, bind("127.0.0.1", 0)) for app in (parts.public, parts.admin)]
    public, admin = (listener.url for listener in listeners)
    servers = [_Server(listener, PATIENCE_S) for listener in listeners]
    await parts.start()
    pairs = zip(servers, listeners, strict=True)
    running = [asyncio.create_task(server.serve([listener.socket])) for server, listener in pairs]
    await until(lambda: all(server.started for server in servers), "the servers listen")
    try:
        async with httpx.AsyncClient(base_url=public, timeout=PATIENCE_S) as client:
            yield Live(parts, public, admin, client, servers)
    finally:
        engine.gate.set()
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*running)
        await parts.close()


# A gateway in a process


@dataclass(frozen=True)
class Process:
    """A gateway that was started as its users start it."""

    url: str
    admin_url: str
    grpc: str  # host:port
    popen: subprocess.Popen[str]
    log: Path

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def exit_code(self) -> int:
        return self.popen.wait(PATIENCE_S)


@contextmanager
def gateway_process(repository: Path, state: Path, *flags: str, **environment: str) -> Iterator[Process]:
    """`tidegate serve` on free ports. `flags`: of Python; `environment`: on top of this one's."""
    program = Path(sys.executable).with_name("tidegate")
    options = ["--repository", repository, "--state", state, "--port", "0", "--admin-port", "0", "--grpc-port", "0"]
    log = state.with_name("gateway.log")
    with log.open("w") as stderr:
        popen = subprocess.Popen(
            [sys.executable, *flags, program, "serve", *options],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            # No requests in its log: tests read there what else it says.
            env={**os.environ, "TIDEGATE_DRAIN_DELAY_S": "0", "TIDEGATE_REQUEST_LOG": "0", **environment},
        )
    try:
        ready, _, _ = select.select([popen.stdout], [], [], STARTS_S)
        line = popen.stdout.readline() if ready else ""
        assert line.startswith("tidegate serves"), f"it did not start: {line!r} {log.read_text()}"
        public, admin = (word.strip("(),\n") for word in line.split() if "http://" in word)
        yield Process(public, admin, line.split()[-1].strip(")"), popen, log)
    finally:
        popen.terminate()  # twice: not to wait for the drain delay
        popen.terminate()
        try:
            popen.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()
        popen.stdout.close()


def metrics(admin_url: str) -> list[Sample]:
    """Every sample of the gateway's meters."""
    text = httpx.get(f"{admin_url}/metrics").text
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


# Raw sockets


def connect(url: str) -> socket.socket:
    address = urlsplit(url)
    return socket.create_connection((address.hostname, address.port), timeout=PATIENCE_S)


def request_bytes(target: str, body: bytes = b"", method: str = "POST", **headers: str) -> bytes:
    """A request as it goes over the wire; underscores in header names stand for dashes."""
    given = {"host": "tests", "content-length": str(len(body)), "content-type": "image/png"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items() if value), "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def read_answer(stream: BinaryIO) -> Answer:
    """The next answer on a connection's file."""
    status = stream.readline().split()
    assert status, "the connection ended without an answer"
    headers: dict[str, str] = {}
    while (line := stream.readline()) not in (b"\r\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        assert name not in headers, f"{name} stands twice"
        headers[name] = value.strip()
    return Answer(int(status[1]), headers, stream.read(int(headers.get("content-length", 0))))


def exchange(url: str, data: bytes) -> Answer:
    """Sends bytes on a connection of their own and reads one answer."""
    with connect(url) as connection, connection.makefile("rb") as stream:
        connection.sendall(data)
        return read_answer(stream)


def reset(connection: socket.socket) -> None:
    """Ends a connection with RST, as a caller who was killed does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
