"""What operators ask for, at gateways that run: forward through the gate, back at once, and nothing moved otherwise."""

from __future__ import annotations

import asyncio
import shutil
import time

import pytest
import tiny
from http_rig import until
from versions_rig import MODEL, FakeGate, TellingEngine, file_ledger, parts, publish, started

from serving.errors import ChangeRefused, GateFailed, LoadFailed, ModelNotFound, ModelNotReady, VersionNotFound
from serving.ledger import MEMBER_TTL_S, Canary, Member, Pointers, Summary
from serving.versions import keeper as keepers
from serving.versions import reconciler as reconcilers
from serving.versions import rollout
from serving.versions.orders import Promotion
from serving.versions.transitions import of_model, seeded


def promote(rig, version=None, role="stable", **given):
    return rig.changes.promote(Promotion(MODEL, version, role, **given), "ada", "because")


def rollback(rig, to=None, **given):
    return rig.changes.rollback(MODEL, to, "bea", "it is bad", **given)


def load(rig, model=MODEL):
    return rig.changes.load(model, "cyd", "mended")


def unload(rig, model=MODEL):
    return rig.changes.unload(model, "dee", "it melts")


async def out_of_service(*rigs):
    """Nothing answers at these gateways, and in the end nothing is loaded."""
    for rig in rigs:
        with pytest.raises(ModelNotReady, match="was unloaded"):
            rig.answers()
    for rig in rigs:
        await until(lambda rig=rig: rig.loaded() == set(), "all is let go")


def test_a_promotion_goes_through_the_gate_and_is_live_when_it_returns(root, state):
    async def main():
        async with started(root, state) as rig:
            outcome = await promote(rig, 2)
            assert rig.answers() == 2
            assert rig.gate.asked == [(2, 1)]
            assert outcome.model_dump(by_alias=True, exclude={"seconds", "verdict"}) == {
                "model": MODEL,
                "action": "promote",
                "from": 1,
                "to": 2,
                "stable": 2,
                "previous": 1,
                "canary": None,
                "shadow": None,
                "cold": True,
                "gateways": 1,
                "late": (),
            }
            assert outcome.verdict.passed
            assert 0 < outcome.seconds < 15
            (record,) = await rig.changes.history(MODEL)
            assert (record.action, record.from_, record.to, record.who, record.why) == (
                "promote", 1, 2, "ada", "because",
            )  # fmt: skip
            assert record.verdict == Summary(passed=True)
            assert await rig.changes.verdicts(MODEL) == (outcome.verdict,)

    asyncio.run(main())


def test_a_canary_is_promoted_without_another_load(root, state):
    async def main():
        async with started(root, state) as rig:
            outcome = await promote(rig, 2, "canary", percent=100)
            assert (outcome.action, outcome.stable, outcome.canary) == ("canary", 1, Canary(version=2, percent=100))
            assert rig.answers() == 2
            assert rig.answers(label="stable") == 1
            tried = list(rig.engine.tried)
            outcome = await promote(rig)
            assert (outcome.to, outcome.stable, outcome.canary, outcome.cold) == (2, 2, None, False)
            assert rig.engine.tried == tried

    asyncio.run(main())


def test_a_shadow_answers_nobody(root, state):
    async def main():
        async with started(root, state) as rig:
            outcome = await promote(rig, 2, "shadow")
            assert (outcome.action, outcome.stable, outcome.shadow) == ("shadow", 1, 2)
            assert rig.answers() == 1
            outcome = await promote(rig, None, "canary", percent=100)
            assert (outcome.shadow, outcome.canary.version) == (None, 2)

    asyncio.run(main())


def test_a_rollback_loads_nothing(root, state):
    async def main():
        async with started(root, state) as rig:
            await promote(rig, 2)
            tried = list(rig.engine.tried)
            outcome = await rollback(rig)
            assert rig.answers() == 1
            assert rig.engine.tried == tried
            assert (outcome.action, outcome.from_, outcome.to, outcome.cold) == ("rollback", 2, 1, False)
            assert (outcome.previous, outcome.verdict, outcome.late) == (None, None, ())
            assert [(one.action, one.who) for one in await rig.changes.history(MODEL)] == [
                ("promote", "ada"),
                ("rollback", "bea"),
            ]

    asyncio.run(main())


