"""Which version answers: every way to ask, and what is said when none can."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import (
    ModelAmbiguous,
    ModelNotFound,
    ModelNotReady,
    TaskMismatch,
    VersionNotFound,
)
from serving.repository.layout import Version
from serving.telemetry import Meters
from serving.versions.resident import Resident
from serving.versions.router import Route, Router, Target, gets_canary


def test_an_unloaded_model_says_so_and_how_to_load_it(router):
    router.set_route("resnet", Route("classify", None, unloaded=True))
    with pytest.raises(ModelNotReady) as caught:
        router.resolve(Target(), "classify")
    assert caught.value.detail == "resnet was unloaded."
    assert "POST /admin/models/resnet/load" in caught.value.remedy


def resident(tmp_path, model: str, number: int) -> Resident:
    meter = Meters().request_meter(model, number, "classify")
    return Resident(Version(model, number, tmp_path, None, {}), None, {}, meter)


@pytest.fixture
def router(tmp_path) -> Router:
    """resnet/3 and vit/1 classify, yolo/2 detects, unet segments and is not loaded, plain has no task."""

    def route(task, name, number):
        held = resident(tmp_path, name, number)
        return Route(task, held, residents={number: held})

    router = Router({"classify": "resnet", "caption": "gone"})
    router.set_route("resnet", route("classify", "resnet", 3))
    router.set_route("vit", route("classify", "vit", 1))
    router.set_route("yolo", route("detect", "yolo", 2))
    router.set_route("unet", Route("segment", None))
    router.set_route("plain", route(None, "plain", 1))
    router.settled = True
    return router


@pytest.mark.parametrize(
    ("target", "verb", "name"),
    [
        (Target(), "classify", "resnet/3"),
        (Target(), "detect", "yolo/2"),
        (Target("vit"), "classify", "vit/1"),
        (Target("resnet", version=3), "classify", "resnet/3"),
        (Target("resnet", label="stable"), "classify", "resnet/3"),
        (Target("plain"), None, "plain/1"),
        (Target("yolo"), None, "yolo/2"),
        (Target(""), "classify", "resnet/3"),
        (Target(version=3), "classify", "resnet/3"),
    ],
    ids=[
        "the default",
        "the only one",
        "by name",
        "by version",
        "by label",
        "a plain one",
        "any, as tensors",
        "an empty name",
        "the default by version",
    ],
)
def test_finds(router, target, verb, name):
    assert router.resolve(target, verb).version.name == name


@pytest.mark.parametrize(
    ("target", "verb", "error", "said"),
    [
        (Target("nope"), "classify", ModelNotFound, "resnet, vit"),
        (Target("nope"), None, ModelNotFound, "plain, resnet, unet, vit, yolo"),
        (Target("nope"), "caption", ModelNotFound, "holds none"),
        (Target(), "caption", ModelNotFound, "no model for caption"),
        (Target("yolo"), "classify", TaskMismatch, "yolo does detect"),
        (Target("plain"), "classify", TaskMismatch, "over /v2"),
        (Target("unet"), "segment", ModelNotReady, "unet has no version loaded"),
        (Target("resnet", version=2), "classify", VersionNotFound, "Loaded: 3"),
        (Target(version=1), "classify", VersionNotFound, "resnet has no version 1 loaded"),
        (Target("unet", version=1), "segment", ModelNotReady, "unet has no version loaded"),
        (Target("resnet", label="canary"), "classify", VersionNotFound, "no canary"),
        (Target(), None, ModelAmbiguous, "plain, resnet, unet, vit, yolo"),
    ],
    ids=lambda value: None,
)
def test_says_what_could_be_had_instead(router, target, verb, error, said):
    with pytest.raises(error) as caught:
        router.resolve(target, verb)
    assert said in str(caught.value)


def test_several_models_and_no_default_is_ambiguous(tmp_path):
    router = Router({})
    for name in ("a", "b"):
        router.set_route(name, Route("classify", resident(tmp_path, name, 1)))
    router.settled = True
    with pytest.raises(ModelAmbiguous) as caught:
        router.resolve(Target(), "classify")
    assert "a, b" in caught.value.remedy


def test_a_default_that_is_not_loaded_is_not_replaced_by_another(tmp_path):
    """Another model would answer with other labels, and nobody would be told."""
    router = Router({"classify": "resnet"})
    router.set_route("resnet", Route("classify", None))
    router.set_route("vit", Route("classify", resident(tmp_path, "vit", 1)))
    router.settled = True
    with pytest.raises(ModelNotReady, match="resnet has no version loaded"):
        router.resolve(Target(), "classify")


def test_an_empty_repository_says_so():
    router = Router({})
    router.settled = True
    with pytest.raises(ModelNotFound, match="Publish one"):
        router.resolve(Target(), "classify")
    with pytest.raises(ModelNotFound, match="The repository holds none"):
        router.resolve(Target("resnet"), "classify")


def test_a_route_that_is_set_again_takes_the_place_of_the_old(router, tmp_path):
    newer = resident(tmp_path, "vit", 2)
    router.set_route("vit", Route("classify", newer))
    assert router.resolve(Target("vit"), "classify") is newer
    assert [held.version.name for held in router.stables()] == ["resnet/3", "vit/2", "yolo/2", "plain/1"]


def test_while_the_gateway_starts_no_name_is_unknown():
    with pytest.raises(ModelNotReady, match="still starting"):
        Router({}).resolve(Target("resnet"), "classify")


def test_a_lease_holds_until_the_last_one_ends(tmp_path):
    async def main():
        held = resident(tmp_path, "m", 1)
        await held.unused()
        with held:
            with held:
                waiting = asyncio.create_task(held.unused())
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not waiting.done()
        await asyncio.wait_for(waiting, 5)

    asyncio.run(main())


def test_a_lease_ends_when_its_request_fails(tmp_path):
    async def main():
        held = resident(tmp_path, "m", 1)
        with pytest.raises(ZeroDivisionError), held:
            raise ZeroDivisionError
        await asyncio.wait_for(held.unused(), 5)

    asyncio.run(main())


def test_a_role_that_the_version_does_not_have(tmp_path):
    with pytest.raises(VersionNotFound, match="no graph 'decoder'"):
        resident(tmp_path, "m", 1).key("decoder")


@pytest.fixture
def trial(tmp_path) -> Router:
    """vit: 2 is stable, 3 gets a tenth, 1 is kept warm."""
    held = {number: resident(tmp_path, "vit", number) for number in (1, 2, 3)}
    router = Router({})
    router.set_route("vit", Route("classify", held[2], canary=held[3], percent=10.0, residents=held))
    router.settled = True
    return router


@pytest.mark.parametrize(
    ("target", "number"),
    [
        (Target(version=1), 1),
        (Target(version=2), 2),
        (Target(version=3), 3),
        (Target(label="stable"), 2),
        (Target(label="canary"), 3),
        (Target(version=3, label="canary"), 3),
    ],
    ids=["the warm one", "stable", "canary", "stable by label", "canary by label", "both"],
)
def test_whoever_names_a_version_gets_it_whatever_their_lot(trial, target, number):
    for caller in (b"", b"a", b"b", b"c"):
        asked = Target("vit", target.version, target.label, caller)
        assert trial.resolve(asked, "classify").version.number == number


def test_a_label_and_a_number_that_differ_are_refused(trial):
    with pytest.raises(VersionNotFound, match="The canary of vit is version 3"):
        trial.resolve(Target("vit", version=2, label="canary"), "classify")


def met(router: Router, callers) -> dict[bytes, int]:
    return {caller: router.resolve(Target("vit", sticky=caller), "classify").version.number for caller in callers}


CALLERS = [str(number).encode() for number in range(2000)]


def test_the_same_caller_keeps_meeting_the_same_version(trial):
    first = met(trial, CALLERS)
    assert set(first.values()) == {2, 3}, "and never the one that is only kept warm"
    assert met(trial, CALLERS) == first


def test_a_canary_gets_its_share_of_callers(trial):
    share = list(met(trial, CALLERS).values()).count(3) / len(CALLERS)
    assert share == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize(("percent", "controlled"), [(10.0, True), (50.0, True), (51.0, False)])
def test_a_canary_and_the_stable_version_are_each_other_s_others(trial, percent, controlled):
    """But a canary with more than half of the requests, whose copies would be too many."""
    held = {resident.version.number: resident for resident in trial.residents("vit")}
    trial.set_route("vit", Route("classify", held[2], canary=held[3], percent=percent, residents=held))
    assert [trial.canary(held[number]) for number in (1, 2, 3)] == [None, held[3], None]
    assert [trial.control(held[number]) for number in (1, 2, 3)] == [None, None, held[2] if controlled else None]


def test_requests_of_nobody_are_drawn_by_weight(trial):
    drawn = [trial.resolve(Target("vit"), "classify").version.number for _ in range(5000)]
    assert drawn.count(3) / len(drawn) == pytest.approx(0.1, abs=0.03)


@given(st.binary(min_size=1), st.floats(0, 100), st.floats(0, 100), st.text(max_size=80))
def test_who_is_in_at_ten_percent_is_in_at_fifty(caller, one, other, name):
    less, more = sorted((one, other))
    assert gets_canary(name, less, caller) <= gets_canary(name, more, caller)
    assert gets_canary(name, 100, caller)
    assert not gets_canary(name, 0, caller)


def test_each_canary_draws_its_callers_anew():
    lots = [[caller for caller in CALLERS if gets_canary(f"vit/{number}", 10, caller)] for number in (3, 4)]
    both = set(lots[0]) & set(lots[1])
    assert len(both) < len(lots[0]) / 2


@pytest.mark.parametrize("percent", [0.0, 100.0])
def test_none_and_all_are_exact(percent):
    assert {gets_canary("vit/3", percent, b"") for _ in range(500)} == {percent == 100}


def test_only_what_the_stable_version_answers_is_copied(tmp_path):
    held = {number: resident(tmp_path, "vit", number) for number in (1, 2, 3)}
    router = Router({})
    assert router.shadow(held[2]) is None
    router.set_route("vit", Route("classify", held[2], shadow=held[3], residents=held))
    assert [router.shadow(held[number]) for number in (1, 2, 3)] == [None, held[3], None]
    assert router.shadow(resident(tmp_path, "vit", 2)) is None, "nor what an earlier load of it still answers"


def test_a_trial_without_a_stable_version_is_not_ready(tmp_path):
    router = Router({})
    router.set_route("vit", Route("classify", None, canary=resident(tmp_path, "vit", 3), percent=100.0))
    router.settled = True
    with pytest.raises(ModelNotReady):
        router.resolve(Target("vit"), "classify")


def test_the_versions_that_can_be_asked_for_are_told_of_one_model_or_of_all(router, tmp_path):
    held = {number: resident(tmp_path, "vit", number) for number in (1, 2)}
    router.set_route("vit", Route("classify", held[2], residents=held))
    assert [one.version.name for one in router.residents("vit")] == ["vit/1", "vit/2"]
    assert [one.version.name for one in router.residents()] == ["resnet/3", "vit/1", "vit/2", "yolo/2", "plain/1"]
    assert router.residents("unet") == router.residents("nobody") == []
