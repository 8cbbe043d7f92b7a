"""tritonclient and perf_analyzer as they are, against a gateway as its users start it, on ONNX Runtime."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import tiny
from http_rig import PATIENCE_S, gateway_process, metrics, serving, wait_until
from tritonclient import http
from tritonclient.http import aio
from tritonclient.utils import InferenceServerException

from serving.engines.fake import FakeEngine
from serving.keys import KeyFile

ROOT = Path(__file__).parents[2]
ANALYZER = ROOT / "deploy" / "triton" / "perf_analyzer.sh"
COMPRESSED = {"request_compression_algorithm": "gzip", "response_compression_algorithm": "gzip"}
X = np.array([[1.5, -2.0], [3.0, 0.25]], np.float32)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("protocol")
    repository = folder / "repository"
    shutil.copytree(ROOT / "model_repository" / "digits-cnn", repository / "digits-cnn")
    tiny.add_classifier(repository)
    tiny.add_plain(repository)
    tiny.add_identity(repository, "words", "BYTES", (-1,))
    tiny.add_identity(repository, "halves", "FP16", (3,))
    tiny.add_identity(repository, "whole", "FP32", (2, -1), batched=False)
    tiny.add_two_graphs(repository)
    with gateway_process(repository, folder / "state") as process:
        yield process
        assert "Traceback" not in process.log.read_text()


@pytest.fixture
def client(gateway):
    with http.InferenceServerClient(urlsplit(gateway.url).netloc, network_timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture
def admin(gateway):
    with http.InferenceServerClient(urlsplit(gateway.admin_url).netloc, network_timeout=PATIENCE_S) as client:
        yield client


def tensor(name: str, values: np.ndarray, datatype: str = "FP32", *, binary: bool = True, kind=http) -> http.InferInput:
    one = kind.InferInput(name, list(values.shape), datatype)
    one.set_data_from_numpy(values, binary_data=binary)
    return one


# What there is


def test_the_server_says_that_it_lives_and_what_it_can_do(client, admin):
    assert client.is_server_live()
    assert client.is_server_ready()
    told = client.get_server_metadata()
    assert told["name"] == "tidegate"
    assert re.fullmatch(r"\d+\.\d+\.\d+", told["version"])
    assert set(told["extensions"]) == {"binary_tensor_data", "model_configuration", "statistics"}
    assert set(admin.get_server_metadata()["extensions"]) == {*told["extensions"], "model_repository"}


@pytest.mark.parametrize("version", ["", "1"])
def test_metadata_and_configuration_are_as_of_triton(client, admin, version):
    for one in (client, admin):
        assert one.is_model_ready("digits-cnn", version)
        assert one.get_model_metadata("digits-cnn", version) == {
            "name": "digits-cnn",
            "versions": ["1"],
            "platform": "onnxruntime_onnx",
            "inputs": [{"name": "pixels", "datatype": "UINT8", "shape": [-1, 32, 32, 1]}],
            "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}],
        }
        config = one.get_model_config("digits-cnn", version)
        assert (config["name"], config["max_batch_size"]) == ("digits-cnn", 16)
        assert config["input"][0]["dims"] == [32, 32, 1]
        assert config["input"][0]["data_type"] == "TYPE_UINT8"
        assert config["dynamic_batching"]["max_queue_delay_microseconds"] == 0
        assert config["instance_group"][0]["count"] == 2


def test_a_model_without_a_batch_axis_says_so(client):
    assert client.get_model_metadata("whole")["inputs"][0]["shape"] == [2, -1]
    assert client.get_model_config("whole")["max_batch_size"] == 0


def test_graphs_of_one_model_are_named_with_a_dot(client):
    assert client.is_model_ready("pair.encoder")
    assert client.get_model_metadata("pair.encoder")["inputs"][0]["name"] == "x"
    assert client.get_model_metadata("pair.decoder", "1")["inputs"][0]["name"] == "pixels"
    (stats,) = client.get_inference_statistics("pair.encoder")["model_stats"]
    assert stats["name"] == "pair.encoder"
    with pytest.raises(InferenceServerException, match=r"pair\.decoder, pair\.encoder") as caught:
        client.get_model_metadata("pair")
    assert caught.value.status() == "404"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/models/nobody", 404),
        ("/v2/models/nobody/config", 404),
        ("/v2/models/nobody/stats", 404),
        ("/v2/models/nobody/versions/1/stats", 404),
        ("/v2/models/digits-cnn/versions/7", 404),
        ("/v2/models/digits-cnn/versions/7/config", 404),
        ("/v2/models/digits-cnn/versions/one", 400),
        ("/v2/models/digits-cnn.decoder", 404),
        ("/v2/models/.", 404),
        ("/v2/models/nobody/ready", 503),
        ("/v2/models/digits-cnn/versions/7/ready", 503),
        ("/v2/models/digits-cnn/nothing", 404),
        ("/v2/models/%2e%2e/config", 404),
        ("/v2/systemsharedmemory/status", 404),
    ],
)
def test_what_there_is_not_is_told_in_the_protocol_s_way(gateway, path, status):
    for url in (gateway.url, gateway.admin_url):
        answer = httpx.get(url + path)
        assert answer.status_code == status
        assert list(answer.json()) == ["error"]


def test_tritonclient_reads_no_as_no(client):
    assert not client.is_model_ready("nobody")
    assert not client.is_model_ready("double", "7")


def test_statistics_count_what_was_asked(client):
    def stats() -> dict:
        (found,) = client.get_inference_statistics("halves")["model_stats"]
        return found

    before = stats()
    for rows in (1, 3):
        client.infer("halves", [tensor("x", np.zeros((rows, 3), np.float16), "FP16")])
    after = stats()
    assert (after["name"], after["version"]) == ("halves", "1")
    assert after["inference_count"] - before["inference_count"] == 4
    assert after["execution_count"] - before["execution_count"] == 2
    assert abs(after["last_inference"] / 1000 - time.time()) < PATIENCE_S
    told = after["inference_stats"]
    assert told["success"]["count"] == before["inference_stats"]["success"]["count"] + 2
    assert told["success"]["ns"] == pytest.approx(told["queue"]["ns"] + told["compute_infer"]["ns"], abs=2)
    assert told["compute_infer"]["ns"] > before["inference_stats"]["compute_infer"]["ns"]
    assert set(told) == {
        *("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")
    }
    batches = {one["batch_size"]: one["compute_infer"] for one in after["batch_stats"]}
    assert {1, 3} <= set(batches)
    assert sum(one["count"] for one in batches.values()) == after["execution_count"]
    everyone = client.get_inference_statistics()["model_stats"]
    assert {"halves", "double", "pair.encoder", "pair.decoder", "digits-cnn"} <= {one["name"] for one in everyone}


# Inference


@pytest.mark.parametrize("sent", [True, False], ids=["raw in", "JSON in"])
@pytest.mark.parametrize("got", [True, False], ids=["raw out", "JSON out"])
@pytest.mark.parametrize(
    ("model", "datatype", "values"),
    [
        ("double", "FP32", X),
        ("whole", "FP32", X),
        ("pair.encoder", "FP32", X),
        ("words", "BYTES", np.array([["ä\0b".encode(), b""]], np.object_)),
    ],
    ids=["plain", "no batch axis", "a graph of several", "text"],
)
def test_tensors_go_and_come_as_bytes_or_json(client, model, datatype, values, sent, got):  # noqa: PLR0917
    wanted = [http.InferRequestedOutput("y", binary_data=got)]
    result = client.infer(model, [tensor("x", values, datatype, binary=sent)], outputs=wanted, request_id="mine")
    output = result.as_numpy("y")
    if datatype == "BYTES" and not got:
        output = np.array([[text.encode() for text in row] for row in output.tolist()], np.object_)
    np.testing.assert_array_equal(output, values * 2 if model in ("double", "pair.encoder") else values)
    answer = result.get_response()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == (model, "1", "mine")
    assert ("binary_data_size" in answer["outputs"][0].get("parameters", {})) is got


def test_half_precision_comes_as_bytes(client):
    """tritonclient has no JSON for it."""
    values = np.array([[0.5, -1, 65504]], np.float16)
    output = client.infer("halves", [tensor("x", values, "FP16")]).as_numpy("y")
    assert output.dtype == np.float16
    np.testing.assert_array_equal(output, values)


def test_elements_that_are_no_text_are_refused(client):
    with pytest.raises(InferenceServerException, match="x has elements that are not UTF-8 text") as caught:
        client.infer("words", [tensor("x", np.array([[b"\xff"]], np.object_), "BYTES")])
    assert caught.value.status() == "400"


def test_without_wanted_outputs_all_come_as_bytes(client):
    result = client.infer("double", [tensor("x", X)], model_version="1")
    assert result.get_response()["outputs"][0]["parameters"] == {"binary_data_size": 16}
    np.testing.assert_array_equal(result.as_numpy("y"), X * 2)


def test_answers_of_tensors_and_of_pictures_agree(client, gateway):
    pixels = np.zeros((1, 8, 8, 3), np.uint8)
    pixels[..., 0] = 64
    for model in ("colours", "pair.decoder"):
        scores = client.infer(model, [tensor("pixels", pixels, "UINT8")]).as_numpy("probabilities")
        powers = np.exp([2.0, 0, 0])
        assert scores[0] == pytest.approx(powers / powers.sum(), rel=1e-5)


def test_the_same_with_asyncio(gateway):
    async def main():
        async with aio.InferenceServerClient(urlsplit(gateway.url).netloc) as client:
            assert await client.is_server_live()
            assert await client.is_model_ready("double", "1")
            assert (await client.get_model_config("double"))["max_batch_size"] == 8
            assert (await client.get_inference_statistics("double", "1"))["model_stats"][0]["version"] == "1"
            asked = [client.infer("double", [tensor("x", X + i)]) for i in range(20)]
            for i, result in enumerate(await asyncio.gather(*asked)):
                np.testing.assert_array_equal(result.as_numpy("y"), (X + i) * 2)
            for way in ("gzip", "deflate"):
                result = await client.infer(
                    "double",
                    [tensor("x", X)],
                    request_compression_algorithm=way,
                    response_compression_algorithm=way,
                )
                np.testing.assert_array_equal(result.as_numpy("y"), X * 2)
            with pytest.raises(InferenceServerException, match="no model of that name"):
                await client.infer("nobody", [tensor("x", X)])
        async with aio.InferenceServerClient(urlsplit(gateway.admin_url).netloc) as admin:
            assert len(await admin.get_model_repository_index()) == 8

    asyncio.run(main())


@pytest.mark.parametrize("way", ["gzip", "deflate", None])
@pytest.mark.parametrize("back", ["gzip", "deflate", None])
@pytest.mark.parametrize("size", [2, 100_000])
def test_bodies_may_be_compressed_both_ways(client, gateway, way, back, size):
    values = np.arange(size, dtype=np.float32).reshape(1, size)
    given = {"request_compression_algorithm": way, "response_compression_algorithm": back}
    result = client.infer("double", [tensor("x", values)], **given)
    np.testing.assert_array_equal(result.as_numpy("y"), values * 2)
    body = {"inputs": [{"name": "x", "shape": [1, 400], "datatype": "FP32", "data": [0.5] * 400}]}
    answer = httpx.post(f"{gateway.url}/v2/models/double/infer", json=body, headers={"accept-encoding": back or ""})
    assert answer.headers.get("content-encoding") == back
    assert answer.json()["outputs"][0]["data"] == [1.0] * 400


def test_only_this_protocol_s_bodies_may_be_compressed(gateway):
    answer = httpx.post(f"{gateway.url}/v1/classify", content=b"x", headers={"content-encoding": "gzip"})
    assert answer.status_code == 415


def test_a_large_tensor_comes_as_bytes_where_json_is_refused(client):
    values = np.ones((2, 2_500_000), np.float32)  # 20 MB
    np.testing.assert_array_equal(client.infer("double", [tensor("x", values)]).as_numpy("y"), values * 2)
    with pytest.raises(InferenceServerException, match="Tensors in JSON have at most") as caught:
        client.infer("double", [tensor("x", values[:, :200_000], binary=False)])
    assert caught.value.status() == "413"
    with pytest.raises(InferenceServerException, match="A request has at most"):
        client.infer("double", [tensor("x", np.ones((2, 4_000_000), np.float32))])


def test_a_bomb_is_refused(client):
    zeros = tensor("x", np.zeros((8, 10_000_000), np.float32))
    with pytest.raises(InferenceServerException, match="A request has at most") as caught:
        client.infer("double", [zeros], request_compression_algorithm="deflate")
    assert caught.value.status() == "413"


@pytest.mark.parametrize(
    ("header", "status", "said"),
    [
        ("x", 400, "not a number of bytes"), ("-1", 400, "not a number of bytes"), ("9" * 30, 400, "not a number"),
        ("100000", 400, "the body has"), ("0", 400, "not JSON"), ("5", 400, "not JSON"), ("2000000", 413, "in JSON"),
    ],
)  # fmt: skip
def test_a_length_that_lies_is_refused(gateway, header, status, said):
    body = json.dumps({"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}]}).encode()
    headers = {"inference-header-content-length": header}
    answer = httpx.post(f"{gateway.url}/v2/models/double/infer", content=body, headers=headers)
    assert answer.status_code == status
    assert said in answer.json()["error"]


def test_outputs_come_in_the_order_asked_for_and_unknown_ones_are_refused(client):
    with pytest.raises(InferenceServerException, match="It has: y") as caught:
        client.infer("double", [tensor("x", X)], outputs=[http.InferRequestedOutput("z")])
    assert caught.value.status() == "400"


def test_what_would_be_answered_wrongly_is_refused(client):
    shared = http.InferInput("x", [2, 2], "FP32")
    shared.set_shared_memory("region", 16)
    with pytest.raises(InferenceServerException, match=r"shared_memory_region is not served here\. Send the values"):
        client.infer("double", [shared])
    with pytest.raises(InferenceServerException, match="classification is not served here"):
        client.infer("double", [tensor("x", X)], outputs=[http.InferRequestedOutput("y", class_count=3)])


def test_parameters_of_a_request(client):
    asked = [tensor("x", X)]
    assert client.infer("double", asked, priority=1, timeout=5_000_000, parameters={"own": "x"}).as_numpy("y").any()
    assert client.infer("double", asked, sequence_id=5, sequence_start=True).as_numpy("y").any()
    with pytest.raises(InferenceServerException, match=r"not ready in time|deadline passed") as caught:
        client.infer("double", asked, timeout=1)
    assert caught.value.status() == "504"
    with pytest.raises(InferenceServerException) as caught:
        client.infer("double", asked, timeout=60_000_000, headers={"X-Request-Timeout-Ms": "0"})
    assert caught.value.status() == "400"


# The repository, on the admin port


def test_the_index_lists_every_version_of_every_graph(admin, client):
    listed = admin.get_model_repository_index()
    assert [(one["name"], one["version"], one["state"]) for one in listed] == [
        (name, "1", "READY")
        for name in ("colours", "digits-cnn", "double", "halves", "pair.decoder", "pair.encoder", "whole", "words")
    ]
    with pytest.raises(InferenceServerException, match="nothing at this path"):
        client.get_model_repository_index()


def test_orders_come_to_the_admin_port_only(client):
    for order in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException, match="nothing at this path") as caught:
            order("double")
        assert caught.value.status() == "404"


def test_configurations_and_files_are_not_taken(admin):
    with pytest.raises(InferenceServerException, match="come from the model repository only"):
        admin.load_model("double", config="{}")
    with pytest.raises(InferenceServerException, match="come from the model repository only"):
        admin.load_model("double", config="{}", files={"file:1/model.onnx": b"x"})


def test_graphs_come_and_go_with_their_model(admin):
    for order in (admin.load_model, admin.unload_model):
        with pytest.raises(InferenceServerException, match="Name the model: pair"):
            order("pair.encoder")


def test_a_model_is_unloaded_and_loaded_again(tmp_path):
    tiny.add_plain(tmp_path / "repository")
    with (
        gateway_process(tmp_path / "repository", tmp_path / "state") as process,
        http.InferenceServerClient(urlsplit(process.url).netloc, network_timeout=PATIENCE_S) as client,
        http.InferenceServerClient(urlsplit(process.admin_url).netloc, network_timeout=PATIENCE_S) as admin,
    ):
        admin.unload_model("double", unload_dependents=True)
        wait_until(lambda: not client.is_model_ready("double"), "it is gone")
        with pytest.raises(InferenceServerException):
            client.infer("double", [tensor("x", X)])
        assert [one["state"] for one in admin.get_model_repository_index()] != ["READY"]
        admin.load_model("double")
        wait_until(lambda: client.is_model_ready("double"), "it is back")
        np.testing.assert_array_equal(client.infer("double", [tensor("x", X)]).as_numpy("y"), X * 2)
        with pytest.raises(InferenceServerException) as caught:
            admin.load_model("nobody")
        assert caught.value.status() == "404"


@pytest.mark.parametrize("path", ["index", "models/double/load", "models/double/unload"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null", "content-type": "application/json"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": "text/plain; charset=utf-8"}, 415),
        ({"content-type": "multipart/form-data; boundary=x"}, 415),
    ],
)
def test_no_web_page_gives_orders(gateway, path, headers, status):
    answer = httpx.post(f"{gateway.admin_url}/v2/repository/{path}", content=b"{}", headers=headers)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("index", b"[]", 400), ("index", b'{"ready": 1}', 400), ("index", b"{", 400), ("index", b"x" * 70_000, 413),
        ("models/double/load", b'{"parameters": 5}', 400), ("models/double/load", b'{"parameters": {"own": 1}}', 400),
        ("models/nobody/what", b"", 404),
    ],
)  # fmt: skip
def test_orders_that_are_not_understood(gateway, path, body, status):
    answer = httpx.post(f"{gateway.admin_url}/v2/repository/{path}", content=body)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"ready": true}', b'{"ready": false}'])
def test_the_index_s_body_may_be_left_out(gateway, body):
    answer = httpx.post(f"{gateway.admin_url}/v2/repository/index", content=body)
    assert len(answer.json()) == 8


# Versions, keys, deadlines


def test_a_canary_gets_its_share_and_versions_can_be_pinned(tmp_path):
    for number in (1, 2):
        tiny.add_classifier(tmp_path / "repository", number=number, bias=float(number))
    pixels = [tensor("pixels", np.zeros((1, 8, 8, 3), np.uint8), "UINT8")]
    with gateway_process(tmp_path / "repository", tmp_path / "state") as process:
        order = {"version": 2, "percent": 50, "force": True}
        answer = httpx.post(f"{process.admin_url}/admin/models/colours/canary", json=order, timeout=4 * PATIENCE_S)
        assert answer.status_code == 200, answer.text
        with http.InferenceServerClient(urlsplit(process.url).netloc, network_timeout=PATIENCE_S) as client:

            def answers(version: str = "", **headers: str) -> str:
                result = client.infer("colours", pixels, version, headers=headers)
                return result.get_response()["model_version"]

            assert {answers() for _ in range(60)} == {"1", "2"}
            assert {answers("1") for _ in range(20)} == {"1"}
            assert {answers("2") for _ in range(20)} == {"2"}
            sticky = {user: {answers(**{"Tidegate-Sticky": user}) for _ in range(5)} for user in map(str, range(20))}
            assert all(len(versions) == 1 for versions in sticky.values())
            assert {version for versions in sticky.values() for version in versions} == {"1", "2"}
            assert client.get_model_metadata("colours")["versions"] == ["1", "2"]
            told = client.get_inference_statistics("colours")["model_stats"]
            assert [one["version"] for one in told] == ["1", "2"]
            (pinned,) = client.get_inference_statistics("colours", "2")["model_stats"]
            assert pinned["version"] == "2"
            assert sum(one["inference_count"] for one in told) >= 200


def test_with_keys_only_health_is_open(tmp_path):
    tiny.add_plain(tmp_path / "repository")
    file = KeyFile(tmp_path / "state" / "keys.json")
    keys = {scope: file.add(scope, [scope])[0] for scope in ("predict", "admin")}
    with gateway_process(tmp_path / "repository", tmp_path / "state") as process:
        for url, right, wrong in ((process.url, "predict", "admin"), (process.admin_url, "admin", "predict")):
            bearer = {scope: {"Authorization": f"Bearer {key}"} for scope, key in keys.items()}
            with http.InferenceServerClient(urlsplit(url).netloc, network_timeout=PATIENCE_S) as client:
                assert client.is_server_live()
                assert client.is_server_ready()
                for headers, status in (({}, "401"), (bearer[wrong], "403")):
                    with pytest.raises(InferenceServerException) as caught:
                        client.get_model_metadata("double", headers=headers)
                    assert caught.value.status() == status
                assert client.get_model_metadata("double", headers=bearer[right])["name"] == "double"
                if right == "predict":
                    with pytest.raises(InferenceServerException, match="no key"):
                        client.infer("double", [tensor("x", X)])
                    result = client.infer("double", [tensor("x", X)], headers=bearer[right], **COMPRESSED)
                    np.testing.assert_array_equal(result.as_numpy("y"), X * 2)


def test_the_shorter_of_two_deadlines_counts(tmp_path):
    """The model takes as long as it is let: nothing runs before the gate opens."""
    engine = FakeEngine()
    engine.gate.clear()

    async def main():
        async with serving(tmp_path, engine) as live, aio.InferenceServerClient(urlsplit(live.url).netloc) as client:
            asked = [tensor("x", X, kind=aio)]
            for given, most_s in (
                ({"timeout": 100_000}, 5),
                ({"timeout": 100_000, "headers": {"X-Request-Timeout-Ms": "60000"}}, 5),
                ({"timeout": 60_000_000, "headers": {"X-Request-Timeout-Ms": "100"}}, 5),
            ):
                started_s = time.monotonic()
                with pytest.raises(InferenceServerException) as caught:
                    await client.infer("double", asked, **given)
                assert caught.value.status() == "504"
                assert 0.09 < time.monotonic() - started_s < most_s
            engine.gate.set()

    asyncio.run(main())


# perf_analyzer


def test_perf_analyzer_measures_without_failures(gateway):
    """The real program: it asks for metadata, configuration and statistics before and after."""
    if not (ANALYZER.is_file() and (ROOT / ".triton" / "installed").exists()):
        assert not os.environ.get("CI"), "make triton-install"
        pytest.skip("perf_analyzer is not installed: make triton-install")
    asked = ["-m", "digits-cnn", "--shape", "pixels:32,32,1", "-i", "http", "-u", urlsplit(gateway.url).netloc]
    for more in ([], ["--input-tensor-format", "json", "--output-tensor-format", "json"]):
        measured = [str(ANALYZER), *asked, "--concurrency-range", "4", "-p", "500", "-s", "99", "-r", "3", *more]
        done = subprocess.run(measured, capture_output=True, text=True, timeout=8 * PATIENCE_S, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        throughput = re.search(r"Concurrency: 4, throughput: ([\d.]+) infer/sec", done.stdout)
        assert float(throughput[1]) > 10, done.stdout
        assert re.search(r"Inference count: [1-9]", done.stdout), "it reads the statistics"
    codes = {one.labels["code"]: one.value for one in metrics(gateway.admin_url) if is_of_digits(one)}
    assert set(codes) == {"ok"}


def is_of_digits(sample) -> bool:
    return sample.name == "tidegate_requests_total" and sample.labels["model"] == "digits-cnn"
