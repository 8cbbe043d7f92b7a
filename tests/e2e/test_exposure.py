"""What can be reached where, and what a stranger's requests leave behind."""

from __future__ import annotations

import http.client
import random
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
import tiny
from http_rig import PATIENCE_S, gateway_process, metrics, picture

from serving.keys import KeyFile

ROUTES = {"/v1/classify", "/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exposure")
    tiny.add_classifier(folder / "repository")
    tiny.add_plain(folder / "repository")
    with gateway_process(folder / "repository", folder / "state") as process:
        yield process


@pytest.mark.parametrize(
    "path", ["/metrics", "/admin", "/admin/models", "/admin/models/colours/promote", "/v2/repository/index"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_operators_reach_is_not_on_the_public_port(gateway, path, method):
    assert httpx.request(method, gateway.url + path).status_code == 404


@pytest.mark.parametrize("path", ["/metrics", "/admin/models", "/livez", "/readyz"])
def test_it_is_on_the_admin_port(gateway, path):
    assert httpx.get(gateway.admin_url + path).status_code == 200


@pytest.mark.parametrize("path", ["/v1/classify", "/v2/models/double/infer", "/v1/models", "/docs"])
def test_the_admin_port_does_not_serve_callers(gateway, path):
    assert httpx.post(gateway.admin_url + path, content=picture()).status_code == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "a/metrics?x="},
        {"x-original-url": "/metrics"},
        {"x-rewrite-url": "/metrics"},
        {"x-forwarded-prefix": "/metrics"},
        {"x-http-method-override": "POST"},
    ],
    ids=lambda headers: next(iter(headers)),
)
def test_no_header_changes_which_path_is_asked_for(gateway, headers):
    answer = httpx.get(gateway.url + "/livez", headers=headers)
    assert answer.json() == {"status": "live"}


def test_there_are_three_listeners_and_no_fourth(gateway):
    process = psutil.Process(gateway.popen.pid)
    listening = [
        connection.laddr
        for one in (process, *process.children(recursive=True))
        for connection in one.net_connections("all")
        if connection.status == psutil.CONN_LISTEN
    ]
    urls = (gateway.url, gateway.admin_url, f"grpc://{gateway.grpc}")
    wanted = {(urlsplit(url).hostname, urlsplit(url).port) for url in urls}
    assert {(address.ip.removeprefix("::ffff:"), address.port) for address in listening} == wanted
    assert len(listening) == 3


@pytest.mark.parametrize("option", ["--host", "--admin-host"])
def test_without_keys_no_other_address_is_listened_on(tmp_path, option):
    tiny.add_plain(tmp_path / "repository")
    tidegate = Path(sys.executable).with_name("tidegate")
    options = ["--repository", tmp_path / "repository", "--state", tmp_path, "--port", "0", "--admin-port", "0"]
    command = [tidegate, "serve", *options, option, "0.0.0.0"]  # noqa: S104  (refused)
    started = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (started.returncode, started.stdout) == (1, "")
    assert f"tidegate keys add NAME --scope predict --keys {tmp_path / 'keys.json'}" in started.stderr
    assert "Traceback" not in started.stderr


def test_with_keys_it_is_and_only_it(tmp_path):
    tiny.add_plain(tmp_path / "repository")
    secret, _ = KeyFile(tmp_path / "state" / "keys.json").add("a", ["predict"])
    anywhere = "0.0.0.0"  # noqa: S104
    with gateway_process(tmp_path / "repository", tmp_path / "state", TIDEGATE_HOST=anywhere) as process:
        listening = {
            connection.laddr.ip
            for connection in psutil.Process(process.popen.pid).net_connections("all")
            if connection.status == psutil.CONN_LISTEN
        }
        assert listening == {anywhere, "127.0.0.1", "::"}, (
            "grpc takes all of IPv6 as well when it is to take all of IPv4"
        )
        url = process.url.replace(anywhere, "127.0.0.1") + "/v1/models"
        assert httpx.get(url).status_code == 401
        assert httpx.get(url, headers={"authorization": f"Bearer {secret}"}).status_code == 200


def test_strangers_cannot_make_the_meters_grow(gateway):
    """CVE-2023-43810: labels from what callers send fill the memory. Ours come from closed sets."""
    pick = random.Random(20_260_101)
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "PROPFIND", "LOCK", "M-SEARCH"]

    def word() -> str:
        return "".join(pick.choices("abcdefghijklmnopqrstuvwxyz0123456789-_.~", k=pick.randrange(1, 20)))

    def stranger(connection: http.client.HTTPConnection) -> None:
        targets = (
            f"/{word()}",
            "/v1/classify",
            f"/v1/classify?model={word()}&top_k={word()}",
            f"/v1/models/{word()}",
            f"/v2/models/{word()}/infer",
            f"/v2/models/double/versions/{word()}/infer",
        )
        headers = {"user-agent": word(), "x-request-id": word(), "authorization": f"Bearer {word()}", "host": word(),
                   "content-type": pick.choice(["image/png", word()])}  # fmt: skip
        connection.request(pick.choice(methods), pick.choice(targets), b"" if pick.random() < 0.5 else b"{}", headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status < 500

    public = http.client.HTTPConnection(urlsplit(gateway.url).netloc, timeout=PATIENCE_S)
    httpx.post(f"{gateway.url}/v1/classify", content=picture())
    before = len(metrics(gateway.admin_url))
    for _ in range(2000):
        stranger(public)
    public.close()
    after = metrics(gateway.admin_url)
    # Each route may have met each status it can have, each model each code; nothing else is new.
    assert len(after) - before < 50
    assert {sample.labels["route"] for sample in after if "route" in sample.labels} <= ROUTES
    assert {sample.labels["model"] for sample in after if "model" in sample.labels} <= {"colours", "double"}
    assert all(len(sample.labels.get("status", "")) <= 3 for sample in after)


def test_requests_are_counted_by_route_and_status(gateway):
    def answered(route: str, status: int) -> float:
        labels = {"route": route, "status": str(status)}
        values = [
            one.value
            for one in metrics(gateway.admin_url)
            if one.name == "tidegate_http_responses_total" and one.labels == labels
        ]
        return values[0] if values else 0.0

    before = answered("/v1/classify", 200), answered("/v2/models/{model}/infer", 404)
    httpx.post(f"{gateway.url}/v1/classify", content=picture())
    httpx.post(
        f"{gateway.url}/v2/models/nobody/infer",
        json={"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]},
    )
    assert (answered("/v1/classify", 200), answered("/v2/models/{model}/infer", 404)) == (before[0] + 1, before[1] + 1)
