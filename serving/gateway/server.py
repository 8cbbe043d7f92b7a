"""The listeners, and the way out: SIGTERM makes the gateway unready, then it finishes what it took, then it ends."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import uvicorn

from serving.errors import SettingsInvalid
from serving.gateway.app import Gateway
from serving.gateway.protocol import JoinedProtocol
from serving.gateway.rpc.server import RpcServer
from serving.gateway.traffic import Traffic

log = logging.getLogger(__name__)

KEEP_ALIVE_S = 15  # of connections that rest; uvicorn's 5 make callers who pause meet a closing one


@dataclass(frozen=True, slots=True)
class Listener:
    """An application and the socket it is to be reached at."""

    app: Gateway
    socket: socket.socket

    @property
    def url(self) -> str:
        host, port = self.socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def bind(host: str, port: int) -> socket.socket:
    """A bound socket; SettingsInvalid when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        reason = (error.strerror or "it cannot be had").lower()
        raise SettingsInvalid(f"{host}:{port}: {reason}.", remedy="Choose another port or stop what uses it.") from None
    return listener


async def serve(
    listeners: Sequence[Listener],
    traffic: Traffic,
    start: Callable[[], Awaitable[None]],
    *,
    finish: Callable[[float], Awaitable[None]] | None = None,
    rpc: RpcServer | None = None,
    drain_delay_s: float,
    drain_timeout_s: float,
) -> None:
    """Listens at once, so that probes are answered, then calls `start`; returns when all has ended after a signal.

    On SIGTERM requests are still taken for `drain_delay_s`, while /readyz says no; SIGINT, or a second signal, skips
    that. Requests in flight then have `drain_timeout_s` to finish, and so has `finish`, which is given it.
    """
    servers = [_Server(listener, drain_timeout_s) for listener in listeners]
    stop = _Stop(traffic)
    with stop.listening():
        running = [
            asyncio.create_task(server.serve([listener.socket]))
            for server, listener in zip(servers, listeners, strict=True)
        ]
        if rpc is not None:
            await rpc.start()
        try:
            await start()
            await stop.wait(drain_delay_s)
        finally:
            traffic.closing = True
            for server in servers:
                server.should_exit = True
            ends = (None if rpc is None else rpc.stop, finish)
            ending = [end(drain_timeout_s) for end in ends if end is not None]
            await asyncio.gather(*running, *ending)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: signals are this module's."""

    def __init__(self, listener: Listener, drain_timeout_s: float) -> None:
        super().__init__(
            uvicorn.Config(
                listener.app,
                log_config=None,
                log_level="warning",
                access_log=False,
                http=JoinedProtocol,
                ws="none",
                proxy_headers=False,
                server_header=False,
                lifespan="off",
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=max(1, round(drain_timeout_s)),
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Stop:
    """What the signals said."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._asked = asyncio.Event()
        self._now = asyncio.Event()

    @contextmanager
    def listening(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._ask, False)
        loop.add_signal_handler(signal.SIGINT, self._ask, True)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGTERM)
            loop.remove_signal_handler(signal.SIGINT)

    async def wait(self, delay_s: float) -> None:
        """Returns when it is time to take no more."""
        await self._asked.wait()
        log.info("draining: %d requests in flight", self._traffic.in_flight)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._now.wait(), delay_s)

    def _ask(self, now: bool) -> None:
        if now or self._asked.is_set():
            self._now.set()
        self._traffic.draining = True
        self._asked.set()
