"""A TCP proxy that does to connections what networks do: delays, cuts, silence, crumbs.

It runs in a thread with an event loop of its own, so that tests without a loop, tests in a loop and other processes can
all be led through it. Faults are switched while it runs.
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import struct
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from redis_rig import free_port

CHUNK = 65536


class FaultProxy:
    """Listens on `port` for 127.0.0.1:target; with TLS if it is given a context.

    What is set holds from the next chunk on; only calls act at once.

    latency_s, jitter_s: before each chunk, either way. slice_bytes: chunks are at most so long, 0 for as they come.
    black_hole: chunks vanish. reset_share: of chunks that end in a reset, as often before they are passed on as after.
    """

    def __init__(self, target: int, seed: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.port = free_port()
        self.latency_s = 0.0
        self.jitter_s = 0.0
        self.slice_bytes = 0
        self.black_hole = False
        self.reset_share = 0.0
        self.accepted_s: list[float] = []  # when, on the monotonic clock: one for each connection
        self.resets = 0
        self._target = target
        self._tls = tls
        self._random = random.Random(seed)
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self.accept()

    def close(self) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def accept(self) -> None:
        """Listens (again)."""
        self._do(self._listen())

    def shut(self) -> None:
        """Refuses new connections; those there are go on."""
        self._do(self._refuse())

    def refuse(self) -> None:
        """Refuses new connections and cuts those there are."""
        self.shut()
        self.reset()

    def reset(self) -> None:
        """Cuts all connections with RST."""
        self._do(self._reset())

    def half_close(self) -> None:
        """Ends what clients hear, as a server does that goes: what they say still arrives."""
        self._do(self._half_close())

    def heal(self) -> None:
        self.latency_s = self.jitter_s = self.reset_share = 0.0
        self.slice_bytes, self.black_hole = 0, False
        self.accept()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(15)

    async def _listen(self) -> None:
        """By hand: an asyncio.Server that is closed while a connection comes leaves it open (CPython 3.11)."""
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port), backlog=100)
            self._listener.setblocking(False)
            self._loop.add_reader(self._listener, self._take)

    async def _refuse(self) -> None:
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _take(self) -> None:
        assert self._listener
        with suppress(OSError):
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            self.accepted_s.append(time.monotonic())
            task = self._loop.create_task(self._serve(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _reset(self) -> None:
        for pair in list(self._pairs):
            self._cut(pair)

    async def _half_close(self) -> None:
        for client, _ in self._pairs:
            client.write_eof()

    async def _close(self) -> None:
        await self._refuse()
        await self._reset()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, connection: socket.socket) -> None:
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        with suppress(OSError, asyncio.CancelledError), connection:
            transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, connection, ssl=self._tls)
            writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
            try:
                upstream, out = await asyncio.open_connection("127.0.0.1", self._target)
                pair = (writer, out)
                self._pairs.add(pair)
                try:
                    await asyncio.gather(self._pump(reader, out, pair), self._pump(upstream, writer, pair))
                finally:
                    self._pairs.discard(pair)
                    out.transport.abort()
            finally:
                transport.abort()
                await asyncio.sleep(0)  # the transport closes the socket with the loop's next turn

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
    ) -> None:
        while data := await reader.read(self.slice_bytes or CHUNK):
            if self.latency_s or self.jitter_s:
                await asyncio.sleep(self.latency_s + self._random.random() * self.jitter_s)
            if self.black_hole:
                continue
            doomed = self._random.random() < self.reset_share
            if not doomed or self._random.random() < 0.5:
                writer.write(data)
                await writer.drain()
            if doomed:
                await asyncio.sleep(0.001)  # so that what was passed on arrives
                self._cut(pair)
        if self.black_hole:
            await asyncio.Event().wait()  # not even the end arrives
        if writer.can_write_eof():
            writer.write_eof()

    def _cut(self, pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
        self.resets += 1
        for writer in pair:
            raw = writer.get_extra_info("socket")
            with suppress(OSError, AttributeError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


@contextmanager
def fault_proxy(target: int, seed: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[FaultProxy]:
    proxy = FaultProxy(target, seed, tls)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.close()
