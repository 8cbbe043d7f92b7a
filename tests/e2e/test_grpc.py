"""tritonclient's gRPC and perf_analyzer as they are, against a gateway as its users start it, on ONNX Runtime."""

from __future__ import annotations

import asyncio
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
import tiny
from grpc import StatusCode
from http_rig import PATIENCE_S, gateway_process, metrics, wait_until
from tritonclient import grpc as client_of
from tritonclient.grpc import aio, service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

ROOT = Path(__file__).parents[2]
ANALYZER = ROOT / "deploy" / "triton" / "perf_analyzer.sh"
X = np.array([[1.5, -2.0], [3.0, 0.25]], np.float32)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grpc")
    repository = folder / "repository"
    shutil.copytree(ROOT / "model_repository" / "digits-cnn", repository / "digits-cnn")
    tiny.add_classifier(repository)
    tiny.add_classifier(repository, number=2, bias=3.0)
    tiny.add_plain(repository)
    tiny.add_identity(repository, "words", "BYTES", (-1,))
    tiny.add_identity(repository, "halves", "FP16", (3,))
    tiny.add_identity(repository, "whole", "FP32", (2, -1), batched=False)
    tiny.add_two_graphs(repository)
    with gateway_process(repository, folder / "state") as process:
        yield process
        said = process.log.read_text()
        assert not [line for line in said.splitlines() if " INFO " not in line], "grpc is silent"


@pytest.fixture
def client(gateway):
    with client_of.InferenceServerClient(gateway.grpc) as client:
        yield client


def tensor(name: str, values: np.ndarray, datatype: str = "FP32", kind=client_of):
    one = kind.InferInput(name, list(values.shape), datatype)
    one.set_data_from_numpy(values)
    return one


def refused(call, code: StatusCode, said: str = "") -> None:
    with pytest.raises(InferenceServerException, match=said or None) as caught:
        call()
    assert caught.value.status() == str(code)


# What there is


