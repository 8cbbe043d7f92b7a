"""Copies for a version on trial: one at a time, tallied, and nothing of them reaches anybody."""

from __future__ import annotations

import asyncio
import logging

import pytest
from http_rig import until

from serving.errors import DeadlinePassed, EngineFailed, ModelNotReady, QueueFull
from serving.shadow import Shadows, Tally
from serving.telemetry import Meters


def agreeing(agreement: float):
    async def compare() -> float:
        return agreement

    return compare


def failing(error: Exception):
    async def compare() -> float:
        raise error

    return compare


def counted(meters: Meters, outcome: str) -> float | None:
    labels = {"model": "m", "version": "2", "outcome": outcome}
    return meters.registry.get_sample_value("tidegate_shadow_requests_total", labels)


async def settled(shadows: Shadows) -> None:
    await until(lambda: not shadows._running, "the copies ended")


def test_agreement_is_summed_by_version():
    async def main():
        meters = Meters()
        shadows = Shadows(meters)
        for version, agreement in ((2, 1.0), (2, 0.5), (3, 0.25)):
            shadows.offer("m", version, agreeing(agreement))
            await settled(shadows)
        assert shadows.tally("m", 2) == Tally(compared=2, agreement=1.5)
        assert shadows.tally("m", 3) == Tally(compared=1, agreement=0.25)
        assert shadows.tally("other", 2) == Tally()
        assert counted(meters, "compared") == 2
        summed = {"model": "m", "version": "2"}
        assert meters.registry.get_sample_value("tidegate_shadow_agreement_total", summed) == 1.5

    asyncio.run(main())


def test_while_one_copy_runs_others_are_let_pass():
    async def main():
        meters = Meters()
        shadows, free = Shadows(meters), asyncio.Event()

        async def compare() -> float:
            await free.wait()
            return 1.0

        shadows.offer("m", 2, compare)
        for _ in range(3):
            shadows.offer("m", 2, compare)
        shadows.offer("other", 1, agreeing(1.0))
        await until(lambda: shadows.tally("other", 1).compared, "another model has a turn of its own")
        assert shadows.tally("m", 2) == Tally(passed_by=3)
        free.set()
        await settled(shadows)
        assert shadows.tally("m", 2) == Tally(compared=1, agreement=1.0, passed_by=3)
        assert counted(meters, "passed_by") == 3
        shadows.offer("m", 2, agreeing(1.0))
        await settled(shadows)
        assert shadows.tally("m", 2).compared == 2

    asyncio.run(main())


@pytest.mark.parametrize(
    ("error", "logged"), [(EngineFailed("told to"), False), (ZeroDivisionError(), True)], ids=["foreseen", "a bug"]
)
def test_a_copy_that_fails_is_counted_and_a_bug_is_logged(caplog, error, logged):
    async def main():
        meters = Meters()
        shadows = Shadows(meters)
        shadows.offer("m", 2, failing(error))
        await settled(shadows)
        assert shadows.tally("m", 2) == Tally(failed=1)
        assert counted(meters, "failed") == 1

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
    assert ("m/2 met a bug" in caplog.text) == logged


@pytest.mark.parametrize("error", [DeadlinePassed("late"), QueueFull("full")])
def test_a_copy_that_had_no_time_or_no_place_is_told_apart(error):
    """It says nothing against the version: callers' own requests have more time."""

    async def main():
        shadows = Shadows(Meters())
        shadows.offer("m", 2, failing(error))
        await settled(shadows)
        assert shadows.tally("m", 2) == Tally(failed=1, late=1)

    asyncio.run(main())


def test_a_version_that_went_meanwhile_has_not_failed():
    async def main():
        shadows = Shadows(Meters())
        shadows.offer("m", 2, failing(ModelNotReady("gone")))
        await settled(shadows)
        assert shadows.tally("m", 2) == Tally()

    asyncio.run(main())


def test_copies_for_a_canary_wait_for_each_other_one_at_a_time():
    async def main():
        shadows = Shadows(Meters())
        shadows.copied = frozenset({"m"})
        begun = []

        def copy(name: str):
            async def compare() -> float:
                begun.append(name)
                await asyncio.sleep(0.01)
                return 1.0

            return compare

        for name in ("first", "second"):
            assert shadows.due("m")
            shadows.offer("m", 2, copy(name), name)
            await asyncio.sleep(0)
        assert not shadows.due("m"), "one runs and one waits"
        shadows.offer("m", 2, copy("third"))
        assert begun == ["first"]
        await settled(shadows)
        assert begun == ["first", "second"]
        assert shadows.tally("m", 2).differing.totals() == {"first": (1, 0.0), "second": (1, 0.0)}
        assert shadows.tally("m", 2).passed_by == 1

    asyncio.run(main())


def test_controls_are_tallied_apart():
    """What the stable version did with a canary's requests is no agreement of its own."""

    async def main():
        meters = Meters()
        shadows = Shadows(meters)
        for compare in (agreeing(0.5), failing(EngineFailed("told to"))):
            shadows.offer("m", 2, compare, control=True)
            await settled(shadows)
        assert shadows.tally("m", 2, control=True) == Tally(compared=1, agreement=0.5, failed=1)
        assert shadows.tally("m", 2) == Tally()
        assert (counted(meters, "control_compared"), counted(meters, "control_failed")) == (1, 1)
        assert counted(meters, "compared") is None

    asyncio.run(main())


def test_closing_ends_the_copies_that_run():
    async def main():
        shadows = Shadows(Meters())
        ended = asyncio.Event()

        async def compare() -> float:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        shadows.offer("m", 2, compare)
        await asyncio.sleep(0)
        await shadows.close()
        assert ended.is_set()
        assert shadows.tally("m", 2) == Tally()

    asyncio.run(main())
