"""Bodies over the limit are cut while they arrive, and every kind of client gets to read why."""

from __future__ import annotations

import http.client
import threading
from contextlib import suppress
from urllib.parse import urlsplit

import httpx
import pytest
import tiny
from http_rig import PATIENCE_S, Answer, connect, exchange, gateway_process, picture, read_answer, request_bytes

LIMIT = 25 * 2**20
SLACK = 64 * 2**20  # what lingers (32 MiB) and what lies in the kernel's buffers on both sides
PNG = {"content-type": "image/png"}
PIECE = b"x" * 2**16


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    tiny.add_classifier(folder / "repository")
    with gateway_process(folder / "repository", folder / "state") as process:
        yield process
        assert "Traceback" not in process.log.read_text()


@pytest.fixture(autouse=True)
def good_after_bad(gateway):
    yield
    answer = httpx.post(f"{gateway.url}/v1/classify", content=picture(red=64), headers=PNG)
    assert answer.json()["predictions"][0]["label"] == "red"


def pieces(size: int):
    return (PIECE[: min(len(PIECE), size - start)] for start in range(0, size, len(PIECE)))


def by_httpx(url: str, body) -> Answer:
    answer = httpx.post(f"{url}/v1/classify", content=body, headers=PNG, timeout=PATIENCE_S)
    return Answer(answer.status_code, answer.headers, answer.content)


def by_http_client(url: str, body) -> Answer:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE_S)
    chunked = {} if isinstance(body, bytes) else {"Transfer-Encoding": "chunked"}
    connection.request("POST", "/v1/classify", body, {**PNG, **chunked}, encode_chunked=True)
    answer = connection.getresponse()
    headers = {name.lower(): value for name, value in answer.getheaders()}
    result = Answer(answer.status, headers, answer.read())
    connection.close()
    return result


def by_socket(url: str, body) -> Answer:
    if isinstance(body, bytes):
        return exchange(url, request_bytes("/v1/classify", body))
    with connect(url) as connection, connection.makefile("rb") as stream:
        connection.sendall(request_bytes("/v1/classify", content_length="", transfer_encoding="chunked"))
        for piece in body:
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        connection.sendall(b"0\r\n\r\n")
        return read_answer(stream)


CLIENTS = {"httpx": by_httpx, "http.client": by_http_client, "socket": by_socket}


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "in chunks"])
@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("over", [1, 2**20])
def test_every_client_that_sends_too_much_reads_why(gateway, client, announced, over):
    """Those that send it all before they read, too: a connection reset under them would lose the answer."""
    size = LIMIT + over
    answer = CLIENTS[client](gateway.url, b"x" * size if announced else pieces(size))
    assert (answer.status, answer.json["code"]) == (413, "body_too_large")
    assert answer.headers["connection"] == "close"
    assert answer.headers["x-request-id"]
    assert f"{LIMIT:,} bytes" in answer.json["detail"]
    assert answer.json["remedy"]


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "in chunks"])
def test_a_body_of_just_the_limit_is_read_to_its_end(gateway, announced):
    answer = by_httpx(gateway.url, b"x" * LIMIT if announced else pieces(LIMIT))
    assert (answer.status, answer.json["code"]) == (422, "image_invalid")


@pytest.mark.parametrize("length", [LIMIT + 1, 10**18 - 1])
@pytest.mark.parametrize("expect", ["", "100-continue"], ids=["at once", "asking first"])
def test_an_announced_length_is_refused_before_a_byte_of_it(gateway, length, expect):
    """A client that asks first is never told to go on."""
    answer = exchange(gateway.url, request_bytes("/v1/classify", content_length=str(length), expect=expect))
    assert (answer.status, answer.json["code"]) == (413, "body_too_large")


def test_a_body_without_end_is_not_read_for_ever(gateway):
    """The answer comes when the limit is passed; then some more is thrown away, and then the connection ends."""
    answers: list[Answer] = []
    sent = 0
    with connect(gateway.url) as connection, connection.makefile("rb") as stream:
        reader = threading.Thread(target=lambda: answers.append(read_answer(stream)))
        reader.start()
        connection.sendall(request_bytes("/v1/classify", content_length="", transfer_encoding="chunked"))
        chunk = b"%x\r\n%s\r\n" % (len(PIECE), PIECE)
        with suppress(ConnectionError):
            while sent < 4 * (LIMIT + SLACK):
                connection.sendall(chunk)
                sent += len(PIECE)
        reader.join(PATIENCE_S)
    assert answers[0].status == 413
    assert LIMIT < sent < LIMIT + SLACK
