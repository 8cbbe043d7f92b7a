"""Messages to tensors and back: what does not fit is told, and nothing heavier than it looks is parsed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tritonclient.grpc import service_pb2 as pb

from serving.engine import Statistics
from serving.errors import BodyInvalid, BodyTooLarge, InvalidInput, ParameterInvalid, TensorInvalid
from serving.gateway.open_inference import Metadata
from serving.gateway.rpc.descriptions import metadata_message, server_message, statistics_message
from serving.gateway.rpc.messages import (
    CONTENTS,
    MAX_DIMS,
    MAX_TENSORS,
    answer,
    parse,
    read_ask,
    stream_answer,
    stream_error,
    version_of,
)
from serving.gateway.rpc.weight import MAX_FIELDS, check_weight
from serving.pipeline import Inference
from serving.repository.config import TensorSpec
from serving.repository.layout import GraphKey
from serving.telemetry import Stages
from serving.tensors import DTYPES


def asked(datatype: str, shape, *, raw: bytes | None = None, name: str = "x", **contents):
    message = pb.ModelInferRequest(model_name="m")
    spec = message.inputs.add(name=name, datatype=datatype, shape=shape)
    if contents:
        spec.contents.CopyFrom(pb.InferTensorContents(**contents))
    if raw is not None:
        message.raw_input_contents.append(raw)
    return message


def inference(**outputs: np.ndarray) -> Inference:
    return Inference("m.part", 3, outputs, Stages())


NUMBERS = [kind for kind in DTYPES if kind != "BYTES"]


@given(st.data())
def test_raw_numbers_go_there_and_back(data):
    kind = data.draw(st.sampled_from(NUMBERS))
    values = data.draw(arrays.arrays(DTYPES[kind], arrays.array_shapes(min_dims=0, min_side=0)))
    message = answer(inference(y=values), "id")
    back = pb.ModelInferRequest(model_name="m", raw_input_contents=message.raw_output_contents)
    back.inputs.add(name="y", datatype=message.outputs[0].datatype, shape=message.outputs[0].shape)
    read = read_ask(parse(back.SerializeToString(), 2**20)).inputs["y"]
    assert read.dtype == values.dtype
    assert read.tobytes() == values.tobytes()
    assert read.shape == values.shape


@given(arrays.arrays(np.object_, arrays.array_shapes(min_side=0), elements=st.binary(max_size=20)))
def test_strings_go_there_and_back(values):
    message = answer(inference(y=values), "")
    back = pb.ModelInferRequest(raw_input_contents=message.raw_output_contents)
    back.inputs.add(name="y", datatype="BYTES", shape=message.outputs[0].shape)
    read = read_ask(back).inputs["y"]
    assert read.tolist() == values.tolist()
    assert read.shape == values.shape


TYPED = {
    "BOOL": [True, False], "INT8": [-128, 127], "INT16": [-(2**15), 2**15 - 1], "INT32": [-(2**31), 2**31 - 1],
    "INT64": [-(2**63), 2**63 - 1], "UINT8": [0, 255], "UINT16": [0, 2**16 - 1], "UINT32": [0, 2**32 - 1],
    "UINT64": [0, 2**64 - 1], "FP32": [1.5, -0.25], "FP64": [1e300, -0.1], "BYTES": [b"", b"\xff\x00"],
}  # fmt: skip


@pytest.mark.parametrize("kind", CONTENTS)
def test_typed_contents_of_each_type(kind):
    values = TYPED[kind]
    read = read_ask(asked(kind, [2, 1], **{CONTENTS[kind][0]: values})).inputs["x"]
    assert read.dtype == DTYPES[kind]
    assert read.tolist() == [[value] for value in values]


def test_every_type_but_half_floats_has_typed_contents():
    assert set(DTYPES) - set(CONTENTS) == {"FP16"}


@pytest.mark.parametrize(
    ("kind", "value"), [("INT8", 128), ("INT8", -129), ("INT16", 2**15), ("UINT8", 256), ("UINT16", 2**16)]
)
def test_a_number_that_is_too_large_for_its_type_is_refused(kind, value):
    with pytest.raises(TensorInvalid, match=f"no {kind}"):
        read_ask(asked(kind, [1], **{CONTENTS[kind][0]: [value]}))


def twice():
    message = asked("FP32", [1], raw=bytes(4))
    message.inputs.add(name="x", datatype="FP32", shape=[1])
    message.raw_input_contents.append(bytes(4))
    return message


def with_parameter(where: str, key: str, value: str = "1"):
    message = asked("FP32", [1], raw=bytes(4))
    holder = {"input": message.inputs[0], "output": message.outputs.add(name="y"), "request": message}[where]
    holder.parameters[key].string_param = value
    return message


def wanting(*names: str):
    message = asked("FP32", [1], raw=bytes(4))
    for name in names:
        message.outputs.add(name=name)
    return message


def many():
    message = pb.ModelInferRequest()
    for i in range(MAX_TENSORS + 1):
        message.inputs.add(name=str(i), datatype="FP32", shape=[0])
    return message


WRONG = {
    "too few bytes": (asked("FP32", [2], raw=bytes(4)), "takes 8"),
    "too many bytes": (asked("FP32", [1], raw=bytes(5)), "takes 4"),
    "no bytes for an input": (asked("FP32", [2]), "0 values"),
    "raw tensors with no input": (pb.ModelInferRequest(raw_input_contents=[b"x"]), "1 entries for 0 inputs"),
    "too few raw tensors": (twice().__class__(inputs=twice().inputs, raw_input_contents=[b""]), "entries for 2"),
    "raw and typed": (asked("FP32", [1], raw=bytes(4), fp32_contents=[1]), "contents beside"),
    "an unknown type": (asked("BF16", [1], raw=bytes(2)), "datatype"),
    "no type": (asked("", [1], raw=bytes(2)), "datatype"),
    "a type in lower case": (asked("fp32", [1], raw=bytes(4)), "datatype"),
    "two of a name": (twice(), "Two inputs are named x"),
    "a size below 0": (asked("FP32", [-1], raw=bytes(4)), "below 0"),
    "too many sizes": (asked("FP32", [1] * (MAX_DIMS + 1), raw=bytes(4)), "sizes"),
    "a size beyond all": (asked("FP32", [0, 2**62, 2**62], raw=b""), "too large"),
    "a typed size beyond all": (asked("FP32", [0, 2**62, 2**62], fp32_contents=[]), "0 values|too large"),
    "half floats, typed": (asked("FP16", [1], fp32_contents=[1]), "contents cannot hold FP16"),
    "the wrong field": (asked("FP32", [1], fp64_contents=[1]), "fp64_contents"),
    "two fields": (asked("FP32", [1], fp32_contents=[1], int_contents=[1]), "int_contents"),
    "too few typed values": (asked("FP32", [2], fp32_contents=[1]), "1 values"),
    "too many typed values": (asked("INT32", [1], int_contents=[1, 2]), "2 values"),
    "too many inputs": (many(), "inputs"),
    "strings that end early": (asked("BYTES", [1], raw=b"\x05\0\0\0ab"), "ends"),
    "an output twice": (wanting("y", "y"), "twice"),
    "an input in shared memory": (with_parameter("input", "shared_memory_region"), "shared memory"),
    "an output in shared memory": (with_parameter("output", "shared_memory_region"), "shared memory"),
    "classes": (with_parameter("output", "classification"), "classified"),
    "a priority that is text": (with_parameter("request", "priority"), "priority"),
    "a timeout that is text": (with_parameter("request", "timeout"), "timeout"),
}


@pytest.mark.parametrize(("message", "said"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_told(message, said):
    with pytest.raises(InvalidInput, match=said):
        read_ask(message)


def test_parameters_that_nobody_knows_are_ignored():
    message = with_parameter("request", "anything")
    message.inputs[0].parameters["more"].bool_param = True
    message.outputs[0].parameters["binary_data"].bool_param = True
    message.parameters["empty"].SetInParent()
    ask = read_ask(message)
    assert (ask.name, ask.version, ask.wanted, ask.priority, ask.timeout_s) == ("m", None, ["y"], 0, None)


def test_what_a_request_may_say():
    message = wanting("b", "a")
    message.model_version = "7"
    message.parameters["priority"].uint64_param = 2
    message.parameters["timeout"].int64_param = 1_500_000
    ask = read_ask(message)
    assert (ask.version, ask.wanted, ask.priority, ask.timeout_s) == (7, ["b", "a"], 2, 1.5)


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.0", " 1", "9" * 12])
def test_a_version_is_a_whole_number(text):
    with pytest.raises(ParameterInvalid):
        version_of(text)
    assert version_of("") is None


def test_answers_keep_the_order_and_say_who_gave_them():
    outputs = {"b": np.ones((1, 2), np.float32), "a": np.array([[b"x"]], np.object_)}
    message = answer(inference(**outputs), "id-1")
    assert (message.model_name, message.model_version, message.id) == ("m.part", "3", "id-1")
    told = [(one.name, one.datatype, list(one.shape)) for one in message.outputs]
    assert told == [("b", "FP32", [1, 2]), ("a", "BYTES", [1, 1])]
    assert list(message.raw_output_contents) == [np.ones(2, "<f4").tobytes(), b"\x01\0\0\0x"]
    assert not message.parameters
    streamed = pb.ModelStreamInferResponse.FromString(stream_answer(inference(**outputs), "id-1"))
    assert streamed.infer_response.parameters["triton_final_response"].bool_param
    del streamed.infer_response.parameters["triton_final_response"]
    assert streamed.infer_response == message


def test_an_error_in_a_stream_has_the_id():
    message = pb.ModelStreamInferResponse.FromString(stream_error("No.", "id-1"))
    assert (message.error_message, message.infer_response.id) == ("No.", "id-1")


# Weight


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_are_told_to_be_none(data):
    """With the bound at nothing each byte is looked at."""
    try:
        expected = pb.ModelInferRequest.FromString(data)
    except Exception:  # noqa: BLE001  (protobuf's)
        expected = None
    for limit in (0, 2**20):
        try:
            assert parse(data, limit) == expected
        except (BodyInvalid, BodyTooLarge) as error:
            assert expected is None or isinstance(error, BodyTooLarge) or limit == 0  # noqa: PT017


def test_raw_tensors_weigh_nothing_and_all_else_does():
    raw = asked("UINT8", [10_000], raw=bytes(10_000)).SerializeToString()
    check_weight(raw, 100)
    typed = asked("UINT8", [10_000], uint_contents=[1] * 10_000).SerializeToString()
    check_weight(typed, 20_000)
    with pytest.raises(BodyTooLarge, match="raw_input_contents"):
        check_weight(typed, 100)


@pytest.mark.parametrize("field", [b"\x2a\x00", b"\x3a\x00"], ids=["empty inputs", "empty raw tensors"])
def test_a_message_of_nothing_but_fields_is_not_parsed(field):
    with pytest.raises(BodyTooLarge):
        check_weight(field * 1_000_000, 2**20)
    with pytest.raises(BodyTooLarge):
        check_weight(b"\x3a\x00" * MAX_FIELDS + b"\x3a\x01\x00" * 2, 0)


@pytest.mark.parametrize(
    "data", [b"\x3a", b"\x3a\x05ab", b"\x0b", b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x08", b"\x0d\x01"]
)
def test_bytes_that_end_early_are_no_message(data):
    with pytest.raises(BodyInvalid):
        check_weight(data, 0)


# Descriptions


def test_metadata_and_statistics():
    spec = TensorSpec("x", "FP32", (-1, 3))
    message = metadata_message(Metadata("m", ("1", "2"), "onnxruntime_onnx", (spec,), ()))
    assert (message.name, list(message.versions), message.platform) == ("m", ["1", "2"], "onnxruntime_onnx")
    assert (message.inputs[0].name, message.inputs[0].datatype, list(message.inputs[0].shape)) == ("x", "FP32", [-1, 3])
    one = Statistics(
        answered=3, failed=1, rows=5, runs=2, queue_s=0.5, run_s=1.5, failed_s=0.25,
        batches={2: (1, 0.5), 3: (1, 1.0)}, last=12.5,
    )  # fmt: skip
    (told,) = statistics_message([(GraphKey("m", 2), one)]).model_stats
    assert (told.name, told.version, told.last_inference) == ("m", "2", 12_500)
    assert (told.inference_count, told.execution_count) == (5, 2)
    assert (told.inference_stats.success.count, told.inference_stats.success.ns) == (3, 2_000_000_000)
    assert (told.inference_stats.fail.count, told.inference_stats.fail.ns) == (1, 250_000_000)
    assert told.inference_stats.queue.ns == 500_000_000
    assert told.inference_stats.compute_infer.ns == 1_500_000_000
    assert [(batch.batch_size, batch.compute_infer.ns) for batch in told.batch_stats] == [
        (2, 500_000_000),
        (3, 1_000_000_000),
    ]
    assert "model_repository" not in server_message().extensions
    assert "statistics" in server_message().extensions
