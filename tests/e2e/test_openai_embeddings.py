"""The official client of OpenAI's API, unmodified, against a running gateway."""

from __future__ import annotations

import asyncio
import json
import random
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import openai
import pytest
import tiny
from http_rig import gateway_process, metrics, picture, serving, until

from serving.engines.fake import FakeEngine
from serving.keys import KeyFile

RED, GREEN = "red red", "green"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("openai")
    for number in (1, 2):
        tiny.add_embedder(folder / "repository", "tower", number, turn=number - 1)
    tiny.add_embedder(folder / "repository", "pictures", towers=("image",))
    tiny.add_classifier(folder / "repository")
    return folder


@pytest.fixture(scope="module")
def gateway(folder):
    state = folder / "state"
    with gateway_process(folder / "repository", state, TIDEGATE_DEFAULT_MODELS="embed=tower") as process:
        yield process


@pytest.fixture
def client(gateway):
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none needed", max_retries=0) as client:
        yield client


def post(gateway, **fields) -> httpx.Response:
    return httpx.post(f"{gateway.url}/v1/embeddings", json=fields)


def embedded(gateway, text: str, **query) -> list[float]:
    """As the task's own route has it."""
    answer = httpx.post(f"{gateway.url}/v1/embed", params={"model": "tower", **query}, json={"text": text})
    return answer.json()["embedding"]


# What is answered


def test_the_client_gets_an_embedding_of_a_text(client, gateway):
    answer = client.embeddings.create(model="tower", input=RED)
    assert (answer.object, answer.model) == ("list", "tower")
    assert (answer.data[0].object, answer.data[0].index) == ("embedding", 0)
    assert answer.data[0].embedding == pytest.approx(embedded(gateway, RED))
    assert np.linalg.norm(answer.data[0].embedding) == pytest.approx(1)
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (2, 2)


def test_the_asynchronous_client_too(gateway):
    async def main():
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none needed") as client:
            answers = await asyncio.gather(
                *(client.embeddings.create(model="tower", input=text) for text in (RED, GREEN))
            )
            return [answer.data[0].embedding for answer in answers]

    found = asyncio.run(main())
    assert [np.argmax(vector) for vector in found] == [0, 1]


def test_both_formats_have_the_same_float32_numbers(client):
    vectors = [
        client.embeddings.create(model="tower", input=RED, **given).data[0].embedding
        for given in ({}, {"encoding_format": "float"})
    ]
    assert np.array_equal(*(np.array(vector, np.float32) for vector in vectors))
    raw = client.embeddings.with_raw_response.create(model="tower", input=RED, encoding_format="base64")
    assert isinstance(raw.http_response.json()["data"][0]["embedding"], str)


def test_inputs_come_back_in_their_order(client, gateway):
    texts = [" ".join(random.Random(i).choices(tiny.COLOURS, k=1 + i % 9)) for i in range(200)]
    answer = client.embeddings.create(model="tower", input=texts)
    assert [one.index for one in answer.data] == list(range(200))
    assert answer.usage.total_tokens == sum(len(text.split()) for text in texts)
    for i in range(0, 200, 20):
        assert answer.data[i].embedding == pytest.approx(embedded(gateway, texts[i]))


def test_as_many_inputs_as_may_be_are_answered(client):
    answer = client.embeddings.create(model="tower", input=[tiny.COLOURS[i % 3] for i in range(2048)])
    assert [int(np.argmax(one.embedding)) for one in answer.data] == [i % 3 for i in range(2048)]


@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
def test_token_ids_are_the_model_s_own(client, several):
    ids = [2, 2, 3]
    answer = client.embeddings.create(model="tower", input=[ids, [4]] if several else ids)
    wanted = client.embeddings.create(model="tower", input=["red red green", "blue"][: 1 + several])
    assert [one.embedding for one in answer.data] == [one.embedding for one in wanted.data]
    assert answer.usage == wanted.usage


def test_without_a_model_the_default_one_answers(gateway):
    answer = post(gateway, input=RED)
    assert (answer.status_code, answer.json()["model"]) == (200, "tower")


def test_its_own_dimensions_and_a_user_may_be_named(client):
    answer = client.embeddings.create(model="tower", input=RED, dimensions=4, user="somebody")
    assert len(answer.data[0].embedding) == 4


def test_a_version_can_be_pinned_and_answers_all(client, gateway):
    canary = httpx.post(
        f"{gateway.admin_url}/admin/models/tower/canary", json={"version": 2, "percent": 1, "force": True}
    )
    assert canary.is_success, canary.text
    try:
        check_pinned(client, gateway)
    finally:
        httpx.post(f"{gateway.admin_url}/admin/models/tower/rollback", json={})


