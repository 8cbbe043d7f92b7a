"""While Redis is away its collections answer 503 soon and all else goes on; then all that was acknowledged is there."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import httpx
import pytest
from bars import at_most, measured
from fault_proxy import FaultProxy, fault_proxy
from http_rig import Process, gateway_process
from redis_faults import AWAY, EVERY
from redis_rig import Server, redis_server
from search_rig import WORDS, add_embedder

DOWN_S = 1.5
BACK_S = 3.0
SOON_S = 2.5  # an answer
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory) -> Iterator[tuple[Server, FaultProxy, Process]]:
    """A gateway whose way to Redis can be spoilt."""
    folder = tmp_path_factory.mktemp("spoilt")
    add_embedder(folder / "repository")
    with (
        redis_server(folder / "redis") as server,
        fault_proxy(server.port) as proxy,
        gateway_process(
            folder / "repository", folder / "state", TIDEGATE_REDIS=f"redis://127.0.0.1:{proxy.port}"
        ) as gateway,
    ):
        assert httpx.put(f"{gateway.url}/v1/collections/c", json={"model": "words"}).is_success
        yield server, proxy, gateway


class Client:
    """Asks one thing after another, and remembers what was acknowledged."""

    def __init__(self, http: httpx.Client) -> None:
        self.kept: dict[str, str] = {}
        self.took_s: list[float] = []
        self._http = http

    def add(self) -> httpx.Response:
        number = next(NUMBERS)
        ident, text = f"i{number}", f"{WORDS[number % 64]} {WORDS[number // 64 % 64]}"
        answer = self._ask("/v1/collections/c/items", {"items": [{"id": ident, "text": text}]})
        if answer.is_success:
            self.kept[ident] = text
        return answer

    def search(self) -> httpx.Response:
        return self._ask("/v1/collections/c/search", {"text": WORDS[0], "k": 3})

    def embed(self) -> httpx.Response:
        return self._ask("/v1/embed", {"text": WORDS[0]})

    def item(self, ident: str) -> httpx.Response:
        return self._http.get(f"/v1/collections/c/items/{ident}")

    def _ask(self, path: str, body: object) -> httpx.Response:
        begun_s = time.monotonic()
        answer = self._http.post(path, json=body)
        self.took_s.append(time.monotonic() - begun_s)
        return answer


def is_away(answer: httpx.Response) -> bool:
    return answer.status_code == 503 and answer.json()["code"] == "index_unavailable"


@pytest.fixture
def client(spoilt) -> Iterator[Client]:
    with httpx.Client(base_url=spoilt[2].url, timeout=15) as http:
        yield Client(http)


@measured
@pytest.mark.parametrize("fault", EVERY, ids=lambda fault: fault.__name__)
def test_collections_are_refused_and_come_back_with_all_that_was_acknowledged(spoilt, client, fault):
    server, proxy, _ = spoilt
    for _ in range(20):
        assert client.add().is_success
    client.took_s.clear()
    with fault(server, proxy):
        until_s = time.monotonic() + DOWN_S
        added, searched, embedded = [], [], []
        while time.monotonic() < until_s or not added:
            added.append(client.add())
            searched.append(client.search())
            embedded.append(client.embed())
    begun_s = time.monotonic()
    while not (client.add().is_success and client.search().is_success):
        assert time.monotonic() < begun_s + BACK_S, "never back"
        time.sleep(0.05)
    back_s = time.monotonic() - begun_s
    print(
        f"\n{fault.__name__}: {len(added)} items, {len(searched)} searches meanwhile, {max(client.took_s):.2f} s "
        f"at most; back after {back_s * 1e3:.0f} ms"
    )
    assert all(one.is_success for one in embedded), "what needs no collection goes on"
    assert all(one.is_success or is_away(one) for one in added + searched), {one.text for one in added + searched}
    assert is_away(added[-1])
    assert is_away(searched[-1]) == (fault in AWAY), "Redis that only refuses to write can still be searched"
    for ident, text in client.kept.items():
        assert client.item(ident).json()["text"] == text
    at_most(SOON_S, max(client.took_s))
