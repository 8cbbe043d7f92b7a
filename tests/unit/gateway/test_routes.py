"""What the routes make of their inputs: parameters by the task's model, outputs that are wanted, what there is."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import httpx
import pytest
from http_rig import build_tiny, picture
from pydantic import Field

from serving.engines.fake import FakeEngine
from serving.errors import ParameterInvalid
from serving.gateway.open_inference import priority_of, timeout_of
from serving.gateway.routes.v1 import _parameters, _request_documentation
from serving.task import Parameters
from serving.tasks.classify import Classify, ClassifyParameters


class Wide(Parameters):
    """Parameters of several types, as tasks may have them."""

    count: int = Field(default=1, ge=1, le=10)
    share: float = 0.5
    exact: bool = False
    text: str = ""


class Undocumented(Classify):
    """A task whose example leaves a parameter out."""

    parameters: ClassVar = Wide


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {}),
        ({"count": "3", "share": "0.25", "text": "a"}, {"count": 3, "share": 0.25, "text": "a"}),
        ({"exact": "true"}, {"exact": True}),
        ({"count": 3, "share": 1, "exact": True}, {"count": 3, "share": 1.0, "exact": True}),
        ({"exact": "false"}, {"exact": False}),
        ({"exact": False}, {"exact": False}),
    ],
    ids=["none", "of a query", "true of a query", "of JSON", "false of a query", "false of JSON"],
)  # fmt: skip
def test_parameters_mean_the_same_in_a_query_and_in_json(fields, expected):
    assert _parameters(Wide, fields) == Wide(**expected)


@pytest.mark.parametrize(
    ("fields", "name"),
    [({"count": value}, "count") for value in ("0", 11, "abc", "true", True, False, None, 1.5, [1], "9" * 5000)]
    + [({"share": value}, "share") for value in ("x", True, None)]
    + [({"exact": "maybe"}, "exact"), ({"text": 5}, "text")],
    ids=repr,
)
def test_a_wrong_parameter_is_named(fields, name):
    with pytest.raises(ParameterInvalid) as caught:
        _parameters(Wide, {key: value[:20] if isinstance(value, str) else value for key, value in fields.items()})
    assert caught.value.detail.startswith(f"{name}: ")
    assert caught.value.remedy


def test_a_parameter_of_an_unknown_name_is_refused_with_those_there_are():
    with pytest.raises(ParameterInvalid, match="unknown name") as caught:
        _parameters(ClassifyParameters, {"topk": 1})
    assert caught.value.remedy == "There are: model, version, label, top_k."


def test_parameters_are_documented_with_their_example_where_there_is_one():
    documented = {one["name"]: one.get("example") for one in _request_documentation(Classify)["parameters"]}
    assert documented == {"model": None, "version": None, "label": None, "top_k": 3}
    without = {one["name"]: one.get("example") for one in _request_documentation(Undocumented)["parameters"]}
    assert set(without) == {"model", "version", "label", "count", "share", "exact", "text"}
    assert not any(without.values())


NUMBERS = [(0, 0), (7, 7)]
NO_NUMBERS = [-1, 1.0, "1", True, None, [1]]


@pytest.mark.parametrize(("given", "priority"), NUMBERS)
def test_priority_is_a_whole_number_or_the_model_s_default(given, priority):
    assert priority_of({"priority": given}) == priority
    assert priority_of({"other": 1}) == 0


def test_a_timeout_is_in_microseconds():
    assert timeout_of({"timeout": 2_500_000}) == 2.5
    assert timeout_of({"timeout": 0}) is None
    assert timeout_of({}) is None


@pytest.mark.parametrize("given", NO_NUMBERS, ids=repr)
def test_any_other_priority_or_timeout_is_refused(given):
    with pytest.raises(ParameterInvalid, match="priority is not a whole number"):
        priority_of({"priority": given})
    with pytest.raises(ParameterInvalid, match="timeout is not a whole number"):
        timeout_of({"timeout": given})


async def ask(*requests: httpx.Request, folder, port: str = "public", **settings) -> list[httpx.Response]:
    parts = build_tiny(folder, FakeEngine(), settings)
    await parts.start()
    try:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(getattr(parts, port)), base_url="http://tests"
        ) as client:
            return [await client.send(request) for request in requests]
    finally:
        await parts.close()


def get(path: str) -> httpx.Request:
    return httpx.Request("GET", f"http://tests{path}")


def test_models_are_shown_all_or_one(tmp_path):
    listing, one, none = asyncio.run(
        ask(*map(get, ["/v1/models", "/v1/models/double", "/v1/models/nobody"]), folder=tmp_path)
    )
    assert [model["name"] for model in listing.json()["models"]] == ["colours", "double"]
    assert one.json() == listing.json()["models"][1]
    assert (none.status_code, none.json()["code"]) == (404, "model_not_found")


def test_operators_see_models_and_meters(tmp_path):
    listing, meters = asyncio.run(ask(get("/admin/models"), get("/metrics"), folder=tmp_path, port="admin"))
    assert [model["ready"] for model in listing.json()["models"]] == [True, True]
    assert 'tidegate_model_ready{model="colours",version="1"} 1.0' in meters.text
    assert meters.headers["content-type"].startswith("text/plain; version=")


def test_a_gateway_that_has_not_loaded_its_models_is_not_ready(tmp_path):
    async def main():
        parts = build_tiny(tmp_path, FakeEngine(), {})
        transport = httpx.ASGITransport(parts.public)
        async with httpx.AsyncClient(transport=transport, base_url="http://tests") as client:
            before = await client.get("/readyz")
            assert (await client.get("/livez")).status_code == 200
            await parts.start()
            after = await client.get("/readyz")
            await parts.close()
        assert (before.status_code, after.status_code) == (503, 200)

    asyncio.run(main())


def test_tensors_and_pictures_have_limits_of_their_own(tmp_path):
    body = picture()
    requests = [
        httpx.Request("POST", f"http://tests{path}", content=body)
        for path in ("/v1/classify", "/v2/models/double/infer")
    ]
    classified, inferred = asyncio.run(
        ask(*requests, folder=tmp_path, tensor_json_limit=len(body) - 1, body_limit=len(body))
    )
    assert classified.status_code == 200
    assert inferred.status_code == 413
    assert inferred.json()["error"].startswith(f"Tensors in JSON have at most {len(body) - 1} bytes.")


def test_a_version_of_tensors_is_a_number(tmp_path):
    tensor = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}]}
    requests = [
        httpx.Request("POST", f"http://tests/v2/models/double/versions/{version}/infer", json=tensor)
        for version in ("1", "01", "2")
    ]
    answers = asyncio.run(ask(*requests, folder=tmp_path))
    assert [answer.status_code for answer in answers] == [200, 400, 404]
