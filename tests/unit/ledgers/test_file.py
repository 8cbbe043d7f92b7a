"""The ledger in a file: replaced whole or not at all, and what is said when it cannot be."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal

import pytest

from serving.errors import SettingsInvalid
from serving.ledger import Pointers
from serving.ledgers.file import FILE, LOCK, FileLedger

STAGED = f".{FILE}.new"


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def ledger(state):
    return FileLedger(state)


def seed(ledger, **stables):
    return dict(asyncio.run(ledger.seed(stables)))


def read(ledger):
    return dict(asyncio.run(ledger.read()))


def test_the_file_is_json_that_people_can_read(ledger, state):
    seed(ledger, a=1)
    seed(ledger, b=2)
    text = (state / FILE).read_text()
    assert json.loads(text) == {"schema": 1, "revision": 2, "models": {"a": {"stable": 1}, "b": {"stable": 2}}}
    assert text.count("\n") > 5
    assert {path.name for path in state.iterdir()} == {FILE, LOCK}


def test_reading_makes_no_folder(ledger, state):
    assert read(ledger) == {}
    assert not state.exists()


def test_writes_only_when_something_changes(ledger, state):
    seed(ledger, a=1)
    before = (state / FILE).stat()
    seed(ledger, a=7)
    after = (state / FILE).stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


def test_whoever_has_the_old_file_open_reads_it_to_its_end(ledger, state):
    seed(ledger, a=1)
    with (state / FILE).open() as old:
        seed(ledger, b=2)
        assert json.load(old)["models"] == {"a": {"stable": 1}}


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", "Invalid JSON"),
        ("{", "Invalid JSON"),
        ('{"models": {"a": {"stable": 0}}}', "models.a.stable"),
        ('{"models": {"a": {"stable": 1, "canry": 2}}}', "models.a.canry"),
        ('{"models": {"a": 1}}', "models.a"),
        ('{"schema": 7}', "schema"),
        ('{"modles": {}}', "modles"),
    ],
    ids=["empty", "cut off", "a version of 0", "an unknown pointer", "no pointers", "another schema", "an unknown key"],
)
def test_a_damaged_file_is_named_with_what_to_do_and_never_overwritten(ledger, state, text, field):
    state.mkdir()
    (state / FILE).write_text(text)
    for use in (read, lambda ledger: seed(ledger, a=1)):
        with pytest.raises(SettingsInvalid, match=field) as caught:
            use(ledger)
        assert FILE in caught.value.detail
        assert "move it away" in caught.value.remedy
    assert (state / FILE).read_text() == text


def blocked_by_a_file(state):
    state.touch()


def folder_in_the_files_place(state):
    (state / FILE).mkdir(parents=True)


def folder_in_the_locks_place(state):
    (state / LOCK).mkdir(parents=True)


def folder_in_the_staged_files_place(state):
    (state / STAGED).mkdir(parents=True)


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (blocked_by_a_file, "File exists|Not a directory"),
        (folder_in_the_files_place, "Is a directory"),
        (folder_in_the_locks_place, "Is a directory"),
        (folder_in_the_staged_files_place, "Is a directory"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_state_folder_that_cannot_be_written_is_named(ledger, state, block, reason):
    block(state)
    with pytest.raises(SettingsInvalid, match=reason) as caught:
        seed(ledger, a=1)
    assert str(state) in caught.value.detail
    assert "--state" in caught.value.remedy


@pytest.mark.parametrize("block", [blocked_by_a_file, folder_in_the_files_place])
def test_a_state_folder_that_cannot_be_read_is_named(ledger, state, block):
    block(state)
    with pytest.raises(SettingsInvalid, match="--state"):
        read(ledger)


def test_what_a_dead_writer_left_half_done_is_written_over(ledger, state):
    seed(ledger, a=1)
    (state / STAGED).write_text('{"schema": 1, "models": {"half')
    assert seed(ledger, b=2) == {"a": Pointers(1), "b": Pointers(2)}
    assert not (state / STAGED).exists()


def _seed_for_ever(state) -> None:
    ledger = FileLedger(state)
    number = 0
    while True:
        asyncio.run(ledger.seed({f"m{number}": 1, f"n{number}": 2}))
        number += 1


def test_readers_never_see_anything_between_even_of_a_writer_that_is_killed(ledger, state):
    context = multiprocessing.get_context("spawn")
    for _ in range(3):
        writer = context.Process(target=_seed_for_ever, args=(state,))
        writer.start()
        last = len(read(ledger))
        while len(read(ledger)) < last + 40:
            assert len(read(ledger)) % 2 == 0, "both models of a change or none"
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        assert len(read(ledger)) % 2 == 0
    assert seed(ledger, last=1)["last"] == Pointers(1), "the lock of the dead is free"