def test_health(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("double")
    assert client.is_model_ready("double", "1")
    assert client.is_model_ready("pair.encoder")
    assert not client.is_model_ready("double", "9")
    assert not client.is_model_ready("nobody")


def test_metadata(client):
    server = client.get_server_metadata()
    assert (server.name, "statistics" in server.extensions) == ("tidegate", True)
    model = client.get_model_metadata("digits-cnn")
    assert (model.name, list(model.versions), model.platform) == ("digits-cnn", ["1"], "onnxruntime_onnx")
    assert [(one.name, one.datatype, list(one.shape)) for one in model.inputs] == [("pixels", "UINT8", [-1, 32, 32, 1])]
    assert [one.name for one in client.get_model_metadata("pair.encoder").inputs] == ["x"]
    refused(lambda: client.get_model_metadata("nobody"), StatusCode.NOT_FOUND, "no model of that name")


def test_configuration(client):
    config = client.get_model_config("double").config
    assert (config.name, config.max_batch_size, config.input[0].name) == ("double", 8, "x")
    refused(lambda: client.get_model_config("double", "9"), StatusCode.NOT_FOUND)


def test_statistics(client):
    def counted():
        (one,) = client.get_inference_statistics("whole").model_stats
        return one.inference_count, one.inference_stats.success.count

    before = counted()
    client.infer("whole", [tensor("x", X)])
    assert counted() == (before[0] + 1, before[1] + 1)
    everything = {one.name for one in client.get_inference_statistics().model_stats}
    assert {"double", "pair.decoder", "pair.encoder", "words"} <= everything


def test_what_operators_do_is_not_on_this_port(client):
    calls = [
        lambda: client.load_model("double"),
        lambda: client.unload_model("double"),
        client.get_system_shared_memory_status,
        client.get_trace_settings,
        client.get_log_settings,
    ]
    for call in calls:
        refused(call, StatusCode.UNIMPLEMENTED)
    refused(client.get_model_repository_index, StatusCode.UNIMPLEMENTED, "admin port")


# Inference


def test_tensors_go_there_and_back(client):
    answer = client.infer("double", [tensor("x", X)], request_id="mine")
    assert answer.as_numpy("y").tolist() == (2 * X).tolist()
    assert (answer.get_response().id, answer.get_response().model_version) == ("mine", "1")


@pytest.mark.parametrize(
    ("model", "values", "datatype"),
    [
        ("words", np.array([["tide", "gäte"], ["", "水"]], object), "BYTES"),
        ("halves", np.array([[0.5, -1.25, 65504]], np.float16), "FP16"),
        ("whole", X, "FP32"),
    ],
    ids=["BYTES", "FP16", "no batch axis"],
)
def test_what_goes_in_comes_out(client, model, values, datatype):
    found = client.infer(model, [tensor("x", values, datatype)]).as_numpy("y")
    if datatype == "BYTES":
        found = np.vectorize(bytes.decode, otypes=[object])(found)
    assert found.tolist() == values.tolist()


def test_graphs_of_a_model_have_names_of_their_own(client):
    assert client.infer("pair.encoder", [tensor("x", X)]).as_numpy("y").tolist() == (2 * X).tolist()
    pixels = np.full((1, 8, 8, 3), 9, np.uint8)
    answer = client.infer("pair.decoder", [tensor("pixels", pixels, "UINT8")])
    assert answer.get_response().model_name == "pair.decoder"
    assert answer.as_numpy("probabilities").shape == (1, 3)
    refused(lambda: client.infer("pair.nobody", [tensor("x", X)]), StatusCode.NOT_FOUND)


def test_a_digit_is_known(client):
    pixels = np.zeros((2, 32, 32, 1), np.uint8)
    pixels[:, 4:28, 14:18] = 255
    wanted = [client_of.InferRequestedOutput("probabilities")]
    answer = client.infer("digits-cnn", [tensor("pixels", pixels, "UINT8")], outputs=wanted, priority=1)
    assert answer.as_numpy("probabilities").argmax(axis=1).tolist() == [1, 1]


def test_typed_contents(gateway):
    message = service_pb2.ModelInferRequest(model_name="double")
    message.inputs.add(name="x", datatype="FP32", shape=[1, 2]).contents.fp32_contents.extend([1.5, -2])
    with grpc.insecure_channel(gateway.grpc) as channel:
        answer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(message)
    assert np.frombuffer(answer.raw_output_contents[0], np.float32).tolist() == [3.0, -4.0]


def test_wrong_requests_are_told_what_is_wrong(client):
    refused(lambda: client.infer("nobody", [tensor("x", X)]), StatusCode.NOT_FOUND)
    refused(lambda: client.infer("double", [tensor("x", X)], "x"), StatusCode.INVALID_ARGUMENT, "whole number")
    refused(lambda: client.infer("double", [tensor("z", X)]), StatusCode.INVALID_ARGUMENT, "takes x")
    refused(lambda: client.infer("double", [tensor("x", X.astype("f8"), "FP64")]), StatusCode.INVALID_ARGUMENT, "FP64")
    refused(lambda: client.infer("double", [tensor("x", np.zeros((9, 2), "f4"))]), StatusCode.INVALID_ARGUMENT, "rows")
    outputs = [client_of.InferRequestedOutput("z")]
    refused(lambda: client.infer("double", [tensor("x", X)], outputs=outputs), StatusCode.INVALID_ARGUMENT, "output")
    classes = [client_of.InferRequestedOutput("y", class_count=2)]
    refused(lambda: client.infer("double", [tensor("x", X)], outputs=classes), StatusCode.INVALID_ARGUMENT, "classif")
    shared = client_of.InferInput("x", [2, 2], "FP32")
    shared.set_shared_memory("region", 16)
    refused(lambda: client.infer("double", [shared]), StatusCode.INVALID_ARGUMENT, "shared memory")
    halves = tensor("x", np.zeros((1, 2), "f2"), "FP16")
    refused(lambda: client.infer("halves", [halves]), StatusCode.INVALID_ARGUMENT, "shape")


def test_the_same_with_asyncio(gateway):
    async def main():
        async with aio.InferenceServerClient(gateway.grpc) as client:
            assert await client.is_server_ready()
            calls = [client.infer("double", [tensor("x", X + i, kind=aio)], request_id=str(i)) for i in range(20)]
            for i, answer in enumerate(await asyncio.gather(*calls)):
                assert answer.as_numpy("y").tolist() == (2 * (X + i)).tolist()
                assert answer.get_response().id == str(i)
            with pytest.raises(InferenceServerException, match="no model"):
                await client.infer("nobody", [tensor("x", X, kind=aio)])

            async def asked():
                for name in ("double", "nobody", "double"):
                    yield {"model_name": name, "inputs": [tensor("x", X, kind=aio)], "request_id": name}

            told = [(result, error) async for result, error in client.stream_infer(asked())]
            assert [error is None for _, error in told] == [True, False, True]
            assert told[2][0].as_numpy("y").tolist() == (2 * X).tolist()

    for _ in range(2):  # each loop of a process has its own
        asyncio.run(main())


def test_a_stream_of_the_callback_client(client):
    told: queue.Queue = queue.Queue()
    client.start_stream(lambda result, error: told.put((result, error)))
    for i in range(50):
        name = "nobody" if i == 7 else "double"
        client.async_stream_infer(name, [tensor("x", X + i)], request_id=str(i), enable_empty_final_response=i % 2 == 0)
    answers = [told.get(timeout=PATIENCE_S) for _ in range(50)]
    client.stop_stream()
    assert told.empty(), "one answer each, asked for an empty final one or not"
    assert [i for i, (_, error) in enumerate(answers) if error] == [7]
    for i, (result, error) in enumerate(answers):
        if error is None:
            assert result.get_response().id == str(i)
            assert result.get_response().parameters["triton_final_response"].bool_param
            assert result.as_numpy("y").tolist() == (2 * (X + i)).tolist()


def test_a_client_s_own_timeout(client):
    refused(lambda: client.infer("double", [tensor("x", X)], client_timeout=1e-6), StatusCode.DEADLINE_EXCEEDED)
    refused(lambda: client.infer("double", [tensor("x", X)], timeout=1), StatusCode.DEADLINE_EXCEEDED)
    assert client.infer("double", [tensor("x", X)], timeout=10_000_000).as_numpy("y").tolist() == (2 * X).tolist()


# Versions


def test_versions_and_callers_who_stay_with_one(gateway):
    """In its own gateway's pointers: version 2 gets half, those who say who they are always the same."""
    reply = httpx.post(
        f"{gateway.admin_url}/admin/models/colours/canary", json={"version": 2, "percent": 50}, timeout=60
    )
    assert reply.status_code == 200, reply.text
    pixels = [tensor("pixels", np.zeros((1, 8, 8, 3), np.uint8), "UINT8")]
    with client_of.InferenceServerClient(gateway.grpc) as client:

        def version(pinned: str = "", **headers: str) -> str:
            return client.infer("colours", pixels, pinned, headers=headers).get_response().model_version

        assert (version("1"), version("2")) == ("1", "2")
        refused(lambda: version("3"), StatusCode.NOT_FOUND, "Loaded: 1, 2")
        seen = {who: {version(**{"tidegate-sticky": who}) for _ in range(5)} for who in map(str, range(20))}
        assert all(len(versions) == 1 for versions in seen.values())
        assert {one for versions in seen.values() for one in versions} == {"1", "2"}
        assert list(client.get_model_metadata("colours").versions) == ["1", "2"]


# Meters


def series(gateway) -> set[str]:
    """But those of the guard, which begins to weigh a canary within a second."""
    found = metrics(gateway.admin_url)
    return {f"{one.name} {one.labels}" for one in found if not one.name.startswith("tidegate_guard")}


def test_answers_are_counted_by_method_and_status_and_nothing_of_a_caller_s(gateway, client):
    before = series(gateway)
    for i in range(50):
        refused(lambda i=i: client.infer(f"nobody-{i}", [tensor("x", X)], request_id=str(i)), StatusCode.NOT_FOUND)
    found = metrics(gateway.admin_url)
    assert len(series(gateway) - before) < 5
    routes = {one.labels["route"] for one in found if one.name == "tidegate_http_responses_total"}
    assert {"grpc ModelInfer"} <= {route for route in routes if route.startswith("grpc ")}
    assert {route.removeprefix("grpc ") for route in routes if route.startswith("grpc ")} <= {
        method.name for method in service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
    }


# Its port


def started(repository, state, *options, **environment):
    program = Path(sys.executable).with_name("tidegate")
    command = [program, "serve", "--repository", repository, "--state", state, "--port", "0", "--admin-port", "0"]
    env = {**os.environ, "TIDEGATE_DRAIN_DELAY_S": "0", **environment}
    return subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


@pytest.mark.parametrize("taken_by", ["a gateway", "a program"])
def test_a_port_that_was_asked_for_and_is_taken_ends_it(gateway, tmp_path, taken_by):
    """A gateway too, which would share its port with another one without a word if it were let."""
    tiny.add_plain(tmp_path / "repository")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = gateway.grpc.rpartition(":")[2] if taken_by == "a gateway" else str(taken.getsockname()[1])
        process = started(tmp_path / "repository", tmp_path / "state", "--grpc-port", port)
        said, complaint = process.communicate(timeout=60)
    assert (process.returncode, said) == (1, "")
    assert f"127.0.0.1:{port}: address already in use" in complaint
    assert "Traceback" not in complaint


def test_the_default_port_may_be_taken(tmp_path):
    """By whoever has it now, or by this test."""
    tiny.add_plain(tmp_path / "repository")
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 8090))
            taken.listen()
        except OSError:
            pass
        environment = {name: value for name, value in os.environ.items() if name != "TIDEGATE_GRPC_PORT"}
        process = started(tmp_path / "repository", tmp_path / "state", **environment)
        line = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        _, complaint = process.communicate(timeout=60)
    assert line.startswith("tidegate serves double/1 on http://")
    assert line.endswith("no gRPC: port 8090 is taken)\n")
    assert "WARNING serving.running: no gRPC: 127.0.0.1:8090: address already in use." in complaint
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], []),
        (["PORT=9000", "ADMIN_PORT=9001"], ["--grpc-port", "9010"]),
        (["PORT=0", "ADMIN_PORT=0"], ["--grpc-port", "0"]),
        (["GRPC_PORT=7000"], ["--grpc-port", "7000"]),
    ],
    ids=["by default", "beside another gateway", "free ones", "said"],
)
def test_make_serve_has_a_port_for_it(given, told):
    """At the default nothing is asked for, so that a taken 8090 is no error."""
    command = [shutil.which("make"), "-n", "-o", ".venv/.serve", "serve", *given]
    # The make these tests may be run by hands its options down, and says which folder it is in.
    alone = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    done = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True, check=True)
    words = done.stdout.replace("\\\n", " ").split()
    assert words[words.index("--admin-port") + 2 :] == told


