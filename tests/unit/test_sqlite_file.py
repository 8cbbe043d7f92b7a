"""A SQLite file that several use at once: made once, all or nothing, and an error of its user's when it cannot be."""

from __future__ import annotations

import asyncio
import sqlite3
import threading

import pytest

from serving.errors import Busy
from serving.sqlite_file import Schema, SqliteFile, SqliteThread

SCHEMA = Schema("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY AUTOINCREMENT);", 3, lambda: Busy("It is away."))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "file.sqlite"


def add(at: sqlite3.Connection) -> None:
    at.execute("INSERT INTO t DEFAULT VALUES")


def count(at: sqlite3.Connection) -> int:
    return at.execute("SELECT count(*) FROM t").fetchone()[0]


def test_many_may_make_it_at_once(path):
    """Often, since what it is about is a matter of luck: SQLite waits for nobody where two turn to WAL together."""
    failures = []

    def work(place) -> None:
        file = SqliteFile(place, SCHEMA)
        start.wait()
        try:
            with file.writing() as at:
                add(at)
        except Busy as error:
            failures.append(error)
        file.close()

    for turn in range(25):
        start, place = threading.Barrier(8), path.with_name(f"{turn}.sqlite")
        threads = [threading.Thread(target=work, args=(place,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        file = SqliteFile(place, SCHEMA)
        with file.reading() as at:
            assert count(at) == 8 - len(failures)
        file.close()
    assert failures == []


def test_it_is_made_by_its_first_transaction_and_not_before(path):
    file = SqliteFile(path, SCHEMA)
    assert not file.exists
    with file.reading() as at:
        assert count(at) == 0
    assert file.exists
    file.close()


def test_what_fails_in_the_midst_of_it_changes_nothing(path):
    file = SqliteFile(path, SCHEMA)

    def fail() -> None:
        with file.writing() as at:
            add(at)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with file.reading() as at:
        assert count(at) == 0
    file.close()


@pytest.mark.parametrize(("lasting", "level"), [(True, 2), (False, 1)], ids=["FULL", "NORMAL"])
def test_what_must_last_is_waited_for(path, lasting, level):
    file = SqliteFile(path, SCHEMA, lasting=lasting)
    with file.reading() as at:
        assert at.execute("PRAGMA synchronous").fetchone() == (level,)
        assert at.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    file.close()


def test_what_cannot_be_used_is_its_users_error_until_it_can(path):
    path.parent.mkdir()
    path.write_bytes(b"something else entirely" * 100)
    file = SqliteFile(path, SCHEMA)
    with pytest.raises(Busy), file.reading():
        pass
    path.unlink()
    with file.writing() as at:
        add(at)
    file.close()


def test_another_releases_file_is_left_alone(path):
    file = SqliteFile(path, SCHEMA)
    with file.writing() as at:
        add(at)
    file.close()
    other = SqliteFile(path, Schema(SCHEMA.tables, 4, SCHEMA.unusable))
    with pytest.raises(Busy), other.writing() as at:
        add(at)
    with file.reading() as at:
        assert count(at) == 1
    file.close()


def test_a_write_whose_caller_leaves_is_done_all_the_same(path):
    async def main():
        thread = SqliteThread(SqliteFile(path, SCHEMA), "tests")
        begun, go_on = threading.Event(), threading.Event()

        def work(at):
            begun.set()
            go_on.wait(10)
            add(at)

        writing = asyncio.create_task(thread.write(work))
        await asyncio.to_thread(begun.wait, 10)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        go_on.set()
        assert await thread.read(count) == 1
        await asyncio.to_thread(thread.close)

    asyncio.run(main())
