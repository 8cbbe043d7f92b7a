"""What every index must do, over each file of serving/indexes/ and real stores; the fake is what they are held to."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from redis_rig import redis_server

from serving import plugins
from serving.errors import CollectionExists, CollectionNotFound, VectorInvalid
from serving.filters import read_filter
from serving.index import FOLDER, Collection, Index, IndexOptions, Item, Source
from serving.indexes.fake import FakeIndex

NAMES = [*plugins.names(FOLDER), "local, by graph"]
each = pytest.mark.parametrize("name", NAMES)
KEPT = [name for name in NAMES if name != "fake"]
MODEL = Collection("c", "words", "2026-01-01T00:00:00+00:00")
DIMENSIONS = 4


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def opener(tmp_path, request):
    """Opens an index by its name on a store of this test's own; again and again, the same store."""
    fresh = itertools.count()

    def open_index(name) -> Index:
        url = ""
        if name == "redis":
            server = request.getfixturevalue("server")
            if next(fresh) == 0:
                server.ask("FLUSHALL")
            url = server.url
        if name == "local, by graph":  # as it is with many items
            return plugins.find(FOLDER, "local", "PLUGIN")(IndexOptions(tmp_path), many=3)
        return plugins.find(FOLDER, name, "PLUGIN")(IndexOptions(tmp_path, url))

    return open_index


@asynccontextmanager
async def opened(index):
    try:
        yield index
    finally:
        await index.close()


def item(ident, kind="text", content=None, **metadata):
    return Item(ident, Source(kind, ident.encode() if content is None else content), metadata)


def rows(*numbers):
    """Vectors that lie at different angles, one a number."""
    return np.array([[1.0, number, number * number / 10, -number] for number in numbers], np.float32)


def run(test):
    """Runs a coroutine function as a test."""

    def wrapper(opener, name):
        asyncio.run(test(opener, name))

    wrapper.__name__ = test.__name__
    wrapper.__doc__ = test.__doc__
    return each(wrapper)


async def filled(index, count=6):
    await index.create(MODEL)
    items = [item(f"i{i}", colour="red" if i % 2 else "blue", size=i) for i in range(count)]
    await index.put("c", items, {1: rows(*range(count))})
    return items


@run
async def test_a_collection_is_made_once_and_forgotten(opener, name):
    async with opened(opener(name)) as index:
        assert await index.collections() == ()
        assert await index.create(MODEL) == MODEL
        later = Collection("c", "words", "2027-01-01T00:00:00+00:00")
        assert await index.create(later) == MODEL
        with pytest.raises(CollectionExists):
            await index.create(Collection("c", "others", ""))
        other = Collection("b", "others", "")
        await index.create(other)
        assert await index.collections() == (other, MODEL)
        assert (await index.pause("c", paused=True)).paused
        assert [one.paused for one in await index.collections()] == [False, True]
        await index.drop("c")
        assert await index.collections() == (other,)
        for call in (index.drop("c"), index.counts("c"), index.get("c", "x"), index.delete("c", ["x"])):
            with pytest.raises(CollectionNotFound):
                await call
        await index.create(MODEL)
        assert (await index.counts("c")).items == 0, "a new one of an old name has nothing of it"


@run
async def test_what_is_put_is_there_and_found_by_its_angle(opener, name):
    async with opened(opener(name)) as index:
        await filled(index)
        counts = await index.counts("c")
        assert (counts.items, counts.vectors_alone, dict(counts.spaces)) == (6, 0, {1: 6})
        got = await index.get("c", "i3")
        assert (got.id, got.source, dict(got.metadata)) == ("i3", Source("text", b"i3"), {"colour": "red", "size": 3})
        hits = await index.search("c", 1, rows(3)[0] * 100, 3, None)
        assert hits[0].id == "i3"
        assert hits[0].score == pytest.approx(1, abs=1e-3)
        assert dict(hits[0].metadata) == {"colour": "red", "size": 3}
        assert [hit.id for hit in hits] == [hit.id for hit in await held_to(rows(*range(6)), rows(3)[0], 3)]
        assert len(await index.search("c", 1, rows(3)[0], 100, None)) == 6
        assert await index.search("c", 9, rows(3)[0], 3, None) == []


async def held_to(vectors, query, k):
    fake = FakeIndex()
    await fake.create(MODEL)
    await fake.put("c", [item(f"i{i}") for i in range(len(vectors))], {1: vectors})
    return await fake.search("c", 1, query, k, None)


