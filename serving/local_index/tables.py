"""Collections in one SQLite file: the truth, of which all that is in memory can be made again.

Each change of an item takes a revision of its own from one counter, and what is deleted leaves its revision behind, so
whoever has followed up to some revision asks for what came after it. Blocking, and for one thread at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import orjson

from serving.errors import CollectionExists, CollectionNotFound
from serving.index import Collection, Counts, Item, Source
from serving.local_index import rows
from serving.tensors import Array

Connection = sqlite3.Connection


class Found(NamedTuple):
    ident: str
    metadata: Mapping[str, object]


def create(at: sqlite3.Connection, collection: Collection) -> Collection:
    """As Index.create."""
    for found in collections(at):
        if found.name == collection.name:
            if found.model != collection.model:
                detail = f"{found.name} is a collection of {found.model}."
                raise CollectionExists(detail, remedy="Choose another name, or delete it first.")
            return found
    at.execute(
        "INSERT INTO collections (name, model, created, paused) VALUES (?, ?, ?, ?)",
        (collection.name, collection.model, collection.created, collection.paused),
    )
    return collection


def collections(at: sqlite3.Connection) -> tuple[Collection, ...]:
    rows = at.execute("SELECT name, model, created, paused FROM collections ORDER BY name").fetchall()
    return tuple(Collection(name, model, created, bool(paused)) for name, model, created, paused in rows)


def number(at: sqlite3.Connection, name: str) -> int:
    """A collection's own number, which no other ever has. CollectionNotFound."""
    row = at.execute("SELECT id FROM collections WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise CollectionNotFound("There is no collection of that name.", remedy="PUT /v1/collections/NAME makes one.")
    found: int = row[0]
    return found


def drop(at: sqlite3.Connection, name: str) -> None:
    here = number(at, name)
    for table in ("items", "vectors", "spaces", "gone"):
        at.execute(f"DELETE FROM {table} WHERE collection = ?", (here,))  # noqa: S608  (a name of ours)
    at.execute("DELETE FROM collections WHERE id = ?", (here,))


def pause(at: sqlite3.Connection, name: str, *, paused: bool) -> Collection:
    at.execute("UPDATE collections SET paused = ? WHERE id = ?", (paused, number(at, name)))
    return next(found for found in collections(at) if found.name == name)


def counts(at: sqlite3.Connection, name: str) -> Counts:
    here = number(at, name)
    items, alone = at.execute("SELECT items, alone FROM collections WHERE id = ?", (here,)).fetchone()
    rows = at.execute("SELECT version, vectors FROM spaces WHERE collection = ? AND vectors > 0", (here,)).fetchall()
    return Counts(items, alone, dict(rows))


def put(at: sqlite3.Connection, name: str, items: Sequence[Item], vectors: Mapping[int, Array]) -> None:
    """As Index.put."""
    here = number(at, name)
    _forget(at, here, [item.id for item in items])
    first = rows.fresh_revisions(at, len(items))
    for i, item in enumerate(items):
        at.execute(
            "INSERT INTO items VALUES (?, ?, ?, ?, ?, ?)",
            (
                first + i,
                here,
                item.id,
                item.source.kind,
                item.source.content,
                orjson.dumps(dict(item.metadata)).decode(),
            ),
        )
    alone = sum(item.source.kind == "vector" for item in items)
    at.execute("UPDATE collections SET items = items + ?, alone = alone + ? WHERE id = ?", (len(items), alone, here))
    for version, found in vectors.items():
        rows.write(at, here, version, range(first, first + len(items)), found)


def get(at: sqlite3.Connection, name: str, ident: str) -> Item | None:
    query = "SELECT ident, kind, content, metadata, revision FROM items WHERE collection = ? AND ident = ?"
    row = at.execute(query, (number(at, name), ident)).fetchone()
    return _item(row) if row else None


def delete(at: sqlite3.Connection, name: str, idents: Sequence[str]) -> int:
    return _forget(at, number(at, name), list(dict.fromkeys(idents)))


def missing(at: sqlite3.Connection, name: str, version: int, most: int) -> list[Item]:
    here = number(at, name)
    rows = at.execute(
        "SELECT ident, kind, content, metadata, revision FROM items WHERE collection = ? AND kind <> 'vector' AND NOT"
        " EXISTS (SELECT 1 FROM vectors WHERE vectors.collection = ? AND version = ? AND vectors.revision ="
        " items.revision) ORDER BY revision LIMIT ?",
        (here, here, version, most),
    )
    return [_item(row) for row in rows]


def fill(at: sqlite3.Connection, name: str, version: int, items: Sequence[Item], vectors: Array) -> int:
    """As Index.fill."""
    here = number(at, name)
    there = [i for i, item in enumerate(items) if _is_there(at, here, version, item)]
    if there:
        rows.write(at, here, version, [items[i].revision for i in there], vectors[there])
    return len(there)


def clear(at: sqlite3.Connection, name: str, version: int) -> None:
    here = number(at, name)
    at.execute("DELETE FROM vectors WHERE collection = ? AND version = ?", (here, version))
    at.execute("DELETE FROM spaces WHERE collection = ? AND version = ?", (here, version))


def found(at: sqlite3.Connection, revisions: Sequence[int]) -> dict[int, Found]:
    """Ids and metadata of items by their revisions; of those that are gone, nothing."""
    result: dict[int, Found] = {}
    for start in range(0, len(revisions), 500):
        part = revisions[start : start + 500]
        marks = ", ".join("?" * len(part))
        query = f"SELECT revision, ident, metadata FROM items WHERE revision IN ({marks})"  # noqa: S608  (marks alone)
        for revision, ident, metadata in at.execute(query, tuple(part)):
            result[revision] = Found(ident, orjson.loads(metadata))
    return result


def all_metadata(at: sqlite3.Connection, here: int) -> Iterator[tuple[int, Mapping[str, object]]]:
    """Revision and metadata of each item."""
    for revision, metadata in at.execute("SELECT revision, metadata FROM items WHERE collection = ?", (here,)):
        yield revision, orjson.loads(metadata)


def _forget(at: sqlite3.Connection, here: int, idents: Sequence[str]) -> int:
    """Takes items out of all spaces; how many there were."""
    count = 0
    for ident in idents:
        row = at.execute(
            "DELETE FROM items WHERE collection = ? AND ident = ? RETURNING revision, kind", (here, ident)
        ).fetchone()
        if row is None:
            continue
        count += 1
        item, kind = row
        at.execute("UPDATE collections SET items = items - 1, alone = alone - ? WHERE id = ?", (kind == "vector", here))
        for (version,) in at.execute("SELECT version FROM spaces WHERE collection = ?", (here,)).fetchall():
            gone = at.execute(
                "DELETE FROM vectors WHERE collection = ? AND version = ? AND revision = ?", (here, version, item)
            ).rowcount
            at.execute(
                "UPDATE spaces SET vectors = vectors - ? WHERE collection = ? AND version = ?", (gone, here, version)
            )
        at.execute("INSERT INTO gone VALUES (?, ?, ?)", (rows.fresh_revisions(at, 1), here, item))
    at.execute("DELETE FROM gone WHERE revision < ?", (rows.revision(at) - rows.REMEMBERED,))
    return count


def _is_there(at: sqlite3.Connection, here: int, version: int, item: Item) -> bool:
    """Whether the item is as it was, and has no vector in the space yet."""
    row = at.execute(
        "SELECT NOT EXISTS (SELECT 1 FROM vectors WHERE collection = ? AND version = ? AND revision = ?) FROM items"
        " WHERE collection = ? AND revision = ?",
        (here, version, item.revision, here, item.revision),
    ).fetchone()
    return bool(row and row[0])


def _item(row: tuple[str, str, bytes, str, int]) -> Item:
    ident, kind, content, metadata, revision_ = row
    return Item(ident, Source(kind, content), orjson.loads(metadata), revision_)  # type: ignore[arg-type]