def test_a_rollback_to_what_is_not_loaded_loads_it_first_and_says_so(root, state):
    async def main():
        async with started(root, state) as rig:
            await promote(rig, 2)
            await promote(rig, 3)
            await until(lambda: rig.loaded() == {2, 3}, "1 is let go")
            outcome = await rollback(rig, 1)
            assert (outcome.action, outcome.from_, outcome.to, outcome.cold) == ("rollback", 3, 1, True)
            assert rig.answers() == 1
            assert (await rig.pointers()).stack == ()
            assert rig.gate.asked == [(2, 1), (3, 2)], "where it was before, it may go back to without a gate"

    asyncio.run(main())


def test_a_rollback_preloads_the_next_way_back(root, state):
    async def main():
        async with started(root, state) as rig:
            await promote(rig, 2)
            await promote(rig, 3)
            await rollback(rig)
            await until(lambda: rig.loaded() == {1, 2}, "the next way back is warm")
            assert not (await rollback(rig)).cold
            assert rig.answers() == 1

    asyncio.run(main())


@pytest.mark.parametrize("role", ["stable", "canary", "shadow"])
def test_a_version_that_cannot_be_loaded_leaves_nothing_moved(root, state, role):
    async def main():
        async with started(root, state) as rig:
            rig.engine.failing.add(f"{MODEL}/2")
            before = await rig.pointers()
            with pytest.raises(LoadFailed, match=r"colours/2: told to\. No pointer has moved"):
                await promote(rig, 2, role)
            assert await rig.pointers() == before
            assert rig.answers() == 1
            rig.engine.failing.clear()
            assert (await promote(rig, 2)).stable == 2, "and it may be tried again at once"

    asyncio.run(main())


@pytest.mark.parametrize("role", ["stable", "canary", "shadow"])
def test_a_version_that_fails_the_gate_is_not_even_loaded(root, state, role):
    async def main():
        async with started(root, state) as rig:
            rig.gate.failing[2] = ("latency", "metric")
            before = await rig.ledger.read()
            with pytest.raises(GateFailed, match=r"colours/2 failed latency, metric: latency is not") as caught:
                await promote(rig, 2, role)
            assert await rig.ledger.read() == before
            assert rig.engine.tried == [f"{MODEL}/1"]
            assert caught.value.remedy == "--force overrules this."
            assert caught.value.extension["verdict"]["passed"] is False
            (kept,) = await rig.changes.verdicts(MODEL)
            assert kept.failed() == ("latency", "metric"), "why is kept"

    asyncio.run(main())


def test_force_overrules_what_the_gate_says_of_quality_and_is_recorded(root, state):
    async def main():
        async with started(root, state) as rig:
            rig.gate.failing[2] = ("latency",)
            assert (await promote(rig, 2, force=True)).stable == 2
            (record,) = await rig.changes.history(MODEL)
            assert record.verdict == Summary(passed=False, failed=("latency",), forced=True)

    asyncio.run(main())


@pytest.mark.parametrize("check", ["files", "digests", "external_data", "load", "signature", "warm_up"])
def test_force_does_not_overrule_what_is_not_sound(root, state, check):
    async def main():
        async with started(root, state) as rig:
            rig.gate.failing[2] = ("latency", check)
            with pytest.raises(GateFailed) as caught:
                await promote(rig, 2, force=True)
            assert "publish another version" in caught.value.remedy
            assert (await rig.pointers()).stable == 1

    asyncio.run(main())


def test_force_that_is_not_needed_is_not_recorded(root, state):
    async def main():
        async with started(root, state) as rig:
            await promote(rig, 2, force=True)
            assert (await rig.changes.history(MODEL))[0].verdict == Summary(passed=True)

    asyncio.run(main())


def test_a_version_that_cannot_be_read_fails_the_gate_with_its_reason(root, state):
    (root / MODEL / "2" / "model.onnx").unlink()

    async def main():
        async with started(root, state) as rig:
            verdict = await rig.changes.check(MODEL, 2)
            assert verdict.failed() == ("files",)
            assert "colours/2/model.onnx" in verdict.checks[0].detail
            with pytest.raises(GateFailed, match=r"model\.onnx"):
                await promote(rig, 2, force=True)

    asyncio.run(main())


