"""The admin client, against a real gateway and against whatever else may answer at an address."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import http_rig
import pytest

from serving.client import AdminClient, Refused, Unreachable


@contextmanager
def answering(status: int, content_type: str, body: bytes):
    """A server that gives every request this answer: its URL."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Keeps the tests' output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def models(url: str) -> dict:
    with AdminClient(url, timeout_s=10) as client:
        return client.models()


def test_lists_the_models_of_a_gateway_and_no_proxy_stands_between(tmp_path, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)

    async def main():
        async with http_rig.serving(tmp_path) as live:
            listed = await asyncio.to_thread(models, live.admin_url)
            assert [(model["name"], model["stable"]) for model in listed["models"]] == [("colours", 1), ("double", 1)]
            with pytest.raises(Refused, match="nothing at this path"):
                await asyncio.to_thread(models, live.url)  # the public port has no /admin

    asyncio.run(main())


@pytest.mark.parametrize(
    ("status", "content_type", "body", "said"),
    [
        (503, "application/problem+json", b'{"detail": "The ledger is away."}', "^The ledger is away.$"),
        (500, "application/json", b"{}", "answered 500: is it a gateway's admin port?"),
        (404, "text/html", b"<h1>Not here</h1>", "answered 404"),
        (200, "text/html", b"<h1>Welcome</h1>", "answered 200: is it a gateway's admin port?"),
        (200, "application/json", b"[1, 2]", "answered 200"),
        (200, "application/json", b'{"hello": "world"}', "answered 200"),
        (302, "text/plain", b"", "answered 302"),
    ],
    ids=["its reason", "no reason", "an HTML error", "another site", "a list", "another API", "a redirection"],
)
def test_an_answer_that_is_no_listing_is_refused_with_its_reason(status, content_type, body, said):
    with answering(status, content_type, body) as url, pytest.raises(Refused, match=said):
        models(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9",
        "127.0.0.1:8081",
        "http://127.0.0.1:port",
        "http://[",
        "http://" + "a" * 70,
        "ftp://x",
        "//",
    ],
    ids=["nobody listens", "no scheme", "no port number", "half an address", "no host name", "no HTTP", "no host"],
)
def test_where_nothing_can_answer_the_address_is_named(url):
    with pytest.raises(Unreachable) as caught:
        models(url)
    assert url in str(caught.value)


def test_the_connection_is_closed_behind_the_last_question():
    with answering(200, "application/json", b'{"models": []}') as url:
        with AdminClient(url) as client:
            assert client.models() == {"models": []}
        with pytest.raises(RuntimeError, match="closed"):
            client.models()
