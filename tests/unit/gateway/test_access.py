"""The door: what each route needs, who gets in, and that it is asked before a byte of the body."""

from __future__ import annotations

import asyncio

import pytest
from fastapi import APIRouter, FastAPI, Request
from http_rig import Exchange, build_tiny
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from serving.engines.fake import FakeEngine
from serving.errors import Forbidden, TooManyAttempts, Unauthorized
from serving.gateway.access import ADDRESSES, ATTEMPTS, BEARER, WINDOW_S, Access, Attempts, Needs, need_of, needs
from serving.gateway.app import Gateway, _app
from serving.gateway.direct import DirectRoute
from serving.gateway.http import Outbound, caller_of, credentials_of, read_request, send_answer
from serving.gateway.quota import Quotas
from serving.keys import KeyFile, Keyring, make_key
from serving.telemetry import Meters


class Door:
    """An Access with a key of each scope, its clock in our hands."""

    def __init__(self, folder):
        self.now_s = 0.0
        file = KeyFile(folder / "keys.json")
        self.keys = {scope: file.add(scope, [scope])[0] for scope in ("predict", "admin", "metrics")}
        self.meters = Meters()
        self.access = Access(Keyring(file.path), self.meters, Quotas(lambda: 1, frozenset), lambda: self.now_s)

    def admit(self, need: str, *authorization: str, address: str | None = "192.0.2.1") -> str:
        """The caller's name."""
        scope = Exchange(more_headers=[(b"authorization", one.encode()) for one in authorization]).scope
        if address:
            scope["client"] = (address, 1234)
        return self.access.admit(*credentials_of(scope), need).caller

    def refusals(self) -> dict[str, float]:
        family = next(one for one in self.meters.registry.collect() if one.name == "tidegate_access_refusals")
        return {one.labels["code"]: one.value for one in family.samples if one.name.endswith("_total")}


@pytest.fixture
def door(tmp_path):
    return Door(tmp_path)


OPENS = {
    "public": {"predict", "admin", "metrics", None},
    "predict": {"predict"},
    "admin": {"admin"},
    "metrics": {"admin", "metrics"},
    "any": {"predict", "admin", "metrics"},
}


@pytest.mark.parametrize("need", OPENS)
@pytest.mark.parametrize("scope", ["predict", "admin", "metrics"])
def test_a_key_is_for_its_scopes(door, need, scope):
    authorization = f"Bearer {door.keys[scope]}"
    if scope in OPENS[need]:
        assert door.admit(need, authorization) == ("" if need == "public" else scope)
    else:
        with pytest.raises(Forbidden) as caught:
            door.admit(need, authorization)
        assert need in caught.value.remedy


@pytest.mark.parametrize("need", OPENS)
def test_without_a_key_only_what_is_public(door, need):
    if None in OPENS[need]:
        assert door.admit(need) == ""
    else:
        with pytest.raises(Unauthorized):
            door.admit(need)


@pytest.mark.parametrize("shape", ["Bearer {}", "bearer {}", "BEARER {}", "Bearer  {}", "Bearer {} "])
def test_the_scheme_is_written_as_people_write_it(door, shape):
    assert door.admit("predict", shape.format(door.keys["predict"])) == "predict"


@pytest.mark.parametrize(
    "shape",
    ["", "{}", "Bearer", "Bearer ", "Bearer{}", "Basic {}", "Token {}", "Bearer {}x", "Bearer x{}", "Bearer {},{}",
     "Bearer {} {}", "Bearer\t{}", "Bearer \n{}", "Bearer {}\n", "Bearer \"{}\"", "Bearer Bearer {}", " Bearer {}",
     "Bearer {}\0", "Bear{}"],
)  # fmt: skip
def test_anything_else_is_no_key(door, shape):
    with pytest.raises(Unauthorized):
        door.admit("predict", shape.replace("{}", door.keys["predict"]))


def test_of_two_headers_neither_counts(door):
    good = f"Bearer {door.keys['predict']}"
    for both in ((good, good), (good, f"Bearer {make_key()}"), (f"Bearer {make_key()}", good), (good, "")):
        with pytest.raises(Unauthorized):
            door.admit("predict", *both)


