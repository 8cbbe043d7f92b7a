"""One model's versions are kept as its pointers want: what is warm stays so, what fails is tried again."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from http_rig import until
from versions_rig import MODEL, TellingEngine, publish

from serving.errors import ModelNotReady
from serving.ledger import Canary, Pointers, Wanted
from serving.repository.layout import scan
from serving.telemetry import Meters
from serving.versions import keeper as keepers
from serving.versions.keeper import Keeper
from serving.versions.loader import Loader
from serving.versions.router import Router, Target


@pytest.fixture
def root(tmp_path):
    publish(tmp_path, (1, 2, 3, 4))
    return tmp_path


class Kept:
    """A keeper with what it needs, running."""

    def __init__(self, root):
        self.root = root
        self.model = scan(root).models[MODEL]
        self.engine = TellingEngine()
        self.router = Router({})
        self.router.settled = True
        self.told = 0
        self.keeper = Keeper(self.model, Loader(self.engine, Meters()), self.router, asyncio.Lock(), self.tell)

    def tell(self) -> None:
        self.told += 1

    def follow(self, **pointers) -> None:
        self.keeper.follow(self.model, Pointers(**pointers))

    async def loaded(self, *numbers: int) -> None:
        names = {f"{MODEL}/{number}" for number in numbers}
        await until(lambda: self.engine.loaded == names, f"{names} are loaded, not {self.engine.loaded}")

    def resolve(self, **target):
        return self.router.resolve(Target(MODEL, **target), "classify")


@asynccontextmanager
async def kept(root, **pointers):
    rig = Kept(root)
    rig.follow(**pointers)
    await rig.keeper.load_stable()
    rig.keeper.start()
    try:
        yield rig
    finally:
        rig.engine.loading.set()
        await rig.keeper.close()


def attempt(version: int, name: str = "a") -> Wanted:
    return Wanted(id=name, version=version, role="stable", action="promote", who="tests", until=9e9)


def test_the_version_before_stays_warm_and_those_before_it_go(root):
    async def main():
        async with kept(root, stable=1) as rig:
            rig.follow(stable=2, stack=(1,))
            await rig.loaded(1, 2)
            rig.follow(stable=3, stack=(1, 2))
            await rig.loaded(2, 3)
            tried = list(rig.engine.tried)
            rig.follow(stable=2, stack=(1,))
            assert rig.resolve().version.number == 2, "at once: nothing is loaded for it"
            assert rig.engine.tried == tried
            await rig.loaded(1, 2)
            assert rig.engine.most <= 3

    asyncio.run(main())


def test_the_one_that_answers_stays_until_the_next_one_can(root):
    async def main():
        async with kept(root, stable=1) as rig:
            rig.engine.loading.clear()
            rig.follow(stable=2)
            await until(lambda: rig.engine.tried[-1] == f"{MODEL}/2", "the next one is being loaded")
            assert rig.resolve().version.number == rig.keeper.serving == 1
            rig.engine.loading.set()
            await rig.loaded(2)
            assert rig.resolve().version.number == rig.keeper.serving == 2

    asyncio.run(main())


def test_a_lease_holds_a_version_and_nothing_else_up(root):
    async def main():
        async with kept(root, stable=2, stack=(1,)) as rig:
            await rig.loaded(1, 2)
            with rig.resolve(version=1):
                rig.follow(stable=3, stack=(2,), wanted=attempt(4))
                await until(lambda: rig.keeper.ready == (2, 3), "it is routed to no more, and its place is taken")
                assert rig.engine.loaded == {f"{MODEL}/{number}" for number in (1, 2, 3)}
            await rig.loaded(2, 3, 4)
            assert rig.engine.most == 3

    asyncio.run(main())


def test_a_lease_on_one_does_not_keep_another(root):
    async def main():
        async with kept(root, stable=3, stack=(2,), canary=Canary(version=1, percent=5)) as rig:
            await rig.loaded(1, 2, 3)
            with rig.resolve(version=1):
                rig.follow(stable=3, stack=(4,))
                await rig.loaded(1, 3, 4)
            await rig.loaded(3, 4)

    asyncio.run(main())


def test_a_version_that_is_wanted_again_while_it_leaves_comes_back(root):
    async def main():
        async with kept(root, stable=2, stack=(1,)) as rig:
            await rig.loaded(1, 2)
            with rig.resolve(version=1):
                rig.follow(stable=2)
                await until(lambda: rig.keeper.ready == (2,), "it leaves")
                rig.follow(stable=2, stack=(1,))
                await asyncio.sleep(0.02)
                assert rig.keeper.ready == (2,), "not before it is gone"
            await until(lambda: rig.keeper.ready == (1, 2), "it is back")

    asyncio.run(main())


def test_a_load_that_fails_is_reported_and_tried_again_with_growing_pauses(root, monkeypatch):
    monkeypatch.setattr(keepers, "RETRY_S", (0.05, 0.1, 0.2))

    async def main():
        async with kept(root, stable=1) as rig:
            rig.engine.failing.add(f"{MODEL}/2")
            told = rig.told
            rig.follow(stable=1, wanted=attempt(2))
            await until(lambda: 2 in rig.keeper.failures, "it is reported")
            assert "told to" in rig.keeper.failures[2].reason
            assert rig.told > told
            assert rig.resolve().version.number == 1
            await until(lambda: rig.keeper.failures[2].tries == 3, "it is tried again")
            rig.engine.failing.clear()
            await rig.loaded(1, 2)
            assert rig.keeper.failures == {}

    asyncio.run(main())


def test_pauses_grow_to_half_a_minute(root):
    async def main():
        rig = Kept(root)
        rig.engine.failing.add(f"{MODEL}/1")
        pauses = []
        for _ in range(8):
            before_s = keepers.time.monotonic()
            await rig.keeper._load(1)
            pauses.append(rig.keeper.failures[1].retry_s - before_s)
        for pause, expected in zip(pauses, [1, 2, 4, 8, 16, 30, 30, 30], strict=True):
            assert pause == pytest.approx(expected, abs=0.5)

    asyncio.run(main())


def test_another_attempt_is_tried_at_once(root):
    async def main():
        async with kept(root, stable=1) as rig:
            rig.engine.failing.add(f"{MODEL}/2")
            rig.follow(stable=1, wanted=attempt(2))
            await until(lambda: 2 in rig.keeper.failures, "it failed")
            rig.engine.failing.clear()
            rig.follow(stable=1, wanted=attempt(2, "another"))
            assert rig.keeper.failures == {}, "what an earlier attempt met says nothing of this one"
            await rig.loaded(1, 2)

    asyncio.run(main())


def test_a_version_that_is_not_in_the_repository_is_a_failure_with_a_reason(root):
    async def main():
        async with kept(root, stable=9) as rig:
            assert "sound version folder 9" in rig.keeper.failures[9].reason
            with pytest.raises(ModelNotReady):
                rig.resolve()
            rig.follow(stable=1)
            await rig.loaded(1)
            assert rig.resolve().version.number == 1

    asyncio.run(main())


def test_canary_and_shadow_are_routed_once_they_are_loaded(root):
    async def main():
        async with kept(root, stable=1) as rig:
            rig.follow(stable=1, canary=Canary(version=2, percent=100))
            assert rig.resolve().version.number == 1
            await rig.loaded(1, 2)
            assert rig.resolve().version.number == 2
            rig.follow(stable=1, shadow=2)
            stable = rig.resolve()
            assert stable.version.number == 1
            assert rig.router.shadow(stable).version.number == 2

    asyncio.run(main())


def test_a_gateway_that_missed_changes_with_a_full_house_finds_to_its_stable_version(root):
    """Nothing that is loaded is superfluous: the way back makes place, as stable comes first."""

    async def main():
        async with kept(root, stable=1, stack=(2,), canary=Canary(version=3, percent=5)) as rig:
            await rig.loaded(1, 2, 3)
            rig.follow(stable=4, stack=(2,), canary=Canary(version=3, percent=5))
            await rig.loaded(2, 3, 4)
            assert rig.resolve(label="stable").version.number == 4
            assert rig.engine.most == 3

    asyncio.run(main())


def test_closing_right_after_news_ends(root):
    """A cancellation that arrives together with an event must not be lost, while a pause has a limit too."""

    async def main():
        rig = Kept(root)
        rig.engine.failing.add(f"{MODEL}/2")
        pointers = {"stable": 1, "wanted": attempt(2)}
        rig.follow(**pointers)
        await rig.keeper.load_stable()
        rig.keeper.start()
        await until(lambda: 2 in rig.keeper.failures, "it waits to try again")
        await asyncio.sleep(0.01)
        rig.follow(**pointers)
        closing = asyncio.create_task(rig.keeper.close())
        done, _ = await asyncio.wait([closing], timeout=5)
        rig.keeper._task.cancel()  # whoever lost the first one takes the second
        assert done
        assert rig.engine.loaded == set()

    asyncio.run(main())


def test_closing_while_a_version_is_loaded_leaves_nothing_behind(root):
    async def main():
        rig = Kept(root)
        rig.follow(stable=1)
        await rig.keeper.load_stable()
        rig.keeper.start()
        rig.engine.loading.clear()
        rig.follow(stable=2)
        await until(lambda: rig.engine.tried[-1] == f"{MODEL}/2", "it is being loaded")
        await rig.keeper.close()
        assert rig.engine.loaded == set()

    asyncio.run(main())


def test_unloading_routes_nowhere_at_once_and_lets_leases_run_out(root):
    async def main():
        async with kept(root, stable=2, stack=(1,)) as rig:
            await rig.loaded(1, 2)
            with rig.resolve():
                rig.follow(stable=2, stack=(1,), unloaded=True)
                for target in ({}, {"version": 1}, {"label": "stable"}):
                    with pytest.raises(ModelNotReady, match=rf"{MODEL} was unloaded.*/load"):
                        rig.resolve(**target)
                assert rig.keeper.serving is None
                await rig.loaded(2)
                await asyncio.sleep(0.02)
                await rig.loaded(2)
            await rig.loaded()
            rig.follow(stable=2, stack=(1,), loads=1)
            await rig.loaded(1, 2)
            assert rig.resolve().version.number == rig.keeper.serving == 2

    asyncio.run(main())


def test_what_is_loaded_while_unloaded_answers_once_it_is_live(root):
    async def main():
        async with kept(root, stable=1, unloaded=True) as rig:
            assert rig.engine.tried == []
            rig.follow(stable=1, unloaded=True, wanted=attempt(2))
            await rig.loaded(2)
            with pytest.raises(ModelNotReady):
                rig.resolve()
            rig.follow(stable=2, stack=(1,))
            assert rig.resolve().version.number == 2
            await rig.loaded(1, 2)

    asyncio.run(main())


def test_unloaded_while_it_is_loaded_it_is_let_go(root):
    async def main():
        async with kept(root, stable=1) as rig:
            rig.engine.loading.clear()
            rig.follow(stable=2)
            await until(lambda: rig.engine.tried[-1] == f"{MODEL}/2", "it is being loaded")
            rig.follow(stable=2, unloaded=True)
            rig.engine.loading.set()
            await rig.loaded()
            with pytest.raises(ModelNotReady):
                rig.resolve()

    asyncio.run(main())


def test_asked_to_load_it_forgets_what_failed(root):
    async def main():
        async with kept(root, stable=1) as rig:
            rig.engine.failing.add(f"{MODEL}/2")
            rig.follow(stable=2)
            await until(lambda: 2 in rig.keeper.failures, "it failed")
            rig.engine.failing.clear()
            rig.follow(stable=2, loads=1)
            assert rig.keeper.failures == {}
            await rig.loaded(2)

    asyncio.run(main())


def test_a_try_from_before_the_order_says_nothing_of_those_after_it(root):
    async def main():
        async with kept(root, stable=1) as rig:
            rig.engine.failing.add(f"{MODEL}/2")
            rig.engine.loading.clear()
            rig.follow(stable=2)
            await until(lambda: rig.engine.tried[-1] == f"{MODEL}/2", "it is being tried")
            rig.follow(stable=2, loads=1)
            told = rig.told
            rig.engine.loading.set()
            await until(lambda: 2 in rig.keeper.failures, "it is tried anew, at once, and that counts")
            assert rig.engine.tried.count(f"{MODEL}/2") == 2
            assert rig.told == told + 1

    asyncio.run(main())
