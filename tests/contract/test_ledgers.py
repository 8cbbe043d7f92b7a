"""What every ledger must do. What only one of them does is in tests/unit/ledgers."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing

import pytest
from redis_rig import redis_server

from serving import plugins
from serving.ledger import (
    FOLDER,
    HEARTBEAT_S,
    KEPT_VERDICTS,
    MEMBER_TTL_S,
    Document,
    Ledger,
    LedgerOptions,
    Member,
    Pointers,
)
from serving.verdict import Check, Verdict

NAMES = plugins.names(FOLDER)
SOON_S = {"file": 0.5, "redis": 0.5}  # Redis takes a few milliseconds; the rest is for a machine that has no time


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=NAMES)
def kind(request):
    return request.param


@pytest.fixture
def another(kind, tmp_path, request):
    """Makes ledgers over one and the same state, as gateways beside each other have them."""
    plugin = plugins.find(FOLDER, kind, "PLUGIN")
    if kind != "redis":
        return lambda: plugin(LedgerOptions(tmp_path / "state" / "deep"))
    server = request.getfixturevalue("server")
    server.ask("FLUSHALL")
    states = iter(range(1000))
    return lambda: plugin(LedgerOptions(tmp_path / f"state{next(states)}" / "deep", server.url))


def using(another, *works):
    """Runs each piece of work with a ledger of its own, all in one event loop; what they return."""

    async def run():
        ledgers = [another() for _ in works]
        try:
            return await asyncio.gather(*(work(ledger) for work, ledger in zip(works, ledgers, strict=True)))
        finally:
            for ledger in ledgers:
                await ledger.close()

    return asyncio.run(run())


def placing(**stables):
    """An edit: these models' stable versions."""

    def edit(document: Document) -> Document:
        pointers = {name: Pointers(stable=version) for name, version in stables.items()}
        return document.model_copy(update={"models": {**document.models, **pointers}})

    return edit


def counting(document: Document) -> Document:
    """An edit: one more than there was."""
    stable = document.models["n"].stable if "n" in document.models else 0
    return placing(n=stable + 1)(document)


def side_by_side(another, count, work):
    """Runs `work` in so many threads, each with an event loop and a ledger of its own, all begun at once."""
    together = threading.Barrier(count, timeout=30)
    faults = []

    def begin() -> None:
        together.wait()
        try:
            using(another, work)
        except BaseException as error:
            faults.append(error)
            raise

    threads = [threading.Thread(target=begin) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


def read(ledger: Ledger):
    return ledger.read()


def test_begins_empty(another):
    async def look(ledger):
        assert await ledger.members() == ()
        assert await ledger.verdicts("a") == ()
        return await ledger.read()

    assert using(another, look) == [Document()]


def test_an_edit_is_the_next_revision(another):
    async def edit(ledger):
        first = await ledger.change(placing(a=1))
        second = await ledger.change(placing(b=2))
        assert ledger.connected
        assert (first.revision, second.revision) == (1, 2)
        assert second.models == {"a": Pointers(stable=1), "b": Pointers(stable=2)}
        return second

    [made] = using(another, edit)
    assert using(another, read) == [made]


def test_an_edit_that_changes_nothing_writes_nothing(another):
    async def edit(ledger):
        made = await ledger.change(placing(a=1))
        assert await ledger.change(lambda document: document) == made
        assert await ledger.change(placing(a=1)) == made

    using(another, edit)


def test_what_is_out_of_service_is_read_so_and_other_models_say_nothing_of_it(another):
    out = Pointers(stable=2, stack=(1,), unloaded=True, loads=3)

    async def edit(ledger):
        return await ledger.change(
            lambda found: found.model_copy(update={"models": {"a": out, "b": Pointers(stable=1)}})
        )

    [made] = using(another, edit)
    assert using(another, read) == [made]
    assert made.models["a"] == out
    assert made.model_dump_json().count("loaded") == made.model_dump_json().count("loads") == 1


def test_what_an_edit_raises_is_raised_and_nothing_is_changed(another):
    class Refused(Exception):
        pass

    def refuse(_document):
        raise Refused

    async def edit(ledger):
        made = await ledger.change(placing(a=1))
        with pytest.raises(Refused):
            await ledger.change(refuse)
        assert await ledger.read() == made
        await ledger.keep(verdict(1))
        assert len(await ledger.verdicts("a")) == 1
        return await ledger.change(placing(a=2))

    [made] = using(another, edit)
    assert made.revision == 2


def test_models_that_nobody_asks_for_keep_their_pointers(another):
    using(another, lambda ledger: ledger.change(placing(gone=4)))
    [made] = using(another, lambda ledger: ledger.change(placing(a=1)))
    assert made.models == {"gone": Pointers(stable=4), "a": Pointers(stable=1)}


def test_pointers_come_back_whole(another):
    pointers = {
        "stable": 3,
        "stack": [1, 2],
        "canary": {"version": 4, "percent": 12.5},
        "shadow": 5,
        "wanted": {"id": "x", "version": 6, "role": "stable", "action": "promote", "who": "é\N{SNOWMAN}", "until": 1.5},
        "history": [{"time": "2026-01-01T00:00:00Z", "action": "promote", "from": 1, "to": 2, "who": "me"}],
    }
    whole = Pointers.model_validate(pointers)
    using(another, lambda ledger: ledger.change(lambda found: found.model_copy(update={"models": {"a": whole}})))
    assert using(another, read)[0].models == {"a": whole}


def test_no_change_is_lost_over_threads_and_loops(another):
    revisions = []

    async def count(ledger):
        for _ in range(12):
            made = await ledger.change(counting)
            revisions.append((made.revision, made.models["n"].stable))

    side_by_side(another, 4, count)
    assert sorted(revisions) == [(number, number) for number in range(1, 49)]


def test_no_change_is_lost_within_one_ledger(another):
    async def count(ledger):
        await asyncio.gather(*(ledger.change(counting) for _ in range(20)))
        return await ledger.read()

    assert using(another, count)[0].models["n"].stable == 20


def test_gateways_that_start_together_agree(another):
    answers = []

    async def begin(ledger):
        def edit(document):
            return document if "a" in document.models else placing(a=len(answers) + 1)(document)

        answers.append(await ledger.change(edit))

    side_by_side(another, 4, begin)
    assert answers == using(another, read) * 4


def test_watching_gives_what_stands_and_then_what_others_change(kind, another):
    async def run():
        watching, changing = another(), another()
        await changing.change(placing(a=1))
        async with aclosing(watching.watch()) as news:
            first = await asyncio.wait_for(anext(news), 5)
            assert first.models == {"a": Pointers(stable=1)}
            following = asyncio.create_task(anext(news))
            await asyncio.sleep(0.2)  # for a subscription to stand
            for version in range(2, 6):
                made = await changing.change(placing(a=version))
                assert await asyncio.wait_for(following, SOON_S[kind]) == made
                following = asyncio.create_task(anext(news))
            own = await watching.change(placing(b=1))
            assert await asyncio.wait_for(following, SOON_S[kind]) == own
        await watching.close()
        await changing.close()

    asyncio.run(run())


def test_watching_gives_nothing_while_nothing_changes(another):
    async def wait(ledger):
        await ledger.change(placing(a=1))
        async with aclosing(ledger.watch()) as news:
            await anext(news)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(news), 0.3)

    using(another, wait)


