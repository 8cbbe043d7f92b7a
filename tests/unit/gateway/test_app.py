"""What FastAPI answers by itself: its errors in our shapes, ids on every answer, bugs that are logged and not told."""

from __future__ import annotations

import asyncio
import logging

import httpx
import pytest
from fastapi import APIRouter
from http_rig import Exchange, build_tiny

from serving.engines.fake import FakeEngine
from serving.errors import QueueFull
from serving.gateway.access import Access, needs
from serving.gateway.app import Gateway, _app
from serving.gateway.quota import Quotas
from serving.gateway.traffic import MAX_HEADERS
from serving.keys import Keyring
from serving.telemetry import Meters


def send(app: Gateway, method: str, path: str, **options) -> httpx.Response:
    async def main():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://tests") as client:
            return await client.request(method, path, **options)

    return asyncio.run(main())


@pytest.fixture
def odd(tmp_path) -> Gateway:
    """A gateway of routes that go wrong."""
    router = APIRouter()

    @router.get("/number/{number}", openapi_extra=needs("public"))
    async def number(number: int, wanted: int = 0) -> int:
        return number

    @router.get("/full", openapi_extra=needs("public"))
    async def full() -> None:
        raise QueueFull("Full.", remedy="Wait.")

    @router.get("/bug", openapi_extra=needs("public"))
    @router.get("/v2/bug", openapi_extra=needs("public"))
    async def bug() -> None:
        raise KeyError("secret")

    return Gateway(
        _app([router], []), [], Access(Keyring(tmp_path / "keys.json"), Meters(), Quotas(lambda: 1, frozenset))
    )


@pytest.fixture
def public(tmp_path) -> Gateway:
    async def main():
        return build_tiny(tmp_path, FakeEngine(), {})

    return asyncio.run(main()).public


@pytest.mark.parametrize(
    ("path", "name"), [("/number/1_x", "number"), ("/number/1?wanted=x", "wanted")], ids=["path", "query"]
)
def test_what_fastapi_refuses_is_a_wrong_parameter(odd, path, name):
    answer = send(odd, "GET", path)
    assert (answer.status_code, answer.json()["code"]) == (422, "parameter_invalid")
    assert answer.json()["detail"].startswith(f"{name}: ")


def test_our_own_errors_keep_their_status_and_headers(odd):
    answer = send(odd, "GET", "/full")
    assert (answer.status_code, answer.json()["code"], answer.json()["remedy"]) == (503, "queue_full", "Wait.")
    assert "retry-after" in answer.headers


@pytest.mark.parametrize(("path", "key"), [("/bug", "detail"), ("/v2/bug", "error")])
def test_a_bug_is_logged_under_the_request_and_not_told(odd, path, key, caplog):
    answer = send(odd, "GET", path, headers={"x-request-id": "id-7"})
    assert answer.status_code == 500
    assert key in answer.json()
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"] == "id-7"
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.getMessage() == "request id-7 failed"
    assert "secret" in str(record.exc_info[1])


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/nothing", "/v1/classify/", "/v2x", "/metrics", "/admin/models"])
def test_an_unknown_path_is_a_problem(public, path):
    answer = send(public, "GET", path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json()["code"], answer.json()["instance"]) == ("route_not_found", path)
    assert answer.json()["remedy"]


@pytest.mark.parametrize("path", ["/v2/", "/v2/models", "/v2/models/double/infer/", "/v2/repository/index"])
def test_an_unknown_path_of_the_inference_protocol_has_its_shape(public, path):
    answer = send(public, "PATCH", path)
    assert answer.status_code == 404
    assert list(answer.json()) == ["error"]


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        ("/v1/classify", "GET", "POST"),
        ("/v1/classify", "DELETE", "POST"),
        ("/v1/models", "POST", "GET"),
        ("/v1/models/colours", "PUT", "GET"),
        ("/livez", "POST", "GET"),
    ],
)
def test_a_wrong_method_is_told_the_right_one(public, path, method, allowed):
    answer = send(public, method, path)
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == allowed
    assert answer.json()["remedy"] == f"Use {allowed}."


def test_a_wrong_method_of_the_inference_protocol_has_its_shape(public):
    answer = send(public, "GET", "/v2/models/double/infer")
    assert (answer.status_code, list(answer.json())) == (405, ["error"])


@pytest.mark.parametrize(("method", "path"), [("GET", "/livez"), ("GET", "/nothing"), ("PUT", "/v1/classify")])
def test_every_answer_has_its_request_s_id_once(public, method, path):
    answer = send(public, method, path, headers={"x-request-id": "id-7"})
    assert answer.headers.get_list("x-request-id") == ["id-7"]
    fresh = {send(public, method, path).headers["x-request-id"] for _ in range(3)}
    assert len(fresh) == 3


def test_too_many_headers_are_refused_on_every_route(public):
    answer = send(public, "GET", "/livez", headers={f"x-{i}": "1" for i in range(MAX_HEADERS + 1)})
    assert (answer.status_code, answer.json()["code"]) == (431, "headers_too_many")
    assert answer.headers["connection"] == "close"


def test_there_are_no_websockets(public):
    async def main(kind: str) -> list:
        exchange = Exchange()
        await public({**exchange.scope, "type": kind}, exchange.receive, exchange.send)
        return exchange.sent

    assert asyncio.run(main("websocket")) == [{"type": "websocket.close", "code": 1000}]
    assert asyncio.run(main("lifespan")) == []
