"""The table that finds direct routes."""

from __future__ import annotations

import asyncio

import pytest
from http_rig import Exchange

from serving.gateway.direct import DirectRoute, DirectTable, _documented

PATHS = [
    "/v1/classify",
    "/v2/models/{model}/infer",
    "/v2/models/{model}/versions/{version}/infer",
    "/v2/models/fixed/infer",
]


def find(path: str, method: str = "POST") -> tuple[bool, str | None, dict[str, str]]:
    """Whether a route took it, which, and the parameters of the path."""
    taken: list[str] = []

    def endpoint(route: str):
        async def run(scope, receive, send):
            taken.append(route)

        return run

    table = DirectTable([DirectRoute(route, endpoint(route), need="predict", methods=["POST"]) for route in PATHS])
    exchange = Exchange(path=path, method=method)
    scope = exchange.scope
    found = table.find(scope)
    if found is not None:
        asyncio.run(found.app(scope, exchange.receive, exchange.send))
    return found is not None, (taken or [None])[0], scope.get("path_params", {})


@pytest.mark.parametrize(
    ("path", "route", "parameters"),
    [
        ("/v1/classify", PATHS[0], {}),
        ("/v2/models/double/infer", PATHS[1], {"model": "double"}),
        ("/v2/models/double/versions/7/infer", PATHS[2], {"model": "double", "version": "7"}),
        ("/v2/models/fixed/infer", PATHS[3], {}),
        ("/v2/models/../infer", PATHS[1], {"model": ".."}),
        ("/v2/models/a\0\r\nb/infer", PATHS[1], {"model": "a\0\r\nb"}),
    ],
    ids=["whole", "pattern", "two parameters", "whole before pattern", "dots", "control characters"],
)
def test_a_path_finds_its_route(path, route, parameters):
    assert find(path) == (True, route, parameters)


@pytest.mark.parametrize(
    "path",
    ["/", "", "/v1", "/v1/classify/", "/v1/classify/x", "//v1/classify", "/V1/classify", "/v2/models//infer",
     "/v2/models/a/b/infer", "/v2/models/a/infer/", "x/v2/models/a/infer", "/v2/models/a/versions//infer", "*"],
)  # fmt: skip
def test_a_path_that_only_looks_like_one_finds_none(path):
    assert find(path) == (False, None, {})


@pytest.mark.parametrize("path", ["/v1/classify", "/v2/models/double/infer"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "post", "POSTS", ""])
def test_another_method_is_left_to_fastapi_which_answers_405(path, method):
    assert find(path, method)[:2] == (False, None)


def test_the_handler_that_fastapi_documents_is_never_run():
    with pytest.raises(NotImplementedError):
        asyncio.run(_documented(None))
