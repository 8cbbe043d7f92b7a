"""uvicorn's HTTP protocol, with three things mended on its way to the socket.

Head and body of an answer go out in one write: uvicorn writes them apart, and each write is a system call, a tenth of
a small request's whole cost here. A connection that is closed with a body half read lingers, so that the answer is
not lost with it. What is no HTTP gets an answer of our own shape.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from serving.gateway.errors import HttpInvalid, problem
from serving.gateway.http import fresh_id

STATUS_LINE: Final = b"HTTP/1.1 "
LINGER_S: Final = 2.0
LINGER_BYTES: Final = 32 * 2**20


class JoinedWrites:
    """A transport that holds an answer's head back until its body, or the end of this turn of the loop, follows.

    linger: called by `close` with the real transport; says whether it takes over closing it.
    """

    __slots__ = ("_closed", "_head", "_linger", "_loop", "_transport")

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        linger: Callable[[asyncio.Transport], bool],
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._linger = linger
        self._head = b""
        self._closed = False

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(STATUS_LINE):
            self._head = data
            self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def close(self) -> None:
        self._flush()
        lingers = not self.is_closing() and self._linger(self._transport)
        self._closed = True
        if not lingers:
            self._transport.close()

    def is_closing(self) -> bool:
        return self._closed or self._transport.is_closing()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class JoinedProtocol(HttpToolsProtocol):
    """As uvicorn's, on a transport that joins writes and lingers."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(JoinedWrites(transport, self.loop, self._linger))  # type: ignore[arg-type]

    def send_400_response(self, msg: str) -> None:
        """What the parser cannot read, as a problem. `msg`, uvicorn's own, is not sent."""
        del msg
        answer = problem(HttpInvalid("The request cannot be parsed.", remedy="Send well-formed HTTP/1.1."), "")
        lines = (
            STATUS_LINE + b"400 Bad Request",
            b"content-type: " + answer.media_type,
            b"content-length: %d" % len(answer.body),
            b"x-request-id: " + fresh_id(),
            b"connection: close",
        )
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + answer.body)
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """After a request to change protocols the parser reads nothing more, so the connection ends with its answer."""
        self.cycle.keep_alive = False

    def _linger(self, transport: asyncio.Transport) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request
        if cycle is None or not cycle.more_body:
            return False
        transport.set_protocol(_Lingering(self, transport, self.loop))
        transport.write_eof()
        transport.resume_reading()
        return True


class _Lingering(asyncio.Protocol):
    """Throws away what still comes, for a while: to close at once would reset the connection, and a caller who is still
    sending would see that and not the answer. Source: RFC 9112, 9.6.
    """

    def __init__(self, before: asyncio.Protocol, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._before = before
        self._transport = transport
        self._timer = loop.call_later(LINGER_S, transport.abort)
        self._room = LINGER_BYTES

    def data_received(self, data: bytes) -> None:
        self._room -= len(data)
        if self._room < 0:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._before.connection_lost(exc)
