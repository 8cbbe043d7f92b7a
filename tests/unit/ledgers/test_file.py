"""The ledger in a file: replaced whole or not at all, and what is said when it cannot be."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import threading

import pytest

from serving.atomic_file import replace_file
from serving.errors import SettingsInvalid
from serving.ledger import Document, LedgerOptions, Member, Pointers
from serving.ledgers import file
from serving.ledgers.file import FILE, GATEWAYS, LOCK, VERDICTS, FileLedger
from serving.verdict import Verdict

STAGED = f".{FILE}.new"


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def ledger(state):
    return FileLedger(LedgerOptions(state))


def place(ledger, **stables):
    """Makes these models' stable versions so; the models that there are then."""

    def edit(document: Document) -> Document:
        pointers = {name: Pointers(stable=version) for name, version in stables.items()}
        return document.model_copy(update={"models": {**document.models, **pointers}})

    return dict(asyncio.run(ledger.change(edit)).models)


def read(ledger):
    return dict(asyncio.run(ledger.read()).models)


def test_the_file_is_json_that_people_can_read(ledger, state):
    place(ledger, a=1)
    place(ledger, b=2)
    text = (state / FILE).read_text()
    models = {name: {"stable": stable, "stack": [], "history": []} for name, stable in (("a", 1), ("b", 2))}
    assert json.loads(text) == {"schema": 1, "epoch": 0, "revision": 2, "base": 0, "models": models}
    assert text.count("\n") > 5
    assert {path.name for path in state.iterdir()} == {FILE, LOCK}


def test_reading_makes_no_folder(ledger, state):
    assert read(ledger) == {}
    assert not state.exists()


def test_writes_only_when_something_changes(ledger, state):
    place(ledger, a=1)
    before = (state / FILE).stat()
    place(ledger, a=1)
    after = (state / FILE).stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


def test_whoever_has_the_old_file_open_reads_it_to_its_end(ledger, state):
    place(ledger, a=1)
    with (state / FILE).open() as old:
        place(ledger, b=2)
        assert json.load(old)["models"].keys() == {"a"}


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
    for use in (read, lambda ledger: place(ledger, a=1)):
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
        place(ledger, a=1)
    assert str(state) in caught.value.detail
    assert "--state" in caught.value.remedy


@pytest.mark.parametrize("block", [blocked_by_a_file, folder_in_the_files_place])
def test_a_state_folder_that_cannot_be_read_is_named(ledger, state, block):
    block(state)
    with pytest.raises(SettingsInvalid, match="--state"):
        read(ledger)


def test_what_a_dead_writer_left_half_done_is_written_over(ledger, state):
    place(ledger, a=1)
    (state / STAGED).write_text('{"schema": 1, "models": {"half')
    assert place(ledger, b=2) == {"a": Pointers(stable=1), "b": Pointers(stable=2)}
    assert not (state / STAGED).exists()


def _place_for_ever(state) -> None:
    ledger = FileLedger(LedgerOptions(state))
    number = 0
    while True:
        place(ledger, **{f"m{number}": 1, f"n{number}": 2})
        number += 1


def test_readers_never_see_anything_between_even_of_a_writer_that_is_killed(ledger, state):
    context = multiprocessing.get_context("spawn")
    for _ in range(3):
        writer = context.Process(target=_place_for_ever, args=(state,))
        writer.start()
        last = len(read(ledger))
        while len(read(ledger)) < last + 40:
            assert len(read(ledger)) % 2 == 0, "both models of a change or none"
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        assert len(read(ledger)) % 2 == 0
    assert place(ledger, last=1)["last"] == Pointers(stable=1), "the lock of the dead is free"


def test_other_processes_changes_are_seen_though_none_of_them_says_so(ledger, state):
    async def watch():
        news = ledger.watch()
        assert (await anext(news)).models == {}
        await asyncio.to_thread(place, FileLedger(LedgerOptions(state)), a=1)
        assert (await asyncio.wait_for(anext(news), 0.5)).models == {"a": Pointers(stable=1)}
        await news.aclose()

    asyncio.run(watch())


def test_watching_goes_on_after_the_file_was_broken_by_hand(ledger, state):
    place(ledger, a=1)

    async def watch():
        news = ledger.watch()
        await anext(news)
        good = (state / FILE).read_text()
        (state / FILE).write_text("{")
        following = asyncio.create_task(anext(news))
        await asyncio.sleep(0.1)
        assert not following.done()
        (state / FILE).write_text(good.replace('"stable": 1', '"stable": 2'))
        assert (await asyncio.wait_for(following, 0.5)).models["a"].stable == 2
        await news.aclose()

    asyncio.run(watch())


def test_gateways_that_died_are_swept_and_what_others_left_there_is_passed_over(ledger, state):
    asyncio.run(ledger.announce(Member(id="dead")))
    asyncio.run(ledger.announce(Member(id="alive")))
    folder = state / GATEWAYS
    (folder / "strange.json").write_text('{"id": "strange", "shard": 1}')
    os.utime(folder / "dead.json", (1, 1))
    assert asyncio.run(ledger.members()) == (Member(id="alive"),)
    assert {path.name for path in folder.iterdir()} == {"alive.json", "strange.json"}


def test_damaged_verdicts_are_named(ledger, state):
    verdict = Verdict(model="a", version=1, passed=True, checks=(), time="2026", digest="d")
    asyncio.run(ledger.keep(verdict))
    (state / VERDICTS / "a.json").write_text("{")
    with pytest.raises(SettingsInvalid, match=r"a\.json"):
        asyncio.run(ledger.verdicts("a"))
    with pytest.raises(SettingsInvalid, match=r"a\.json"):
        asyncio.run(ledger.keep(verdict))


def test_what_was_being_said_when_a_gateway_left_is_said_no_more(state, monkeypatch):
    """Its thread cannot be stopped: without care it would bring the gateway back, for others to wait for."""
    ledger = FileLedger(LedgerOptions(state))
    begun, go_on = threading.Event(), threading.Event()

    def slowly(*given, **options):
        begun.set()
        go_on.wait(10)
        return replace_file(*given, **options)

    async def main():
        monkeypatch.setattr(file, "replace_file", slowly)
        saying = asyncio.create_task(ledger.announce(Member(id="a")))
        await asyncio.to_thread(begun.wait, 10)
        later = asyncio.create_task(ledger.announce(Member(id="a")))
        saying.cancel()
        leaving = asyncio.create_task(ledger.leave("a"))
        await asyncio.sleep(0.01)
        go_on.set()
        await asyncio.gather(leaving, later)
        assert await ledger.members() == ()
        await ledger.announce(Member(id="a"))
        assert await ledger.members() == ()

    asyncio.run(main())