def test_a_check_moves_nothing_and_is_kept(root, state):
    async def main():
        async with started(root, state) as rig:
            before = await rig.ledger.read()
            first, second = await rig.changes.check(MODEL, 2), await rig.changes.check(MODEL, 1)
            assert rig.gate.asked == [(2, 1), (1, None)], "a version is not compared with itself"
            assert await rig.changes.verdicts(MODEL) == (second, first)
            assert await rig.ledger.read() == before

    asyncio.run(main())


@pytest.mark.parametrize(
    ("act", "error", "said"),
    [
        (promote, ChangeRefused, r"No version is on trial\. Say which"),
        (lambda rig: promote(rig, 1), ChangeRefused, "stable already"),
        (lambda rig: promote(rig, 9), VersionNotFound, r"no version 9\. The repository holds 1, 2, 3"),
        (rollback, ChangeRefused, r"bottom of the history\. Promote one instead: 2, 3"),
        (lambda rig: rollback(rig, 9), ChangeRefused, "bottom of the history"),
        (lambda rig: rollback(rig, live=2), ChangeRefused, "Version 1 is live, not 2"),
        (lambda rig: rig.changes.rollback("nobody", None, "", ""), ModelNotFound, "no model"),
        (lambda rig: rig.changes.promote(Promotion("nobody", 1), "", ""), ModelNotFound, "no model"),
        (lambda rig: load(rig, "nobody"), ModelNotFound, "no model"),
        (lambda rig: unload(rig, "nobody"), ModelNotFound, "no model"),
        (lambda rig: rig.changes.check("nobody", 1), ModelNotFound, "no model"),
        (lambda rig: rig.changes.check(MODEL, 9), VersionNotFound, "no version 9"),
        (lambda rig: rig.changes.history("nobody"), ModelNotFound, "no model"),
        (lambda rig: rig.changes.verdicts("nobody"), ModelNotFound, "no model"),
    ],
    ids=[
        "nothing on trial",
        "stable already",
        "no such version",
        "no way back",
        "no way back to it",
        "another is live",
        "rollback of nobody",
        "promotion of nobody",
        "load of nobody",
        "unload of nobody",
        "check of nobody",
        "check of no version",
        "history of nobody",
        "verdicts of nobody",
    ],
)
def test_what_cannot_be_done_says_why_and_moves_nothing(root, state, act, error, said):
    async def main():
        async with started(root, state) as rig:
            before = await rig.ledger.read()
            with pytest.raises(error, match=said):
                await act(rig)
            assert await rig.ledger.read() == before
            assert rig.gate.asked == []

    asyncio.run(main())


def test_a_version_that_is_published_just_before_is_found(root, state):
    async def main():
        async with started(root, state) as rig, started(root, state) as other:
            publish(root, (4,))
            assert (await promote(rig, 4)).gateways == 2
            assert other.answers() == 4

    asyncio.run(main())


def test_a_rollback_ends_a_promotion_that_is_under_way(root, state, monkeypatch):
    monkeypatch.setattr(rollout, "RENEW_S", 0.1)

    async def main():
        async with started(root, state) as rig:
            rig.engine.loading.clear()
            promoting = asyncio.create_task(promote(rig, 2))
            await until(lambda: f"{MODEL}/2" in rig.engine.tried, "it is being loaded")
            outcome = await rollback(rig)
            assert (outcome.from_, outcome.to, outcome.stable) == (2, 1, 1)
            rig.engine.loading.set()
            with pytest.raises(ChangeRefused, match="ended by someone else"):
                await promoting
            await until(lambda: rig.loaded() == {1}, "it is let go")
            assert [one.action for one in await rig.changes.history(MODEL)] == ["rollback"]

    asyncio.run(main())


def test_two_rollbacks_at_once_go_back_once(root, state):
    async def main():
        async with started(root, state) as rig:
            await promote(rig, 2)
            await promote(rig, 3)
            results = await asyncio.gather(rollback(rig), rollback(rig), return_exceptions=True)
            refused = [one for one in results if isinstance(one, ChangeRefused)]
            pointers = await rig.pointers()
            assert len(refused) == 1
            assert "someone else was quicker" in str(refused[0])
            assert (pointers.stable, pointers.stack) == (2, (1,))

    asyncio.run(main())


