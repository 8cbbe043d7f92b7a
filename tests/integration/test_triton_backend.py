"""The ONNX backend of deploy/triton on a real Triton: the committed models, and graphs that are hard on it."""

from __future__ import annotations

import asyncio

import grpc
import numpy as np
import pytest
import tiny
from grpc import StatusCode
from onnx import TensorProto, helper, numpy_helper, save
from redis_rig import until
from triton_rig import ROOT, TritonServer, arrays_of, config_of, request_of
from tritonclient.grpc import model_config_pb2 as pb

from serving.engine import EngineOptions
from serving.engines.onnx import OnnxEngine
from serving.repository.config import write_config
from serving.repository.layout import SINGLE_GRAPH, scan
from serving.threads import Threads

REPOSITORY = ROOT / "model_repository"
ONE = [{"count": 1}]


def gathered(rows):
    """Batching that waits until there are so many."""
    return {"preferred_batch_size": [rows], "max_queue_delay_microseconds": 5_000_000}


def add(root, name, nodes, inputs, outputs, *, constants=None, **config):
    """A model of these nodes; `inputs`, `outputs`: name -> (type, shape). `config`: fields of its config.pbtxt."""
    info = [[helper.make_tensor_value_info(key, *value) for key, value in of.items()] for of in (inputs, outputs)]
    initializers = [numpy_helper.from_array(array, key) for key, array in (constants or {}).items()]
    graph = helper.make_graph(nodes, name, *info, initializers)
    file = root / name / "1" / "model.onnx"
    file.parent.mkdir(parents=True)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), file)
    fields = {"name": name, "platform": "onnxruntime_onnx", "instance_group": ONE, **config}
    write_config(root / name / "config.pbtxt", pb.ModelConfig(**fields))


def add_echo(root):
    """Text in, the same text out; and of numbers x, x + 1 and x - 1."""
    nodes = [
        helper.make_node("Identity", ["text"], ["same"]),
        helper.make_node("Add", ["x", "one"], ["more"]),
        helper.make_node("Sub", ["x", "one"], ["less"]),
    ]
    inputs = {"text": (TensorProto.STRING, ["n", 2]), "x": (TensorProto.FLOAT, ["n", 3])}
    outputs = {name: (TensorProto.FLOAT, ["n", 3]) for name in ("more", "less")}
    outputs["same"] = (TensorProto.STRING, ["n", 2])
    add(root, "echo", nodes, inputs, outputs, constants={"one": np.array(1, np.float32)})


def add_pick(root):
    """place int64 [n, 1] -> y float32 [n, 1]: the row of a table of three, in batches of four requests."""
    add(
        root,
        "pick",
        [helper.make_node("Gather", ["table", "place"], ["y"])],
        {"place": (TensorProto.INT64, ["n", 1])},
        {"y": (TensorProto.FLOAT, ["n", 1])},
        constants={"table": np.array([10, 20, 30], np.float32)},
        max_batch_size=8,
        dynamic_batching=gathered(4),
    )


def add_widths(root):
    """x float32 [n, any] -> y = 2 x and total, their sum over each row; requests of any widths meet in one batch."""
    nodes = [helper.make_node("Add", ["x", "x"], ["y"]), helper.make_node("ReduceSum", ["x", "axis"], ["total"])]
    add(
        root,
        "widths",
        nodes,
        {"x": (TensorProto.FLOAT, ["n", "m"])},
        {"y": (TensorProto.FLOAT, ["n", "m"]), "total": (TensorProto.FLOAT, ["n", 1])},
        constants={"axis": np.array([1], np.int64)},
        max_batch_size=8,
        input=[pb.ModelInput(name="x", data_type=pb.TYPE_FP32, dims=[-1], allow_ragged_batch=True)],
        dynamic_batching=gathered(5),
    )


def add_whole(root):
    """No batch axis: x float32 [2, 3] -> y float32 [3, 2], its transpose."""
    add(
        root,
        "whole",
        [helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0])],
        {"x": (TensorProto.FLOAT, [2, 3])},
        {"y": (TensorProto.FLOAT, [3, 2])},
    )


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backend")
    for one in (add_echo, add_pick, add_widths, add_whole):
        one(folder / "models")
    with TritonServer(folder / "models", folder / "triton") as server:
        for name in ("echo", "pick", "widths", "whole"):
            server.client.load(name)
        yield server.client


def refused(call, *args):
    with pytest.raises(grpc.RpcError) as caught:
        call(*args)
    return caught.value.code(), caught.value.details()


def together(client, requests):
    """The answers of requests that run as one batch: arrays, or the error."""
    model = requests[0].model_name
    before = client.statistics(model).execution_count
    futures = [client.stub.ModelInfer.future(request) for request in requests]
    answers = [future.exception() or arrays_of(future.result()) for future in futures]
    until(lambda: client.statistics(model).execution_count > before, "they are counted")
    assert client.statistics(model).execution_count == before + 1
    return answers


def test_committed_models_answer_as_on_the_embedded_engine(tmp_path):
    models = ("digits-cnn", "efficientnet-lite0")
    rng = np.random.default_rng(0)

    async def embedded():
        threads = Threads(2, 0)
        engine = OnnxEngine(EngineOptions(threads))
        graphs = scan(REPOSITORY).models
        answers = {}
        for name in models:
            graph = graphs[name].versions[1].graphs[SINGLE_GRAPH]
            (spec,) = graph.config.inputs
            inputs = {spec.name: rng.integers(0, 256, (3, *spec.shape), dtype=np.uint8)}
            await engine.load(graph, [])
            answers[name] = inputs, (await engine.run(graph.key, inputs)).outputs
        await engine.close()
        threads.close()
        return answers

    answers = asyncio.run(embedded())
    with TritonServer(REPOSITORY, tmp_path) as server:
        for name, (inputs, outputs) in answers.items():
            server.client.load(name)
            found = server.client.infer(name, inputs, 1)
            assert found.keys() == outputs.keys()
            for output, array in outputs.items():
                np.testing.assert_allclose(found[output], array, atol=1e-4)