@given(st.binary(max_size=80))
def test_what_is_taken_for_a_key_is_one(given_bytes):
    if match := BEARER.fullmatch(given_bytes):
        assert given_bytes.lower().startswith(b"bearer ")
        assert match[1].startswith(b"tg_")
        assert len(match[1]) == 46


def test_refusals_are_counted_by_code(door):
    for authorization in ((), (), (f"Bearer {door.keys['predict']}",), *[("Bearer x",)] * (ATTEMPTS + 2)):
        with pytest.raises((Unauthorized, Forbidden, TooManyAttempts)):
            door.admit("admin", *authorization)
    assert door.refusals() == {"unauthorized": 2 + ATTEMPTS, "forbidden": 1, "too_many_attempts": 2}


# Many wrong keys


def test_after_ten_wrong_keys_in_a_minute_an_address_waits_and_a_right_key_does_not(door):
    for i in range(ATTEMPTS):
        door.now_s = float(i)
        with pytest.raises(Unauthorized):
            door.admit("predict", f"Bearer {make_key()}")
    with pytest.raises(TooManyAttempts) as caught:
        door.admit("predict", f"Bearer {make_key()}")
    assert caught.value.wait_s == WINDOW_S - 9
    assert door.admit("predict", f"Bearer {door.keys['predict']}") == "predict"
    with pytest.raises(Unauthorized):
        door.admit("predict", f"Bearer {make_key()}", address="192.0.2.2")
    with pytest.raises(Unauthorized):
        door.admit("predict")  # no key is no wrong key
    door.now_s = WINDOW_S
    with pytest.raises(Unauthorized):
        door.admit("predict", f"Bearer {make_key()}")
    with pytest.raises(TooManyAttempts):
        door.admit("predict", f"Bearer {make_key()}")


def test_callers_without_an_address_share_one_count(door):
    for _ in range(ATTEMPTS):
        with pytest.raises(Unauthorized):
            door.admit("predict", "Bearer x", address=None)
    with pytest.raises(TooManyAttempts):
        door.admit("predict", "Bearer x", address=None)


@given(st.lists(st.floats(0, 30), max_size=100))
def test_in_no_minute_are_more_than_ten_let_through(gaps):
    attempts, now_s, through = Attempts(), 0.0, []
    for gap in gaps:
        now_s += gap
        wait_s = attempts.wait_s("a", now_s)
        if wait_s == 0:
            through.append(now_s)
        else:
            assert 0 < wait_s <= WINDOW_S
        assert sum(one > now_s - WINDOW_S for one in through) <= ATTEMPTS


def test_addresses_are_forgotten_oldest_first_so_that_memory_is_bounded():
    attempts = Attempts()
    for _ in range(ATTEMPTS):
        attempts.wait_s("first", 0.0)
    for i in range(ADDRESSES - 1):
        attempts.wait_s(str(i), 0.0)
    assert attempts.wait_s("first", 0.0) > 0, "still known, and the latest now"
    attempts.wait_s("one more", 0.0)
    assert attempts.wait_s("first", 0.0) > 0, "another one went"
    for i in range(2 * ADDRESSES):
        attempts.wait_s(f"more {i}", 0.0)
    assert len(attempts) == ADDRESSES
    assert attempts.wait_s("first", 0.0) == 0


# Routes


async def _answer() -> None:
    """A route's endpoint."""


async def _text(request) -> PlainTextResponse:
    return PlainTextResponse("")


@pytest.mark.parametrize(
    "extra", [None, {}, {"security": []}, {"x-tidegate-scope": "everyone"}, {"x-tidegate-scope": None}]
)
def test_a_gateway_with_a_route_that_declares_no_scope_is_not_built(door, extra):
    router = APIRouter()
    router.get("/open", openapi_extra=extra)(_answer)
    with pytest.raises(TypeError, match="/open declares no scope"):
        Gateway(_app([router], []), [], door.access)


@pytest.mark.parametrize("route", [Route("/open", _text), Mount("/open", _text)], ids=["route", "mount"])
def test_nor_with_one_that_is_not_ours(door, route):
    app = _app([], [])
    app.router.routes.append(route)
    with pytest.raises(TypeError, match="/open declares no scope"):
        Gateway(app, [], door.access)