def test_of_two_promotions_at_once_one_must_wait(root, state):
    async def main():
        async with started(root, state) as rig:
            rig.engine.loading.clear()
            first = asyncio.create_task(promote(rig, 2))
            await until(lambda: f"{MODEL}/2" in rig.engine.tried, "it is being loaded")
            with pytest.raises(ChangeRefused, match="ada is on the way to promote version 2; version 3 must wait"):
                await promote(rig, 3)
            rig.engine.loading.set()
            assert (await first).stable == 2

    asyncio.run(main())


def test_whoever_gives_up_leaves_no_attempt_behind(root, state):
    async def main():
        async with started(root, state) as rig:
            rig.engine.loading.clear()
            promoting = asyncio.create_task(promote(rig, 2))
            await until(lambda: f"{MODEL}/2" in rig.engine.tried, "it is being loaded")
            promoting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await promoting
            rig.engine.loading.set()
            assert (await rig.pointers()).wanted is None
            await until(lambda: rig.loaded() == {1}, "it is let go")

    asyncio.run(main())


def test_an_attempt_is_renewed_while_it_takes_long(root, state, monkeypatch):
    monkeypatch.setattr(rollout, "RENEW_S", 0.02)

    async def main():
        async with started(root, state) as rig:
            rig.engine.loading.clear()
            promoting = asyncio.create_task(promote(rig, 2))
            await until(lambda: f"{MODEL}/2" in rig.engine.tried, "it is being loaded")
            until_s = (await rig.pointers()).wanted.until
            while (await rig.pointers()).wanted.until == until_s:
                await asyncio.sleep(0.01)
            rig.engine.loading.set()
            assert (await promoting).stable == 2

    asyncio.run(asyncio.wait_for(main(), 20))


# Several gateways over one state


def test_a_promotion_waits_for_all_gateways(root, state):
    async def main():
        async with started(root, state) as one, started(root, state) as two:
            two.engine.loading.clear()
            promoting = asyncio.create_task(promote(one, 2))
            await until(lambda: one.loaded() == {1, 2} and f"{MODEL}/2" in two.engine.tried, "one has it")
            await asyncio.sleep(0.1)
            assert (await one.pointers()).stable == one.answers() == two.answers() == 1
            two.engine.loading.set()
            outcome = await promoting
            assert (outcome.gateways, outcome.late) == (2, ())
            assert one.answers() == two.answers() == 2
            outcome = await rollback(two)
            assert (outcome.gateways, outcome.late) == (2, ())
            assert one.answers() == two.answers() == 1

    asyncio.run(main())


def test_when_one_gateway_cannot_load_it_no_pointer_moves(root, state):
    async def main():
        async with started(root, state) as one, started(root, state) as two:
            two.engine.failing.add(f"{MODEL}/2")
            with pytest.raises(LoadFailed, match="told to"):
                await promote(one, 2)
            assert one.answers() == two.answers() == 1
            await until(lambda: one.loaded() == {1}, "it is let go")

    asyncio.run(main())


def test_a_gateway_that_never_gets_ready_is_named(root, state):
    async def main():
        async with started(root, state, load_s=0.3) as one, started(root, state) as two:
            two.engine.loading.clear()
            with pytest.raises(LoadFailed, match=rf"{two.reconciler.member} did not load colours/2 within 0 s"):
                await promote(one, 2)
            assert one.answers() == two.answers() == 1
            assert (await one.pointers()).wanted is None

    asyncio.run(main())


def test_a_gateway_that_died_is_waited_for_no_longer_than_it_counts_as_living(root, state):
    async def main():
        async with started(root, state, load_s=120) as rig:
            await rig.ledger.announce(Member(id="dead"))
            started_s = time.monotonic()
            outcome = await promote(rig, 2)
            assert time.monotonic() - started_s < MEMBER_TTL_S + 10, "not for load_s"
            assert (outcome.stable, outcome.gateways, outcome.late) == (2, 1, ())

    asyncio.run(main())