def check_pinned(client, gateway):
    answer = client.embeddings.with_raw_response.create(
        model="tower", input=[RED, GREEN], extra_body={"version": 2}, extra_headers={"X-Request-Id": "mine"}
    )
    assert [one.embedding for one in answer.parse().data] == [
        pytest.approx(embedded(gateway, text, version=2)) for text in (RED, GREEN)
    ]
    headers = answer.headers
    assert (headers["tidegate-model"], headers["tidegate-version"]) == ("tower", "2")
    assert headers["x-request-id"] == "mine"
    assert all(stage in headers["server-timing"] for stage in ("queue", "pre", "run", "post"))
    by_query = client.embeddings.create(model="tower", input=RED, extra_query={"version": "2"})
    assert by_query.data[0].embedding == answer.parse().data[0].embedding


def test_rows_of_a_request_share_batches(client, gateway):
    def runs() -> float:
        return sum(one.value for one in metrics(gateway.admin_url) if one.name == "tidegate_batch_rows_count")

    before = runs()
    client.embeddings.create(model="tower", input=[GREEN] * 512)
    assert 0 < runs() - before < 512


# What is refused


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({}, "input", "required"),
        ({"input": ""}, "input", "Input 0: The text is empty"),
        ({"input": ["red", " "]}, "input", "Input 1: The text is empty"),
        ({"input": []}, "input", "neither a text nor a list"),
        ({"input": None}, "input", "neither a text nor a list"),
        ({"input": 5}, "input", "neither a text nor a list"),
        ({"input": {"text": "red"}}, "input", "neither a text nor a list"),
        ({"input": ["red", 5]}, "input", "neither texts nor token ids"),
        ({"input": [True]}, "input", "neither texts nor token ids"),
        ({"input": [2.5]}, "input", "neither texts nor token ids"),
        ({"input": [[2], []]}, "input", "neither texts nor token ids"),
        ({"input": [-1]}, "input", "no token ids"),
        ({"input": [2**63]}, "input", "no token ids"),
        ({"input": [[2], [5]]}, "input", "Input 1: The token ids are not"),
        ({"input": ["red"] * 2049}, "input", "2,049 entries"),
        ({"input": "red " * 25_001}, "input", "100,000 characters"),
        ({"input": "red", "dimensions": 3}, "dimensions", "gives 4 dimensions, not 3"),
        ({"input": "red", "dimensions": 0}, "dimensions", "greater than or equal to 1"),
        ({"input": "red", "encoding_format": "hex"}, "encoding_format", "'float' or 'base64'"),
        ({"input": "red", "model": 5}, None, "model is not a name"),
        ({"input": "red", "model": "pictures"}, None, "embeds no text, only image"),
        ({"input": "red", "inputs": "red"}, None, "unknown name"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_in_openai_s_shape(gateway, fields, param, said):
    answer = post(gateway, **fields)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert said in error["message"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


@pytest.mark.parametrize(
    ("model", "kind", "code"),
    [
        ("text-embedding-3-small", openai.NotFoundError, "model_not_found"),
        ("colours", openai.ConflictError, "task_mismatch"),
    ],
)
def test_the_client_raises_what_fits(gateway, model, kind, code):
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none needed") as client, pytest.raises(kind) as caught:
        client.embeddings.create(model=model, input=RED)
    assert (caught.value.code, caught.value.param) == (code, "model")
    assert "tower" in caught.value.message, "it says which there are"


def test_other_methods_and_bodies_are_refused_in_the_same_shape(gateway):
    url = f"{gateway.url}/v1/embeddings"
    for answer, status in ((httpx.get(url), 405), (httpx.post(url, content=b"{"), 400)):
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_without_a_key_or_with_a_wrong_one_nobody_is_let_in(folder, tmp_path):
    keys = KeyFile(tmp_path / "keys.json")
    key, admin = keys.add("caller", ["predict"])[0], keys.add("operator", ["admin"])[0]
    with gateway_process(folder / "repository", tmp_path / "state", TIDEGATE_KEYS=str(keys.path)) as closed:
        base = f"{closed.url}/v1"
        with openai.OpenAI(base_url=base, api_key=key) as client:
            assert client.embeddings.create(model="tower", input=RED).data
        for wrong, kind in (("sk-wrong", openai.AuthenticationError), (admin, openai.PermissionDeniedError)):
            with openai.OpenAI(base_url=base, api_key=wrong) as client, pytest.raises(kind) as caught:
                client.embeddings.create(model="tower", input=RED)
            assert set(caught.value.body) == {"message", "type", "param", "code"}


# In company


def in_process(tmp_path, engine, **settings):
    tiny.add_embedder(tmp_path / "repository", "tower")
    return serving(tmp_path, engine, settings)


def test_one_request_leaves_the_queue_to_others(tmp_path):
    async def main():
        engine = FakeEngine()
        async with in_process(tmp_path, engine) as live:
            engine.gate.clear()
            large = asyncio.create_task(live.client.post("/v1/embeddings", json={"input": ["red"] * 1000}))
            await until(lambda: live.waiting_rows, "rows wait")
            await asyncio.sleep(0.1)
            assert live.waiting_rows <= 16
            other = asyncio.create_task(live.client.post("/v1/embed", json={"text": "green"}))
            await asyncio.sleep(0.05)
            engine.gate.set()
            assert (await other).status_code == 200
            assert len((await large).json()["data"]) == 1000

    asyncio.run(main())


def test_a_deadline_is_kept_and_nothing_runs_on_after_it(tmp_path):
    async def main():
        engine = FakeEngine(service_s=lambda _: 0.05)
        async with in_process(tmp_path, engine) as live:
            begun_s = time.monotonic()
            headers = {"x-request-timeout-ms": "200"}
            answer = await live.client.post("/v1/embeddings", json={"input": ["red"] * 2000}, headers=headers)
            assert answer.status_code == 504
            assert answer.json()["error"]["code"] == "deadline_passed"
            assert answer.json()["error"]["type"] == "server_error"
            assert time.monotonic() - begun_s < 2
            await asyncio.sleep(0.2)
            runs = len(engine.runs)
            await asyncio.sleep(0.2)
            assert len(engine.runs) == runs

    asyncio.run(main())


def test_nothing_runs_on_for_a_caller_who_left(tmp_path):
    async def main():
        engine = FakeEngine(service_s=lambda _: 0.02)
        async with in_process(tmp_path, engine) as live:
            asking = asyncio.create_task(live.client.post("/v1/embeddings", json={"input": ["red"] * 2000}))
            await until(lambda: len(engine.runs) > 3, "it runs")
            asking.cancel()
            await asyncio.sleep(0.3)
            runs = len(engine.runs)
            await asyncio.sleep(0.3)
            assert len(engine.runs) == runs

    asyncio.run(main())


def test_a_full_queue_and_a_full_gateway_are_told_in_openai_s_shape(tmp_path):
    async def main():
        engine = FakeEngine()
        async with in_process(tmp_path, engine, max_in_flight=1) as live:
            engine.gate.clear()
            first = asyncio.create_task(live.client.post("/v1/embeddings", json={"input": "red"}))
            await until(lambda: engine.runs, "it runs")
            second = await live.client.post("/v1/embeddings", json={"input": "red"})
            assert (second.status_code, second.json()["error"]["code"]) == (503, "busy")
            assert 1 <= int(second.headers["retry-after"]) <= 5
            engine.gate.set()
            assert (await first).status_code == 200

    asyncio.run(main())


def test_all_inputs_are_of_one_version_though_another_is_promoted_meanwhile(folder, tmp_path):
    """Two versions that place the same words elsewhere; one is promoted while requests of many rows are answered."""
    with (
        gateway_process(folder / "repository", tmp_path / "state", TIDEGATE_DEFAULT_MODELS="embed=tower") as live,
        ThreadPoolExecutor(2) as callers,
    ):

        def ask(_: int) -> str:
            answer = httpx.post(f"{live.url}/v1/embeddings", json={"input": ["red"] * 1500}, timeout=60)
            places = {int(np.argmax(one["embedding"])) for one in answer.json()["data"]}
            assert places == {int(answer.headers["tidegate-version"]) - 1}
            return answer.headers["tidegate-version"]

        asked = callers.map(ask, range(12))
        time.sleep(0.2)
        order = {"version": 2, "force": True}
        promoted = httpx.post(f"{live.admin_url}/admin/models/tower/promote", json=order, timeout=60)
        assert promoted.status_code < 300, promoted.text
        assert "1" in set(asked)
        assert ask(0) in ("1", "2")


def test_a_picture_is_embedded_by_the_task_s_own_route(gateway):
    answer = httpx.post(
        f"{gateway.url}/v1/embed?model=tower", content=picture(red=255), headers={"content-type": "image/png"}
    )
    assert answer.json()["embedding"] == pytest.approx(embedded(gateway, RED), abs=1e-6)
    assert json.loads(answer.content)["tokens"] == 0
