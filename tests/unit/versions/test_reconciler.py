"""A gateway follows its ledger and its repository, whatever becomes of either."""

from __future__ import annotations

import asyncio
import logging
import shutil

import pytest
import tiny
from http_rig import until
from versions_rig import MODEL, TellingEngine, file_ledger, parts, publish, started

from serving.errors import LedgerUnavailable
from serving.ledger import Document, LedgerOptions, Pointers, Wanted
from serving.ledgers.file import FileLedger
from serving.shadow import Tally
from serving.versions import reconciler as reconcilers
from serving.versions.orders import Promotion
from serving.versions.router import Target
from serving.versions.transitions import of_model, seeded


@pytest.fixture(autouse=True)
def looks_often(monkeypatch):
    monkeypatch.setattr(reconcilers, "RESCAN_S", 0.05)


def pointing(**pointers):
    """An edit that makes the pointers these."""
    return of_model(MODEL, lambda _: Pointers(**pointers))


def test_it_follows_changes_that_others_make(root, state):
    async def main():
        async with started(root, state) as rig:
            assert rig.answers() == 1
            other = file_ledger(state)
            await other.change(pointing(stable=2, stack=(1,)))
            await until(lambda: rig.answers() == 2, "it follows")
            assert rig.loaded() == {1, 2}
            document = await other.change(pointing(stable=1))
            await until(lambda: rig.answers() == 1, "it follows")
            await until(lambda: rig.loaded() == {1}, "what nobody wants is let go")
            await until(lambda: rig.reconciler.revision == document.revision, "it says so")

    asyncio.run(main())


def test_it_tells_the_others_what_it_follows_and_has(root, state):
    async def main():
        other = file_ledger(state)
        async with started(root, state) as rig:
            rig.engine.failing.add(f"{MODEL}/3")
            wanted = Wanted(id="a", version=3, role="stable", action="promote", who="tests", until=9e9)
            document = await other.change(pointing(stable=2, stack=(1,), wanted=wanted))

            async def told() -> bool:
                (member,) = await other.members()
                assert member.id == rig.reconciler.member
                return (
                    member.follows(document)
                    and member.ready == {MODEL: (1, 2)}
                    and "told to" in member.failed.get(MODEL, {}).get(3, "")
                )

            while not await told():
                await asyncio.sleep(0.01)
        assert await other.members() == (), "it took its leave"

    asyncio.run(asyncio.wait_for(main(), 15))


def test_a_restart_comes_back_on_the_pointers(root, state):
    async def main():
        async with started(root, state) as rig:
            await rig.ledger.change(pointing(stable=3, stack=(1, 2)))
            await until(lambda: rig.answers() == 3, "it follows")
        async with started(root, state) as rig:
            assert rig.answers() == 3
            await until(lambda: rig.loaded() == {2, 3}, "the way back is warm again")
            assert rig.engine.tried[0] == f"{MODEL}/3", "the one that answers comes first"

    asyncio.run(main())


def test_a_restart_over_a_folder_that_is_gone_serves_what_is_left(root, state, caplog):
    tiny.add_plain(root)

    async def main():
        await file_ledger(state).change(seeded({MODEL: 2, "double": 1}))
        shutil.rmtree(root / MODEL / "2")
        async with started(root, state) as rig:
            assert rig.router.resolve(Target("double"), None).version.number == 1
            assert "sound version folder 2" in rig.keeper.failures[2].reason
            publish(root, (2,))
            await until(lambda: rig.keeper.serving == 2, "published again, it serves")

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
    assert f"{MODEL}/2 is not ready" in caplog.text


@pytest.mark.parametrize("gone", ["version", "model", "repository"])
def test_a_deleted_folder_takes_nothing_down(root, state, gone, caplog):
    """It has been loaded: what is in memory goes on answering."""
    folder = {"version": root / MODEL / "1", "model": root / MODEL, "repository": root}[gone]

    async def main():
        async with started(root, state) as rig:
            shutil.rmtree(folder)
            await asyncio.sleep(0.3)
            assert rig.answers() == 1
            with rig.router.resolve(Target(MODEL), "classify") as resident:
                assert resident.version.number == 1

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())


