"""Pictures by the official client of OpenAI's API, unmodified, against a running gateway."""

from __future__ import annotations

import asyncio
import base64
import json
import time

import httpx
import numpy as np
import openai
import pytest
import tiny
from http_rig import connect, gateway_process, metrics, request_bytes, reset, serving, until

from serving.codecs.pixels import pixels_of
from serving.engines.fake import FakeEngine
from serving.gateway.errors import IMAGES_PATH
from serving.keys import KeyFile


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for number in (1, 2):
        tiny.add_diffusion(folder / "repository", "painter", number)
    tiny.add_diffusion(folder / "repository", "large", scale=8, free=True)
    tiny.add_classifier(folder / "repository")
    environment = {"TIDEGATE_DEFAULT_MODELS": "generate-images=painter"}
    with gateway_process(folder / "repository", folder / "state", **environment) as process:
        yield process


@pytest.fixture
def client(gateway):
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none needed", max_retries=0) as client:
        yield client


def post(gateway, **fields) -> httpx.Response:
    return httpx.post(f"{gateway.url}{IMAGES_PATH}", json=fields, timeout=30)


def pixels(picture) -> np.ndarray:
    return pixels_of(base64.b64decode(picture if isinstance(picture, str) else picture.b64_json))


# What is answered


@pytest.mark.parametrize("given", [{}, {"response_format": "b64_json"}], ids=["as it is", "as base64"])
def test_the_client_gets_a_picture_of_the_prompt(client, given):
    before = int(time.time())
    answer = client.images.generate(model="painter", prompt="a red disc", **given)
    assert before <= answer.created <= time.time()
    assert (answer.size, answer.output_format) == ("8x8", "png")
    (picture,) = answer.data
    assert picture.url is None
    found = pixels(picture)
    assert (found.shape, found.dtype) == ((8, 8, 3), np.uint8)
    assert found.mean(axis=(0, 1)) == pytest.approx([255, 0, 0], abs=20)


@pytest.mark.parametrize("colour", tiny.COLOURS)
def test_the_prompt_matters(client, colour):
    found = pixels(client.images.generate(model="painter", prompt=f"a {colour} disc").data[0])
    assert tiny.COLOURS[found.mean(axis=(0, 1)).argmax()] == colour


def test_the_asynchronous_client_too(gateway):
    async def main():
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none needed") as client:
            asked = (client.images.generate(model="painter", prompt=f"a {colour} disc") for colour in tiny.COLOURS)
            return [pixels(answer.data[0]) for answer in await asyncio.gather(*asked)]

    found = asyncio.run(main())
    assert [int(one.mean(axis=(0, 1)).argmax()) for one in found] == [0, 1, 2]


def test_the_same_seed_gives_the_same_picture_and_it_is_told(client):
    first = client.images.generate(model="painter", prompt="a red disc").data[0]
    again = client.images.generate(model="painter", prompt="a red disc", extra_body={"seed": first.seed}).data[0]
    other = client.images.generate(model="painter", prompt="a red disc", extra_body={"seed": first.seed + 1}).data[0]
    assert again.b64_json == first.b64_json != other.b64_json
    assert (again.seed, again.steps) == (first.seed, 5)


def test_several_pictures_have_seeds_that_follow_each_other(client):
    answer = client.images.generate(model="painter", prompt="a red disc", n=3, extra_body={"seed": 41})
    assert [one.seed for one in answer.data] == [41, 42, 43]
    assert len({one.b64_json for one in answer.data}) == 3
    last = client.images.generate(model="painter", prompt="a red disc", extra_body={"seed": 43})
    assert last.data[0].b64_json == answer.data[2].b64_json


def test_seeds_begin_anew_after_the_last(client):
    answer = client.images.generate(model="painter", prompt="a red disc", n=2, extra_body={"seed": 2**53 - 1})
    assert [one.seed for one in answer.data] == [2**53 - 1, 0]


@pytest.mark.parametrize("extra", [{"steps": 3}, {"steps": 50, "sampler": "ddpm"}, {"sampler": "ddim", "guidance": 1}])
def test_how_it_is_drawn_may_be_said(client, extra):
    answer = client.images.generate(model="painter", prompt="a red disc", extra_body={"seed": 1, **extra})
    assert answer.data[0].steps == extra.get("steps", 5)
    usual = client.images.generate(model="painter", prompt="a red disc", extra_body={"seed": 1})
    assert answer.data[0].b64_json != usual.data[0].b64_json