def test_a_gateway_that_does_not_follow_a_rollback_is_named(root, state, monkeypatch):
    monkeypatch.setattr(rollout, "FOLLOW_S", 0.2)

    async def main():
        async with started(root, state) as rig:
            await promote(rig, 2)
            await rig.ledger.announce(Member(id="deaf", ready={MODEL: (1, 2)}))
            outcome = await rollback(rig)
            assert (outcome.stable, outcome.gateways, outcome.late) == (1, 1, ("deaf",))
            assert rig.answers() == 1

    asyncio.run(main())


def test_what_a_gateway_had_before_it_heard_counts_for_nothing(root, state):
    """It may be letting the version go just now: only one that knows what is wanted keeps it."""

    async def main():
        async with started(root, state, load_s=0.3) as rig:
            await rig.ledger.announce(Member(id="deaf", ready={MODEL: (1, 2)}))
            with pytest.raises(LoadFailed, match="deaf did not load"):
                await promote(rig, 2)

    asyncio.run(main())


def test_with_no_gateway_the_pointers_are_for_the_next_start(root, state):
    async def main():
        rig = parts(root, state)
        await rig.reconciler.refresh()
        outcome = await promote(rig, 2)
        assert (outcome.stable, outcome.gateways, outcome.late, outcome.cold) == (2, 0, (), False)
        assert rig.engine.tried == []
        async with started(root, state) as other:
            assert other.answers() == 2
            assert (await rollback(rig)).gateways == 1
            assert other.answers() == 1

    asyncio.run(main())


def test_models_change_apart(root, state):
    tiny.add_plain(root, "double", 1)
    tiny.add_plain(root, "double", 2)

    async def main():
        async with started(root, state) as rig:
            await promote(rig, 2)
            await rig.changes.promote(Promotion("double", 2), "ada", "")
            await rollback(rig)
            models = (await rig.ledger.read()).models
            assert (models[MODEL].stable, models["double"].stable, models["double"].previous) == (1, 2, 1)

    asyncio.run(main())


def test_a_cold_rollback_that_was_overtaken_is_refused(root, state):
    async def main():
        engine = TellingEngine()
        async with started(root, state, engine=engine, gate=FakeGate()) as rig:
            await rig.ledger.change(of_model(MODEL, lambda _: Pointers(stable=3, stack=(1, 2))))
            while (await rig.ledger.members())[0].ready != {MODEL: (2, 3)}:
                await asyncio.sleep(0.01)
            engine.loading.clear()
            slow = asyncio.create_task(rollback(rig, 1))
            await until(lambda: engine.tried[-1] == f"{MODEL}/1", "it is being loaded")
            assert (await rollback(rig)).stable == 2, "the warm way is quicker"
            engine.loading.set()
            with pytest.raises(ChangeRefused, match="ended by someone else"):
                await slow
            assert (await file_ledger(state).read()).models[MODEL].stable == 2

    asyncio.run(main())


# Out of service, and back


def test_unloading_is_out_of_service_everywhere_when_it_returns(root, state):
    async def main():
        async with started(root, state) as one, started(root, state) as two:
            await promote(one, 2)
            outcome = await unload(one)
            await out_of_service(one, two)
            assert (outcome.action, outcome.from_, outcome.to, outcome.stable, outcome.previous) == (
                "unload", 2, None, 2, 1,
            )  # fmt: skip
            assert (outcome.gateways, outcome.late, outcome.cold) == (2, (), False)
            record = (await one.changes.history(MODEL))[-1]
            assert (record.action, record.from_, record.to, record.who, record.why) == (
                "unload", 2, None, "dee", "it melts",
            )  # fmt: skip

    asyncio.run(main())


def test_loading_is_back_in_service_everywhere_when_it_returns(root, state):
    async def main():
        async with started(root, state) as one, started(root, state) as two:
            await promote(one, 2)
            await unload(one)
            await out_of_service(one, two)
            two.engine.loading.clear()
            loading = asyncio.create_task(load(one))
            await until(lambda: one.loaded() >= {2} and two.engine.tried[-1] == f"{MODEL}/2", "one has it")
            await asyncio.sleep(0.05)
            assert not loading.done(), "not before both have it"
            two.engine.loading.set()
            outcome = await loading
            assert one.answers() == two.answers() == 2
            assert (outcome.action, outcome.from_, outcome.to, outcome.stable) == ("load", None, 2, 2)
            assert (outcome.gateways, outcome.late, outcome.cold) == (2, (), True)
            await until(lambda: one.loaded() == two.loaded() == {1, 2}, "the way back is warm again")
            record = (await one.changes.history(MODEL))[-1]
            assert (record.action, record.from_, record.to, record.who, record.why) == (
                "load", None, 2, "cyd", "mended",
            )  # fmt: skip

    asyncio.run(main())


