"""The body of an inference: what stands in its JSON, what lies behind it, and what is asked for."""

from __future__ import annotations

import struct

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.codecs.tensor_body import Wanted, read_body, write_body
from serving.errors import OutputInvalid, ParameterInvalid, TensorInvalid

TWO = struct.pack("<2f", 1.5, -2)


def raw(size: object = 8, name: str = "x", shape: object = (2,), kind: object = "FP32", **more) -> dict:
    shape = list(shape) if isinstance(shape, tuple) else shape
    return {"name": name, "shape": shape, "datatype": kind, "parameters": {"binary_data_size": size}, **more}


def plain(name: str = "y", data: object = (3,)) -> dict:
    return {"name": name, "shape": [len(data)], "datatype": "INT64", "data": list(data)}


def read(inputs: object, behind: bytes = b"", **more):
    return read_body({"inputs": inputs, **more}, memoryview(behind))


def test_raw_tensors_lie_behind_the_json_in_the_order_of_the_inputs():
    inputs = [raw(8, "a"), plain("b"), raw(2, "c", (2, 1), "UINT8"), raw(0, "d", (0,)), raw(6, "e", (1,), "BYTES")]
    asked = read(inputs, TWO + b"\x07\x08" + b"\x02\0\0\0hi")
    assert list(asked.inputs) == ["a", "b", "c", "d", "e"]
    assert [array.tolist() for array in asked.inputs.values()] == [[1.5, -2], [3], [[7], [8]], [], [b"hi"]]


def test_raw_tensors_are_views_of_the_body():
    body = bytes(64)
    asked = read([raw(64, shape=(64,), kind="UINT8")], body)
    assert np.shares_memory(asked.inputs["x"], np.frombuffer(body, np.uint8))


@pytest.mark.parametrize("size", [-1, 1.0, "8", True, None, [8], 8.5], ids=repr)
def test_a_size_is_a_whole_number(size):
    with pytest.raises(TensorInvalid, match="binary_data_size of x is not a whole number"):
        read([raw(size)], TWO)


@pytest.mark.parametrize(
    ("inputs", "behind", "said"),
    [
        ([raw(8)], TWO[:-1], "x is to have 8 raw bytes; 7 are left"),
        ([raw(8)], b"", "x is to have 8 raw bytes; 0 are left"),
        ([raw(2**80)], TWO, "raw bytes; 8 are left"),
        ([raw(8), raw(8, "z")], TWO, "z is to have 8 raw bytes; 0 are left"),
        ([raw(8)], TWO + b"!", "1 raw bytes lie behind"),
        ([plain()], b"!", "1 raw bytes lie behind"),
        ([raw(8), raw(8)], TWO * 2, "same name"),
        ([raw(8), plain("x")], TWO, "same name"),
        ([raw(8, data=[1, 2])], TWO, "both data and binary_data_size"),
        ([raw(4)], TWO[:4], "x has 4 bytes of data; shape [2] of FP32 takes 8."),
        ([raw(8, kind="FP64")], TWO, "takes 16"),
        ([raw(8, kind="BF16")], TWO, "datatype is unknown"),
        ([raw(8, kind=None)], TWO, "datatype is unknown"),
        ([raw(8, shape=(-2,))], TWO, "shape is not a list"),
        ([raw(8, shape=None)], TWO, "shape is not a list"),
        ([raw(8, shape=(1,) * 17)], TWO, "shape is not a list"),
        ([raw(8, kind="BYTES")], TWO, "x ends in the middle"),
        ([{"name": "x", "shape": [1], "datatype": "FP32"}], b"", "data is not a list"),
        ([{"name": "x", "shape": [1], "datatype": "FP32", "parameters": 5}], b"", "data is not a list"),
        ([raw(8, name=5)], TWO, "object with a name"),
        ([], b"", "list of 1 to 16"),
        (None, b"", "list of 1 to 16"),
        ([plain(str(i)) for i in range(17)], b"", "list of 1 to 16"),
    ],
)
def test_what_does_not_add_up_is_refused_with_a_reason(inputs, behind, said):
    with pytest.raises(TensorInvalid) as caught:
        read(inputs, behind)
    assert said in caught.value.detail


@pytest.mark.parametrize(
    "given",
    [{}, {"parameters": None}, {"parameters": []}, {"parameters": "x"}, {"parameters": {"headers": 1}}],
    ids=repr,
)
def test_parameters_that_are_unknown_or_none_are_passed_over(given):
    asked = read([plain()], **given)
    assert asked.parameters in ({}, {"headers": 1})
    assert asked.wanted == Wanted()


