"""Addresses that can be had or not, and the way from a signal to the end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from contextlib import asynccontextmanager

import httpx
import pytest
from http_rig import build_tiny, picture, until

from serving.engines.fake import FakeEngine
from serving.errors import SettingsInvalid
from serving.gateway.server import Listener, bind, serve


def test_a_bound_socket_has_the_address_that_was_asked_for():
    with bind("127.0.0.1", 0) as listener:
        host, port = listener.getsockname()
        assert host == "127.0.0.1"
        assert port > 0
        assert Listener(None, listener).url == f"http://127.0.0.1:{port}"


@pytest.mark.skipif(not socket.has_ipv6 or not os.path.exists("/proc/net/if_inet6"), reason="no IPv6 here")  # noqa: PTH110
def test_an_ipv6_address_stands_in_brackets():
    with bind("::1", 0) as listener:
        assert Listener(None, listener).url == f"http://[::1]:{listener.getsockname()[1]}"


def test_a_port_in_use_is_named():
    with bind("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingsInvalid, match=f"127.0.0.1:{port}: address already in use"):
            bind("127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"], ids=["of another machine", "of nobody"])
def test_an_address_that_cannot_be_had_is_named(host):
    with pytest.raises(SettingsInvalid, match=host):
        bind(host, 0)


def test_a_port_is_free_again_at_once_after_a_connection_to_it():
    """SO_REUSEADDR: a gateway that restarts must not wait for its old connections to be forgotten."""
    with bind("127.0.0.1", 0) as listener:
        listener.listen()
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as caller:
            accepted, _ = listener.accept()
            accepted.close()
            caller.recv(1)
    bind("127.0.0.1", port).close()


class Running:
    """`serve` in this loop, which is in the main thread, so that signals reach it."""

    def __init__(self, parts, listeners, client, task) -> None:
        self.parts, self.client, self.task = parts, client, task
        self.url = listeners[0].url

    async def classify(self) -> httpx.Response:
        headers = {"content-type": "image/png"}
        return await self.client.post("/v1/classify", content=picture(), headers=headers)

    async def ready(self) -> int:
        return (await self.client.get("/readyz")).status_code

    async def refuses(self) -> None:
        """Returns when no connection is taken any more."""
        host, port = httpx.URL(self.url).host, httpx.URL(self.url).port

        def closed() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex((host, port)) != 0

        await until(closed, "no connection is taken")

    async def ended(self) -> None:
        await asyncio.wait_for(self.task, 15)


@asynccontextmanager
async def running(folder, engine, *, drain_delay_s: float = 60.0, drain_timeout_s: float = 15.0):
    parts = build_tiny(folder, engine, {})
    listeners = [Listener(app, bind("127.0.0.1", 0)) for app in (parts.public, parts.admin)]
    started = asyncio.Event()

    async def start() -> None:
        await parts.start()
        started.set()

    times = {"drain_delay_s": drain_delay_s, "drain_timeout_s": drain_timeout_s}
    task = asyncio.create_task(serve(listeners, parts.traffic, start, **times))
    url = listeners[0].url
    await started.wait()
    async with httpx.AsyncClient(base_url=url, timeout=15) as client:
        yield Running(parts, listeners, client, task)
    await asyncio.wait_for(task, 15)
    await parts.close()


def test_sigterm_makes_it_unready_at_once_while_it_still_takes_requests(tmp_path):
    async def main():
        engine = FakeEngine()
        async with running(tmp_path, engine) as gateway:
            assert await gateway.ready() == 200
            engine.gate.clear()
            before = asyncio.create_task(gateway.classify())
            await until(lambda: engine.runs, "a request is being answered")
            os.kill(os.getpid(), signal.SIGTERM)
            await until(lambda: gateway.parts.traffic.draining, "it drains")
            still_s = time.monotonic() + 0.3
            while time.monotonic() < still_s:  # new connections too, each of them
                async with httpx.AsyncClient(base_url=gateway.url, verify=False) as stranger:  # noqa: S501  (no TLS)
                    assert (await stranger.get("/readyz")).status_code == 503
            during = asyncio.create_task(gateway.classify())
            await until(lambda: gateway.parts.traffic.in_flight == 2, "another was taken")
            os.kill(os.getpid(), signal.SIGTERM)  # the second skips what is left of the minute
            await gateway.refuses()
            assert not gateway.task.done()
            engine.gate.set()
            assert [(await task).status_code for task in (before, during)] == [200, 200]
            await gateway.ended()

    asyncio.run(main())


def test_sigint_ends_it_when_the_last_answer_is_out(tmp_path):
    async def main():
        engine = FakeEngine()
        async with running(tmp_path, engine) as gateway:
            engine.gate.clear()
            request = asyncio.create_task(gateway.classify())
            await until(lambda: engine.runs, "a request is being answered")
            os.kill(os.getpid(), signal.SIGINT)
            await gateway.refuses()
            engine.gate.set()
            answer = await request
            assert (answer.status_code, answer.headers["connection"]) == (200, "close")
            await gateway.ended()

    asyncio.run(main())


def test_the_drain_delay_ends_by_itself(tmp_path):
    async def main():
        async with running(tmp_path, FakeEngine(), drain_delay_s=0.1) as gateway:
            os.kill(os.getpid(), signal.SIGTERM)
            await gateway.ended()

    asyncio.run(main())


def test_who_is_not_answered_when_the_time_to_drain_is_over_is_told_so(tmp_path):
    async def main():
        engine = FakeEngine()
        async with running(tmp_path, engine, drain_timeout_s=0) as gateway:
            engine.gate.clear()
            request = asyncio.create_task(gateway.classify())
            await until(lambda: engine.runs, "a request is being answered")
            os.kill(os.getpid(), signal.SIGINT)
            answer = await request
            assert (answer.status_code, answer.json()["code"]) == (503, "shutting_down")
            assert "retry-after" in answer.headers
            engine.gate.set()
            await gateway.ended()

    asyncio.run(main())


def test_signals_are_as_before_when_it_has_ended(tmp_path):
    async def main():
        before = signal.getsignal(signal.SIGTERM)
        async with running(tmp_path, FakeEngine(), drain_delay_s=0) as gateway:
            assert signal.getsignal(signal.SIGTERM) != before
            os.kill(os.getpid(), signal.SIGTERM)
            await gateway.ended()
            assert signal.getsignal(signal.SIGTERM) == before

    asyncio.run(main())


def test_a_start_that_fails_ends_it_all(tmp_path):
    async def main():
        parts = build_tiny(tmp_path, FakeEngine(), {})
        listener = Listener(parts.public, bind("127.0.0.1", 0))

        async def fail() -> None:
            raise RuntimeError("no repository")

        with pytest.raises(RuntimeError, match="no repository"):
            await serve([listener], parts.traffic, fail, drain_delay_s=60, drain_timeout_s=60)
        assert listener.socket.fileno() == -1
        await parts.close()

    asyncio.run(main())