def test_guidance_leads_away_from_what_is_not_wanted(client):
    def red(**extra) -> float:
        answer = client.images.generate(model="painter", prompt="disc", extra_body={"seed": 1, "steps": 2, **extra})
        return float(pixels(answer.data[0])[:, :, 0].mean())

    assert red(negative_prompt="red") < red() < red(negative_prompt="green")


@pytest.mark.parametrize(
    ("size", "shape"), [("auto", (64, 64)), ("64x64", (64, 64)), ("96x32", (32, 96)), ("256x256", (256, 256))]
)
def test_a_size_is_width_by_height(client, size, shape):
    answer = client.images.generate(model="large", prompt="a blue disc", size=size)
    assert pixels(answer.data[0]).shape == (*shape, 3)
    assert answer.size == f"{shape[1]}x{shape[0]}"


def test_a_version_can_be_pinned_and_the_headers_say_who_drew(client, gateway):
    canary = httpx.post(
        f"{gateway.admin_url}/admin/models/painter/canary", json={"version": 2, "percent": 1, "force": True}
    )
    assert canary.is_success, canary.text
    try:
        answer = client.images.with_raw_response.generate(
            model="painter", prompt="a red disc", extra_body={"version": 2}
        )
    finally:
        httpx.post(f"{gateway.admin_url}/admin/models/painter/rollback", json={})
    headers = answer.headers
    assert (headers["tidegate-model"], headers["tidegate-version"]) == ("painter", "2")
    assert all(stage in headers["server-timing"] for stage in ("queue", "pre", "run", "post"))


def test_without_a_model_the_default_one_draws(gateway):
    answer = post(gateway, prompt="a red disc", n=None, size=None, quality="auto", background="auto", user="somebody")
    assert (answer.status_code, answer.json()["model"]) == (200, "painter")


def test_steps_of_pictures_share_batches(client, gateway):
    def runs() -> tuple[float, float]:
        found = [one for one in metrics(gateway.admin_url) if one.labels.get("graph") == "painter"]
        return tuple(
            sum(one.value for one in found if one.name == f"tidegate_batch_rows_{kind}") for kind in ("sum", "count")
        )

    rows, count = runs()
    client.images.generate(model="painter", prompt="a red disc", n=8, extra_body={"steps": 50})
    more_rows, more_runs = np.subtract(runs(), (rows, count))
    assert more_rows == 8 * 50 * 2
    assert more_runs < more_rows / 3


