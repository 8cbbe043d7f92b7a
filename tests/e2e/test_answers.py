"""The replies and headers that surface.md promises, over real sockets, on ONNX Runtime."""

from __future__ import annotations

import base64
import re
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import httpx
import numpy as np
import pytest
import tiny
from http_rig import PATIENCE_S, exchange, gateway_process, metrics, picture, request_bytes, wait_until

RED = picture(red=64)
TIMING = r"queue;dur=[\d.]+, pre;dur=[\d.]+, run;dur=[\d.]+, post;dur=[\d.]+"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("answers")
    tiny.add_classifier(folder / "repository")
    tiny.add_plain(folder / "repository")
    with gateway_process(folder / "repository", folder / "state") as process:
        yield process


@pytest.fixture(scope="module")
def client(gateway):
    with httpx.Client(base_url=gateway.url, timeout=PATIENCE_S) as client:
        yield client


def scores(red: int = 0, green: int = 0, blue: int = 0) -> dict[str, float]:
    """What the tiny classifier has to say of a picture of one colour."""
    powers = np.exp(np.array([red, green, blue]) / 32)
    return dict(zip(tiny.COLOURS, powers / powers.sum(), strict=True))


def classify(client: httpx.Client, content: bytes, **options) -> httpx.Response:
    return client.post("/v1/classify", content=content, headers={"content-type": "image/png"}, **options)


WAYS = {
    "raw": {"content": RED, "headers": {"content-type": "image/png"}, "params": {"top_k": 2}},
    "raw, no type": {"content": RED, "params": {"top_k": 2}},
    "form": {"files": {"image": ("x.png", RED, "image/png")}, "data": {"top_k": "2"}},
    "form and query": {"files": {"image": RED}, "params": {"top_k": 2}},
    "JSON": {"json": {"image": base64.b64encode(RED).decode(), "top_k": 2}},
    "JSON and query": {"json": {"image": base64.b64encode(RED).decode()}, "params": {"top_k": 2}},
    "JSON over query": {"json": {"image": base64.b64encode(RED).decode(), "top_k": 2}, "params": {"top_k": 1}},
    "data URL": {"json": {"image": "data:image/png;base64," + base64.b64encode(RED).decode(), "top_k": "2"}},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_picture_is_classified_however_it_is_sent(client, way):
    answer = client.post("/v1/classify", **WAYS[way])
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    reply = answer.json()
    assert (reply["model"], reply["version"]) == ("colours", 1)
    expected = scores(red=64)
    assert [(one["label"], one["class_id"]) for one in reply["predictions"]] == [("red", 0), ("green", 1)]
    assert [one["score"] for one in reply["predictions"]] == pytest.approx(
        [expected["red"], expected["green"]], rel=1e-5
    )


def test_every_reply_says_who_answered_and_where_the_time_went(client):
    headers = classify(client, RED).headers
    assert (headers["tidegate-model"], headers["tidegate-version"]) == ("colours", "1")
    assert re.fullmatch(TIMING, headers["server-timing"])
    assert re.fullmatch(r"[0-9a-f]+-[0-9a-f]+", headers["x-request-id"])
    assert "server" not in headers


def test_a_request_keeps_its_id(client):
    assert (
        client.post("/v1/classify", content=RED, headers={"x-request-id": "cat.7"}).headers["x-request-id"] == "cat.7"
    )
    assert client.get("/v1/models", headers={"x-request-id": "cat.7"}).headers["x-request-id"] == "cat.7"


@pytest.mark.parametrize(
    "params",
    [
        {"model": "colours"},
        {"version": "1"},
        {"label": "stable"},
        {"model": "colours", "version": "1", "label": "stable"},
    ],
    ids=["model", "version", "label", "all"],
)
def test_a_request_may_say_who_shall_answer(client, params):
    assert classify(client, RED, params=params).json() == classify(client, RED).json()


def test_top_k_has_a_default_and_may_exceed_the_classes(client):
    assert len(classify(client, RED).json()["predictions"]) == 3
    assert len(classify(client, RED, params={"top_k": 1000}).json()["predictions"]) == 3
    assert len(classify(client, RED, params={"top_k": 1}).json()["predictions"]) == 1


@pytest.mark.parametrize("path", ["/v2/models/double/infer", "/v2/models/double/versions/1/infer"])
def test_tensors_are_answered_in_the_inference_protocol(client, path):
    tensor = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [[1, 2], [3, 4.5]]}
    answer = client.post(path, json={"id": "mine", "inputs": [tensor], "outputs": [{"name": "y"}]})
    assert answer.json() == {
        "model_name": "double",
        "model_version": "1",
        "id": "mine",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 2], "data": [2.0, 4.0, 6.0, 9.0]}],
    }
    assert (answer.headers["tidegate-model"], answer.headers["tidegate-version"]) == ("double", "1")
    assert re.fullmatch(TIMING, answer.headers["server-timing"])


@pytest.mark.parametrize(
    "more", [{}, {"outputs": []}, {"parameters": {"priority": 1}}, {"id": 5}, {"parameters": None}]
)
def test_what_the_inference_protocol_lets_out_may_be_left_out(client, more):
    tensor = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [3]}
    reply = client.post("/v2/models/double/infer", json={"inputs": [tensor], **more}).json()
    assert reply["outputs"][0]["data"] == [6.0]
    assert "id" not in reply