@pytest.mark.parametrize(
    ("setting", "act", "action"),
    [
        ([], load, "load"),
        ([unload], unload, "unload"),
    ],
    ids=["load", "unload"],
)
def test_what_is_so_already_succeeds_and_is_not_recorded(root, state, setting, act, action):
    async def main():
        async with started(root, state) as rig:
            await promote(rig, 2)
            for order in setting:
                await order(rig)
            before = await rig.ledger.read()
            outcome = await act(rig)
            assert (outcome.action, outcome.from_, outcome.to, outcome.stable) == (action, None, None, 2)
            assert (outcome.gateways, outcome.late) == (1, ())
            assert await rig.ledger.read() == before

    asyncio.run(main())


def test_unloading_ends_a_promotion_that_is_under_way(root, state):
    async def main():
        async with started(root, state) as rig:
            for _ in ("in service", "out of service"):
                rig.engine.loading.clear()
                promoting = asyncio.create_task(promote(rig, 2))
                await until(lambda: rig.engine.tried[-1] == f"{MODEL}/2", "it is being loaded")
                await unload(rig)
                rig.engine.loading.set()
                with pytest.raises(ChangeRefused, match="ended by someone else"):
                    await promoting
                await out_of_service(rig)
                rig.engine.tried.append("nothing")

    asyncio.run(main())


def test_a_canary_is_dropped_with_it(root, state):
    async def main():
        async with started(root, state) as rig:
            await promote(rig, 2, "canary", percent=100)
            assert (await unload(rig)).canary is None
            await out_of_service(rig)
            await load(rig)
            assert rig.answers() == 1

    asyncio.run(main())


@pytest.mark.parametrize(
    "act",
    [
        lambda rig: promote(rig, 3, "canary", percent=5),
        lambda rig: promote(rig, 3, "shadow"),
        rollback,
        lambda rig: rollback(rig, 1),
    ],
    ids=["canary", "shadow", "rollback", "rollback to"],
)
def test_while_unloaded_nothing_else_goes(root, state, act):
    async def main():
        async with started(root, state) as rig:
            await promote(rig, 2)
            await unload(rig)
            before = await rig.ledger.read()
            with pytest.raises(ChangeRefused, match=r"unloaded\. Load it first"):
                await act(rig)
            assert await rig.ledger.read() == before

    asyncio.run(main())


def test_promoting_puts_an_unloaded_model_back_in_service(root, state):
    async def main():
        async with started(root, state) as one, started(root, state) as two:
            await unload(one)
            await out_of_service(one, two)
            two.engine.failing.add(f"{MODEL}/2")
            with pytest.raises(LoadFailed, match="told to"):
                await promote(one, 2)
            await out_of_service(one, two)
            two.engine.failing.clear()
            outcome = await promote(one, 2)
            assert (outcome.from_, outcome.to, outcome.stable, outcome.previous) == (None, 2, 2, 1)
            assert one.answers() == two.answers() == 2
            assert (await rollback(two)).stable == one.answers() == 1

    asyncio.run(main())


def test_what_cannot_be_loaded_is_said_and_stays_wanted(root, state):
    async def main():
        async with started(root, state) as one, started(root, state) as two:
            await unload(one)
            await out_of_service(one, two)
            two.engine.failing.add(f"{MODEL}/1")
            with pytest.raises(LoadFailed, match=r"colours/1: told to\. The gateways go on trying") as caught:
                await load(one)
            assert caught.value.code == "load_failed"
            assert one.answers() == 1
            assert not (await one.pointers()).unloaded
            two.engine.failing.clear()
            await until(lambda: two.keeper.serving == 1, "they went on")

    asyncio.run(main())


