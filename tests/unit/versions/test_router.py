"""Which version answers: every way to ask, and what is said when none can."""

from __future__ import annotations

import asyncio

import pytest

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
from serving.versions.router import Route, Router, Target


def resident(tmp_path, model: str, number: int) -> Resident:
    meter = Meters().request_meter(model, number, "classify")
    return Resident(Version(model, number, tmp_path, None, {}), None, {}, meter)


@pytest.fixture
def router(tmp_path) -> Router:
    """resnet/3 and vit/1 classify, yolo/2 detects, unet segments and is not loaded, plain has no task."""
    router = Router({"classify": "resnet", "caption": "gone"})
    router.set_route("resnet", Route("classify", resident(tmp_path, "resnet", 3)))
    router.set_route("vit", Route("classify", resident(tmp_path, "vit", 1)))
    router.set_route("yolo", Route("detect", resident(tmp_path, "yolo", 2)))
    router.set_route("unet", Route("segment", None))
    router.set_route("plain", Route(None, resident(tmp_path, "plain", 1)))
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
        (Target("resnet", version=2), "classify", VersionNotFound, "Version 3 is"),
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
    assert [held.version.name for held in router.residents()] == ["resnet/3", "vit/2", "yolo/2", "plain/1"]


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
