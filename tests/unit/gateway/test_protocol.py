"""Answers in one write, connections that linger until their answer can be read, and 400s of our own shape."""

from __future__ import annotations

import asyncio
import time

import http_rig
import pytest
from http_rig import connect, picture, read_answer, request_bytes, serving, until

from serving.gateway import protocol
from serving.gateway.protocol import JoinedWrites

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


class Wire(asyncio.Transport):
    """The end of a transport that goes nowhere."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed, "written after it was closed"
        self.writes.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def on_wire(*steps, lingers: bool = False) -> tuple[list[bytes], bool]:
    """What is written when the steps are taken in one turn of the loop, and whether it is closed then."""

    async def main():
        wire = Wire()
        transport = JoinedWrites(wire, asyncio.get_running_loop(), lambda _: lingers)
        for step in steps:
            result = step(transport)
            if result is not None:
                await result
        await asyncio.sleep(0)
        return wire.writes, wire.closed

    return asyncio.run(main())


def write(data: bytes):
    return lambda transport: transport.write(data)


def turn(_):
    return asyncio.sleep(0)


def close(transport):
    transport.close()


@pytest.mark.parametrize(
    ("steps", "writes"),
    [
        ([write(HEAD), write(b"{}")], [HEAD + b"{}"]),
        ([write(HEAD), write(b"")], [HEAD]),
        ([write(HEAD)], [HEAD]),
        ([write(HEAD), turn, write(b"{}")], [HEAD, b"{}"]),
        ([write(HEAD), write(b"{"), write(b"}")], [HEAD + b"{", b"}"]),
        ([write(b"more of a body")], [b"more of a body"]),
        ([write(HEAD), write(b"{}"), write(HEAD), write(b"[]")], [HEAD + b"{}", HEAD + b"[]"]),
        ([write(b"HTTP/1.1 100 Continue\r\n\r\n"), write(HEAD), write(b"{}")],
         [b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD, b"{}"]),
    ],
    ids=["head and body", "empty body", "head alone", "body later", "two parts", "no head", "two answers", "100 first"],
)  # fmt: skip
def test_a_head_waits_for_its_body_but_never_beyond_the_turn(steps, writes):
    assert on_wire(*steps) == (writes, False)


def test_closing_lets_out_what_was_held_back():
    assert on_wire(write(HEAD), close) == ([HEAD], True)


def test_a_connection_that_lingers_is_closed_by_whom_it_lingers_for():
    assert on_wire(write(HEAD), close, lingers=True) == ([HEAD], False)
    assert on_wire(write(HEAD), close, close, lingers=True) == ([HEAD], True)


def test_a_connection_that_lingers_counts_as_closed():
    async def main():
        transport = JoinedWrites(Wire(), asyncio.get_running_loop(), lambda _: True)
        assert not transport.is_closing()
        transport.close()
        assert transport.is_closing()

    asyncio.run(main())


def test_all_else_is_the_transport_s_own():
    async def main():
        transport = JoinedWrites(Wire(), asyncio.get_running_loop(), lambda _: False)
        assert transport.get_extra_info("peername") == ("127.0.0.1", 1)
        assert not hasattr(transport, "no_such_thing")

    asyncio.run(main())


def test_an_answer_is_one_piece_on_the_wire(tmp_path):
    """Taken out of the socket by one recv: head and body were one write."""

    def ask(url: str) -> bytes:
        with connect(url) as connection:
            connection.sendall(request_bytes("/v1/classify", picture()))
            return connection.recv(2**16)

    async def main():
        async with serving(tmp_path) as live:
            answer = await asyncio.to_thread(ask, live.url)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert answer.endswith(b"]}")

    asyncio.run(main())


def test_pipelined_requests_are_answered_in_order(tmp_path):
    ids = [f"id-{i}" for i in range(5)]

    def ask(url: str) -> list[str]:
        with connect(url) as connection, connection.makefile("rb") as stream:
            connection.sendall(b"".join(request_bytes("/v1/classify", picture(), x_request_id=word) for word in ids))
            return [read_answer(stream).headers["x-request-id"] for _ in ids]

    async def main():
        async with serving(tmp_path) as live:
            assert await asyncio.to_thread(ask, live.url) == ids

    asyncio.run(main())


def lingering_end_s(url: str, send_on: bool) -> float:
    """Breaks the limit of a body, then stays; gives the seconds until the gateway ends the connection."""
    with connect(url) as connection, connection.makefile("rb") as stream:
        connection.sendall(request_bytes("/v1/classify", content_length="1000000"))
        assert read_answer(stream).status == 413
        assert stream.read() == b""  # the gateway says nothing further, and says so at once
        started_s = time.monotonic()
        while time.monotonic() - started_s < http_rig.PATIENCE_S:
            try:
                connection.sendall(b"x" * (2**16 if send_on else 1))
            except ConnectionError:
                break
            time.sleep(0.001)
        return time.monotonic() - started_s


@pytest.mark.parametrize(
    ("seconds", "size", "send_on"), [(0.2, 2**40, False), (3600, 2**20, True)], ids=["by time", "by bytes"]
)
def test_lingering_has_an_end(tmp_path, monkeypatch, seconds, size, send_on):
    monkeypatch.setattr(protocol, "LINGER_S", seconds)
    monkeypatch.setattr(protocol, "LINGER_BYTES", size)

    async def main():
        async with serving(tmp_path, settings={"body_limit": 1000}) as live:
            assert await asyncio.to_thread(lingering_end_s, live.url, send_on) < 5

    asyncio.run(main())


def test_a_caller_who_goes_while_its_connection_lingers_is_forgotten(tmp_path):
    async def main():
        async with serving(tmp_path, settings={"body_limit": 1000}) as live:

            def ask() -> None:
                with connect(live.url) as connection, connection.makefile("rb") as stream:
                    connection.sendall(request_bytes("/v1/classify", content_length="1000000"))
                    assert read_answer(stream).status == 413

            await asyncio.to_thread(ask)
            await until(lambda: not live.connections, "the server knows of no connection")
            assert (await live.classify()).status_code == 200

    asyncio.run(main())


@pytest.mark.parametrize(
    "data",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HTTP/1.1\nHost: x\n\n", b"GET / HTTP/9.9\r\n\r\n",
     b"GET /\xff HTTP/1.1\r\n\r\n", b"\0" * 100, b"GET / HTTP/1.1\r\nHost: x\r\nx: a\r\n b\r\n\r\n",
     b"POST / HTTP/1.1\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
     b"POST / HTTP/1.1\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcde",
     b"POST / HTTP/1.1\r\ncontent-length: " + b"9" * 5000 + b"\r\n\r\n"],
    ids=["TLS", "bare newlines", "version", "non-ASCII", "NULs", "folded header", "length and chunks", "two lengths",
         "endless length"],
)  # fmt: skip
def test_what_is_no_http_gets_a_problem_too(tmp_path, data):
    async def main():
        async with serving(tmp_path) as live:
            answer = await asyncio.to_thread(http_rig.exchange, live.url, data)
            assert (answer.status, answer.json["code"]) == (400, "http_invalid")
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["x-request-id"]
            assert answer.json["remedy"]

    asyncio.run(main())


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
def test_a_request_to_change_protocols_is_answered_and_ends_its_connection(tmp_path, protocol):
    """Java's HttpClient asks so by default; the parser does not read what follows, so a picture would be lost."""
    upgrade = {"connection": "Upgrade, HTTP2-Settings", "upgrade": protocol}

    async def main():
        async with serving(tmp_path) as live:
            post = request_bytes("/v1/classify", picture(), **upgrade)
            answer = await asyncio.to_thread(http_rig.exchange, live.url, post)
            assert (answer.status, answer.json["code"]) == (400, "body_invalid")
            assert "Upgrade" in answer.json["remedy"]
            assert answer.headers["connection"] == "close"
            get = request_bytes("/livez", method="GET", content_length="", **upgrade)
            answer = await asyncio.to_thread(http_rig.exchange, live.url, get)
            assert (answer.status, answer.headers["connection"]) == (200, "close")

    asyncio.run(main())