def test_nor_with_routers_in_routers(door):
    """FastAPI keeps them nested: their routes cannot be asked."""
    inner = APIRouter()
    inner.get("/open", openapi_extra=needs("public"))(_answer)
    app = FastAPI(openapi_url=None)
    app.include_router(inner)
    if any(isinstance(route, DirectRoute) or getattr(route, "openapi_extra", None) for route in app.router.routes):
        pytest.skip("this FastAPI makes them flat")
    with pytest.raises(TypeError, match="declares no scope"):
        Gateway(app, [], door.access)


def test_a_direct_route_cannot_be_made_without_a_need():
    with pytest.raises(TypeError, match="need"):
        DirectRoute("/open", _text)
    assert need_of(DirectRoute("/x", _text, need="admin", openapi_extra={"tags": ["x"]})) == "admin"


def test_a_need_is_of_the_route_that_routing_takes():
    router = APIRouter()
    router.get("/a", openapi_extra=needs("public"))(_answer)
    router.delete("/a", openapi_extra=needs("admin"))(_answer)
    router.get("/{anything}", openapi_extra=needs("predict"))(_answer)
    table = Needs(router.routes)
    asked = {
        (method, path): table.of(Exchange(method=method, path=path).scope)
        for method, path in [
            ("GET", "/a"),
            ("DELETE", "/a"),
            ("PUT", "/a"),
            ("GET", "/b"),
            ("PUT", "/b"),
            ("GET", "/a/b"),
        ]
    }
    assert asked == {
        ("GET", "/a"): "public", ("DELETE", "/a"): "admin", ("PUT", "/a"): "public",
        ("GET", "/b"): "predict", ("PUT", "/b"): "predict", ("GET", "/a/b"): "any",
    }  # fmt: skip


# In the gateway


@pytest.fixture
def parts(tmp_path):
    file = KeyFile(tmp_path / "state" / "keys.json")
    file.add("key", ["admin"])

    async def main():
        return build_tiny(tmp_path, FakeEngine(), {})

    return asyncio.run(main())


def send(app: Gateway, exchange: Exchange):
    asyncio.run(app(exchange.scope, exchange.receive, exchange.send))
    return exchange.answer


@pytest.mark.parametrize("path", ["/v1/classify", "/v2/models/double/infer", "/v1/models", "/nothing", "/v2/nothing"])
def test_not_a_byte_of_a_stranger_s_body_is_read(parts, path):
    exchange = Exchange(parts=(b"x" * 1000,) * 1000, path=path, headers={"x-request-id": "id-7"})
    answer = send(parts.public, exchange)
    assert (answer.status, exchange.read) == (401, 0)
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["x-request-id"] == "id-7"
    assert answer.headers["connection"] == "close"
    if path.startswith("/v2/"):
        assert list(answer.json) == ["error"]
        assert answer.headers["content-type"] == "application/json"
    else:
        assert (answer.json["code"], answer.json["instance"]) == ("unauthorized", path)
        assert answer.headers["content-type"] == "application/problem+json"
        assert "tidegate keys add" in answer.json["remedy"]


def test_a_wait_is_told_in_whole_seconds(parts):
    def wrong():
        exchange = Exchange(path="/v1/classify", headers={"authorization": f"Bearer {make_key()}"})
        return send(parts.public, exchange)

    assert [wrong().status for _ in range(ATTEMPTS)] == [401] * ATTEMPTS
    answer = wrong()
    assert (answer.status, answer.json["code"]) == (429, "too_many_attempts")
    assert 1 <= int(answer.headers["retry-after"]) <= WINDOW_S


def test_handlers_learn_the_caller_s_name(tmp_path):
    door = Door(tmp_path)
    heard = []

    async def direct(scope, receive, send):
        request = read_request(scope, receive)
        heard.append(request.caller)
        await send_answer(send, Outbound(b""), request.request_id)

    async def by_fastapi(request: Request) -> None:
        heard.append(caller_of(request.scope))

    router = APIRouter()
    router.post("/fastapi", openapi_extra=needs("predict"))(by_fastapi)
    route = DirectRoute("/direct", direct, need="predict", methods=["POST"])
    app = Gateway(_app([router], [route]), [route], door.access)
    for path in ("/direct", "/fastapi"):
        headers = {"authorization": f"Bearer {door.keys['predict']}"}
        assert send(app, Exchange(path=path, headers=headers)).status == 200
    assert heard == ["predict"] * 2
    assert Exchange().inbound.caller == ""
