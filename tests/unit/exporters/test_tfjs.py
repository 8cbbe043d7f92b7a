"""TensorFlow.js graphs as torch modules: each operation against plain arithmetic, and what is not understood."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from tfjs_rig import node, windowed, write_graph
from torch.nn import functional

from exporters.errors import GraphUnsupported
from exporters.tfjs.network import load
from exporters.to_onnx import export
from serving.repository.config import TensorSpec
from serving.task import Signature


@pytest.fixture
def run(tmp_path):
    """Runs nodes over NHWC numbers, and gives the arrays of the outputs."""

    def go(nodes, x, constants=None, outputs=("y",), **options):
        network = load(write_graph(tmp_path, nodes, constants or {}, **options), outputs)
        with torch.no_grad():
            found = [array.numpy() for array in network(torch.from_numpy(x))]
        return found[0] if len(found) == 1 else found

    return go


@pytest.fixture
def x():
    return np.random.default_rng(1).standard_normal((2, 7, 6, 3)).astype(np.float32)


def weight(*shape: int) -> np.ndarray:
    return np.random.default_rng(2).standard_normal(shape).astype(np.float32)


def windows(x: np.ndarray, size: int, stride: int, *, same: bool) -> np.ndarray:
    """All windows of NHWC numbers as [N, rows, columns, C, size, size], padded with zeros as TensorFlow says."""
    if same:
        edges = []
        for side in x.shape[1:3]:
            total = max((-(-side // stride) - 1) * stride + size - side, 0)
            edges.append((total // 2, total - total // 2))
        x = np.pad(x, [(0, 0), *edges, (0, 0)])
    found = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))
    return found[:, ::stride, ::stride]


@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize(("size", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (2, 2), (5, 2)])
def test_convolutions(run, x, size, stride, same):
    padding = "SAME" if same else "VALID"
    filters = weight(size, size, 3, 4)
    found = run([windowed("y", "Conv2D", "x", "w", stride=stride, padding=padding)], x, {"w": filters})
    expected = np.einsum("nijchw,hwco->nijo", windows(x, size, stride, same=same), filters)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_convolutions_with_several_filters_a_channel(run, x, stride):
    filters = weight(3, 3, 3, 2)
    step = windowed("y", "DepthwiseConv2dNative", "x", "w", stride=stride, padding="SAME")
    expected = np.einsum("nijchw,hwcm->nijcm", windows(x, 3, stride, same=True), filters)
    np.testing.assert_allclose(run([step], x, {"w": filters}), expected.reshape(*expected.shape[:3], 6), atol=1e-5)


@pytest.mark.parametrize("size", [2, 4])
def test_transposed_convolutions(run, x, size):
    """Spread out number by number: each input adds its filter to the output."""
    filters = weight(size, size, 5, 3)  # out, in
    step = windowed("y", "Conv2DBackpropInput", "shape", "w", "x", stride=2, padding="SAME")
    whole = np.zeros((2, 14 + size - 2, 12 + size - 2, 5), np.float32)
    for i, j in np.ndindex(7, 6):
        whole[:, 2 * i : 2 * i + size, 2 * j : 2 * j + size] += np.einsum("nc,hwoc->nhwo", x[:, i, j], filters)
    edge = (size - 2) // 2
    expected = whole[:, edge : edge + 14, edge : edge + 12]
    constants = {"w": filters, "shape": np.array([1, 14, 12, 5], np.int32)}
    np.testing.assert_allclose(run([step], x, constants), expected, atol=1e-5)


@pytest.mark.parametrize(("operation", "function"), [("AvgPool", np.mean), ("MaxPool", np.max)])
def test_pools(run, x, operation, function):
    step = windowed("y", operation, "x", stride=2, ksize=[1, 3, 3, 1])
    expected = function(windows(x, 3, 2, same=False), axis=(4, 5))
    np.testing.assert_allclose(run([step], x), expected, atol=1e-6)


def test_a_pool_over_everything_is_the_mean(run, x):
    step = node("y", "AvgPool", "x", ksize=[1, 7, 6, 1], strides=[1, 7, 6, 1], padding="VALID", data_format="NHWC")
    np.testing.assert_allclose(run([step], x), x.mean(axis=(1, 2), keepdims=True), atol=1e-6)


@pytest.mark.parametrize(
    ("step", "function"),
    [
        (node("y", "Relu", "x"), lambda x: np.maximum(x, 0)),
        (node("y", "Relu6", "x"), lambda x: np.clip(x, 0, 6)),
        (node("y", "LeakyRelu", "x", alpha=0.1), lambda x: np.where(x > 0, x, 0.1 * x)),
        (node("y", "Sigmoid", "x"), lambda x: 1 / (1 + np.exp(-x))),
        (node("y", "Identity", "x"), lambda x: x),
    ],
    ids=lambda value: value["op"] if isinstance(value, dict) else "",
)
def test_what_is_done_to_each_number(run, x, step, function):
    np.testing.assert_allclose(run([step], x * 4), function(x * 4), atol=1e-6)


@pytest.mark.parametrize(
    "constant", [weight(), weight(3), weight(6, 1), weight(1, 7, 1, 3)], ids=lambda c: str(c.shape)
)
@pytest.mark.parametrize(("operation", "function"), [("Add", np.add), ("AddV2", np.add), ("Mul", np.multiply)])
def test_constants_broadcast_as_the_graph_says(run, x, operation, function, constant):
    filters = np.eye(3, dtype=np.float32)[None, None]  # after which the channels are first in torch's tensor
    steps = [windowed("same", "Conv2D", "x", "w"), node("a", "Relu", "same"), node("y", operation, "c", "a")]
    found = run(steps, x, {"w": filters, "c": constant})
    np.testing.assert_allclose(found, function(np.maximum(x, 0), constant), atol=1e-6)


def test_tensors_in_different_layouts_are_added_rightly(run, x):
    filters = np.eye(3, dtype=np.float32)[None, None]
    steps = [windowed("same", "Conv2D", "x", "w"), node("sum", "AddN", "x", "same", "x"), node("y", "Mul", "sum", "x")]
    np.testing.assert_allclose(run(steps, x, {"w": filters}), 3 * x * x, atol=1e-5)


def test_pads_transposes_and_parts_are_by_the_axes_of_the_graph(run, x):
    constants = {
        "w": np.eye(3, dtype=np.float32)[None, None],
        "edges": np.array([[0, 0], [1, 2], [0, 3], [0, 1]], np.int32),
        "value": np.array(-5, np.float32),
        "order": np.array([0, 3, 1, 2], np.int32),
        "one": np.array(1, np.int32),
        "last": np.array(-1, np.int32),
        "sizes": np.array([1, 3], np.int32),
    }
    steps = [
        windowed("same", "Conv2D", "x", "w"),
        node("zeros", "Pad", "same", "edges"),
        node("padded", "PadV2", "same", "edges", "value"),
        node("first", "Transpose", "padded", "order"),
        node("parts", "SplitV", "first", "sizes", "one"),
        node("again", "ConcatV2", "parts:1", "parts", "one"),
        node("wide", "ConcatV2", "same", "x", "last"),
    ]
    zeros, padded, again, wide = run(steps, x, constants, outputs=("zeros", "padded", "again", "wide"))
    edges = [(0, 0), (1, 2), (0, 3), (0, 1)]
    np.testing.assert_allclose(zeros, np.pad(x, edges), atol=1e-6)
    np.testing.assert_allclose(padded, np.pad(x, edges, constant_values=-5), atol=1e-6)
    np.testing.assert_allclose(again, padded.transpose(0, 3, 1, 2)[:, [1, 2, 3, 0]], atol=1e-6)
    np.testing.assert_allclose(wide, np.concatenate([x, x], axis=3), atol=1e-6)


def test_shapes_that_are_computed_keep_rows_apart(run, x):
    """As converters from ONNX write them: [1, 3, -1] plus zeros that come from a sparse tensor."""
    constants = {
        "order": np.array([0, 3, 1, 2], np.int32),
        "shape": np.array([1, 3, 40], np.int32),
        "places": np.array([[2]], np.int32),
        "length": np.array([3], np.int32),
        "values": np.array([2], np.int32),
        "zero": np.array(0, np.int32),
    }
    steps = [
        node("first", "Transpose", "x", "order"),
        node("rest", "SparseToDense", "places", "length", "values", "zero"),
        node("whole", "AddV2", "shape", "rest"),
        node("y", "Reshape", "first", "whole"),
    ]
    np.testing.assert_array_equal(run(steps, x, constants), x.transpose(0, 3, 1, 2).reshape(2, 3, 42))


@pytest.mark.parametrize("size", [(14, 12), (3, 3), (9, 5)])
def test_bilinear_resizing_is_between_the_centres_of_pixels(run, x, size):
    step = node("y", "ResizeBilinear", "x", "size", half_pixel_centers=True, align_corners=False)
    found = run([step], x, {"size": np.array(size, np.int32)})
    expected = x
    for axis, side in ((1, size[0]), (2, size[1])):
        place = np.clip((np.arange(side) + 0.5) * x.shape[axis] / side - 0.5, 0, x.shape[axis] - 1)
        low, share = np.floor(place).astype(int), place - np.floor(place)
        high = np.minimum(low + 1, x.shape[axis] - 1)
        share = share.reshape([-1 if i == axis else 1 for i in range(4)])
        expected = expected.take(low, axis) * (1 - share) + expected.take(high, axis) * share
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_float16_is_read_and_weights_are_parameters(tmp_path, x):
    filters = weight(3, 3, 3, 4)
    path = write_graph(
        tmp_path,
        [windowed("conv", "Conv2D", "x", "w"), node("y", "Add", "conv", "b")],
        {"before": np.array([7], np.int32), "w": filters, "b": weight(4)},
        half=("w",),
    )
    network = load(path, ["y"])
    stored = [parameter.numel() for parameter in network.parameters()]
    assert sorted(stored) == [4, 3 * 3 * 3 * 4], "the sum's constant is the convolution's bias"
    rounded = torch.from_numpy(filters.astype(np.float16).astype(np.float32)).permute(3, 2, 0, 1)
    expected = functional.conv2d(torch.from_numpy(x).permute(0, 3, 1, 2), rounded, torch.from_numpy(weight(4)))
    with torch.no_grad():
        np.testing.assert_allclose(network(torch.from_numpy(x))[0], expected.permute(0, 2, 3, 1), atol=1e-5)


def test_a_result_that_is_read_elsewhere_gets_no_bias(run, x):
    steps = [windowed("conv", "Conv2D", "x", "w"), node("sum", "Add", "conv", "b")]
    constants = {"w": np.eye(3, dtype=np.float32)[None, None], "b": weight(3)}
    conv, total = run(steps, x, constants, outputs=("conv", "sum"))
    np.testing.assert_allclose(conv, x, atol=1e-6)
    np.testing.assert_allclose(total, x + weight(3), atol=1e-6)


def test_transposes_of_the_graph_are_not_exported(tmp_path, x):
    order_back, order = np.array([0, 3, 1, 2], np.int32), np.array([0, 2, 3, 1], np.int32)
    steps = [windowed("c0", "Conv2D", "x", "w", padding="SAME", stride=2)]
    for i in range(3):
        steps += [
            node(f"t{i}", "Transpose", f"c{i}", "back"),
            node(f"r{i}", "LeakyRelu", f"t{i}", alpha=0.1),
            node(f"u{i}", "Transpose", f"r{i}", "order"),
            windowed(f"c{i + 1}", "Conv2D", f"u{i}", "w", padding="SAME"),
        ]
    path = write_graph(tmp_path, steps, {"w": weight(3, 3, 3, 3) / 5, "back": order_back, "order": order})
    network = load(path, ["c3"])
    signature = Signature((TensorSpec("x", "FP32", (-1, -1, 3)),), (TensorSpec("y", "FP32", (-1, -1, 3)),))
    graph = export(network, signature, {"x": x})
    kinds = Counter(one.op_type for one in onnx.load_from_string(graph).graph.node)
    assert kinds == {"Transpose": 2, "Conv": 4, "LeakyRelu": 3}
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    many = np.concatenate([x, x[::-1], x])
    with torch.no_grad():
        expected = network(torch.from_numpy(many))[0].numpy()
    for count in (1, 6):
        np.testing.assert_allclose(session.run(None, {"x": many[:count]})[0], expected[:count], atol=1e-5)


CONV = {"w": weight(3, 3, 3, 4)}


@pytest.mark.parametrize(
    ("steps", "constants", "words"),
    [
        ([node("y", "Softmax", "x")], {}, "The node y is a Softmax; known are Add, AddN"),
        ([windowed("y", "Conv2D", "x", "w", padding="EXPLICIT")], CONV, "The node y, a Conv2D, has padding EXPLICIT"),
        ([windowed("y", "Conv2D", "x", "w", dilations=[1, 2, 2, 1])], CONV, "dilations"),
        ([windowed("y", "Conv2D", "x", "x")], CONV, "Input 1 of y, a Conv2D, is not a constant"),
        ([windowed("y", "MaxPool", "x", padding="SAME", ksize=[1, 2, 2, 1])], {}, "padding SAME"),
        ([windowed("y", "MaxPool", "x", ksize=[1, 2, 2, 3])], {}, "over rows or channels"),
        ([windowed("y", "Conv2DBackpropInput", "w", "w", "x", stride=2, padding="SAME")], CONV, "a kernel of"),
        ([node("y", "ResizeBilinear", "x", "s", align_corners=True)], {"s": np.ones(2, np.int32)}, "half_pixel"),
        ([node("y", "Reshape", "x", "s")], {"s": np.array([2, -1], np.int32)}, "a batch of 2"),
        ([node("y", "Mul", "s", "s")], {"s": weight(3)}, "2 constants"),
        ([node("y", "Relu", "z"), node("z", "Relu", "x")], {}, "z is read before it is made"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_understood_is_named(run, x, steps, constants, words):
    with pytest.raises(GraphUnsupported, match=words):
        run(steps, x, constants)


def test_nodes_that_no_output_needs_may_be_anything(run, x):
    np.testing.assert_array_equal(run([node("other", "Softmax", "x"), node("y", "Identity", "x")], x), x)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda model: model.pop("modelTopology"), "no TensorFlow.js graph model: KeyError"),
        (lambda model: model["modelTopology"]["node"].pop(0), "has 0 inputs"),
        (lambda model: model["weightsManifest"][0]["weights"][0].update(shape=[9]), "ends inside w"),
        (lambda model: model["weightsManifest"][0]["weights"][0].update(shape=[1]), "accounts for 4"),
        (lambda model: model["weightsManifest"][0]["weights"][0].update(dtype="string"), "w is string"),
        (
            lambda model: model["weightsManifest"][0]["weights"][0].update(quantization={"dtype": "uint8"}),
            "w is float32 stored as uint8",
        ),
    ],
)
def test_damaged_files_are_told(tmp_path, spoil, words):
    path = write_graph(tmp_path, [node("y", "Mul", "x", "w")], {"w": weight(3)})
    model = json.loads(path.read_text())
    spoil(model)
    path.write_text(json.dumps(model))
    with pytest.raises(GraphUnsupported, match=words):
        load(path, ["y"])
    path.write_text("no JSON")
    with pytest.raises(GraphUnsupported, match=r"model\.json is no TensorFlow\.js graph model"):
        load(path, ["y"])
