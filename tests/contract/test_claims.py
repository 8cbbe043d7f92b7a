"""What every store of claims must do."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import time

import pytest
from redis_rig import redis_server

from serving import claim, plugins
from serving.claim import FOLDER, ClaimOptions, ClaimsUnavailable, union
from serving.errors import EngineAway

NAMES = plugins.names(FOLDER)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=NAMES)
def kind(request):
    return request.param


@pytest.fixture
def options(kind, tmp_path, request):
    """Options of the gateway of this name, over one and the same store."""
    if kind != "redis":
        return lambda name: ClaimOptions(name, tmp_path / "state" / "deep")
    server = request.getfixturevalue("server")
    server.ask("FLUSHALL")
    return lambda name: ClaimOptions(name, tmp_path, server.url)


def opened(kind, options):
    return plugins.find(FOLDER, kind, "PLUGIN")(options)


@pytest.fixture
def using(kind, options):
    """Runs a coroutine function with stores for gateways of these names."""

    def use(main, *names):
        async def run():
            stores = [opened(kind, options(name)) for name in names]
            try:
                await main(*stores)
            finally:
                for store in stores:
                    await store.close()

        asyncio.run(run())

    return use


def test_what_one_claims_all_know(using):
    async def main(a, b):
        assert await a.claimed() == {}
        await a.claim({"digits": [1, 2]})
        await b.claim({"digits": {2, 3}, "photos.head": (7,)})
        assert await a.claimed() == {"digits": frozenset({1, 2, 3}), "photos.head": frozenset({7})}
        await b.claim({})
        assert await a.claimed() == {"digits": frozenset({1, 2})}

    using(main, "a", "b")


def test_a_claim_stays_for_a_while_after_its_gateway_and_no_longer(using, monkeypatch):
    monkeypatch.setattr("serving.claims.file.CLAIM_TTL_S", 0.3)
    monkeypatch.setattr("serving.claims.redis.CLAIM_TTL_S", 0.3)

    async def main(a, b):
        await a.claim({"digits": [1]})
        await a.close()
        assert await b.claimed() == {"digits": frozenset({1})}, "it may only be starting anew"
        await asyncio.sleep(0.4)
        assert await b.claimed() == {}
        await a.claim({"digits": [1]})
        assert await b.claimed() == {"digits": frozenset({1})}, "who comes back is known again"

    using(main, "a", "b")


def test_turns_are_one_at_a_time_over_all_gateways_and_names_apart(using):
    async def main(*stores):
        at_once = most = 0

        async def take(store):
            nonlocal at_once, most
            for _ in range(3):
                async with store.turn("127.0.0.1:8001/digits") as turn:
                    assert turn.held
                    at_once += 1
                    most = max(most, at_once)
                    await asyncio.sleep(0.005)
                    at_once -= 1

        await asyncio.gather(*(take(store) for store in stores))
        assert most == 1
        async with stores[0].turn("one"), stores[1].turn("another"):
            pass

    using(main, "a", "b", "c")


def test_a_turn_is_given_back_when_its_work_fails_or_is_cancelled(using):
    async def main(a, b):
        with pytest.raises(ValueError, match="told to"):
            async with a.turn("digits"):
                raise ValueError("told to")

        async def hold():
            async with a.turn("digits"):
                await asyncio.sleep(60)

        holder = asyncio.create_task(hold())
        await asyncio.sleep(0.05)
        waiter = asyncio.create_task(b.turn("digits").__aenter__())
        await asyncio.sleep(0.05)
        assert not waiter.done()
        waiter.cancel()  # who no longer waits takes no turn
        holder.cancel()
        await asyncio.wait([waiter, holder])
        async with asyncio.timeout(2), b.turn("digits"):
            pass

    using(main, "a", "b")


def _hold(kind, options, holding):
    claim.TURN_S = 1.0

    async def main():
        async with opened(kind, options).turn("digits"):
            holding.set()
            await asyncio.sleep(60)

    asyncio.run(main())


def test_the_turn_of_a_gateway_that_was_killed_passes_on(kind, options, using, monkeypatch):
    monkeypatch.setattr("serving.claims.redis.TURN_S", 1.0)
    context = multiprocessing.get_context("fork")
    holding = context.Event()
    process = context.Process(target=_hold, args=(kind, options("dead"), holding))
    process.start()
    assert holding.wait(10)

    async def main(a):
        waiter = asyncio.create_task(a.turn("digits").__aenter__())
        await asyncio.sleep(0.1)
        assert not waiter.done()
        os.kill(process.pid, signal.SIGKILL)
        killed_s = time.monotonic()
        async with asyncio.timeout(5):
            await waiter
        assert time.monotonic() - killed_s < 2

    try:
        using(main, "a")
    finally:
        process.kill()
        process.join()


def test_a_union_has_every_version_that_anybody_needs():
    assert union([]) == {}
    assert union([{"a": [1]}, {"a": (2,), "b": {1}}, {"c": ()}]) == {"a": {1, 2}, "b": {1}, "c": set()}


def test_file_says_so_when_its_folder_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")

    async def main():
        store = opened("file", ClaimOptions("a", tmp_path / "file"))
        with pytest.raises(ClaimsUnavailable):
            await store.claim({"digits": [1]})
        with pytest.raises(ClaimsUnavailable):
            async with store.turn("digits"):
                pass
        assert await store.claimed() == {}

    asyncio.run(main())


def test_redis_says_so_while_it_is_away_and_is_told_again_when_it_comes_back_empty(tmp_path):
    with redis_server(tmp_path / "redis") as server:

        async def main():
            a, b = (opened("redis", ClaimOptions(name, tmp_path, server.url)) for name in "ab")
            await a.claim({"digits": [1]})
            server.kill()
            for asking in (a.claim({}), a.claimed(), a.turn("digits").__aenter__()):
                with pytest.raises(ClaimsUnavailable):
                    await asking
            server.start()
            await asyncio.sleep(1.5)  # the link's own pace
            assert await b.claimed() == {}, "lost: so what nobody claims is kept for patience_s"
            await a.claim({"digits": [1]})
            assert await b.claimed() == {"digits": frozenset({1})}
            assert b.patience_s > claim.RENEW_S
            for store in (a, b):
                await store.close()

        asyncio.run(main())


def test_redis_renews_a_turn_and_tells_when_it_was_lost(tmp_path, monkeypatch):
    monkeypatch.setattr("serving.claims.redis.TURN_S", 0.6)
    monkeypatch.setattr("serving.claims.redis.RENEW_S", 0.1)
    with redis_server(tmp_path / "redis") as server:

        async def main():
            a, b = (opened("redis", ClaimOptions(name, tmp_path, server.url)) for name in "ab")
            async with a.turn("digits") as turn:
                await asyncio.sleep(1.0)
                assert turn.held, "renewed"
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.2), b.turn("digits"):
                        pass
                server.ask("DEL", "tidegate:turn:digits")
                async with b.turn("digits") as other:
                    await asyncio.sleep(0.3)
                    assert not turn.held
                    assert other.held
                async with b.turn("digits") as other:
                    server.kill()
                    await asyncio.sleep(0.8)
                    assert not other.held, "who cannot renew it stops before another can have it"
            for store in (a, b):
                await store.close()

        asyncio.run(main())


def test_who_waits_too_long_for_a_turn_is_told_and_who_cannot_ask_goes_on(using, monkeypatch):
    monkeypatch.setattr(claim, "WAIT_S", 0.2)

    async def main(a, b):
        async with a.turn("digits"):
            with pytest.raises(EngineAway):
                async with claim.turn_at(b, "digits"):
                    pass
        async with claim.turn_at(b, "digits") as turn:
            assert turn.held

    using(main, "a", "b")


def test_while_the_store_is_away_a_turn_is_free(tmp_path):
    (tmp_path / "file").write_text("")

    async def main():
        async with claim.turn_at(opened("file", ClaimOptions("a", tmp_path / "file")), "digits") as turn:
            assert turn.held

    asyncio.run(main())