def test_a_row_of_no_numbers_is_answered_by_one(client):
    tensor = {"name": "x", "shape": [1, 0], "datatype": "FP32", "data": []}
    (output,) = client.post("/v2/models/double/infer", json={"inputs": [tensor]}).json()["outputs"]
    assert (output["shape"], output["data"]) == ([1, 0], [])


def test_a_task_s_model_is_reached_by_tensors_too(client):
    pixels = np.zeros((1, 8, 8, 3), int)
    pixels[..., 0] = 64
    tensor = {"name": "pixels", "shape": [1, 8, 8, 3], "datatype": "UINT8", "data": pixels.tolist()}
    (output,) = client.post("/v2/models/colours/infer", json={"inputs": [tensor]}).json()["outputs"]
    assert output["data"] == pytest.approx(list(scores(red=64).values()), rel=1e-5)


def test_models_are_listed_with_their_cards(client, gateway):
    listing = client.get("/v1/models").json()
    shown = {one["name"]: (one["task"], one["versions"], one["stable"], one["ready"]) for one in listing["models"]}
    assert shown == {
        "colours": ("classify", [1], 1, True),
        "double": (None, [1], 1, True),
    }  # fmt: skip
    one = client.get("/v1/models/colours").json()
    assert one in listing["models"]
    assert one["card"]["licence"]["spdx"] == "Apache-2.0"
    assert httpx.get(f"{gateway.admin_url}/admin/models").json() == listing


@pytest.mark.parametrize("port", ["url", "admin_url"])
def test_probes_say_yes_on_both_ports(gateway, port):
    url = getattr(gateway, port)
    assert httpx.get(f"{url}/livez").json() == {"status": "live"}
    assert httpx.get(f"{url}/readyz").json() == {"status": "ready"}


def test_who_asks_first_is_told_to_go_on(gateway):
    """curl sends `Expect: 100-continue` before a body of some size."""
    post = request_bytes("/v1/classify", RED, expect="100-continue")
    assert exchange(gateway.url, post).status == 100


def test_http_1_0_is_answered_and_closed(gateway):
    answer = exchange(gateway.url, request_bytes("/v1/classify", RED).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
    assert (answer.status, answer.headers["connection"]) == (200, "close")


def test_a_body_in_many_small_chunks_is_one_picture(client):
    answer = client.post(
        "/v1/classify", content=(RED[i : i + 1] for i in range(len(RED))), headers={"content-type": "image/png"}
    )
    assert answer.json() == classify(client, RED).json()


def batches_of_several(gateway) -> float:
    """How many batches of colours there were of more than one row."""
    samples = [sample for sample in metrics(gateway.admin_url) if sample.labels.get("graph") == "colours"]
    (every,) = [sample.value for sample in samples if sample.name == "tidegate_batch_rows_count"]
    (single,) = [sample.value for sample in samples if sample.labels.get("le") == "1.0"]
    return every - single


def test_callers_at_once_are_batched_and_each_gets_its_own_answer(gateway, client):
    colours = [(7 * i % 256, 5 * i % 256, 3 * i % 256) for i in range(1, 33)]
    alone = [classify(client, picture(*colour)).json() for colour in colours]
    assert len({str(reply) for reply in alone}) == 32
    for colour, reply in zip(colours, alone, strict=True):
        expected = scores(*colour)
        assert {one["label"]: one["score"] for one in reply["predictions"]} == pytest.approx(
            expected, rel=1e-4, abs=1e-7
        )
    barrier = Barrier(32)

    def ask(colour: tuple[int, int, int]) -> httpx.Response:
        with httpx.Client(base_url=gateway.url, timeout=PATIENCE_S, verify=False) as mine:  # noqa: S501  (no TLS here)
            mine.get("/livez")
            barrier.wait()
            return classify(mine, picture(*colour))

    def together() -> bool:
        """Whether this round made a batch of several rows; each answer is right in any case."""
        before = batches_of_several(gateway)
        answers = list(pool.map(ask, colours))
        for reply, one in zip(alone, answers, strict=True):
            assert one.status_code == 200
            assert [(p["label"], p["class_id"]) for p in one.json()["predictions"]] == [
                (p["label"], p["class_id"]) for p in reply["predictions"]
            ]
            assert [p["score"] for p in one.json()["predictions"]] == pytest.approx(
                [p["score"] for p in reply["predictions"]], rel=1e-5, abs=1e-9
            )
        return batches_of_several(gateway) > before

    with ThreadPoolExecutor(32) as pool:
        wait_until(together, "a batch of several rows")


def test_optimised_python_serves_and_refuses_the_same(tmp_path):
    """`python -O` drops asserts; nothing that protects may be one."""
    tiny.add_classifier(tmp_path / "repository")
    with gateway_process(tmp_path / "repository", tmp_path / "state", "-O", TIDEGATE_BODY_LIMIT="1000") as process:
        with httpx.Client(base_url=process.url, timeout=PATIENCE_S) as client:
            assert classify(client, RED).json()["predictions"][0]["label"] == "red"
            assert classify(client, b"no picture").status_code == 422
            assert classify(client, b"x" * 1001).status_code == 413
            assert classify(client, RED, params={"model": "../colours"}).status_code == 404
            assert classify(client, RED, params={"version": "01"}).status_code == 422
            assert (
                client.post("/v1/classify", content=RED, headers={f"x-{i}": "1" for i in range(101)}).status_code == 431
            )
            assert client.get("/metrics").status_code == 404
            assert classify(client, RED).status_code == 200
        assert "Traceback" not in process.log.read_text()
