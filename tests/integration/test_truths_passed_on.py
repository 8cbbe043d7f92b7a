"""A truth that comes to another gateway than the one that answered, on a real Redis."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from http_rig import picture, serving, until
from redis_rig import redis_server

from serving.observation.truths import KEY, LARGEST
from serving.redis.stream import RedisStream

UNTOLD = (0, 0.0)


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def between(redis, tmp_path, monkeypatch):
    """Runs a coroutine function with two gateways that share a Redis."""
    redis.ask("FLUSHALL")
    monkeypatch.setattr("serving.observation.truths.LOOK_S", 0.05)
    monkeypatch.setattr("serving.observation.truths.AWAY_S", 0.1)

    def use(main):
        async def run():
            async with AsyncExitStack() as stack:
                gateways = []
                for name in ("a", "b"):
                    settings = {"redis": redis.url}
                    gateways.append(await stack.enter_async_context(serving(tmp_path / name, settings=settings)))
                for live in gateways:  # a gateway hears what comes after it began to listen
                    await until(lambda live=live: live.parts.watch.truths._stream._last, "it listens")
                await main(*gateways)

        asyncio.run(run())

    return use


async def tell(live, request_id, truth):
    return await live.client.post("/v1/feedback", json={"request_id": request_id, "truth": truth})


async def ask(live) -> str:
    return (await live.classify(picture(200, 0, 0))).headers["x-request-id"]


def totals(live):
    return live.parts.watch.feedback.totals("colours", 1)


def count(live, outcome: str, model: str = "_other") -> float:
    labels = {"model": model, "outcome": outcome}
    return live.parts.meters.registry.get_sample_value("tidegate_feedback_total", labels) or 0.0


def test_the_gateway_that_answered_scores_it(between, redis):
    async def main(a, b):
        mine, other = await ask(a), await ask(a)
        told = await tell(b, mine, "blue")
        assert (told.status_code, told.json()) == (202, {"request_id": mine, "status": "passed_on"})
        await until(lambda: totals(a)[0] == 1, "it is scored")
        assert totals(b) == UNTOLD
        both = [{"request_id": name, "truth": "blue"} for name in (mine, other, await ask(b), "nobody")]
        answer = await b.client.post("/v1/feedback", json={"truths": both})
        statuses = [one["status"] for one in answer.json()["results"]]
        assert statuses == ["passed_on", "passed_on", "scored", "passed_on"]
        await until(lambda: totals(a)[0] == 2, "the other one is scored, and the first not again")
        assert (count(b, "passed_on"), count(a, "repeated", "colours")) == (4, 1)
        assert count(a, "unknown") == count(b, "unknown") == 0
        assert 0 < redis.ask("TTL", KEY) <= 60

    between(main)


def test_one_that_fits_no_answer_is_counted_where_the_answer_is(between):
    async def main(a, b):
        name = await ask(a)
        assert (await tell(b, name, "purple")).status_code == 202
        await until(lambda: count(a, "unfit", "colours") == 1, "it is looked at")
        assert totals(a) == UNTOLD
        deep = f'{{"request_id": "{name}", "truth": {"[" * 300}{"]" * 300}}}'
        headers = {"content-type": "application/json"}
        assert (await b.client.post("/v1/feedback", content=deep, headers=headers)).status_code == 404
        assert (await tell(b, name, "x" * LARGEST)).status_code == 404

    between(main)


def test_while_redis_is_away_it_is_to_be_sent_again(between, redis):
    async def main(a, b):
        name = await ask(a)
        redis.kill()
        refused = await tell(b, name, "blue")
        assert (refused.status_code, refused.json()["code"]) == (503, "busy")
        assert refused.headers["retry-after"]
        assert (await tell(a, name, "red")).status_code == 202, "what is known here needs no Redis"
        second = await ask(a)
        redis.start()

        async def told() -> bool:
            return (await tell(b, second, "blue")).status_code == 202

        for _ in range(100):
            if await told():
                break
            await asyncio.sleep(0.1)
        await until(lambda: totals(a)[0] == 2, "it is scored when Redis is there again")

    between(main)


def test_what_is_no_truth_is_passed_over(between, redis):
    async def main(a, b):
        for text in ("", "[]", "{}", '["a", 1, 2]', '[1, "", 2]', "\xff"):
            redis.ask("XADD", KEY, "*", "text", text)
        assert (await tell(b, await ask(a), "blue")).status_code == 202
        await until(lambda: totals(a)[0] == 1, "the next one is heard")

    between(main)


def test_a_stream_gives_each_reader_all_that_is_new_once(redis):
    async def main():
        redis.ask("FLUSHALL")
        writer, *readers = (RedisStream(redis.url, KEY) for _ in range(3))
        await writer.append([b"before"])
        assert [await one.news() for one in readers] == [[], []]
        texts = [b"%d" % i for i in range(1500)]
        await writer.append(texts)
        for reader in readers:
            assert [*await reader.news(), *await reader.news()] == texts
            assert await reader.news() == []
        redis.ask("FLUSHALL")
        await writer.append([b"after"])
        assert await readers[0].news() == [b"after"]
        await asyncio.gather(*(writer.append([b"x"] * 1000) for _ in range(13)))
        assert 10_000 <= redis.ask("XLEN", KEY) <= 10_200
        for one in (writer, *readers):
            await one.close()

    asyncio.run(main())