@run
async def test_an_item_put_again_is_another(opener, name):
    async with opened(opener(name)) as index:
        await filled(index)
        before = await index.get("c", "i3")
        await index.put("c", [item("i3", content=b"new")], {1: rows(50)})
        after = await index.get("c", "i3")
        assert after.revision > before.revision
        assert after.source.content == b"new"
        assert dict((await index.counts("c")).spaces) == {1: 6}
        assert (await index.search("c", 1, rows(50)[0], 1, None))[0].id == "i3"
        assert await index.fill("c", 2, [before], rows(3)) == 0, "what was embedded before it changed is not kept"


@run
async def test_items_missing_from_a_space_are_told_oldest_first_and_filled(opener, name):
    async with opened(opener(name)) as index:
        await filled(index)
        await index.put("c", [item("v", "vector", b"")], {1: rows(9)})
        missing = await index.missing("c", 2, 4)
        assert [one.id for one in missing] == ["i0", "i1", "i2", "i3"]
        await index.delete("c", ["i1"])
        assert await index.fill("c", 2, missing, rows(0, 1, 2, 3)) == 3
        assert await index.fill("c", 2, missing, rows(0, 1, 2, 3)) in (0, 3)
        counts = await index.counts("c")
        assert (counts.items, counts.vectors_alone, dict(counts.spaces)) == (6, 1, {1: 6, 2: 3})
        assert [one.id for one in await index.missing("c", 2, 9)] == ["i4", "i5"], "a vector alone is not missing"
        assert {hit.id for hit in await index.search("c", 2, rows(2)[0], 9, None)} == {"i0", "i2", "i3"}
        await index.clear("c", 2)
        assert dict((await index.counts("c")).spaces) == {1: 6}
        assert await index.search("c", 2, rows(2)[0], 9, None) == []
        assert len(await index.missing("c", 2, 9)) == 5


@run
async def test_a_space_cleared_and_filled_again_has_nothing_old(opener, name):
    async with opened(opener(name)) as index:
        await filled(index)
        missing = await index.missing("c", 2, 9)
        await index.fill("c", 2, missing, rows(*range(6)))
        await index.search("c", 2, rows(2)[0], 9, None)
        await index.clear("c", 2)
        wide = np.eye(8, dtype=np.float32)[:6]
        await index.fill("c", 2, missing[:2], wide[:2])
        assert {hit.id for hit in await index.search("c", 2, wide[0], 9, None)} == {"i0", "i1"}


@run
async def test_what_is_deleted_is_in_no_space(opener, name):
    async with opened(opener(name)) as index:
        await filled(index)
        assert await index.delete("c", ["i1", "i2", "i2", "nothing"]) == 2
        assert await index.get("c", "i1") is None
        assert {hit.id for hit in await index.search("c", 1, rows(1)[0], 9, None)} == {"i0", "i3", "i4", "i5"}
        assert dict((await index.counts("c")).spaces) == {1: 4}


@run
async def test_filters_leave_out_and_never_too_much(opener, name):
    async with opened(opener(name)) as index:
        await filled(index, 40)
        await index.put("c", [item("rare", colour="gold", tags=["a", "b"])], {1: rows(-30)})

        async def ids(condition, k=3):
            found = await index.search("c", 1, rows(20)[0], k, read_filter(condition))
            return [hit.id for hit in found]

        assert await ids({"colour": "gold"}) == ["rare"], "the farthest of all"
        assert await ids({"tags": "b"}) == ["rare"]
        assert all(int(ident[1:]) % 2 for ident in await ids({"colour": "red"}))
        assert len(await ids({"colour": "red"}, 30)) == 20
        assert set(await ids({"size": {"$gte": 3, "$lt": 5}})) == {"i3", "i4"}
        assert await ids({"$not": {"colour": {"$in": ["red", "blue"]}}}) == ["rare"]
        assert await ids({"colour": "none"}) == []


@run
async def test_vectors_that_cannot_be_are_refused_and_nothing_is_kept(opener, name):
    async with opened(opener(name)) as index:
        await filled(index)
        for bad in (np.ones((1, 7)), np.zeros((1, 4)), np.full((1, 4), np.nan)):
            with pytest.raises(VectorInvalid):
                await index.put("c", [item("bad")], {1: bad.astype(np.float32)})
        assert await index.get("c", "bad") is None
        assert (await index.counts("c")).items == 6
        for bad in (np.ones(7), np.zeros(4)):
            with pytest.raises(VectorInvalid):
                await index.search("c", 1, bad.astype(np.float32), 3, None)


