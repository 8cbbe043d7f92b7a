"""A SQLite file of the state folder: how it is opened, transactions on it, and a thread that they run on.

Several processes may use one file at once: it is in WAL mode, and whoever writes waits for the others.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from serving.errors import TidegateError

T = TypeVar("T")
log = logging.getLogger(__name__)

Connection = sqlite3.Connection
BUSY_S: Final = 10.0  # for another process to finish writing


@dataclass(frozen=True, slots=True)
class Schema:
    """What a file holds. unusable: what is raised while it cannot be used."""

    tables: str
    version: int
    unusable: Callable[[], TidegateError]


class SqliteFile:
    """One connection to a file, which is made with the first transaction. Blocking, for one thread at a time.

    lasting: whether what was written outlives a loss of power; it outlives the death of the process in any case.
    """

    def __init__(self, path: Path, schema: Schema, *, lasting: bool = True) -> None:
        self._path = path
        self._schema = schema
        self._lasting = lasting
        self._connection: sqlite3.Connection | None = None

    @property
    def exists(self) -> bool:
        return self._path.exists()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One state of the file. `unusable`."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, on disk when the block has ended. `unusable`."""
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
            log.warning("%s cannot be used: %s", self._path, error)
            raise self._schema.unusable() from error

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            try:
                _use_wal(connection)
                connection.execute(f"PRAGMA synchronous = {'FULL' if self._lasting else 'NORMAL'}")
                self._make(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _make(self, connection: sqlite3.Connection) -> None:
        version = self._schema.version
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            tables = self._schema.tables
            connection.executescript(f"BEGIN IMMEDIATE; {tables} PRAGMA user_version = {version}; COMMIT;")
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found != version:
            raise sqlite3.DatabaseError(f"expected schema {version}, found {found}")


def _use_wal(connection: sqlite3.Connection) -> None:
    """As a file is made, others who make it too are not waited for by SQLite itself."""
    give_up_s = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > give_up_s:
                raise
            time.sleep(0.01)
        else:
            return


class SqliteThread:
    """A file with a thread of its own, so that no disk is waited for on the event loop."""

    def __init__(self, file: SqliteFile, name: str) -> None:
        self._file = file
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    @property
    def exists(self) -> bool:
        return self._file.exists

    async def read(self, work: Callable[[Connection], T]) -> T:
        """What `work` finds in one state of the file."""

        def run() -> T:
            with self._file.reading() as at:
                return work(at)

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, when it is on disk. A caller who leaves does not end it: it may be there already."""

        def run() -> T:
            with self._file.writing() as at:
                return work(at)

        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, run))

    def close(self) -> None:
        """Blocks until what was begun has ended."""
        self._thread.submit(self._file.close)
        self._thread.shutdown()