def test_watching_is_never_behind_and_never_goes_back(another):
    async def run():
        watching, changing = another(), another()

        async def change():
            for _ in range(50):
                await changing.change(counting)

        changes = asyncio.create_task(change())
        seen = []
        async with aclosing(watching.watch()) as news:
            async with asyncio.timeout(10):
                async for document in news:
                    seen.append(document.revision)
                    if document.revision == 50:
                        break
        await changes
        assert seen == sorted(set(seen))
        await watching.close()
        await changing.close()

    asyncio.run(run())


def test_gateways_say_that_they_live_and_what_they_have(another):
    one = Member(id="one", epoch=1, revision=2, ready={"a": (1, 2)}, failed={"b": {3: "broken"}})
    two = Member(id="two")

    async def live(ledger):
        await ledger.announce(one)
        await ledger.announce(two.model_copy(update={"revision": 1}))
        await ledger.announce(two)
        assert await ledger.members() == (one, two)
        await ledger.leave("one")
        await ledger.leave("nobody")
        return await ledger.members()

    assert using(another, live) == [(two,)]


def test_who_is_not_heard_of_counts_no_more(another):
    async def live(ledger):
        await ledger.announce(Member(id="dead"))
        for _ in range(4):
            await ledger.announce(Member(id="alive"))
            await asyncio.sleep((MEMBER_TTL_S + 0.3) / 4)
        before = await ledger.members()
        await ledger.announce(Member(id="dead"))
        return [member.id for member in before], [member.id for member in await ledger.members()]

    assert MEMBER_TTL_S > 2 * HEARTBEAT_S
    assert using(another, live) == [(["alive"], ["alive", "dead"])]


def verdict(version, model="a"):
    check = Check(name="digests", passed=True, measured=1.5, limit="two", detail="\N{SNOWMAN}")
    return Verdict(
        model=model, version=version, passed=True, checks=(check,), time="2026-01-01T00:00:00Z", digest="d", stable=None
    )


def test_verdicts_are_kept_the_newest_first_and_not_for_ever(another):
    async def keep(ledger):
        await ledger.keep(verdict(1, "b"))
        for version in range(1, KEPT_VERDICTS + 6):
            await ledger.keep(verdict(version))
        assert await ledger.verdicts("b") == (verdict(1, "b"),)
        return await ledger.verdicts("a")

    newest = KEPT_VERDICTS + 5
    assert using(another, keep) == [tuple(verdict(newest - i) for i in range(KEPT_VERDICTS))]


def test_closing_twice_is_once(another):
    async def close(ledger):
        await ledger.read()
        await ledger.close()
        await ledger.close()

    using(another, close)
