"""What every ledger must do, and what the file ledger does besides."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import threading

import pytest

from serving.errors import SettingsInvalid
from serving.ledger import Pointers
from serving.ledgers.file import FILE, FileLedger


@pytest.fixture
def ledger(tmp_path):
    return FileLedger(tmp_path / "state" / "deep")


def seed(ledger, **stables):
    return asyncio.run(ledger.seed(stables))


def read(ledger):
    return dict(asyncio.run(ledger.read()))


def test_begins_empty(ledger):
    assert read(ledger) == {}


def test_records_where_models_start_and_keeps_what_it_has(ledger):
    assert seed(ledger, a=1, b=2) == {"a": Pointers(1), "b": Pointers(2)}
    assert seed(ledger, a=9, c=3) == {"a": Pointers(1), "b": Pointers(2), "c": Pointers(3)}
    assert read(ledger) == {"a": Pointers(1), "b": Pointers(2), "c": Pointers(3)}


def test_writes_only_when_something_changes(ledger, tmp_path):
    seed(ledger, a=1)
    file = tmp_path / "state/deep" / FILE
    before = file.stat().st_mtime_ns, json.loads(file.read_text())["revision"]
    seed(ledger, a=1)
    assert (file.stat().st_mtime_ns, json.loads(file.read_text())["revision"]) == before


@pytest.mark.parametrize(
    ("text", "field"),
    [("{", "Invalid JSON"), ('{"models": {"a": {"stable": 0}}}', "models.a.stable"), ('{"schema": 7}', "schema")],
    ids=["no JSON", "a version of 0", "another schema"],
)
def test_a_damaged_file_is_named_with_what_to_do(ledger, tmp_path, text, field):
    seed(ledger, a=1)
    (tmp_path / "state/deep" / FILE).write_text(text)
    with pytest.raises(SettingsInvalid, match=field) as caught:
        read(ledger)
    assert FILE in caught.value.detail
    assert "move it away" in caught.value.remedy


def test_a_state_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SettingsInvalid, match="--state"):
        seed(FileLedger(tmp_path / "file" / "state"), a=1)


def test_a_file_that_cannot_be_read_or_written_is_named(tmp_path):
    (tmp_path / FILE).mkdir()
    with pytest.raises(SettingsInvalid, match="--state"):
        read(FileLedger(tmp_path))
    (tmp_path / FILE).rmdir()
    (tmp_path / f".{FILE}.new").mkdir()
    with pytest.raises(SettingsInvalid, match="--state"):
        seed(FileLedger(tmp_path), a=1)


def _seed_for_ever(state) -> None:
    ledger = FileLedger(state)
    number = 0
    while True:
        asyncio.run(ledger.seed({f"m{number}": 1, f"n{number}": 2}))
        number += 1


def test_readers_never_see_anything_between_even_of_a_writer_that_is_killed(tmp_path):
    context = multiprocessing.get_context("spawn")
    ledger = FileLedger(tmp_path)
    for _ in range(3):
        writer = context.Process(target=_seed_for_ever, args=(tmp_path,))
        writer.start()
        last = len(read(ledger))
        while len(read(ledger)) < last + 40:
            assert len(read(ledger)) % 2 == 0, "both models of a change or none"
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        known = read(ledger)
        assert len(known) % 2 == 0
    assert seed(ledger, last=1)["last"] == Pointers(1), "the lock of the dead is free"


def test_writers_do_not_lose_each_others_changes(tmp_path):
    def write(i: int) -> None:
        for j in range(10):
            asyncio.run(FileLedger(tmp_path).seed({f"m{i}-{j}": 1}))

    threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read(FileLedger(tmp_path))) == 40