def test_a_half_written_version_is_found_when_it_is_whole(root, state, tmp_path):
    whole = tiny.add_classifier(tmp_path / "elsewhere", MODEL, 4)

    async def main():
        async with started(root, state) as rig:
            half = root / MODEL / "4"
            half.mkdir()
            await until(lambda: any(f"{MODEL}/4" in one.file for one in rig.reconciler.index.problems), "it is seen")
            assert 4 not in rig.reconciler.index.models[MODEL].versions
            assert rig.answers() == 1
            for file in whole.iterdir():
                shutil.copy(file, half)
            await until(lambda: 4 in rig.reconciler.index.models[MODEL].versions, "it is whole")
            await rig.ledger.change(pointing(stable=4, stack=(1,)))
            await until(lambda: rig.answers() == 4, "it serves")

    asyncio.run(main())


def test_a_model_that_is_published_appears_and_answers(root, state):
    async def main():
        async with started(root, state) as rig:
            tiny.add_plain(root, "double", 7)
            await until(lambda: "double/7" in rig.engine.loaded, "it is loaded")
            assert rig.router.resolve(Target("double"), None).version.number == 7
            states = {one.name: one for one in rig.reconciler.models(lambda *_: Tally()).models}
            assert (states["double"].stable, states["double"].ready) == (7, True)
            assert (await rig.ledger.read()).models["double"].stable == 7

    asyncio.run(main())


def test_a_version_that_is_wanted_is_looked_for_before_it_is_called_missing(root, state, monkeypatch):
    """Another gateway found it in the repository a moment ago; this one has not looked since."""
    monkeypatch.setattr(reconcilers, "RESCAN_S", 600.0)

    async def main():
        async with started(root, state) as rig:
            publish(root, (4,))
            wanted = Wanted(id="a", version=4, role="stable", action="promote", who="tests", until=9e9)
            await file_ledger(state).change(pointing(stable=1, wanted=wanted))
            await until(lambda: 4 in rig.keeper.ready or rig.keeper.failures, "it is tried")
            assert rig.keeper.failures == {}

    asyncio.run(main())


def test_an_attempt_that_was_left_is_swept(root, state, monkeypatch):
    monkeypatch.setattr(reconcilers, "LEASE_S", 0.2)

    async def main():
        async with started(root, state) as rig:
            wanted = Wanted(id="a", version=2, role="stable", action="promote", who="gone", until=9e9)
            await file_ledger(state).change(pointing(stable=1, wanted=wanted))
            await until(lambda: rig.loaded() == {1, 2}, "it is loaded")
            await until(lambda: rig.loaded() == {1}, "nobody renews it: it is over")
            assert (await rig.pointers()).wanted is None

    asyncio.run(main())


class Away(FileLedger):
    """A store that cannot be reached until `back` is set: what it knows is what it last heard, which is nothing."""

    back = False

    @property
    def connected(self) -> bool:
        return self.back

    async def read(self):
        return await super().read() if self.back else Document()

    async def change(self, edit):
        self._check()
        return await super().change(edit)

    async def announce(self, member):
        self._check()
        await super().announce(member)

    async def members(self):
        self._check()
        return await super().members()

    async def keep(self, verdict):
        self._check()
        await super().keep(verdict)

    def _check(self) -> None:
        if not self.back:
            raise LedgerUnavailable("It is away.")


def test_without_its_ledger_a_gateway_serves_the_seeds_and_records_them_later(root, state):
    tiny.write_classifier_manifest(root / MODEL / "2", seed=True)

    async def main():
        async with started(root, state, ledger=lambda folder: Away(LedgerOptions(folder))) as rig:
            assert rig.answers() == 2
            assert rig.reconciler.settled
            (listed,) = rig.reconciler.models(lambda *_: Tally()).models
            assert (listed.stable, listed.ready) == (2, True)
            with pytest.raises(LedgerUnavailable):
                await rig.changes.promote(Promotion(MODEL, 3), "tests", "")
            assert rig.answers() == 2
            assert (await rig.changes.check(MODEL, 3)).passed, "the gate needs no ledger"
            rig.ledger.back = True
            while MODEL not in (await rig.ledger.read()).models:
                await asyncio.sleep(0.02)
            assert (await rig.pointers()).stable == 2
            assert (await rig.changes.promote(Promotion(MODEL, 3), "tests", "")).stable == 3

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_model_that_cannot_be_loaded_leaves_others_alone_and_comes_when_it_can(root, state, caplog):
    tiny.add_plain(root)
    engine = TellingEngine()
    engine.failing.add(f"{MODEL}/1")

    async def main():
        async with started(root, state, engine=engine) as rig:
            assert rig.reconciler.settled
            assert rig.router.resolve(Target("double"), None).version.number == 1
            assert rig.keeper.serving is None
            engine.failing.clear()
            await until(lambda: rig.keeper.serving == 1, "it is tried again")

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())


