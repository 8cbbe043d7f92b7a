"""The documentation: a valid document, an example on every route, and examples that work as they stand."""

from __future__ import annotations

import asyncio
import re

import httpx
import pytest
import tiny
from fastapi.openapi.models import OpenAPI
from http_rig import build_tiny, serving

from serving import plugins
from serving.codecs.tensor_json import read_tensors
from serving.engines.fake import FakeEngine
from serving.task import FOLDER

DOCUMENTED = {
    "/v1/caption": "post",
    "/v1/classify": "post",
    "/v1/embeddings": "post",
    "/v1/detect": "post",
    "/v1/embed": "post",
    "/v1/images/generations": "post",
    "/v1/segment": "post",
    "/v1/models": "get",
    "/v1/models/{model}": "get",
    "/v2/models/{model}/infer": "post",
    "/v2/models/{model}/versions/{version}/infer": "post",
    "/v2": "get",
    "/v2/health/live": "get",
    "/v2/health/ready": "get",
    "/v2/models/stats": "get",
    **{
        f"/v2/models/{{model}}{version}{path}": "get"
        for version in ("", "/versions/{version}")
        for path in ("", "/ready", "/config", "/stats")
    },
    "/v1/collections": "get",
    "/v1/collections/{name}/items": "post",
    "/v1/collections/{name}/search": "post",
    "/v1/feedback": "post",
    "/livez": "get",
    "/readyz": "get",
}
# Each route by path and method: some paths have several.
OPERATIONS = [
    *DOCUMENTED.items(),
    *(("/v1/collections/{name}", method) for method in ("get", "put", "delete")),
    *(("/v1/jobs/{ident}", method) for method in ("get", "delete")),
    ("/v1/jobs/{ident}/events", "get"),
    *(("/v1/collections/{name}/items/{ident}", method) for method in ("get", "delete")),
]


def get(parts, *paths: str) -> list[httpx.Response]:
    async def main():
        transport = httpx.ASGITransport(parts.public)
        async with httpx.AsyncClient(transport=transport, base_url="http://tests") as client:
            return [await client.get(path) for path in paths]

    return asyncio.run(main())


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    async def main():
        return build_tiny(tmp_path_factory.mktemp("openapi"), FakeEngine(), {})

    return asyncio.run(main())


@pytest.fixture(scope="module")
def document(parts):
    (answer,) = get(parts, "/openapi.json")
    return answer.json()


def nodes(value):
    """The value and everything in it."""
    yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from nodes(inner)


def test_the_document_is_openapi_3_1(document):
    assert document["openapi"].startswith("3.1.")
    OpenAPI.model_validate(document)


def test_every_route_is_documented_and_none_by_accident(document):
    assert {(path, method) for path, methods in document["paths"].items() for method in methods} == set(OPERATIONS)


def test_every_task_has_its_route(document):
    for name in plugins.names(FOLDER):
        task = plugins.find(FOLDER, name, "PLUGIN")
        operation = document["paths"][task.path or f"/v1/{task.verb}"]["post"]
        tag = "OpenAI" if task.path else "tasks"
        assert (operation["tags"], operation["x-tidegate-task"]) == ([tag], task.verb)


def test_references_lead_somewhere(document):
    schemas = document["components"]["schemas"]
    references = {node["$ref"] for node in nodes(document) if isinstance(node, dict) and "$ref" in node}
    assert references
    assert {reference.removeprefix("#/components/schemas/") for reference in references} <= set(schemas)


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_operations_have_a_name_a_summary_and_their_path_s_parameters(document, path, method):
    operation = document["paths"][path][method]
    assert operation["summary"]
    named = {parameter["name"] for parameter in operation.get("parameters", []) if parameter["in"] == "path"}
    assert named == set(re.findall(r"{(\w+)}", path))
    ids = [one["operationId"] for methods in document["paths"].values() for one in methods.values()]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("path", [path for path, method in DOCUMENTED.items() if method == "post"])
def test_what_is_posted_has_an_example_and_a_reply(document, path):
    operation = document["paths"][path]["post"]
    assert operation["requestBody"]["required"]
    assert operation["requestBody"]["content"]["application/json"]["example"]
    done = operation["responses"].get("200") or operation["responses"]["202"]
    assert done["content"]["application/json"]["example"]
    assert {"404", "413", "503", "504"} <= set(operation["responses"])


def test_every_parameter_of_a_task_is_described(document):
    parameters = {one["name"]: one for one in document["paths"]["/v1/classify"]["post"]["parameters"]}
    assert set(parameters) == {"model", "version", "label", "top_k"}
    assert all(one["in"] == "query" and one["schema"] and one["description"] for one in parameters.values())


def test_the_example_of_the_inference_protocol_can_be_read(document):
    example = document["paths"]["/v2/models/{model}/infer"]["post"]["requestBody"]["content"]["application/json"][
        "example"
    ]
    assert read_tensors(example["inputs"])


def test_task_examples_work_as_they_stand(document, tmp_path):
    async def main():
        tiny.add_classifier(tmp_path / "repository")
        for task in ("detect", "segment"):
            tiny.add_dark(tmp_path / "repository", task)
        tiny.add_embedder(tmp_path / "repository")
        tiny.add_captioner(tmp_path / "repository")
        tiny.add_diffusion(tmp_path / "repository")
        async with serving(tmp_path) as live:
            tasks = {
                path: one["post"] for path, one in document["paths"].items() if "x-tidegate-task" in one.get("post", {})
            }
            assert set(plugins.names(FOLDER)) == {one["x-tidegate-task"] for one in tasks.values()}
            for path, operation in tasks.items():
                example = operation["requestBody"]["content"]["application/json"]["example"]
                answer = await live.client.post(path, json=example)
                assert answer.status_code == 200, answer.text
                assert set(answer.json()) == set(
                    operation["responses"]["200"]["content"]["application/json"]["example"]
                )
                if "parameters" not in operation:
                    continue
                query = {one["name"]: one["example"] for one in operation["parameters"] if "example" in one}
                assert bool(query) == (len(operation["parameters"]) > len(("model", "version", "label")))
                raw = await live.client.post(path, json={**example, **query})
                assert raw.json() == answer.json()

    asyncio.run(main())


def test_the_page_needs_nothing_from_elsewhere(parts):
    (page,) = get(parts, "/docs")
    assert page.headers["content-type"].startswith("text/html")
    wanted = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(wanted) == 3
    assert all(url.startswith("/docs/") for url in wanted)
    assert "'/openapi.json'" in page.text
    assert not re.search(r"https?://", page.text)
    kinds = {".js": "text/javascript", ".css": "text/css", ".png": "image/png"}
    for url, file in zip(wanted, get(parts, *wanted), strict=True):
        assert file.status_code == 200
        assert file.content
        assert file.headers["content-type"].startswith(kinds[url[url.rindex(".") :]])


@pytest.mark.parametrize(
    "path", ["/docs/../openapi.json", "/docs/%2e%2e/pyproject.toml", "/docs/redoc.standalone.js", "/redoc"]
)
def test_no_other_file_is_given_away(parts, path):
    (answer,) = get(parts, path)
    assert answer.status_code == 404 or answer.url.path == "/openapi.json"