@pytest.mark.parametrize("name", ["shared_memory_region", "classification"])
@pytest.mark.parametrize("where", ["inputs", "outputs"])
def test_parameters_that_would_change_the_answer_are_refused(name, where):
    body = {"inputs": [plain()], "outputs": [{"name": "z"}]}
    body[where][0]["parameters"] = {name: 3}
    with pytest.raises(ParameterInvalid, match=name) as caught:
        read_body(body, memoryview(b""))
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("outputs", "all_raw", "names", "raw_ones"),
    [
        (None, None, None, ""),
        ([], None, None, ""),
        (None, True, None, "abz"),
        ([{"name": "b"}, {"name": "a"}], None, ("b", "a"), ""),
        ([{"name": "b"}, {"name": "a", "parameters": {"binary_data": True}}], None, ("b", "a"), "a"),
        ([{"name": "b", "parameters": {"binary_data": False}}, {"name": "a"}], True, ("b", "a"), "az"),
    ],
)
def test_outputs_are_wanted_in_an_order_and_raw_one_by_one_or_all(outputs, all_raw, names, raw_ones):
    parameters = {} if all_raw is None else {"binary_data_output": all_raw}
    wanted = read([plain()], outputs=outputs, parameters=parameters).wanted
    assert wanted.names == names
    assert "".join(name for name in "abz" if wanted.is_raw(name)) == raw_ones


@pytest.mark.parametrize("outputs", [{}, "y", 5, True, ["y"], [{}], [{"name": 5}], [{"name": "y"}, None]], ids=repr)
def test_outputs_that_are_no_names_are_refused(outputs):
    with pytest.raises(TensorInvalid, match="list of objects with a name"):
        read([plain()], outputs=outputs)


def test_no_output_is_given_twice():
    """Or a request of a megabyte could ask for a reply of gigabytes."""
    with pytest.raises(TensorInvalid, match="twice"):
        read([plain()], outputs=[{"name": "y"}] * 2)


@pytest.mark.parametrize("value", [1, "true", None, []], ids=repr)
def test_whether_an_output_is_raw_is_yes_or_no(value):
    with pytest.raises(ParameterInvalid, match="binary_data_output is neither"):
        read([plain()], parameters={"binary_data_output": value})
    with pytest.raises(ParameterInvalid, match="binary_data is neither"):
        read([plain()], outputs=[{"name": "y", "parameters": {"binary_data": value}}])


@pytest.mark.parametrize(
    ("given", "said"), [("mine", "mine"), ("", ""), (None, None), (5, None), (["x"], None)], ids=repr
)
def test_the_caller_s_id_is_kept_if_it_is_text(given, said):
    assert read([plain()], id=given).id == said


OUTPUTS = {
    "y": np.array([[1.5, float("nan")]], np.float32),
    "n": np.array([3], np.int64),
    "t": np.array([b"\xff", b""], np.object_),
}


def test_an_answer_of_json_has_no_length_of_its_json():
    body, length = write_body({"model_name": "m"}, {"n": OUTPUTS["n"]}, Wanted())
    assert length is None
    (output,) = orjson.loads(body)["outputs"]
    assert output == {"name": "n", "datatype": "INT64", "shape": [1], "data": [3]}


def test_raw_outputs_follow_the_json_in_their_order():
    body, length = write_body({"model_name": "m"}, OUTPUTS, Wanted(("y", "n", "t"), {"y": True, "n": False, "t": True}))
    answer = orjson.loads(body[:length])
    assert answer == {
        "model_name": "m",
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}},
            {"name": "n", "datatype": "INT64", "shape": [1], "data": [3]},
            {"name": "t", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 9}},
        ],
    }
    assert body[length:] == OUTPUTS["y"].tobytes() + b"\x01\0\0\0\xff\0\0\0\0"


def test_only_json_needs_numbers_that_are_finite():
    assert write_body({}, {"y": OUTPUTS["y"]}, Wanted(raw=True))[1]
    with pytest.raises(OutputInvalid):
        write_body({}, {"y": OUTPUTS["y"]}, Wanted())


def test_rows_cut_out_of_a_batch_are_written_alone():
    batch = np.arange(12, dtype=np.float32).reshape(3, 4)
    for part in (batch[1:2], batch[:, ::2], batch.T, np.float16(batch), np.array(2.0), batch[:0]):
        body, length = write_body({}, {"y": part}, Wanted(raw=True))
        assert body[length:] == part.tobytes()


@given(st.binary(max_size=60), st.lists(st.tuples(st.integers(-1, 30), st.integers(0, 4)), max_size=4))
def test_whatever_is_said_of_sizes_it_is_read_whole_or_refused(behind, sizes):
    inputs = [raw(size, str(i), (count,), "UINT16") for i, (size, count) in enumerate(sizes)]
    try:
        asked = read(inputs, behind)
    except TensorInvalid:
        return
    assert b"".join(array.tobytes() for array in asked.inputs.values()) == behind