def test_news_of_others_and_an_older_document_of_ones_own_do_not_take_turns(root, state):
    """A document that is older than the one that is followed changes nothing."""

    async def main():
        async with started(root, state) as rig:
            before = await rig.ledger.read()
            await rig.ledger.change(pointing(stable=2, stack=(1,)))
            await until(lambda: rig.answers() == 2, "it follows")
            rig.reconciler._follow(before)
            assert rig.keeper.pointers.stable == 2

    asyncio.run(main())


def test_a_bug_in_the_background_is_logged_and_work_goes_on(root, state, caplog, monkeypatch):
    monkeypatch.setattr(reconcilers, "HEARTBEAT_S", 0.02)

    async def main():
        rig = parts(root, state)
        watch, broken = rig.ledger.watch, [True]

        def watching():
            if broken.pop() if broken else False:
                raise ZeroDivisionError
            return watch()

        rig.ledger.watch = watching
        await rig.reconciler.start()
        await rig.ledger.change(pointing(stable=2))
        await until(lambda: rig.answers() == 2, "it follows all the same")
        await rig.reconciler.close()

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
    assert "_watch failed; it begins anew" in caplog.text


def test_closing_at_any_moment_ends(root, state):
    """Often, with news on their way: a cancellation that arrives together with an event must not be lost."""

    async def main(turns: int):
        rig = parts(root, state)
        await rig.reconciler.start()
        for _ in range(turns):
            await asyncio.sleep(0)
        rig.reconciler._follow(rig.reconciler._document)
        await asyncio.wait_for(rig.reconciler.close(), 10)
        assert rig.loaded() == set()

    for turns in range(12):
        asyncio.run(main(turns))


def states(rig) -> dict[tuple[str, int], str]:
    return {(one.name, one.version): one.state for one in rig.reconciler.states()}


def test_the_state_of_every_version_is_told(root, state, caplog):
    """Loaded, being loaded, not to be loaded, not loadable, let go, and unreadable."""
    (root / MODEL / "4").mkdir()
    tiny.add_two_graphs(root)
    engine = TellingEngine()

    async def main():
        async with started(root, state, engine=engine) as rig:
            assert states(rig) == {
                (MODEL, 1): "READY",
                **{(MODEL, number): "UNAVAILABLE" for number in (2, 3, 4)},
                ("pair.decoder", 1): "READY",
                ("pair.encoder", 1): "READY",
            }
            reasons = {one.version: one.reason for one in rig.reconciler.states() if one.name == MODEL}
            assert reasons[1] == ""
            assert "not among those" in reasons[2]
            assert "half-written" in reasons[4]
            engine.loading.clear()
            await rig.ledger.change(pointing(stable=2))
            await until(lambda: states(rig)[MODEL, 2] == "LOADING", "it is on its way")
            assert states(rig)[MODEL, 1] == "READY"
            lease = rig.router.resolve(Target(MODEL, version=1), "classify")
            with lease:
                engine.loading.set()
                await until(lambda: states(rig)[MODEL, 2] == "READY", "it is there")
                await until(lambda: states(rig)[MODEL, 1] == "UNLOADING", "somebody still uses it")
            await until(lambda: states(rig)[MODEL, 1] == "UNAVAILABLE", "nobody does")
            engine.failing.add(f"{MODEL}/3")
            await rig.ledger.change(pointing(stable=3))
            await until(lambda: 3 in rig.keeper.failures, "it cannot be loaded")
            (failed,) = (one for one in rig.reconciler.states() if (one.name, one.version) == (MODEL, 3))
            assert (failed.state, failed.reason) == ("UNAVAILABLE", "told to")
            shutil.rmtree(root / MODEL / "2")
            await rig.reconciler.refresh()
            assert states(rig)[MODEL, 2] == "READY", "its folder is gone; it answers on"

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
