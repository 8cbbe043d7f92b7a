"""What the local index keeps in memory and on disk beside what is asked of every index."""

from __future__ import annotations

import asyncio
import sqlite3

import numpy as np
import pytest

from serving.errors import IndexUnavailable
from serving.index import Collection, IndexOptions, Item, Source
from serving.indexes.local import LocalIndex
from serving.local_index import rows

QUERY = np.array([1, 0], np.float32)


@pytest.fixture
def opened(tmp_path):
    """Runs an asynchronous function of two indexes on one file, in which there is a collection of three items."""

    def run(work):
        async def main():
            one, other = LocalIndex(IndexOptions(tmp_path), many=3), LocalIndex(IndexOptions(tmp_path), many=3)
            try:
                await one.create(Collection("c", "words", "2026-01-01T00:00:00+00:00"))
                await put(one, "a", "b", "c")
                return await work(one, other)
            finally:
                await one.close()
                await other.close()

        return asyncio.run(main())

    return run


async def put(index, *idents):
    items = [Item(ident, Source("text", ident.encode()), {}) for ident in idents]
    vectors = np.array([[1, 0.01 * ord(ident[0])] for ident in idents], np.float32)
    await index.put("c", items, {1: vectors})


async def found(index, k=5):
    return [hit.id for hit in await index.search("c", 1, QUERY, k, None)]


def test_what_went_is_remembered_for_a_while_and_whoever_is_further_behind_begins_anew(opened, tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "REMEMBERED", 20)

    async def work(one, other):
        assert await found(other) == ["a", "b", "c"]
        for turn in range(50):
            await put(one, f"{'defg'[turn % 4]}{turn}")
            if turn:
                await one.delete("c", [f"{'defg'[(turn - 1) % 4]}{turn - 1}"])
        await one.delete("c", ["a", "b"])
        assert await found(other) == await found(one) == ["c", "e49"]
        with sqlite3.connect(tmp_path / "collections.sqlite") as at:
            (count,) = at.execute("SELECT COUNT(*) FROM gone").fetchone()
        at.close()
        assert 0 < count <= 20
        space = other._spaces[1, 1]
        assert len(space._vectors) == 2, "nothing that went is left in memory"

    opened(work)


def test_spaces_that_are_gone_leave_memory(opened):
    async def work(one, other):
        await found(one)
        await found(other)
        await one.fill("c", 2, await one.missing("c", 2, 9), np.eye(3, dtype=np.float32))
        await one.search("c", 2, np.ones(3, np.float32), 1, None)
        assert set(one._spaces) == {(1, 1), (1, 2)}
        await one.clear("c", 2)
        assert set(one._spaces) == {(1, 1)}
        await one.drop("c")
        assert not one._spaces
        await other.create(Collection("c", "words", "2026-01-01T00:00:00+00:00"))
        await put(other, "a")
        assert await found(other) == ["a"]
        assert set(other._spaces) == {(2, 1)}

    opened(work)


def test_a_damaged_file_is_said_to_be_unusable_and_not_where_it_lies(tmp_path, caplog):
    (tmp_path / "collections.sqlite").write_bytes(b"no database" * 100)

    async def main():
        index = LocalIndex(IndexOptions(tmp_path))
        with pytest.raises(IndexUnavailable) as refused:
            await index.collections()
        await index.close()
        assert "cannot be used" in refused.value.detail
        assert str(tmp_path) not in f"{refused.value.detail}{refused.value.remedy}"
        assert str(tmp_path) in caplog.text, "the log tells the operator"

    asyncio.run(main())
