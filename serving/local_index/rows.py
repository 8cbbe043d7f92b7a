"""Spaces in the file: vectors of length 1 by the revisions of their items, and what came and went after a revision."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from serving.tensors import Array
from serving.vectors import check_dimensions, unit

REMEMBERED: Final = 1_000_000  # revisions for which it is known what went; whoever is further behind begins anew


class Row(NamedTuple):
    """A vector of a space: its item's revision, and float32 bytes."""

    revision: int
    vector: bytes


class Extent(NamedTuple):
    """born: the revision that it began with; one that was cleared and filled again has another."""

    born: int
    dimensions: int
    vectors: int


def extent(at: sqlite3.Connection, here: int, version: int) -> Extent | None:
    """None for a space with nothing in it."""
    row = at.execute(
        "SELECT born, dimensions, vectors FROM spaces WHERE collection = ? AND version = ? AND vectors > 0",
        (here, version),
    ).fetchone()
    return Extent(*row) if row else None


def vectors_of(at: sqlite3.Connection, here: int, version: int, revisions: Sequence[int]) -> tuple[list[int], Array]:
    """Those of the items that are in the space, and their vectors, float32 [n, dimensions]."""
    query = "SELECT vector FROM vectors WHERE collection = ? AND version = ? AND revision = ?"
    rows = [(one, at.execute(query, (here, version, one)).fetchone()) for one in revisions]
    there = [(one, row[0]) for one, row in rows if row is not None]
    vectors = np.frombuffer(b"".join(vector for _, vector in there), np.float32)
    return [one for one, _ in there], vectors.reshape(len(there), -1) if there else vectors


def revision(at: sqlite3.Connection) -> int:
    """Of the newest change."""
    found: int = at.execute("SELECT revision FROM counter").fetchone()[0]
    return found


def filled_after(at: sqlite3.Connection, here: int, version: int, after: int) -> Iterator[Row]:
    """The vectors of a space that came after a revision, in order."""
    rows = at.execute(
        "SELECT revision, vector FROM vectors WHERE collection = ? AND version = ? AND filled > ? ORDER BY filled",
        (here, version, after),
    )
    yield from map(Row._make, rows)


def gone_after(at: sqlite3.Connection, here: int, after: int) -> list[int]:
    """The revisions of items that went after a revision."""
    rows = at.execute("SELECT item FROM gone WHERE collection = ? AND revision > ?", (here, after))
    return [item for (item,) in rows]


def write(at: sqlite3.Connection, here: int, version: int, revisions: Sequence[int], rows: Array) -> None:
    """Vectors float32 [n, dimensions] of these items. VectorInvalid when the space has other dimensions."""
    if known := extent(at, here, version):
        check_dimensions(rows, known.dimensions)
    first = fresh_revisions(at, len(rows))
    units = unit(rows)
    at.executemany(
        "INSERT INTO vectors VALUES (?, ?, ?, ?, ?)",
        [(here, version, one, units[i].tobytes(), first + i) for i, one in enumerate(revisions)],
    )
    at.execute(
        "INSERT INTO spaces (collection, version, dimensions, vectors, born) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO"
        " UPDATE SET vectors = vectors + excluded.vectors, dimensions = excluded.dimensions,"
        " born = CASE vectors WHEN 0 THEN excluded.born ELSE born END",
        (here, version, rows.shape[1], len(rows), first),
    )


def fresh_revisions(at: sqlite3.Connection, count: int) -> int:
    """The first of so many fresh ones."""
    newest: int = at.execute("UPDATE counter SET revision = revision + ? RETURNING revision", (count,)).fetchone()[0]
    return newest - count + 1
