"""A gateway with keys: every route, method and port denies by default, and nothing a caller writes changes that."""

from __future__ import annotations

import asyncio
import re
import socket
import time

import httpx
import pytest
import tiny
from http_rig import connect, exchange, gateway_process, picture, read_answer, request_bytes, serving, wait_until
from starlette.routing import Match

from serving.client import AdminClient, Refused
from serving.keys import SCOPES, KeyFile, digest_of, make_key

# What routes need is said here once more, by path, so that a slip in a declaration is seen.
PUBLIC = {"/livez", "/readyz", "/docs", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css", "/docs/favicon.png",
          "/openapi.json", "/v2/health/live", "/v2/health/ready", "/",
          "/playground/mark.svg", "/playground/page.css",
          *(f"/playground/{script}.js" for script in ("answer", "app", "controls", "curl", "elements", "intake",
                                                      "picture", "rle", "samples", "server", "tasks",
                                                      "writing"))}  # fmt: skip
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "post")


def openers(path: str, port: str = "public") -> set[str | None]:
    """The scopes that open a path at a port; None stands for no key."""
    if path in PUBLIC:
        return {None, *SCOPES}
    if path == "/metrics":
        return {"metrics", "admin"}
    return {"admin"} if path.startswith("/admin/") or port == "admin" else {"predict"}


