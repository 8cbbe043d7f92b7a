"""Tensors outside of a model file: found wherever they hide, and only where the manifest lists the file."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from serving.errors import RepositoryInvalid
from serving.repository.external_data import check_external_data

SIZES = {"w.data": 16}


def external(**entries: str) -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(4, dtype=np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def graph(*nodes, initializers=()) -> onnx.GraphProto:
    return helper.make_graph(nodes, "g", [], [], initializers)


def constant(**attributes) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["y"], **attributes)


def sparse(tensor: TensorProto) -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(values=tensor, indices=numpy_helper.from_array(np.arange(4)), dims=[4])


def in_function(tensor: TensorProto) -> onnx.ModelProto:
    function = helper.make_function("f", "g", [], ["y"], [constant(value=tensor)], [])
    return helper.make_model(graph(), functions=[function])


def in_default_of_function(tensor: TensorProto) -> onnx.ModelProto:
    default = helper.make_attribute("a", tensor)
    function = helper.make_function("f", "g", [], ["y"], [], [], attribute_protos=[default])
    return helper.make_model(graph(), functions=[function])


def in_sparse_initializer(tensor: TensorProto) -> onnx.ModelProto:
    made = graph()
    made.sparse_initializer.append(sparse(tensor))
    return helper.make_model(made)


def in_training(tensor: TensorProto) -> onnx.ModelProto:
    model = helper.make_model(graph())
    model.training_info.add(initialization=graph(initializers=[tensor]))
    return model


PLACES = {
    "an initializer": lambda tensor: helper.make_model(graph(initializers=[tensor])),
    "an attribute": lambda tensor: helper.make_model(graph(constant(value=tensor))),
    "a list of tensors": lambda tensor: helper.make_model(graph(constant(values=[tensor, tensor]))),
    "a branch": lambda tensor: helper.make_model(graph(constant(then_branch=graph(initializers=[tensor])))),
    "a list of graphs": lambda tensor: helper.make_model(graph(constant(branches=[graph(initializers=[tensor])] * 2))),
    "a branch of a branch": lambda t: helper.make_model(graph(constant(a=graph(constant(b=graph(constant(c=t))))))),
    "a sparse attribute": lambda tensor: helper.make_model(graph(constant(sparse_value=sparse(tensor)))),
    "a sparse initializer": in_sparse_initializer,
    "a function": in_function,
    "a function's default": in_default_of_function,
    "training": in_training,
}


@pytest.mark.parametrize("place", PLACES)
def test_it_is_found_wherever_it_is(place):
    content = PLACES[place](external(location="w.data")).SerializeToString()
    assert check_external_data(content, "m/1/model.onnx", SIZES) >= 1
    content = PLACES[place](external(location="../w.data")).SerializeToString()
    with pytest.raises(RepositoryInvalid, match="external data of 'w': expected the name of a file beside it"):
        check_external_data(content, "m/1/model.onnx", SIZES)


@pytest.mark.parametrize(
    "entries",
    [
        {"offset": "0", "length": "16"},
        {"offset": "8", "length": "8"},
        {"checksum": "abc"},
    ],
)
def test_what_is_listed_may_be_read(entries):
    content = PLACES["an initializer"](external(location="w.data", **entries)).SerializeToString()
    assert check_external_data(content, "m/1/model.onnx", SIZES) == 1


@pytest.mark.parametrize(
    "entries",
    [
        {},
        {"location": ""},
        {"location": "W.data"},
        {"location": "./w.data"},
        {"location": "w.data\0"},
        {"location": "/w.data"},
        {"location": "w.data", "length": "17"},
        {"location": "w.data", "offset": "8", "length": "9"},
        {"location": "w.data", "offset": "-1"},
        {"location": "w.data", "offset": "1e1"},
        {"location": "w.data", "length": "9" * 30},
        {"location": "w.data", "length": "٣"},
    ],
)
def test_nothing_else_may(entries):
    content = PLACES["an initializer"](external(**entries)).SerializeToString()
    with pytest.raises(RepositoryInvalid, match="external data of 'w'"):
        check_external_data(content, "m/1/model.onnx", SIZES)


def test_a_key_that_comes_twice_is_refused():
    tensor = external(location="w.data")
    tensor.external_data.add(key="location", value="../w.data")
    content = PLACES["an initializer"](tensor).SerializeToString()
    with pytest.raises(RepositoryInvalid, match="expected 'location' once"):
        check_external_data(content, "m/1/model.onnx", SIZES)


def test_entries_count_even_where_the_location_says_inside():
    tensor = external(location="../w.data")
    tensor.data_location = TensorProto.DEFAULT
    with pytest.raises(RepositoryInvalid):
        check_external_data(PLACES["an initializer"](tensor).SerializeToString(), "m/1/model.onnx", SIZES)


@pytest.mark.parametrize("content", [b"\x3a\xff", b"\xff" * 20, b"\x3a\x05abc"])
def test_what_is_no_protobuf_is_refused(content):
    with pytest.raises(RepositoryInvalid, match="cut short or damaged"):
        check_external_data(content, "m/1/model.onnx", SIZES)


def test_most_models_have_none():
    weight = numpy_helper.from_array(np.zeros(4, dtype=np.float32), "w")
    assert check_external_data(helper.make_model(graph(initializers=[weight])).SerializeToString(), "m", {}) == 0
