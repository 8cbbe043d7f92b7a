"""A gateway killed in the middle of adding and of embedding anew loses no item that it acknowledged, and finds them
right after it is back. Twenty moments, on each of the two indexes.
"""

from __future__ import annotations

import itertools
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest
from http_rig import Process, gateway_process, wait_until
from redis_rig import redis_server
from search_rig import WORDS, add_embedder

MOMENTS = 20
BATCH = 5
LIVE_S = 0.2  # what a change brings, until the next one


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
                time.sleep(0.03)


class Mover(threading.Thread):
    """Promotes and rolls back for as long as there is a gateway; what is refused is tried again.

    live: the version that is, as far as was answered. A promotion takes longer than a rollback: without a moment for
    what it brings, deaths would seldom meet that.
    """

    def __init__(self, url: str, live: int) -> None:
        super().__init__()
        self.live = live
        self._url = url

    def run(self) -> None:
        with httpx.Client(base_url=f"{self._url}/admin/models/words", timeout=30) as client, suppress(httpx.HTTPError):
            while True:
                if client.post("/promote", json={"version": 2, "force": True}).is_success:
                    self.live = 2
                    time.sleep(LIVE_S)
                if client.post("/rollback", json={}).is_success:
                    self.live = 1
                    time.sleep(LIVE_S)


def test_what_was_acknowledged_outlives_kills(tmp_path, store):
    repository, state = tmp_path / "repository", tmp_path / "state"
    add_embedder(repository, 1)
    add_embedder(repository, 2)
    chance = random.Random(6)
    texts, kept = map(" ".join, itertools.combinations(WORDS, 3)), {}  # more than are added until the last death
    found, deaths = Counter(), 0
    for _ in range(MOMENTS):
        with gateway_process(repository, state, **store) as gateway:
            live = check(gateway, kept, chance)
            found[live] += 1
            workers = [Adder(gateway.url, texts, kept), mover := Mover(gateway.admin_url, live)]
            for worker in workers:
                worker.start()
            with_live = chance.choice((1, 2, 2))  # at once where it is: that death meets the first change
            wait_until(lambda mover=mover, live=with_live: mover.live == live, f"{with_live} live")
            time.sleep(chance.uniform(0, 1.5 * LIVE_S))
            gateway.signal(signal.SIGKILL)
            for worker in workers:
                worker.join(30)
            deaths += gateway.exit_code() == -signal.SIGKILL
    with gateway_process(repository, state, **store) as gateway:
        found[check(gateway, kept, chance)] += 1
        assert deaths == MOMENTS
        assert found.keys() == {1, 2}, "some deaths left the one live, some the other"
        print(f"\n{deaths} deaths, {found[2]} left version 2 live, {len(kept)} items acknowledged, none lost")


def check(gateway: Process, kept: dict[str, str], chance: random.Random) -> int:
    """All that was acknowledged is there, and is found by its text at once; gives the version that is live."""
    with httpx.Client(base_url=gateway.url, timeout=10) as client:
        assert client.put("/v1/collections/c", json={"model": "words"}).is_success
        assert client.get("/v1/collections/c").json()["items"] >= len(kept)
        for ident in chance.sample(sorted(kept), min(20, len(kept))):
            assert client.get(f"/v1/collections/c/items/{ident}").json()["text"] == kept[ident]
            found = client.post("/v1/collections/c/search", json={"text": kept[ident], "k": 1}).json()
            assert [hit["id"] for hit in found["hits"]] == [ident]
            assert found["hits"][0]["score"] > 0.999
        return client.post("/v1/collections/c/search", json={"text": WORDS[0], "k": 1}).json()["version"]