def test_one_port_is_not_for_two_protocols(tmp_path):
    tiny.add_plain(tmp_path / "repository")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    process = started(tmp_path / "repository", tmp_path / "state", "--port", port, "--grpc-port", port)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"--grpc-port (TIDEGATE_GRPC_PORT): {port} is this gateway's own for HTTP" in complaint


# The end


def test_it_turns_away_balancers_first_and_callers_later(tmp_path):
    tiny.add_plain(tmp_path / "repository")
    with (
        gateway_process(tmp_path / "repository", tmp_path / "state", TIDEGATE_DRAIN_DELAY_S="3600") as process,
        client_of.InferenceServerClient(process.grpc) as client,
    ):
        assert client.is_server_ready()
        told: queue.Queue = queue.Queue()
        client.start_stream(lambda result, error: told.put(error))
        client.async_stream_infer("double", [tensor("x", X)])
        assert told.get(timeout=PATIENCE_S) is None
        process.signal(signal.SIGTERM)
        wait_until(lambda: not client.is_server_ready(), "it is not ready")
        assert client.is_server_live()
        assert client.infer("double", [tensor("x", X)]).as_numpy("y").tolist() == (2 * X).tolist()
        client.async_stream_infer("double", [tensor("x", X)])
        assert told.get(timeout=PATIENCE_S) is None, "streams too"
        process.signal(signal.SIGTERM)
        assert process.exit_code() == 0
        assert told.get(timeout=PATIENCE_S).status() == str(StatusCode.UNAVAILABLE)
        refused(lambda: client.infer("double", [tensor("x", X)]), StatusCode.UNAVAILABLE)
        said = process.log.read_text()
        assert not [line for line in said.splitlines() if " INFO " not in line], said