def bearer(key: str | None) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key else {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    tiny.add_classifier(folder / "repository")
    tiny.add_plain(folder / "repository")
    return folder


@pytest.fixture(scope="module")
def file(folder):
    return KeyFile(folder / "keys.json")


@pytest.fixture(scope="module")
def keys(file):
    return {scope: file.add(scope, [scope])[0] for scope in SCOPES}


@pytest.fixture(scope="module")
def gateway(folder, file, keys):
    with gateway_process(folder / "repository", folder / "state", TIDEGATE_KEYS=str(file.path)) as process:
        yield process


def ask(url: str, path: str, method: str = "POST", body: bytes = b"", **headers: str) -> int:
    return exchange(url, request_bytes(path, body, method, **headers)).status


# Every route


def test_each_route_and_method_of_each_port_is_shut_but_for_its_scope(tmp_path):
    file = KeyFile(tmp_path / "state" / "keys.json")
    keys = {None: None, **{scope: file.add(scope, [scope])[0] for scope in SCOPES}}
    wrong: list[tuple[str, ...]] = []
    seen: set[str] = set()

    async def walk(app, url: str, client: httpx.AsyncClient, port: str) -> None:
        routes = app._app.router.routes
        direct = [*app._direct._exact.values(), *(route for _, route in app._direct._patterns)]
        assert all(route in routes for route in direct)
        for path in {re.sub(r"{\w+}", "1", route.path) for route in routes}:
            seen.add(path)
            assert any(
                route.matches({"type": "http", "method": "GET", "path": path})[0] != Match.NONE for route in routes
            )
            for method in METHODS:
                for scope, key in keys.items():
                    answer = await client.request(method, url + path, headers=bearer(key))
                    expected = "open" if scope in openers(path, port) else 403 if scope else 401
                    shut = answer.status_code in (401, 403, 429)
                    if shut == (expected == "open") or (shut and answer.status_code != expected):
                        wrong.append((method, path, str(scope), str(answer.status_code)))

    async def main() -> None:
        async with serving(tmp_path) as live:
            await walk(live.parts.public, live.url, live.client, "public")
            await walk(live.parts.admin, live.admin_url, live.client, "admin")

    asyncio.run(main())
    assert not wrong
    assert {"/v1/classify", "/v2/models/1/infer", "/admin/models", "/metrics", "/v2/repository/index", *PUBLIC} <= seen


@pytest.mark.parametrize("port", ["url", "admin_url"])
@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/playground",
        "/playground/keys.json",
        "/v1",
        "/v1/nothing",
        "/v2/",
        "/v2/nothing",
        "/admin",
        "/favicon.ico",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_a_stranger_does_not_learn_which_paths_there_are(gateway, keys, port, path, method):
    url = getattr(gateway, port)
    assert ask(url, path, method) == 401
    assert ask(url, path, method, **bearer(keys["predict"])) == 404


def test_with_the_right_key_all_is_as_ever(gateway, keys):
    answer = httpx.post(f"{gateway.url}/v1/classify", content=picture(), headers=bearer(keys["predict"]))
    assert (answer.status_code, answer.json()["model"]) == (200, "colours")
    assert httpx.get(f"{gateway.url}/v1/models", headers=bearer(keys["predict"])).status_code == 200
    assert "tidegate_requests" in httpx.get(f"{gateway.admin_url}/metrics", headers=bearer(keys["metrics"])).text


def test_the_admin_client_sends_the_key_of_the_environment(gateway, keys, monkeypatch):
    with AdminClient(gateway.admin_url) as client, pytest.raises(Refused, match="no key"):
        client.models()
    monkeypatch.setenv("TIDEGATE_KEY", keys["admin"] + "\n")
    with AdminClient(gateway.admin_url) as client:
        assert [model["name"] for model in client.models()["models"]] == ["colours", "double"]
    with AdminClient(gateway.admin_url, key=keys["predict"]) as client, pytest.raises(Refused, match="not for this"):
        client.models()
    for odd in ("a b", "ä", "a\r\nx: y"):
        with pytest.raises(Refused, match="characters"):
            AdminClient(gateway.admin_url, key=odd)


def test_the_document_says_how_keys_are_sent(gateway):
    for url, port in ((gateway.url, "public"), (gateway.admin_url, "admin")):
        document = httpx.get(f"{url}/openapi.json").json()
        assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
        for path, operations in document["paths"].items():
            for operation in operations.values():
                assert operation.get("security", []) == ([] if path in PUBLIC else [{"key": []}])
                assert ({scope for scope in SCOPES if scope == operation["x-tidegate-scope"]} or {None}) <= openers(
                    path, port
                )


# Spellings and headers: about 400 of them


SHUT = {"/v1/classify": "url", "/v2/models/double/infer": "url", "/v1/models": "url", "/admin/models": "admin_url",
        "/metrics": "admin_url"}  # fmt: skip
SPELLINGS = [
    "{0}", "/{0}", "//{0}", "{0}/", "{0}//", "{0}/.", "{0}/..", "/.{0}", "/..{0}", "/livez/..{0}", "/livez/..;{0}",
    "/docs/..{0}", "/docs/%2e%2e{0}", "/livez%2f..{0}", "/livez%00{0}", "/livez;{0}", "/livez?{0}#{0}x", "{0};",
    "{0};x=/livez", "{0}.", "{0}%2e", "{0}%20", "{0}%00", "{0}%0a", "{0}%0d%0aX:y", "{0}?", "{0}?/livez",
    "{0}?key=KEY", "{0}?access_token=KEY", "{0}%3f/livez", "{0}%23/livez", "{0}#/livez", "{0}/livez", "{0}%2flivez",
    "{0}%252flivez", "{0}.json", "{0}*", "{0}\\", "http://livez{0}", "http://tests/livez/..{0}",
    "https://KEY@tests{0}", "UPPER", "TITLE", "QUOTED", "TWICE", "SLASHES", "BACKSLASHES", "DOUBLED", "WIDE",
    "DOTTED",
]  # fmt: skip


def spell(spelling: str, path: str, key: str) -> str:
    made = {
        "UPPER": path.upper(),
        "TITLE": path.title(),
        "QUOTED": "/" + "".join(f"%{ord(letter):02x}" if letter != "/" else "/" for letter in path[1:]),
        "TWICE": "/" + "".join(f"%25{ord(letter):02X}" if letter != "/" else "/" for letter in path[1:]),
        "SLASHES": "/" + path[1:].replace("/", "%2F"),
        "BACKSLASHES": "/" + path[1:].replace("/", "\\"),
        "DOUBLED": path.replace("/", "//"),
        "WIDE": path.replace("m", "%EF%BD%8D").replace("a", "%EF%BD%81"),
        "DOTTED": path.replace("/", "/./"),
    }.get(spelling, spelling.format(path))
    return made.replace("KEY", key)


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("path", SHUT)
def test_no_spelling_of_a_path_opens_it(gateway, keys, path, spelling):
    url = getattr(gateway, SHUT[path])
    target = spell(spelling, path, keys["predict"])
    other = keys["admin" if "predict" in openers(path) else "predict"]
    opened_path = target.startswith("/livez?")
    for method in ("GET", "POST"):
        without = ask(url, target, method)
        wrong = ask(url, target, method, **bearer(other))
        if opened_path:  # it is /livez that is asked for, whatever comes after
            assert {without, wrong} <= {200, 405}
        else:
            assert without in (400, 401)
            assert wrong in (400, 403, 404)


TRICKS = {
    "the path in another header": [{name: "/livez"} for name in
        ("x-original-url", "x-rewrite-url", "x-forwarded-prefix", "x-forwarded-uri", "x-accel-redirect",
         "x-script-name", "x-forwarded-path", "x-envoy-original-path", "content-location", "referer")],
    "another method": [{name: method} for name in
        ("x-http-method-override", "x-http-method", "x-method-override", "_method")
        for method in ("GET", "OPTIONS", "HEAD")],
    "another host": [{"host": host} for host in
        ("a/livez?x=", "localhost", "127.0.0.1:8081", "tests/livez#", "[::1]", "", "a@b", "livez", "127.0.0.1.")]
        + [{"x-forwarded-host": "a/livez?"}, {"forwarded": "for=127.0.0.1;host=livez"}, {"x-host": "a"}],
    "another caller": [{name: "127.0.0.1"} for name in
        ("x-forwarded-for", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip", "x-remote-ip")]
        + [{"x-forwarded-user": "predict"}, {"remote-user": "admin"}, {"tidegate.caller": "admin"},
           {"x-tidegate-scope": "public"}, {"x-forwarded-proto": "https"}],
    "the key where none is looked for": [{name: "KEY"} for name in
        ("x-api-key", "api-key", "x-auth-token", "proxy-authorization", "x-authorization", "x-forwarded-authorization",
         "cookie", "authorisation", "ocp-apim-subscription-key")] + [{"cookie": "authorization=KEY"}],
    "another kind of request": [{"upgrade": "websocket", "connection": "upgrade"}, {"upgrade": "h2c"},
        {"connection": "authorization"}, {"expect": "100-continue"}, {"range": "bytes=0-1"},
        {"content-type": "text/html"}, {"origin": "null", "access-control-request-method": "POST"},
        {"sec-fetch-mode": "no-cors"}, {"purpose": "prefetch"}],
}  # fmt: skip


@pytest.mark.parametrize(
    "headers", [one for trick in TRICKS.values() for one in trick], ids=lambda one: "-".join(map("=".join, one.items()))
)
def test_no_header_opens_a_path(gateway, keys, headers):
    for path, port in SHUT.items():
        right = keys[min(openers(path))]
        sent = {name: value.replace("KEY", f"Bearer {right}") for name, value in headers.items()}
        assert ask(getattr(gateway, port), path, "POST", **sent) in (400, 401)
    if "host" not in headers:
        assert ask(gateway.url, "/livez", "GET", **headers) in (200, 400), "and none shuts what is open"


@pytest.mark.parametrize("value", ["KEY, KEY", "Basic KEY", "KEYKEY", "Bearer", "Bearer null", "Bearer  KEY KEY"])
def test_nearly_a_key_is_none(gateway, keys, value):
    given = value.replace("KEY", f"{keys['predict']}")
    assert ask(gateway.url, "/v1/models", "GET", authorization=given) in (401, 429)


def test_of_two_keys_neither_counts(gateway, keys):
    line = f"authorization: Bearer {keys['predict']}\r\n"
    for lines in (2 * line, line + "authorization: Bearer x\r\n", "Authorization: Bearer x\r\n" + line):
        head = f"GET /v1/models HTTP/1.1\r\nhost: tests\r\n{lines}\r\n"
        assert exchange(gateway.url, head.encode()).status in (401, 429)


# Before the body


def test_a_stranger_is_answered_before_the_body_is_sent(gateway):
    head = b"POST /v1/classify HTTP/1.1\r\nhost: tests\r\ncontent-length: 20000000\r\nexpect: 100-continue\r\n\r\n"
    with connect(gateway.url) as connection, connection.makefile("rb") as stream:
        connection.sendall(head)
        answer = read_answer(stream)
        assert (answer.status, answer.headers["connection"]) == (401, "close")
        connection.shutdown(socket.SHUT_WR)
        assert stream.read() == b"", "and is not asked for it"


# Changes while it runs


def test_a_key_opens_and_shuts_within_about_a_second(gateway, file):
    def status() -> int:
        return httpx.get(f"{gateway.url}/v1/models", headers=bearer(secret)).status_code

    secret, _ = file.add("late", ["predict"])
    begun_s = time.monotonic()
    time.sleep(1)  # not polled: a key that is not known yet counts as a wrong one
    assert status() == 200
    file.revoke("late")
    wait_until(lambda: status() == 401, "the key is revoked")
    assert time.monotonic() - begun_s < 4


def test_a_damaged_file_opens_nothing_and_shuts_nobody_out(gateway, file, keys):
    def asked() -> int:
        return ask(gateway.url, "/v1/models", "GET")

    whole = file.path.read_bytes()
    file.path.write_text("{")
    try:
        wait_until(lambda: (asked(), "stay as they were" in gateway.log.read_text())[1], "the damage is logged")
        assert asked() == 401
        assert ask(gateway.url, "/v1/models", "GET", **bearer(keys["predict"])) == 200
    finally:
        file.path.write_bytes(whole)


def test_the_first_key_shuts_a_gateway_that_had_none(folder, tmp_path):
    file = KeyFile(tmp_path / "state" / "keys.json")
    with gateway_process(folder / "repository", file.path.parent) as process:
        assert ask(process.url, "/v1/models", "GET") == 200
        secret, _ = file.add("first", ["predict"])
        wait_until(lambda: ask(process.url, "/v1/models", "GET") == 401, "the keys are seen")
        assert ask(process.admin_url, "/metrics", "GET") == 401
        assert ask(process.url, "/v1/models", "GET", **bearer(secret)) == 200
        file.revoke("first")
        wait_until(lambda: ask(process.url, "/v1/models", "GET", **bearer(secret)) != 200, "the key is revoked")
        assert ask(process.url, "/v1/models", "GET") == 401, "no keys are not no door"


# Nothing leaks


def test_keys_and_digests_are_in_no_output(folder, tmp_path):
    file = KeyFile(tmp_path / "keys.json")
    known = {scope: file.add(scope, [scope])[0] for scope in SCOPES}
    secrets = {*known.values(), *(make_key() for _ in range(20)), "tg_canary-of-no-shape"}
    outputs: list[str] = []
    with gateway_process(folder / "repository", tmp_path / "state", TIDEGATE_KEYS=str(file.path)) as process:
        for secret in secrets:
            for url in (process.url, process.admin_url):
                for path in ("/v1/models", "/v1/classify", "/v2/models/double/infer", "/admin/models", "/nothing"):
                    for headers in (bearer(secret), {"authorization": secret}, {"x-api-key": secret}):
                        answer = exchange(url, request_bytes(path, b"", **headers))
                        outputs += [answer.body.decode(), str(answer.headers)]
        file.path.write_text(file.path.read_text().replace("predict", known["admin"]))
        wait_until(
            lambda: (ask(process.url, "/nothing"), "stay as" in process.log.read_text())[1], "the damage is logged"
        )
        outputs.append(httpx.get(f"{process.admin_url}/metrics", headers=bearer(known["metrics"])).text)
    outputs.append(process.log.read_text())
    digests = {digest_of(secret.encode()) for secret in secrets}
    told = "\n".join(outputs)
    assert 'tidegate_access_refusals_total{code="too_many_attempts"}' in told
    for trace in (*secrets, *(digest.hex() for digest in digests), *(str(digest)[2:-1] for digest in digests)):
        assert trace not in told