# What is refused


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({}, "prompt", "required"),
        ({"prompt": ""}, "prompt", "empty"),
        ({"prompt": "  "}, "prompt", "empty"),
        ({"prompt": None}, "prompt", "valid string"),
        ({"prompt": ["a red disc"]}, "prompt", "valid string"),
        ({"prompt": "red " * 25_001}, "prompt", "100,000 characters"),
        ({"n": 0}, "n", "greater than or equal to 1"),
        ({"n": 11}, "n", "less than or equal to 10"),
        ({"n": True}, "n", "integer"),
        ({"response_format": "url"}, "response_format", "b64_json, which is in the answer"),
        ({"output_format": "jpeg"}, "output_format", "png"),
        ({"background": "transparent"}, "background", "opaque"),
        ({"quality": "hd"}, "quality", "more steps"),
        ({"stream": True}, "stream", "respond-async"),
        ({"size": "8"}, "size", "pattern"),
        ({"size": "16x16"}, "size", "8x8 pixels here, not 16x16"),
        ({"size": "1024x1024"}, "size", "8x8 pixels here"),
        ({"model": "large", "size": "60x64"}, "size", "multiples of 32, up to 256"),
        ({"model": "large", "size": "288x32"}, "size", "multiples of 32, up to 256"),
        ({"steps": 0}, "steps", "greater than or equal to 1"),
        ({"steps": 1001}, "steps", "less than or equal to 1000"),
        ({"steps": 1000, "sampler": "dpm-solver++", "seed": 1.5}, "seed", "integer"),
        ({"seed": -1}, "seed", "greater"),
        ({"seed": 2**53}, "seed", "less"),
        ({"guidance": 51}, "guidance", "less"),
        ({"sampler": "euler"}, "sampler", "'ddim'"),
        ({"moderation": "low"}, None, "unknown name"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_in_openai_s_shape(gateway, fields, param, said):
    prompt = {} if not fields or "prompt" in fields else {"prompt": "a red disc"}
    answer = post(gateway, **prompt, **fields)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert said in error["message"]
    assert not error["message"].startswith("Input ")
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


@pytest.mark.parametrize(
    ("model", "kind", "code"),
    [("dall-e-3", openai.NotFoundError, "model_not_found"), ("colours", openai.ConflictError, "task_mismatch")],
)
def test_the_client_raises_what_fits(client, model, kind, code):
    with pytest.raises(kind) as caught:
        client.images.generate(model=model, prompt="a red disc")
    assert (caught.value.code, caught.value.param) == (code, "model")
    assert "painter" in caught.value.message, "it says which there are"


def test_other_methods_and_bodies_are_refused_in_the_same_shape(gateway):
    url = f"{gateway.url}{IMAGES_PATH}"
    for answer, status in ((httpx.get(url), 405), (httpx.post(url, content=b"{"), 400)):
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_there_is_no_other_route_for_it(gateway):
    answer = httpx.post(f"{gateway.url}/v1/generate-images", json={"text": "a red disc"})
    assert (answer.status_code, answer.json()["code"]) == (404, "route_not_found")


def test_without_a_key_or_with_a_wrong_one_nobody_is_let_in(tmp_path):
    tiny.add_diffusion(tmp_path / "repository", "painter")
    keys = KeyFile(tmp_path / "keys.json")
    key, admin = keys.add("caller", ["predict"])[0], keys.add("operator", ["admin"])[0]
    with gateway_process(tmp_path / "repository", tmp_path / "state", TIDEGATE_KEYS=str(keys.path)) as closed:
        base = f"{closed.url}/v1"
        with openai.OpenAI(base_url=base, api_key=key) as client:
            assert client.images.generate(model="painter", prompt="a red disc").data
        for wrong, kind in (("sk-wrong", openai.AuthenticationError), (admin, openai.PermissionDeniedError)):
            with openai.OpenAI(base_url=base, api_key=wrong) as client, pytest.raises(kind) as caught:
                client.images.generate(model="painter", prompt="a red disc")
            assert set(caught.value.body) == {"message", "type", "param", "code"}


# On an engine that can be watched


def body(**fields) -> bytes:
    return json.dumps({"prompt": "a red disc", "seed": 1, **fields}).encode()


def unet_runs(engine: FakeEngine) -> int:
    return sum(key.name == "generate-images" for key, _ in engine.runs)


@pytest.mark.parametrize("pictures", [1, 3])
def test_a_caller_who_leaves_stops_costing_within_a_step(tmp_path, pictures):
    async def main():
        tiny.add_diffusion(tmp_path / "repository", steps=500)
        engine = FakeEngine(service_s=lambda _: 0.02)
        async with serving(tmp_path, engine) as live:
            connection = connect(live.url)
            connection.sendall(request_bytes(IMAGES_PATH, body(n=pictures), content_type="application/json"))
            await until(lambda: unet_runs(engine) > 3, "some steps have run")
            reset(connection)
            await until(lambda: live.outcomes("generate-images").get("caller_left") == pictures, "it is noticed")
            runs = len(engine.runs)
            await asyncio.sleep(0.2)
            assert len(engine.runs) <= runs + 1, "at most the step that had begun is run to its end"
            assert live.waiting_rows == 0

    asyncio.run(main())


def test_a_deadline_ends_it_within_a_step(tmp_path):
    async def main():
        tiny.add_diffusion(tmp_path / "repository", steps=500)
        engine = FakeEngine(service_s=lambda _: 0.02)
        async with serving(tmp_path, engine) as live:
            begun_s = time.monotonic()
            headers = {"x-request-timeout-ms": "200"}
            answer = await live.client.post(IMAGES_PATH, content=body(n=2), headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_passed")
            assert time.monotonic() - begun_s < 1
            runs = len(engine.runs)
            await asyncio.sleep(0.2)
            assert len(engine.runs) <= runs + 1

    asyncio.run(main())
