"""deploy/redis and what deploy/secrets.sh makes, on a real Redis 8: who may do what, and that this is enough."""

from __future__ import annotations

import asyncio
import subprocess
from contextlib import aclosing

import numpy as np
import pytest
from redis_rig import redis_server
from tool_rig import ROOT

from serving.claim import ClaimOptions
from serving.claims.redis import RedisClaims
from serving.filters import read_filter
from serving.index import Collection, IndexOptions, Item, Source
from serving.indexes.redis import RedisIndex
from serving.ledger import LedgerOptions, Member
from serving.ledgers.redis import RedisLedger
from serving.observation.truths import KEY
from serving.redis.stream import RedisStream
from serving.settings import read_settings

SCRIPT = ROOT / "deploy/secrets.sh"
CONFIG = ROOT / "deploy/redis/redis.conf"


@pytest.fixture(scope="module")
def secrets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("secrets") / "made"
    subprocess.run([SCRIPT, folder], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def server(secrets, tmp_path_factory):
    """With one more user, to see what it refused."""
    folder = tmp_path_factory.mktemp("redis")
    users = folder / "users"
    users.write_text((secrets / "redis_users").read_text() + "user watcher on nopass -@all +acl\n")
    with redis_server(folder / "data", "--aclfile", str(users), config=CONFIG) as server:
        yield server


@pytest.fixture(scope="module")
def url(server, secrets):
    """As a gateway's settings make it of the compose file's."""
    whole = f"redis://tidegate@127.0.0.1:{server.port}"
    return read_settings(redis=whole, redis_password_file=secrets / "redis_password").redis


def say(server, secrets, *words):
    """What Redis says to the gateways' user: bytes, or b"NOPERM ..."."""
    return server.ask(*words, user="tidegate", password=(secrets / "redis_password").read_text().strip())


# What secrets.sh makes


def test_secrets_are_readable_in_a_folder_that_is_not_and_stay_as_they_are(secrets):
    names = {path.name for path in secrets.iterdir()}
    assert names == {"redis_password", "redis_users", "grafana_password"}
    assert secrets.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in secrets.iterdir()} == {0o444}
    before = {path.name: path.read_text() for path in secrets.iterdir()}
    assert len({before["redis_password"], before["grafana_password"]}) == 2
    assert all(len(before[name]) >= 40 for name in ("redis_password", "grafana_password"))
    assert before["redis_password"].strip() not in before["redis_users"], "Redis has its digest"
    subprocess.run([SCRIPT, secrets], check=True, capture_output=True)
    assert {path.name: path.read_text() for path in secrets.iterdir()} == before


# Who may do what


@pytest.mark.parametrize(
    "command",
    [
        "SET tidegate:a b", "HSET tidegate:h a b", "ZADD tidegate:z 1 a", "XADD tidegate:s * a b", "LPUSH tidegate:l a",
        "XREVRANGE tidegate:s + - COUNT 1", "XRANGE tidegate:s - + COUNT 1",
        "VADD tidegate:v VALUES 2 1 0 x", "VSIM tidegate:v VALUES 2 1 0", "EXPIRE tidegate:a 9", "WATCH tidegate:a",
        "PUBLISH tidegate:news x",
    ],
)  # fmt: skip
def test_gateways_may_do_their_work(server, secrets, command):
    assert b"NOPERM" not in repr(say(server, secrets, *command.split())).encode()


@pytest.mark.parametrize(
    "command",
    [
        "SET other b", "GET other", "PUBLISH other x", "KEYS *", "FLUSHALL", "FLUSHDB", "CONFIG GET *", "EVAL return 0",
        "CONFIG SET dir /tmp", "FUNCTION LIST", "SCRIPT FLUSH", "SHUTDOWN", "SAVE", "ACL LIST", "MODULE LIST", "INFO",
        "REPLICAOF NO ONE", "CLIENT LIST", "CLIENT KILL TYPE normal", "MIGRATE h 1 tidegate:a 0 1", "MONITOR",
        "RESTORE tidegate:a 0 x",
    ],
)  # fmt: skip
def test_and_nothing_else(server, secrets, command):
    assert say(server, secrets, *command.split()).startswith(b"NOPERM")


def test_strangers_may_nothing_and_probes_only_ping(server):
    assert server.ask("PING").startswith(b"NOAUTH")
    assert server.ask("PING", user="health", password="any") == b"PONG"  # noqa: S106
    assert server.ask("GET", "tidegate:a", user="health", password="any").startswith(b"NOPERM")  # noqa: S106
    assert server.ask("PING", user="tidegate", password="wrong").startswith(b"NOAUTH")  # noqa: S106


def test_what_redis_conf_says_is_so(secrets, tmp_path):
    """Of a server whose user may ask for it."""
    users = tmp_path / "users"
    users.write_text("user default on nopass ~* &* +@all\n")
    with redis_server(tmp_path / "redis", "--aclfile", str(users), config=CONFIG) as server:
        wanted = {"appendonly": b"yes", "appendfsync": b"always", "maxmemory-policy": b"noeviction", "save": b""}
        assert {name: server.ask("CONFIG", "GET", name)[1] for name in wanted} == wanted
        assert server.ask("CONFIG", "SET", "dir", "/tmp").startswith(b"ERR")  # noqa: S108
        assert server.ask("DEBUG", "SLEEP", "0").startswith(b"ERR")


def test_ledger_claims_collections_and_truths_find_all_that_they_need(server, url, tmp_path):
    collection = Collection("c", "words", "2026-01-01T00:00:00+00:00")
    item = Item("a", Source("text", b"a"), {"kind": "fruit"})
    vector = np.array([[1, 0, 0, 1]], np.float32)

    async def work():
        ledger = RedisLedger(LedgerOptions(tmp_path, url))
        claims = RedisClaims(ClaimOptions("one", tmp_path, url))
        index = RedisIndex(IndexOptions(tmp_path, url))
        truths = RedisStream(url, KEY)
        await truths.news()
        await truths.append([b"one"])
        assert await truths.news() == [b"one"]
        await ledger.change(lambda document: document)
        await ledger.announce(Member(id="one"))
        assert await ledger.members() == (Member(id="one"),)
        await ledger.leave("one")
        await claims.claim({"a": [1]})
        assert await claims.claimed() == {"a": frozenset({1})}
        async with claims.turn("a") as turn:
            assert turn.held
        await index.create(collection)
        await index.put("c", [item], {1: vector})
        assert [hit.id for hit in await index.search("c", 1, vector[0], 1, read_filter({"kind": "fruit"}))] == ["a"]
        missing = await index.missing("c", 2, 10)
        assert await index.fill("c", 2, missing, vector) == 1
        await index.clear("c", 1)
        await index.pause("c", paused=True)
        assert (await index.counts("c")).spaces == {2: 1}
        assert await index.delete("c", ["a"]) == 1
        await index.drop("c")
        async with aclosing(ledger.watch()) as news:
            await anext(news)
        for one in (ledger, claims, index, truths):
            await one.close()

    server.ask("ACL", "LOG", "RESET", user="watcher", password="any")  # noqa: S106
    asyncio.run(work())
    assert server.ask("ACL", "LOG", user="watcher", password="any") == []  # noqa: S106