def test_under_callers_who_leave_at_any_moment_it_is_silent(tmp_path):
    """Deadlines of some hundreds of microseconds, so that calls end at every step of theirs."""
    tiny.add_plain(tmp_path / "repository")
    with gateway_process(tmp_path / "repository", tmp_path / "state") as process:

        async def main():
            async with grpc.aio.insecure_channel(process.grpc) as channel:
                infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
                message = service_pb2.ModelInferRequest(model_name="double", raw_input_contents=[X.tobytes()])
                message.inputs.add(name="x", datatype="FP32", shape=[2, 2])
                data = message.SerializeToString()
                codes = set()
                for i in range(40):
                    calls = [infer(data, timeout=0.0002 * (i + j % 10)) for j in range(20)]
                    codes |= {await call.code() for call in calls}
                assert codes <= {StatusCode.OK, StatusCode.DEADLINE_EXCEEDED}
                for _ in range(20):
                    calls = [infer(data) for _ in range(20)]
                    await asyncio.sleep(0.001)
                    for call in calls:
                        call.cancel()
                assert await infer(data, timeout=PATIENCE_S)

        asyncio.run(main())
        time.sleep(0.2)
        assert "tidegate_in_flight_requests 0.0" in httpx.get(f"{process.admin_url}/metrics").text
        said = process.log.read_text()
        assert not [line for line in said.splitlines() if " INFO " not in line], said


