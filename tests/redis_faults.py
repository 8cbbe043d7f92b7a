"""What Redis and the way to it do to gateways: each fault from beginning to end, as a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fault_proxy import FaultProxy
from redis_rig import Server, until


@contextmanager
def refused(server: Server, proxy: FaultProxy) -> Iterator[None]:
    proxy.refuse()
    yield
    proxy.heal()


@contextmanager
def black_holed(server: Server, proxy: FaultProxy) -> Iterator[None]:
    proxy.black_hole = True
    yield
    proxy.heal()
    proxy.reset()  # what was swallowed would never come


@contextmanager
def stopped(server: Server, proxy: FaultProxy) -> Iterator[None]:
    server.stop()
    yield
    server.cont()


@contextmanager
def reset_each_time(server: Server, proxy: FaultProxy) -> Iterator[None]:
    proxy.reset_share = 1.0
    yield
    proxy.heal()


@contextmanager
def half_closed(server: Server, proxy: FaultProxy) -> Iterator[None]:
    proxy.shut()  # first: whoever notices the other at once would find the door still open
    proxy.half_close()
    yield
    proxy.heal()


@contextmanager
def read_only(server: Server, proxy: FaultProxy) -> Iterator[None]:
    server.read_only()
    yield
    server.read_only(on=False)


@contextmanager
def out_of_memory(server: Server, proxy: FaultProxy) -> Iterator[None]:
    server.full()
    yield
    server.full(on=False)


@contextmanager
def loading(server: Server, proxy: FaultProxy) -> Iterator[None]:
    for i in range(100):
        server.ask("SET", f"ballast{i}", b"x" * 4096)
    slow = ("--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024")
    server.restart_with_data(*slow, "--rdbcompression", "no")
    assert b"LOADING" in server.ask("GET", "ballast0")
    yield
    until(lambda: server.ask("PING") == b"PONG", "loaded")


AWAY = [refused, black_holed, stopped, reset_each_time, half_closed, loading]
REFUSING = [read_only, out_of_memory]
EVERY = [*AWAY, *REFUSING]