@pytest.mark.parametrize("name", KEPT)
def test_two_instances_see_what_the_other_did_at_once_and_so_does_a_later_one(opener, name):
    async def main():
        async with opened(opener(name)) as one, opened(opener(name)) as other:
            await filled(one)
            assert (await other.search("c", 1, rows(3)[0], 1, None))[0].id == "i3"
            await one.put("c", [item("new")], {1: rows(77)})
            assert (await other.search("c", 1, rows(77)[0], 1, None))[0].id == "new"
            await other.delete("c", ["new"])
            assert (await one.search("c", 1, rows(77)[0], 1, None))[0].id != "new"
        async with opened(opener(name)) as later:
            assert (await later.counts("c")).items == 6
            assert (await later.search("c", 1, rows(3)[0], 1, None))[0].id == "i3"

    asyncio.run(main())


@pytest.mark.parametrize("name", KEPT)
def test_many_at_once_lose_nothing(opener, name):
    async def main():
        async with opened(opener(name)) as one, opened(opener(name)) as other:
            await one.create(MODEL)

            async def put(index, first):
                for i in range(first, first + 20):
                    await index.put("c", [item(f"i{i}"), item("same")], {1: rows(i, i)})
                    await index.search("c", 1, rows(i)[0], 3, None)

            await asyncio.gather(*(put(index, 20 * i) for i, index in enumerate((one, other, one, other))))
            counts = await one.counts("c")
            assert (counts.items, dict(counts.spaces)) == (81, {1: 81})

    asyncio.run(main())


idents = st.sampled_from([f"i{i}" for i in range(8)])
numbers = st.integers(-20, 20)
spaces = st.integers(1, 2)


class Machine(RuleBasedStateMachine):
    """The same calls to an index and to the fake: the same answers."""

    make = None

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.index = self.make()
        self.fake = FakeIndex()
        self.both("create", MODEL)

    def teardown(self):
        self.both("drop", "c")
        self.loop.run_until_complete(self.index.close())
        self.loop.close()

    def both(self, verb, *arguments):
        found, expected = (
            self.loop.run_until_complete(getattr(one, verb)(*arguments)) for one in (self.index, self.fake)
        )
        return found, expected

    @rule(chosen=st.dictionaries(idents, numbers, min_size=1, max_size=4), into=st.sets(spaces))
    def put(self, chosen, into):
        vectors = {version: rows(*chosen.values()) * version for version in into}
        self.both("put", "c", [item(ident, number=number) for ident, number in chosen.items()], vectors)

    @rule(ident=idents, number=numbers, version=spaces)
    def put_alone(self, ident, number, version):
        self.both("put", "c", [item(ident, "vector", b"", number=number)], {version: rows(number)})

    @rule(chosen=st.lists(idents, max_size=3))
    def delete(self, chosen):
        found, expected = self.both("delete", "c", chosen)
        assert found == expected

    @rule(version=spaces, most=st.integers(1, 9))
    def fill(self, version, most):
        found, expected = self.both("missing", "c", version, most)
        assert [one.id for one in found] == [one.id for one in expected]
        vectors = rows(*(one.metadata["number"] for one in found)) if found else np.zeros((0, DIMENSIONS), np.float32)
        if found:
            for index, items in ((self.index, found), (self.fake, expected)):
                assert self.loop.run_until_complete(index.fill("c", version, items, vectors)) == len(items)

    @rule(version=spaces)
    def clear(self, version):
        self.both("clear", "c", version)

    @rule(version=spaces, number=numbers, k=st.integers(1, 10), least=st.none() | numbers)
    def search(self, version, number, k, least):
        condition = None if least is None else read_filter({"number": {"$gte": least}})
        found, expected = self.both("search", "c", version, rows(number)[0], k, condition)
        assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-4)
        for hit in found:
            assert condition is None or condition.matches(hit.metadata)

    @invariant()
    def counts(self):
        found, expected = self.both("counts", "c")
        assert (found.items, found.vectors_alone, dict(found.spaces)) == (
            expected.items,
            expected.vectors_alone,
            dict(expected.spaces),
        )


@pytest.mark.parametrize("name", KEPT)
def test_it_answers_as_the_fake_does(opener, name):
    class Mine(Machine):
        def make(self):
            return opener(name)

    run_state_machine_as_test(
        Mine,
        settings=settings(
            max_examples=40, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
