"""What is exported answers as torch does, whatever the batch, and does not tell where it was made."""

import re

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from exporters.families.cnn import DigitsCnn
from exporters.layers import ProbabilitiesOut
from exporters.to_onnx import export
from serving.picture_task import PIXELS
from serving.tasks.classify import PROBABILITIES, Classify

SIGNATURE = Classify.signatures["model"]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return ProbabilitiesOut(DigitsCnn().network()).eval()


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(1).integers(0, 256, (5, 32, 32, 1), np.uint8)


@pytest.fixture(scope="module")
def graph(network, pixels):
    return export(network, SIGNATURE, {PIXELS: pixels[:2]})


def test_the_signature_names_its_tensors_and_the_batch_is_free(graph):
    described = onnx.load_from_string(graph).graph
    assert [value.name for value in described.input] == [PIXELS]
    assert [value.name for value in described.output] == [PROBABILITIES]
    sizes = [dim.dim_param or dim.dim_value for dim in described.input[0].type.tensor_type.shape.dim]
    assert sizes == ["batch", 32, 32, 1]


def test_it_answers_as_torch_does_for_any_number_of_rows(network, graph, pixels):
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = network(torch.from_numpy(pixels)).numpy()
    for count in (1, 5):
        np.testing.assert_allclose(session.run(None, {PIXELS: pixels[:count]})[0], expected[:count], atol=1e-6)
    np.testing.assert_allclose(expected.sum(axis=1), 1, atol=1e-6)


def test_nothing_tells_where_or_with_what_it_was_made(graph):
    assert not re.search(rb"/root|/home|/tmp|/work|\.py|site-packages|torch|File \"", graph)
    model = onnx.load_from_string(graph)
    assert (model.producer_name, model.producer_version) == ("tidegate", "")


def test_norms_and_pads_are_folded_into_the_convolutions(graph):
    kinds = [node.op_type for node in onnx.load_from_string(graph).graph.node]
    assert kinds.count("Conv") == 3
    assert not {"BatchNormalization", "Pad"} & set(kinds)
    assert kinds.count("Transpose") == 1


def test_two_exports_are_the_same_bytes(network, graph, pixels):
    assert export(network, SIGNATURE, {PIXELS: pixels[:2]}) == graph
