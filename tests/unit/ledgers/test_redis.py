"""The ledger in Redis: what it does when Redis does not, and what it may never do."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import aclosing

import pytest
from fault_proxy import fault_proxy
from redis_faults import EVERY, black_holed, refused
from redis_rig import redis_server

from serving.errors import LedgerUnavailable, SettingsInvalid
from serving.ledger import Document, LedgerOptions, Member, Pointers
from serving.ledger_copy import FILE
from serving.ledgers.redis import CHANNEL, GATEWAYS, KEY, RedisLedger
from serving.redis.link import EXCHANGE_S, PAUSE_S, Attempts
from serving.redis.wire import FAULTS, dialler
from serving.verdict import Verdict

MOST_S = EXCHANGE_S + 0.15  # for a call; the rest is for a machine that has no time
BACK_S = 2.0
PASSWORD = "geheim-7391"  # noqa: S105  (of no one)


@pytest.fixture
def server(tmp_path):
    with redis_server(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def proxy(server):
    with fault_proxy(server.port) as proxy:
        yield proxy


def open_at(tmp_path, port, state="state"):
    return RedisLedger(LedgerOptions(tmp_path / state, f"redis://127.0.0.1:{port}"))


def placing(**stables):
    def edit(document: Document) -> Document:
        pointers = {name: Pointers(stable=version) for name, version in stables.items()}
        return document.model_copy(update={"models": {**document.models, **pointers}})

    return edit


def counting(document: Document) -> Document:
    stable = document.models["n"].stable if "n" in document.models else 0
    return placing(n=stable + 1)(document)


def stored(server) -> dict:
    return json.loads(server.ask("GET", KEY))


async def timed(work):
    """What came of it, result or exception, and after how many seconds."""
    started_s = time.monotonic()
    try:
        result = await work
    except LedgerUnavailable as error:
        result = error
    return result, time.monotonic() - started_s


@pytest.mark.parametrize("fault", EVERY, ids=lambda fault: fault.__name__)
def test_at_start_the_last_document_known_is_served_and_changes_are_refused(tmp_path, server, proxy, fault):
    async def before():
        ledger = open_at(tmp_path, proxy.port)
        made = await ledger.change(placing(a=3))
        await ledger.close()
        return made

    async def during(made):
        ledger = open_at(tmp_path, proxy.port)
        assert not ledger.connected
        found, took_s = await timed(ledger.read())
        assert (found, took_s < MOST_S) == (made, True), took_s
        failure, took_s = await timed(ledger.change(placing(a=4)))
        assert isinstance(failure, LedgerUnavailable)
        assert failure.remedy
        assert took_s < MOST_S
        failure, took_s = await timed(ledger.announce(Member(id="one")))
        assert isinstance(failure, LedgerUnavailable)
        assert took_s < MOST_S
        assert not ledger.connected
        async with aclosing(ledger.watch()) as news:
            assert await asyncio.wait_for(anext(news), MOST_S) == made
        await ledger.leave("one")
        await ledger.close()

    made = asyncio.run(before())
    with fault(server, proxy):
        asyncio.run(during(made))
    assert stored(server)["models"] == {"a": {"stable": 3, "stack": [], "history": []}}


@pytest.mark.parametrize("fault", EVERY, ids=lambda fault: fault.__name__)
def test_in_mid_run_nothing_stalls_and_all_is_well_within_two_seconds_afterwards(tmp_path, server, proxy, fault):
    async def run():
        ledger, other = open_at(tmp_path, proxy.port), open_at(tmp_path, server.port, "other")
        made = await ledger.change(placing(a=1))
        slowest_s, beats = 0.0, 0

        async def beat():
            """The event loop is never held up, as requests would feel."""
            nonlocal slowest_s, beats
            while True:
                started_s = time.monotonic()
                await asyncio.sleep(0.01)
                slowest_s, beats = max(slowest_s, time.monotonic() - started_s - 0.01), beats + 1

        async with aclosing(ledger.watch()) as news:
            assert await anext(news) == made
            following = asyncio.create_task(anext(news))
            await asyncio.sleep(0.1)
            entered = fault(server, proxy)
            await asyncio.to_thread(entered.__enter__)
            beating = asyncio.create_task(beat())
            for _ in range(3):
                found, took_s = await timed(ledger.read())
                assert found == made
                assert took_s < MOST_S
                failure, took_s = await timed(ledger.change(placing(a=2)))
                assert isinstance(failure, LedgerUnavailable), failure
                assert took_s < MOST_S
                assert not ledger.connected
            await asyncio.sleep(0.3)
            assert not following.done()
            beating.cancel()
            assert slowest_s < 0.1, "the event loop was held up"
            assert beats > 15
            await asyncio.to_thread(entered.__exit__, None, None, None)
            healed_s = time.monotonic()
            newer = await other.change(placing(b=1))
            assert await asyncio.wait_for(following, BACK_S) == newer
            while not ledger.connected:
                await timed(ledger.announce(Member(id="one")))  # as gateways do each second
                await asyncio.sleep(0.05)
            await ledger.change(placing(c=1))
            assert time.monotonic() - healed_s < BACK_S
        await ledger.close()
        await other.close()

    asyncio.run(run())
    assert stored(server)["models"].keys() == {"a", "b", "c"}
    assert stored(server)["revision"] == 3


@pytest.mark.parametrize("fault", [refused, black_holed], ids=lambda fault: fault.__name__)
def test_while_redis_is_away_a_gateway_tries_twice_a_second_and_no_more(tmp_path, server, proxy, fault):
    async def run():
        ledger = open_at(tmp_path, proxy.port)
        await ledger.change(placing(a=1))
        attempts_s = []
        connect = ledger._link.connect

        async def counted():
            attempts_s.append(time.monotonic())
            return await connect()

        ledger._link.connect = counted

        async def watch():
            async for _ in ledger.watch():
                pass

        watching = asyncio.create_task(watch())
        with fault(server, proxy):
            ends_s = time.monotonic() + 1.5
            while time.monotonic() < ends_s:
                await timed(ledger.read())
                await timed(ledger.announce(Member(id="one")))
                await asyncio.sleep(0.01)
        await asyncio.sleep(1.4)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await ledger.close()
        return attempts_s

    attempts_s = asyncio.run(run())
    assert len(attempts_s) >= 4, "it does try"
    for begin_s in attempts_s:
        assert sum(begin_s <= attempt_s < begin_s + 1 for attempt_s in attempts_s) <= 2


def test_those_who_wait_behind_a_call_that_stalls_are_told_when_it_is(tmp_path, server):
    async def run():
        ledger = open_at(tmp_path, server.port)
        made = await ledger.change(placing(a=1))
        server.stop()
        for found, took_s in await asyncio.gather(*(timed(ledger.read()) for _ in range(30))):
            assert found == made
            assert took_s < MOST_S
        await ledger.close()

    asyncio.run(run())


def test_many_changes_at_once_take_turns_and_none_takes_redis_for_dead(tmp_path, server):
    history = [{"time": "2026-01-01T00:00:00Z", "action": "promote", "to": 2, "who": "someone"}] * 100
    long = Pointers.model_validate({"stable": 1, "history": history})

    async def run():
        ledger = open_at(tmp_path, server.port)
        models = {f"m{i}": long for i in range(3)}
        await ledger.change(lambda found: found.model_copy(update={"models": models}))
        await asyncio.gather(*(ledger.change(counting) for _ in range(25)))
        assert ledger.connected
        await ledger.close()

    asyncio.run(run())
    assert stored(server)["models"]["n"]["stable"] == 25


def test_attempts_are_paced_and_their_pauses_differ():
    attempts, now_s, allowed = Attempts(), 100.0, []
    for _ in range(2000):
        if attempts.take(now_s):
            allowed.append(now_s)
        now_s += 0.01
    gaps = [later - earlier for earlier, later in zip(allowed, allowed[2:], strict=False)]
    assert all(PAUSE_S[0] <= gap + 1e-6 < PAUSE_S[1] + 0.02 for gap in gaps)
    assert len({round(gap, 2) for gap in gaps}) > 3


# What may never happen


def test_cancelled_calls_never_leave_their_answers_to_others(tmp_path, server, proxy):
    proxy.jitter_s, proxy.slice_bytes = 0.001, 128
    rng = random.Random(7)

    def verdict(model):
        return Verdict(model=model, version=1, passed=True, checks=(), time="2026", digest=model * 20)

    async def run():
        ledger = open_at(tmp_path, proxy.port)
        made = await ledger.change(placing(a=1))
        for model in "ab":
            await ledger.keep(verdict(model))
        await ledger.announce(Member(id="one"))
        calls = {
            "a": lambda: ledger.verdicts("a"),
            "b": lambda: ledger.verdicts("b"),
            "read": ledger.read,
            "members": ledger.members,
            "nothing": lambda: ledger.change(lambda document: document),
        }
        right = {
            "a": (verdict("a"),),
            "b": (verdict("b"),),
            "read": made,
            "members": (Member(id="one"),),
            "nothing": made,
        }
        answered = unanswered = 0
        for _ in range(1000):
            left = asyncio.create_task(calls[rng.choice(list(calls))]())
            await asyncio.sleep(rng.random() * 0.005)
            left.cancel()
            name = rng.choice(list(calls))
            found, _ = await timed(calls[name]())
            await asyncio.gather(left, return_exceptions=True)
            unanswered += isinstance(found, LedgerUnavailable)
            if not isinstance(found, LedgerUnavailable):
                answered += 1
                assert found == right[name] or (name, found) == ("members", ()), name  # its time may be up
        await ledger.close()
        return answered, unanswered

    answered, unanswered = asyncio.run(run())
    assert answered > 900
    assert unanswered < 0.05 * answered, "whoever leaves does not shut others out"


def test_what_is_acknowledged_is_made_once_and_what_is_not_at_most_once(tmp_path, server, proxy):
    proxy.reset_share, proxy.jitter_s = 0.04, 0.002
    attempted, acknowledged, unsure, lock = 0, 0, 0, threading.Lock()

    async def work(number):
        nonlocal attempted, acknowledged, unsure
        ledger = open_at(tmp_path, proxy.port, f"state{number}")
        ledger._link.attempts.take = lambda _now_s: True  # or most of the time would be spent pausing
        for _ in range(60):
            try:
                await ledger.change(counting)
                outcome = "made"
            except LedgerUnavailable as error:
                outcome = "unsure" if "may have been made" in error.detail else "not made"
            with lock:
                attempted += 1
                acknowledged += outcome == "made"
                unsure += outcome == "unsure"
        await ledger.close()

    threads = [threading.Thread(target=lambda number=number: asyncio.run(work(number))) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made = stored(server)["models"]["n"]["stable"]
    assert proxy.resets > 10
    assert unsure > 0
    assert acknowledged <= made <= acknowledged + unsure <= attempted
    assert stored(server)["revision"] == made


def test_a_change_whose_answer_was_lost_says_that_it_may_have_been_made(tmp_path, server, proxy):
    async def run():
        ledger = open_at(tmp_path, proxy.port)
        await ledger.change(placing(a=1))

        def edit(document):
            proxy.half_close()  # from here on nothing is heard, and all is said
            return placing(a=2)(document)

        with pytest.raises(LedgerUnavailable, match="may have been made") as caught:
            await ledger.change(edit)
        assert "history" in caught.value.remedy
        await ledger.close()

    asyncio.run(run())
    assert stored(server)["models"]["a"]["stable"] == 2


def test_verdicts_are_kept_after_an_edit_that_was_refused_while_others_write(tmp_path, server):
    """The refused edit leaves a WATCH behind, which may not abort what comes next on the connection."""

    async def run():
        ledger, other = open_at(tmp_path, server.port), open_at(tmp_path, server.port, "other")

        def refuse(_document):
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await ledger.change(refuse)
        await other.change(placing(a=1))
        kept = Verdict(model="a", version=1, passed=True, checks=(), time="2026", digest="d")
        await ledger.keep(kept)
        assert await ledger.verdicts("a") == (kept,)
        await ledger.close()
        await other.close()

    asyncio.run(run())


# Redis that lost what it had


def learning(ledger, condition, patience_s=BACK_S):
    """Watches until the condition holds of a document that comes."""

    async def watch():
        async with aclosing(ledger.watch()) as news, asyncio.timeout(patience_s + 1):
            async for document in news:
                if condition(document):
                    return document
        raise AssertionError

    return watch()


def test_an_emptied_redis_is_given_back_what_the_gateways_know(tmp_path, server):
    async def run():
        one, two = open_at(tmp_path, server.port, "one"), open_at(tmp_path, server.port, "two")
        await one.change(placing(a=1))
        known = await two.change(placing(a=2))
        watching = [asyncio.create_task(learning(ledger, lambda found: found.epoch)) for ledger in (one, two)]
        await asyncio.sleep(0.1)
        await asyncio.to_thread(server.restart_empty)
        first, second = await asyncio.gather(*watching)
        assert first.models == second.models == known.models
        assert {first.revision, second.revision} == {2}
        for ledger in (one, two):
            await ledger.close()

    asyncio.run(run())
    assert (stored(server)["epoch"], stored(server)["revision"], stored(server)["base"]) in {(1, 2, 2), (2, 2, 2)}


def test_an_older_redis_is_brought_up_to_date_and_a_gateway_that_knows_less_adopts(tmp_path, server):
    async def run():
        one, two = open_at(tmp_path, server.port, "one"), open_at(tmp_path, server.port, "two")
        await one.change(placing(a=1))
        await two.read()
        old = server.ask("GET", KEY)
        known = await one.change(placing(a=2))
        server.ask("SET", KEY, old)
        assert (await two.read()).models["a"].stable == 1
        assert (await one.read()).models == known.models
        assert await two.read() == await one.read()
        assert (await two.change(placing(a=3))).revision == known.revision + 1
        assert (await one.read()).models["a"].stable == 3
        for ledger in (one, two):
            await ledger.close()

    asyncio.run(run())


def test_a_change_stands_on_what_is_known_not_on_what_redis_forgot(tmp_path, server):
    async def run():
        ledger = open_at(tmp_path, server.port)
        await ledger.change(placing(a=1))
        server.ask("FLUSHALL")
        made = await ledger.change(placing(b=1))
        assert (made.epoch, made.base, made.revision) == (1, 1, 2)
        assert set(made.models) == {"a", "b"}
        await ledger.close()

    asyncio.run(run())


def test_a_change_of_which_no_message_came_is_seen_within_two_seconds(tmp_path, server):
    async def run():
        ledger = open_at(tmp_path, server.port)
        await ledger.change(placing(a=1))
        watching = asyncio.create_task(learning(ledger, lambda found: found.revision == 2))
        await asyncio.sleep(0.2)
        document = {**stored(server), "revision": 2}
        server.ask("SET", KEY, json.dumps(document, separators=(",", ":")))
        await asyncio.wait_for(watching, BACK_S)
        await ledger.close()

    asyncio.run(run())


def test_two_histories_of_one_revision_end_as_the_one_in_redis(tmp_path, server):
    """Redis lost changes and others made as many new ones meanwhile: nobody stays with what is gone."""

    async def run():
        ledger = open_at(tmp_path, server.port)
        await ledger.change(placing(a=1))
        document = stored(server)
        document["models"]["a"]["stable"] = 9
        server.ask("SET", KEY, json.dumps(document, separators=(",", ":")))
        assert (await ledger.read()).models["a"].stable == 9
        await ledger.close()

    asyncio.run(run())


# The copy on disk


def test_the_copy_of_another_redis_fills_an_empty_one_and_never_overrules_a_full_one(tmp_path):
    async def run(old, full, empty):
        ledger = open_at(tmp_path, old.port)
        for version in range(1, 6):
            known = await ledger.change(placing(a=version))
        await ledger.close()
        moved = open_at(tmp_path, full.port)
        other = open_at(tmp_path, full.port, "other")
        theirs = await other.change(placing(b=1))
        await other.close()
        assert await moved.read() == theirs
        await moved.close()
        return known, theirs

    folders = [tmp_path / name for name in ("old", "full", "empty")]
    with redis_server(folders[0]) as old, redis_server(folders[1]) as full, redis_server(folders[2]) as empty:
        _, theirs = asyncio.run(run(old, full, empty))
        assert stored(full)["revision"] == 1

        async def fill():
            ledger = open_at(tmp_path, empty.port)
            found = await ledger.read()
            await ledger.close()
            return found

        assert asyncio.run(fill()).models == theirs.models


@pytest.mark.parametrize("text", ["", "{", "[]", '{"of": "x", "document": {"schema": 9}}', "\x00\xff"])
def test_a_damaged_copy_is_logged_and_counts_as_absent(tmp_path, proxy, server, text, caplog):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / FILE).write_text(text)
    proxy.refuse()

    async def run():
        ledger = open_at(tmp_path, proxy.port)
        assert await ledger.read() == Document()
        await ledger.close()
        proxy.heal()
        ledger = open_at(tmp_path, proxy.port)
        made = await ledger.change(placing(a=1))
        await ledger.close()
        proxy.refuse()
        again = open_at(tmp_path, proxy.port)
        assert await again.read() == made
        await again.close()

    asyncio.run(run())
    assert f"{FILE} cannot be read" in caplog.text


def test_gateways_that_share_a_state_folder_keep_the_newest(tmp_path, server):
    async def run():
        ledgers = [open_at(tmp_path, server.port) for _ in range(4)]
        await asyncio.gather(*(ledger.change(counting) for ledger in ledgers for _ in range(10)))
        for ledger in ledgers:
            await ledger.close()

    asyncio.run(run())
    assert json.loads((tmp_path / "state" / FILE).read_text())["document"]["revision"] == 40


def test_a_state_folder_that_cannot_be_written_stops_nothing(tmp_path, server, caplog):
    (tmp_path / "state").touch()

    async def run():
        ledger = open_at(tmp_path, server.port)
        await ledger.change(placing(a=1))
        await ledger.change(placing(a=2))
        assert (await ledger.read()).models["a"].stable == 2
        await ledger.close()

    asyncio.run(run())
    assert caplog.text.count("cannot be written") == 1


# What others wrote


@pytest.mark.parametrize(
    "text", ['{"schema": 2, "news": 1}', '{"schema": 1, "models": {"a": {"stable": 1, "lane": 7}}}', "no JSON", "{}x"]
)
def test_what_a_newer_release_wrote_is_left_alone(tmp_path, server, text, caplog):
    async def run():
        ledger = open_at(tmp_path, server.port)
        made = await ledger.change(placing(a=1))
        server.ask("SET", KEY, text)
        for _ in range(3):
            assert await ledger.read() == made
            with pytest.raises(LedgerUnavailable, match="cannot read") as caught:
                await ledger.change(placing(a=2))
            assert "Upgrade" in caught.value.remedy
        assert not ledger.connected
        async with aclosing(ledger.watch()) as news:
            assert await anext(news) == made
        server.ask("DEL", KEY)
        assert (await ledger.change(placing(a=2))).models["a"].stable == 2
        assert ledger.connected
        await ledger.close()

    asyncio.run(run())
    assert caplog.text.count("Until then the last pointers known stay") == 1


def test_a_gateway_that_knows_nothing_does_not_start_on_what_it_cannot_read(tmp_path, server):
    async def run():
        ledger = open_at(tmp_path, server.port)
        server.ask("SET", KEY, '{"schema": 2}')
        with pytest.raises(SettingsInvalid, match="schema"):
            await ledger.read()
        async with aclosing(ledger.watch()) as news:
            assert await anext(news) == Document()
        await ledger.close()

    asyncio.run(run())
    assert server.ask("GET", KEY) == b'{"schema": 2}'


def test_members_and_verdicts_of_other_releases_are_passed_over(tmp_path, server):
    server.ask("SET", "tidegate:gateway:new", '{"id": "new", "shard": 1}')
    server.ask("SADD", GATEWAYS, "new", "dead")
    server.ask("LPUSH", "tidegate:verdicts:a", "{}")

    async def run():
        ledger = open_at(tmp_path, server.port)
        assert await ledger.members() == ()
        assert await ledger.verdicts("a") == ()
        server.read_only()
        assert await ledger.members() == ()
        await ledger.close()

    asyncio.run(run())
    assert server.ask("SMEMBERS", GATEWAYS) == [b"new"], "the dead are swept"


def test_keys_of_another_kind_are_a_fault_not_a_crash(tmp_path, server):
    server.ask("LPUSH", KEY, "x")

    async def run():
        ledger = open_at(tmp_path, server.port)
        assert await ledger.read() == Document()
        with pytest.raises(LedgerUnavailable, match="refuses"):
            await ledger.change(placing(a=1))
        await ledger.close()

    asyncio.run(run())


# Who may connect


ACL = (
    "-@all +unwatch +watch +multi +exec +get +getrange +mget +set +del +sadd +srem +smembers +lpush +ltrim +lrange "
    "+publish +subscribe +ping"
)


def test_a_user_with_the_listed_commands_only_is_enough(tmp_path, server):
    server.ask("ACL", "SETUSER", "gate", "on", f">{PASSWORD}", "~tidegate:*", f"&{CHANNEL}", *ACL.split())

    async def run():
        ledger = RedisLedger(LedgerOptions(tmp_path, f"redis://gate:{PASSWORD}@127.0.0.1:{server.port}"))
        other = open_at(tmp_path, server.port, "other")
        await ledger.change(placing(a=1))
        with pytest.raises(ZeroDivisionError):
            await ledger.change(lambda _document: 1 / 0)
        await ledger.announce(Member(id="one"))
        server.ask("SADD", GATEWAYS, "dead")
        assert await ledger.members() == (Member(id="one"),)
        assert await ledger.members() == (Member(id="one"),)
        await ledger.keep(Verdict(model="a", version=1, passed=True, checks=(), time="", digest=""))
        assert len(await ledger.verdicts("a")) == 1
        async with aclosing(ledger.watch()) as news:
            await anext(news)
            following = asyncio.create_task(anext(news))
            await asyncio.sleep(1.2)  # a poll and a PING
            made = await other.change(placing(a=2))
            assert await asyncio.wait_for(following, 0.5) == made
        await ledger.leave("one")
        await ledger.close()
        await other.close()

    asyncio.run(run())
    denied = [entry for entry in server.ask("ACL", "LOG") if b"gate" in entry]
    assert denied == []


def test_bad_credentials_are_said_in_the_log_and_the_password_never(tmp_path, server, caplog):
    caplog.set_level(logging.DEBUG)
    server.ask("CONFIG", "SET", "requirepass", "right")

    async def run(secret):
        options = LedgerOptions(tmp_path, f"redis://{secret}127.0.0.1:{server.port}")
        ledger = RedisLedger(options)
        assert await ledger.read() == Document()
        with pytest.raises(LedgerUnavailable, match="password") as caught:
            await ledger.change(placing(a=1))
        await asyncio.sleep(0.1)
        await ledger.close()
        return f"{options!r} {ledger!r} {vars(ledger)!r} {caught.value!r} {caught.value} {caught.value.__context__!r}"

    said = asyncio.run(run(f":{PASSWORD}@"))
    assert "does not accept this gateway's password" in caplog.text
    said += asyncio.run(run(""))
    assert PASSWORD not in said + caplog.text
    assert caplog.text.count("does not accept") == 2, "once for each ledger"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        f"http://:{PASSWORD}@localhost",
        f"redis://:{PASSWORD}@localhost:port",
        f"redis://:{PASSWORD}@localhost?no_such_option=1",
        f"redis://:{PASSWORD}@localhost?socket_timeout=soon",
    ],
)
def test_a_url_that_is_none_is_refused_without_repeating_it(tmp_path, url):
    with pytest.raises(SettingsInvalid, match="--redis") as caught:
        RedisLedger(LedgerOptions(tmp_path, url))
    assert "redis://" in caught.value.remedy
    assert PASSWORD not in f"{caught.value} {caught.value!r}"


def test_a_url_cannot_undo_the_bounds(tmp_path, server):
    server.stop()

    async def run():
        url = f"redis://127.0.0.1:{server.port}?socket_timeout=60&socket_connect_timeout=60&retry_on_timeout=yes"
        ledger = RedisLedger(LedgerOptions(tmp_path, url))
        _, took_s = await timed(ledger.read())
        assert took_s < MOST_S
        await ledger.close()

    asyncio.run(run())


def test_without_redis_py_it_is_said_what_to_install():
    program = (
        "import sys; sys.modules['redis'] = None\n"
        "from serving import plugins\n"
        "from serving.errors import SettingsInvalid\n"
        "try: plugins.find('serving.ledgers', 'redis', 'PLUGIN')\n"
        "except SettingsInvalid as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert "tidegate[redis]" in said.stdout


def test_a_database_of_its_own_and_a_socket_will_do(tmp_path):
    path = tmp_path / "redis.sock"
    with redis_server(tmp_path / "redis", "--unixsocket", str(path)) as server:

        async def run(url):
            ledger = RedisLedger(LedgerOptions(tmp_path / "state", url))
            made = await ledger.change(placing(a=1))
            await ledger.close()
            return made

        asyncio.run(run(f"redis://127.0.0.1:{server.port}/3"))
        assert server.ask("GET", KEY) is None
        asyncio.run(run(f"unix://{path}"))
        assert stored(server)["models"]["a"]["stable"] == 1


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl to make a certificate with")
def test_over_tls_and_only_to_whom_it_trusts(tmp_path, server):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    make += ["-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*make, "-keyout", key, "-out", certificate], check=True, capture_output=True, timeout=60)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)

    async def run(port):
        url = f"rediss://127.0.0.1:{port}"
        trusting = RedisLedger(LedgerOptions(tmp_path / "one", f"{url}?ssl_ca_certs={certificate}"))
        made = await trusting.change(placing(a=1))
        assert await trusting.read() == made
        await trusting.close()
        doubting = RedisLedger(LedgerOptions(tmp_path / "two", url))
        assert await doubting.read() == Document()
        with pytest.raises(LedgerUnavailable):
            await doubting.change(placing(a=2))
        await doubting.close()

    with fault_proxy(server.port, tls=tls) as proxy:
        asyncio.run(run(proxy.port))


def test_whoever_gives_redis_long_to_answer_still_learns_at_once_that_nobody_does():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connect, _ = dialler(f"redis://127.0.0.1:{silent.getsockname()[1]}", 10.0)
        begun_s = time.monotonic()
        with pytest.raises(FAULTS):
            asyncio.run(connect())
        assert time.monotonic() < begun_s + 0.9