def test_loading_tries_what_failed_at_once_at_all_gateways(root, state, monkeypatch):
    monkeypatch.setattr(keepers, "RETRY_S", (600.0,))

    async def main():
        engine = TellingEngine()
        engine.failing.add(f"{MODEL}/1")
        async with started(root, state) as one, started(root, state, engine=engine) as two:
            while not any(member.failed for member in await one.ledger.members()):
                await asyncio.sleep(0.01)
            with pytest.raises(LoadFailed, match="told to"):
                await load(one)
            assert engine.tried == [f"{MODEL}/1"] * 2, "tried at once, and the answer is about that try"
            engine.failing.clear()
            outcome = await load(one)
            assert (outcome.action, outcome.to, outcome.cold, outcome.gateways) == ("load", None, True, 2)
            assert two.answers() == 1
            assert await one.changes.history(MODEL) == ()

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_load_that_takes_too_long_names_who_did_not(root, state):
    async def main():
        async with started(root, state, load_s=0.3) as one, started(root, state) as two:
            await unload(one)
            await out_of_service(one, two)
            two.engine.loading.clear()
            with pytest.raises(LoadFailed, match=rf"{two.reconciler.member} did not load colours/1 within 0 s\. The"):
                await load(one)

    asyncio.run(main())


def test_a_load_that_is_overtaken_by_an_unload_says_so(root, state):
    async def main():
        async with started(root, state) as rig:
            await unload(rig)
            await out_of_service(rig)
            rig.engine.loading.clear()
            loading = asyncio.create_task(load(rig))
            await until(lambda: len(rig.engine.tried) == 2, "it is being loaded")
            await unload(rig)
            with pytest.raises(ChangeRefused, match="unloaded again"):
                await loading
            rig.engine.loading.set()
            await out_of_service(rig)

    asyncio.run(main())


@pytest.mark.parametrize("kept", [True, False], ids=["unreadable", "gone"])
def test_loading_what_the_repository_does_not_hold_says_why(root, state, kept):
    async def main():
        async with started(root, state) as rig:
            await unload(rig)
            if kept:
                (root / MODEL / "config.pbtxt").write_text("what is this {")
            else:
                shutil.rmtree(root / MODEL)
            with pytest.raises(ModelNotFound, match=rf"{MODEL}/config\.pbtxt" if kept else "no model of that name"):
                await load(rig)
            assert (await rig.pointers()).unloaded

    asyncio.run(main())


def test_a_model_that_was_published_just_now_can_be_unloaded(root, state):
    async def main():
        async with started(root, state) as rig:
            tiny.add_plain(root, "double", 1)
            assert (await unload(rig, "double")).stable == 1
            assert (await rig.ledger.read()).models["double"].unloaded

    asyncio.run(main())


def test_loading_finds_what_was_mended_just_now_at_all_gateways(root, state, monkeypatch):
    monkeypatch.setattr(reconcilers, "RESCAN_S", 600.0)
    monkeypatch.setattr(keepers, "RETRY_S", (600.0,))

    async def main():
        aside = root.with_name("aside")
        shutil.move(root / MODEL / "1", aside)
        await file_ledger(state).change(seeded({MODEL: 1}))
        async with started(root, state) as one, started(root, state) as two:
            assert one.keeper.serving is two.keeper.serving is None
            shutil.move(aside, root / MODEL / "1")
            assert (await load(one)).gateways == 2
            assert one.answers() == two.answers() == 1

    asyncio.run(asyncio.wait_for(main(), 20))


def test_with_no_gateway_the_next_start_is_out_of_service_until_it_is_loaded(root, state):
    async def main():
        rig = parts(root, state)
        outcome = await unload(rig)
        assert (outcome.action, outcome.from_, outcome.gateways) == ("unload", 1, 0)
        async with started(root, state) as other:
            assert other.reconciler.settled
            assert other.engine.tried == []
            await out_of_service(other)
        outcome = await load(rig)
        assert (outcome.action, outcome.to, outcome.gateways, outcome.cold) == ("load", 1, 0, False)
        async with started(root, state) as other:
            assert other.answers() == 1

    asyncio.run(main())


def test_a_gateway_whose_repository_lacks_the_model_says_so_at_once(root, state, tmp_path):
    tiny.add_plain(tmp_path / "other", "double", 1)

    async def main():
        async with started(root, state) as one, started(tmp_path / "other", state):
            await unload(one)
            with pytest.raises(LoadFailed, match="This gateway's repository does not hold the model"):
                await load(one)

    asyncio.run(main())
