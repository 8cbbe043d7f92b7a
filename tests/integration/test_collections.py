"""Collections through a gateway: kept, searched, embedded anew beside a promotion, and back with a rollback."""

from __future__ import annotations

import asyncio
import functools
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import tiny
from http_rig import until
from search_rig import WORDS, add_embedder, nearest

from serving.bootstrap import Parts, build
from serving.indexes.fake import FakeIndex
from serving.settings import read_settings
from serving.verdict import Verdict


def in_loop(test):
    """Runs a coroutine function as a test."""

    @functools.wraps(test)
    def run(*arguments, **named):
        asyncio.run(test(*arguments, **named))

    return run


class OpenGate:
    """Lets all versions pass."""

    async def examine(self, candidate, stable):
        return Verdict(model=candidate.model, version=candidate.number, passed=True, checks=(), digest="", time="now")


class Gateway:
    """A gateway's two applications, called without a socket."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.public = httpx.AsyncClient(transport=httpx.ASGITransport(parts.public), base_url="http://tests")
        self.admin = httpx.AsyncClient(transport=httpx.ASGITransport(parts.admin), base_url="http://tests")

    async def add(self, words, collection="c", **more):
        items = [{"id": word, "text": word, **more} for word in words]
        return await self.public.post(f"/v1/collections/{collection}/items", json={"items": items})

    async def find(self, word, k=3, collection="c"):
        answer = await self.public.post(f"/v1/collections/{collection}/search", json={"text": word, "k": k})
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def order(self, verb, model="words", **order):
        return await self.admin.post(f"/admin/models/{model}/{verb}", json=order)

    async def show(self, collection="c"):
        return (await self.public.get(f"/v1/collections/{collection}")).json()


@asynccontextmanager
async def gateway(folder, *numbers, index=None, **settings):
    repository = folder / "repository"
    for number in numbers:
        if not (repository / f"words/{number}").exists():
            add_embedder(repository, number)
    options = {"repository": repository, "state": folder / "state", "default_models": {"embed": "words"}, **settings}
    parts = build(read_settings(**options), gate=OpenGate(), index=index or FakeIndex())
    await parts.start()
    try:
        yield Gateway(parts)
    finally:
        await parts.close()


def ids(found):
    return [hit["id"] for hit in found["hits"]]


@in_loop
async def test_what_is_put_is_found(tmp_path):
    async with gateway(tmp_path, 1) as at:
        made = await at.public.put("/v1/collections/c", json={"model": "words"})
        assert made.status_code == 201
        assert (await at.public.put("/v1/collections/c")).status_code == 200
        assert (await at.add(WORDS[:20])).json() == {"model": "words", "version": 1, "ids": list(WORDS[:20])}
        found = await at.find("w7")
        assert found["version"] == 1
        assert ids(found) == nearest(1, "w7", WORDS[:20], 3)
        assert found["hits"][0]["score"] == pytest.approx(1, abs=1e-5)


@in_loop
async def test_a_promotion_embeds_anew_first_and_a_rollback_is_at_once(tmp_path):
    async with gateway(tmp_path, 1, 2) as at:
        await at.public.put("/v1/collections/c", json={"model": "words"})
        await at.add(WORDS[:20])
        assert (await at.order("promote", version=2)).status_code == 200
        found = await at.find("w7")
        assert (found["version"], ids(found)) == (2, nearest(2, "w7", WORDS[:20], 3))
        await at.add(WORDS[20:30])
        assert (await at.order("rollback")).status_code == 200
        found = await at.find("w7")
        assert (found["version"], ids(found)) == (1, nearest(1, "w7", WORDS[:30], 3)), "with what was added meanwhile"


async def collection(at, *words, name="c"):
    await at.public.put(f"/v1/collections/{name}", json={"model": "words"})
    assert (await at.add(words, name)).status_code == 200


@in_loop
async def test_a_promotion_waits_for_a_paused_collection_and_says_what_for(tmp_path):
    async with gateway(tmp_path, 1, 2) as at:
        await collection(at, *WORDS[:20])
        paused = await at.admin.post("/admin/collections/c/pause", json={})
        assert paused.json()["paused"] is True
        promotion = asyncio.create_task(at.order("promote", version=2))
        parts = at.parts

        async def preparing():
            members = await parts.reconciler._ledger.members()
            return {model: reason for member in members for model, reason in member.preparing.items()}

        deadline_s = time.monotonic() + 10
        while await preparing() != {"words": "c is paused: 0 of 20 items"}:
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.01)
        assert not promotion.done()
        assert (await at.find("w7"))["version"] == 1
        await at.admin.post("/admin/collections/c/resume", json={})
        assert (await promotion).status_code == 200
        assert (await at.find("w7"))["version"] == 2


@in_loop
async def test_a_promotion_of_a_version_that_cannot_embed_an_item_is_refused(tmp_path):
    async with gateway(tmp_path, 1) as at:
        add_embedder(tmp_path / "repository", 2, words=10)
        await collection(at, *WORDS[:20])
        refused = await at.order("promote", version=2)
        assert refused.status_code == 409
        assert "of c cannot be embedded" in refused.json()["detail"]
        assert (await at.find("w7"))["version"] == 1
        for word in WORDS[10:20]:
            assert (await at.public.delete(f"/v1/collections/c/items/{word}")).status_code == 204
        status = 0
        for _ in range(10):  # what is under way may still meet an item that was deleted meanwhile
            at.parts.search.readiness._blocked.clear()  # instead of ten seconds
            if (status := (await at.order("promote", version=2)).status_code) == 200:
                break
        assert status == 200
        assert (await at.find("w7"))["version"] == 2


@in_loop
async def test_a_canary_embeds_no_query(tmp_path):
    async with gateway(tmp_path, 1, 2) as at:
        await collection(at, *WORDS[:20])
        assert (await at.order("canary", version=2, percent=100)).status_code == 200
        embedded = await at.public.post("/v1/embed", content="w7", headers={"content-type": "text/plain"})
        assert embedded.json()["version"] == 2
        await until_complete(at, 2)
        for _ in range(20):
            found = await at.find("w7")
            assert (found["version"], ids(found)) == (1, nearest(1, "w7", WORDS[:20], 3))
        assert (await at.order("promote")).status_code == 200  # embedded already, while it was on trial
        assert (await at.find("w7"))["version"] == 2


async def until_complete(at, version, collection="c"):
    deadline_s = time.monotonic() + 10
    while {"version": version, "complete": True} not in [
        {"version": space["version"], "complete": space["complete"]} for space in (await at.show(collection))["spaces"]
    ]:
        assert time.monotonic() < deadline_s, await at.show(collection)
        await asyncio.sleep(0.01)


@in_loop
async def test_vectors_of_callers_stay_with_their_version_and_keep_it_loaded(tmp_path):
    async with gateway(tmp_path, 1, 2) as at:
        add_embedder(tmp_path / "repository", 3)
        await collection(at, *WORDS[:5])
        item = {"id": "mine", "vector": [1.0] * 8}
        assert (await at.public.post("/v1/collections/c/items", json={"items": [item]})).status_code == 200
        assert (await at.show())["follows"] is False
        for version in (2, 3):  # the way back is 2, then: 1 is kept by the collection alone
            assert (await at.order("promote", version=version)).status_code == 200
        await asyncio.sleep(0.5)
        found = await at.public.post("/v1/collections/c/search", json={"vector": [1.0] * 8, "k": 1})
        assert (found.json()["version"], ids(found.json())) == (1, ["mine"])
        assert ids(await at.find("w2", 1)) == ["w2"]
        await at.public.delete("/v1/collections/c/items/mine")  # then it can go with its model again
        await until_complete(at, 3)
        assert (await at.find("w2", 1))["version"] == 3


@in_loop
async def test_what_pointers_say_at_a_start_is_caught_up_with_before_it_is_searched(tmp_path):
    """Promoted while no gateway ran: the old space answers until the new one is whole."""
    index = FakeIndex()
    async with gateway(tmp_path, 1, 2, index=index) as at:
        await collection(at, *WORDS[:20])
        await at.admin.post("/admin/collections/c/pause", json={})
    promote_offline(tmp_path)
    async with gateway(tmp_path, 1, 2, index=index) as at:
        await until(lambda: 1 in at.parts.search.embedder.resident("words"), "the version that embedded it is loaded")
        found = await at.find("w7")
        assert (found["version"], ids(found)) == (1, nearest(1, "w7", WORDS[:20], 3))
        await at.admin.post("/admin/collections/c/resume", json={})
        await until_complete(at, 2)
        assert (await at.find("w7"))["version"] == 2


def promote_offline(folder):
    program = Path(sys.executable).with_name("tidegate")
    where = ["--repository", folder / "repository", "--state", folder / "state"]
    done = subprocess.run(
        [program, "promote", "words", "2", "--force", *where], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout


@in_loop
async def test_nothing_fails_and_no_spaces_mix_while_versions_change_under_load(tmp_path):
    async with gateway(tmp_path, 1, 2) as at:
        await collection(at, *WORDS[:40])
        expected = {version: {word: nearest(version, word, WORDS[:40], 5) for word in WORDS[:40]} for version in (1, 2)}
        seen: set[int] = set()
        stop = asyncio.Event()

        async def ask() -> None:
            turn = 0
            while not stop.is_set():
                word = WORDS[turn % 40]
                found = await at.find(word, 5)
                assert ids(found) == expected[found["version"]][word]
                seen.add(found["version"])
                turn += 1
                await asyncio.sleep(0.002)

        async def put() -> None:
            while not stop.is_set():
                assert (await at.add(WORDS[:8])).status_code == 200
                await asyncio.sleep(0.005)

        async with asyncio.TaskGroup() as group:
            for work in (ask, ask, ask, put):
                group.create_task(work())
            for _ in range(5):
                assert (await at.order("promote", version=2)).status_code == 200
                await asyncio.sleep(0.1)
                assert (await at.order("rollback")).status_code == 200
                await asyncio.sleep(0.1)
            stop.set()
        assert seen == {1, 2}


@in_loop
async def test_two_gateways_share_one_index(tmp_path):
    index = FakeIndex()
    async with gateway(tmp_path, 1, 2, index=index) as one, gateway(tmp_path, 1, 2, index=index) as other:
        await collection(one, *WORDS[:20])
        await other.add(WORDS[20:25])
        assert (await other.order("promote", version=2)).status_code == 200
        for at in (one, other):
            found = await at.find("w22")
            assert (found["version"], ids(found)) == (2, nearest(2, "w22", WORDS[:25], 3))


@in_loop
async def test_an_item_can_be_read_replaced_and_forgotten(tmp_path):
    async with gateway(tmp_path, 1) as at:
        await collection(at, "w1", "w2")
        item = {"id": "a/b", "text": "w3", "metadata": {"colour": "red"}}
        assert (await at.public.post("/v1/collections/c/items", json={"items": [item]})).json()["ids"] == ["a/b"]
        assert (await at.public.get("/v1/collections/c/items/a/b")).json() == item
        assert (await at.public.post("/v1/collections/c/items", json={"items": [{**item, "text": "w4"}]})).is_success
        assert ids(await at.find("w4", 1)) == ["a/b"]
        assert (await at.show())["items"] == 3
        assert (await at.public.delete("/v1/collections/c/items/a/b")).status_code == 204
        assert (await at.public.delete("/v1/collections/c/items/a/b")).status_code == 404
        assert (await at.public.get("/v1/collections/c/items/a/b")).json()["code"] == "item_not_found"
        assert (await at.public.delete("/v1/collections/c")).status_code == 204
        assert (await at.public.get("/v1/collections/c")).json()["code"] == "collection_not_found"


BAD = {
    "no text": ({"items": [{"id": "x"}]}, 422, "exactly one of text, image and vector"),
    "two": ({"items": [{"text": "w1", "vector": [1.0]}]}, 422, "exactly one of"),
    "nothing": ({"items": []}, 422, "items"),
    "twice": ({"items": [{"id": "x", "text": "w1"}, {"id": "x", "text": "w2"}]}, 422, "same id"),
    "zero": ({"items": [{"vector": [0.0, 0.0]}]}, 422, "zero"),
    "huge": ({"items": [{"vector": [1e300]}]}, 422, "too large"),
    "no base64": ({"items": [{"image": "?"}]}, 400, "base64"),
    "other dimensions": ({"items": [{"vector": [1.0, 2.0]}]}, 422, "dimensions"),
    "unknown": ({"items": [{"text": "w1", "sise": 3}]}, 422, "sise"),
    "empty text": ({"items": [{"text": " "}]}, 422, "empty"),
    "many": ({"items": [{"text": "w1"}] * 1001}, 422, "1000"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_items_are_refused_and_nothing_is_kept(tmp_path, case):
    body, status, said = BAD[case]

    @in_loop
    async def run():
        async with gateway(tmp_path, 1) as at:
            await collection(at, "w1", "w2")
            answer = await at.public.post("/v1/collections/c/items", json=body)
            assert answer.status_code == status
            assert said in answer.json()["detail"]
            assert (await at.show())["items"] == 2

    run()


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/v1/collections/d/search", {"text": "w1"}, "collection_not_found"),
        ("/v1/collections/c/search", {}, "parameter_invalid"),
        ("/v1/collections/c/search", {"text": "w1", "k": 0}, "parameter_invalid"),
        ("/v1/collections/c/search", {"text": "w1", "k": 1001}, "parameter_invalid"),
        ("/v1/collections/c/search", {"vector": [1.0]}, "vector_invalid"),
        ("/v1/collections/c/search", {"text": "w1", "filter": {"a": {"$near": 3}}}, "parameter_invalid"),
    ],
)
def test_bad_queries_are_refused(tmp_path, path, body, code):
    @in_loop
    async def run():
        async with gateway(tmp_path, 1) as at:
            await collection(at, "w1", "w2")
            assert (await at.public.post(path, json=body)).json()["code"] == code

    run()


@in_loop
async def test_collections_of_what_is_not_there_or_embeds_nothing_are_refused(tmp_path):
    tiny.add_classifier(tmp_path / "repository")
    async with gateway(tmp_path, 1) as at:
        for model, code in (("nothing", "model_not_found"), ("colours", "task_mismatch")):
            assert (await at.public.put("/v1/collections/c", json={"model": model})).json()["code"] == code
        assert (await at.public.put("/v1/collections/C%20!", json={})).json()["code"] == "parameter_invalid"
        add_embedder(tmp_path / "repository", 1, "others")
        await at.parts.reconciler.refresh()
        await until(lambda: at.parts.search.embedder.resident("others"), "loaded")
        await at.public.put("/v1/collections/c", json={"model": "words"})
        assert (await at.public.put("/v1/collections/c", json={"model": "others"})).json()[
            "code"
        ] == "collection_exists"
