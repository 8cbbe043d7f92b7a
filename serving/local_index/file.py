"""The one SQLite file of the local index: its tables, and transactions on it. Blocking, for one thread at a time."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from serving.errors import IndexUnavailable

log = logging.getLogger(__name__)

Connection = sqlite3.Connection
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS collections (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL UNIQUE, model TEXT NOT NULL, created TEXT NOT NULL,
  paused INTEGER NOT NULL DEFAULT 0, items INTEGER NOT NULL DEFAULT 0, alone INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS items (
  revision INTEGER PRIMARY KEY,
  collection INTEGER NOT NULL, ident TEXT NOT NULL, kind TEXT NOT NULL, content BLOB NOT NULL, metadata TEXT NOT NULL,
  UNIQUE (collection, ident));
CREATE TABLE IF NOT EXISTS spaces (
  collection INTEGER NOT NULL, version INTEGER NOT NULL, dimensions INTEGER NOT NULL,
  vectors INTEGER NOT NULL DEFAULT 0, born INTEGER NOT NULL,
  PRIMARY KEY (collection, version)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS vectors (
  collection INTEGER NOT NULL, version INTEGER NOT NULL, revision INTEGER NOT NULL, vector BLOB NOT NULL,
  filled INTEGER NOT NULL,
  PRIMARY KEY (collection, version, revision));
CREATE INDEX IF NOT EXISTS vectors_filled ON vectors (collection, version, filled);
CREATE TABLE IF NOT EXISTS gone (
  revision INTEGER PRIMARY KEY, collection INTEGER NOT NULL, item INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS counter (only INTEGER PRIMARY KEY CHECK (only = 0), revision INTEGER NOT NULL);
INSERT OR IGNORE INTO counter VALUES (0, 0);
"""
VERSION: Final = 1  # of the schema
BUSY_S: Final = 10.0  # for another process to finish writing
REMEDY: Final = "The operator finds the file in the state folder; its log says more."


class Tables:
    """One connection to the file, which is made with the first collection."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._connection: sqlite3.Connection | None = None

    @property
    def exists(self) -> bool:
        return self._file.exists()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One state of the file. IndexUnavailable."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, on disk when the block has ended. IndexUnavailable."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._open()
            connection.execute(begin)
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()
        except (sqlite3.Error, OSError) as error:
            self.close()  # the next one opens it anew
            log.warning("%s cannot be used: %s", self._file, error)
            raise IndexUnavailable("The file of the collections cannot be used.", remedy=REMEDY) from error

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._file, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")  # what was acknowledged outlives the power
                if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
                    connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
                found = connection.execute("PRAGMA user_version").fetchone()[0]
                if found != VERSION:
                    raise sqlite3.DatabaseError(f"expected schema {VERSION}, found {found}")
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection
