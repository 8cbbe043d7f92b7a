"""Weights stored as int16 come back to within a step, and only those that can."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters.compact import compact
from exporters.quantise import quantise

SHAPES = [((64, 32, 3, 3), 0), ((32, 64, 2, 2), 1), ((128, 48), -1), ((48, 128), 0), ((16, 1, 5, 5), 0)]


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_a_weight_moves_by_less_than_a_step_and_its_channels_keep_their_sums(shape, axis):
    weight = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    steps, scale = quantise(weight, axis)
    error = weight - steps * scale
    others = tuple(i for i in range(weight.ndim) if i != axis % weight.ndim)
    assert steps.dtype == np.int16
    assert steps.shape == weight.shape
    assert np.all(np.abs(error) <= scale * 1.001)
    assert np.all(np.abs(error.sum(axis=others, keepdims=True)) <= scale * 0.51)


def test_a_channel_of_zeros_stays_zero():
    weight = np.zeros((4, 300), np.float32)
    weight[1] = 1.0
    steps, scale = quantise(weight, 0)
    assert np.isfinite(scale).all()
    np.testing.assert_allclose(steps * scale, weight, atol=1e-4)


def _gemm_model(consumers: list[onnx.NodeProto], weights: dict[str, np.ndarray]) -> bytes:
    graph = helper.make_graph(
        consumers,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 64])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return model.SerializeToString()


def _run(model: bytes, x: np.ndarray) -> np.ndarray:
    return ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


@pytest.mark.parametrize("transposed", [0, 1])
def test_the_graph_answers_alike_at_half_the_size(transposed):
    generator = np.random.default_rng(2)
    weight = generator.standard_normal((64, 64)).astype(np.float32)
    before = _gemm_model([helper.make_node("Gemm", ["x", "w"], ["y"], transB=transposed)], {"w": weight})
    after = compact(before)
    x = generator.standard_normal((5, 64)).astype(np.float32)
    assert len(after) < 0.7 * len(before)
    np.testing.assert_allclose(_run(after, x), _run(before, x), atol=5e-3)
    types = {tensor.name: tensor.data_type for tensor in onnx.load_from_string(after).graph.initializer}
    assert types == {"w.steps": TensorProto.INT16, "w.scale": TensorProto.FLOAT}


def test_small_and_shared_weights_stay_as_they_are():
    generator = np.random.default_rng(3)
    weights = {
        "shared": generator.standard_normal((64, 64)).astype(np.float32),
        "small": generator.standard_normal((1, 64)).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "shared"], ["a"]),
        helper.make_node("Transpose", ["shared"], ["turned"]),
        helper.make_node("MatMul", ["a", "turned"], ["b"]),
        helper.make_node("Add", ["b", "small"], ["y"]),
    ]
    kept = onnx.load_from_string(compact(_gemm_model(nodes, weights))).graph.initializer
    assert {tensor.name for tensor in kept} == {"shared", "small"}


def test_the_engine_restores_the_weights_once_and_not_in_each_run(tmp_path):
    weight = np.random.default_rng(4).standard_normal((64, 64)).astype(np.float32)
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    model = compact(_gemm_model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weight}))
    ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    left = onnx.load(tmp_path / "optimised.onnx").graph.node
    assert not {"Cast", "Mul"} & {node.op_type for node in left}