# perf_analyzer


@pytest.mark.parametrize("how", [(), ("--streaming", "--async")], ids=["unary", "streaming"])
def test_perf_analyzer_measures_without_failures(gateway, how):
    """The real program: it asks for metadata, configuration and statistics before and after."""
    if not (ANALYZER.is_file() and (ROOT / ".triton" / "installed").exists()):
        assert not os.environ.get("CI"), "make triton-install"
        pytest.skip("perf_analyzer is not installed: make triton-install")
    asked = ["-m", "digits-cnn", "--shape", "pixels:32,32,1", "-i", "grpc", "-u", gateway.grpc]
    measured = [str(ANALYZER), *asked, "--concurrency-range", "4", "-p", "500", "-s", "99", "-r", "3", *how]
    done = subprocess.run(measured, capture_output=True, text=True, timeout=8 * PATIENCE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    throughput = re.search(r"Concurrency: 4, throughput: ([\d.]+) infer/sec", done.stdout)
    assert float(throughput[1]) > 10, done.stdout
    assert re.search(r"Inference count: [1-9]", done.stdout), "it reads the statistics"
    codes = {one.labels["code"] for one in metrics(gateway.admin_url) if is_of_digits(one)}
    assert codes == {"ok"}


def is_of_digits(sample) -> bool:
    return sample.name == "tidegate_requests_total" and sample.labels["model"] == "digits-cnn"
