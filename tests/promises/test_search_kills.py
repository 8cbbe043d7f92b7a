"""A gateway killed in the middle of adding and of embedding anew loses no item that it acknowledged, and finds them
right after it is back. Twenty moments, on each of the two indexes.
"""

from __future__ import annotations

import itertools
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest
from http_rig import Process, gateway_process
from redis_rig import redis_server
from search_rig import WORDS, add_embedder

MOMENTS = 20
BATCH = 5
PAIRS = [f"{one} {other}" for one, other in itertools.combinations(WORDS, 2)]


@pytest.fixture(params=["local", "redis"])
def store(request, tmp_path) -> Iterator[dict[str, str]]:
    """The environment of a gateway that keeps its collections there."""
    if request.param == "local":
        yield {}
        return
    with redis_server(tmp_path / "redis", "--appendonly", "yes", "--appendfsync", "always") as server:
        yield {"TIDEGATE_REDIS": server.url}


class Adder(threading.Thread):
    """Adds what no one has added yet, batch by batch, and remembers what was acknowledged."""

    def __init__(self, url: str, texts: Iterator[str], kept: dict[str, str]) -> None:
        super().__init__()
        self._url = url
        self._texts = texts
        self._kept = kept

    def run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=10) as client, suppress(httpx.HTTPError):
            while True:
                batch = {text.replace(" ", "-"): text for text in itertools.islice(self._texts, BATCH)}
                items = [{"id": ident, "text": text} for ident, text in batch.items()]
                answer = client.post("/v1/collections/c/items", json={"items": items})
                if answer.status_code == 200:
                    self._kept.update(batch)
                time.sleep(0.01)


class Mover(threading.Thread):
    """Promotes and rolls back for as long as there is a gateway; what is refused is tried again."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def run(self) -> None:
        with httpx.Client(base_url=f"{self._url}/admin/models/words", timeout=30) as client, suppress(httpx.HTTPError):
            while True:
                client.post("/promote", json={"version": 2, "force": True})
                client.post("/rollback", json={})


def test_what_was_acknowledged_outlives_kills(tmp_path, store):
    repository, state = tmp_path / "repository", tmp_path / "state"
    add_embedder(repository, 1)
    add_embedder(repository, 2)
    chance = random.Random(6)
    texts, kept = iter(PAIRS), {}
    versions, deaths = set(), 0
    for _ in range(MOMENTS):
        with gateway_process(repository, state, **store) as gateway:
            check(gateway, kept, chance, versions)
            workers = [Adder(gateway.url, texts, kept), Mover(gateway.admin_url)]
            for worker in workers:
                worker.start()
            time.sleep(chance.uniform(0.3, 4))
            gateway.signal(signal.SIGKILL)
            for worker in workers:
                worker.join(30)
            deaths += gateway.exit_code() == -signal.SIGKILL
    with gateway_process(repository, state, **store) as gateway:
        check(gateway, kept, chance, versions)
        assert deaths == MOMENTS
        assert versions == {1, 2}, "some deaths left the one live, some the other"
        print(f"\n{deaths} deaths, {len(kept)} items acknowledged, none lost")


def check(gateway: Process, kept: dict[str, str], chance: random.Random, versions: set[int]) -> None:
    """All that was acknowledged is there, and is found by its text at once."""
    with httpx.Client(base_url=gateway.url, timeout=10) as client:
        assert client.put("/v1/collections/c", json={"model": "words"}).is_success
        assert client.get("/v1/collections/c").json()["items"] >= len(kept)
        for ident in chance.sample(sorted(kept), min(20, len(kept))):
            assert client.get(f"/v1/collections/c/items/{ident}").json()["text"] == kept[ident]
            found = client.post("/v1/collections/c/search", json={"text": kept[ident], "k": 1}).json()
            assert [hit["id"] for hit in found["hits"]] == [ident]
            assert found["hits"][0]["score"] > 0.999
            versions.add(found["version"])