def test_what_config_does_not_state_is_what_the_file_says(client):
    echo = client.config("echo")
    assert echo.max_batch_size == 4
    assert echo.HasField("dynamic_batching")
    assert {(one.name, one.data_type, tuple(one.dims)) for one in echo.input} == {
        ("text", pb.TYPE_STRING, (2,)),
        ("x", pb.TYPE_FP32, (3,)),
    }
    assert {one.name for one in echo.output} == {"same", "more", "less"}
    whole = client.config("whole")
    assert whole.max_batch_size == 0
    assert [tuple(one.dims) for one in (*whole.input, *whole.output)] == [(2, 3), (3, 2)]


def test_text_in_and_out_and_only_what_is_asked_for(client):
    text = np.array([["Straße", ""], ["日本語", "a\nb"]], dtype=np.object_)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    answer = client.infer("echo", {"text": text, "x": x})
    assert [[value.decode() for value in row] for row in answer["same"]] == text.tolist()
    np.testing.assert_array_equal(answer["more"], x + 1)
    assert client.infer("echo", {"text": text, "x": x}, outputs=["less"]).keys() == {"less"}
    bad = np.array([[b"\xff", b""]], dtype=np.object_)
    code, details = refused(client.infer, "echo", {"text": bad, "x": x[:1]})
    assert code == StatusCode.INVALID_ARGUMENT
    assert "text: not text in UTF-8" in details


def test_a_model_without_batch_axis(client):
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    futures = [client.infer_later("whole", {"x": x + i}) for i in range(8)]
    for i, future in enumerate(futures):
        np.testing.assert_array_equal(arrays_of(future.result())["y"], (x + i).T)


def test_a_bad_request_fails_alone(client):
    places = [0, 7, 2, 1]
    answers = together(client, [request_of("pick", {"place": np.array([[place]])}) for place in places])
    for place, answer in zip(places, answers, strict=True):
        if place == 7:
            assert answer.code() == StatusCode.INVALID_ARGUMENT
            assert answer.details().startswith("ONNX Runtime refused the input: ")
            assert "idx=7 must be within the inclusive range [-3,2]" in answer.details()
        else:
            assert answer["y"].tolist() == [[10.0 * (place + 1)]]


def test_requests_of_other_widths_and_rows_meet_in_one_batch(client):
    """As Triton lets them with `allow_ragged_batch`; and one of them asks for one output only."""
    arrays = [
        np.random.default_rng(i).random(shape, np.float32) for i, shape in enumerate([(1, 3), (2, 5), (1, 5), (1, 3)])
    ]
    requests = [request_of("widths", {"x": array}) for array in arrays]
    requests[2].outputs.add(name="total")
    answers = together(client, requests)
    assert answers[2].keys() == {"total"}
    for array, answer in zip(arrays, answers, strict=True):
        np.testing.assert_allclose(answer["total"], array.sum(1, keepdims=True), rtol=1e-5)
        np.testing.assert_array_equal(answer.get("y", 2 * array), 2 * array)


def test_threads_of_a_run_are_as_stated(tmp_path):
    for name, count in (("one", "1"), ("four", "4")):
        parameters = {"intra_op_thread_count": pb.ModelParameter(string_value=count)}
        tiny.add_plain(tmp_path / "models", name, instance_group=ONE, parameters=parameters)
    with TritonServer(tmp_path / "models", tmp_path / "triton", "--disable-auto-complete-config") as server:
        threads = {}
        for name in ("one", "four"):
            server.client.load(name)
            (stub,) = server.stubs(name).values()
            threads[name] = stub.num_threads()
        assert threads["four"] == threads["one"] + 3
        config = config_of(server.repository, "one")
        config.parameters["intra_op_thread_count"].string_value = "many"
        code, details = refused(server.client.load, "one", config)
        assert code == StatusCode.INVALID_ARGUMENT
        assert "intra_op_thread_count: expected 1 or more; found 'many'" in details


@pytest.mark.parametrize("whole", [True, False], ids=["stated", "auto-complete"])
def test_a_damaged_file_is_named(tmp_path, whole):
    folder = tiny.add_plain(tmp_path / "models", instance_group=ONE)
    (folder / "model.onnx").write_bytes(b"damaged")
    if not whole:
        write_config(folder.parent / "config.pbtxt", pb.ModelConfig(name="double", platform="onnxruntime_onnx"))
    with TritonServer(tmp_path / "models", tmp_path / "triton") as server:
        code, details = refused(server.client.load, "double")
    assert code == StatusCode.INVALID_ARGUMENT
    assert f"ONNX Runtime cannot load {folder}/model.onnx" in details


def test_a_configuration_that_the_file_contradicts_is_refused(tmp_path):
    tiny.add_plain(tmp_path / "models", instance_group=ONE)
    config = config_of(tmp_path / "models", "double")
    config.input[0].data_type = pb.TYPE_INT32
    with TritonServer(tmp_path / "models", tmp_path / "triton") as server:
        code, details = refused(server.client.load, "double", config)
    assert code == StatusCode.INVALID_ARGUMENT
    assert "input 'x' is TYPE_INT32 in config.pbtxt and TYPE_FP32 in the model file" in details
