"""The committed models give the same answers on both engines, each behind a gateway of its own."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import tritonclient.http as client
from http_rig import gateway_process
from triton_gateways import beside_triton

from serving import plugins
from serving.repository.layout import scan
from serving.task import FOLDER
from serving.tensors import datatype
from serving.vetting.golden import difference, read_golden

ENGINES = ("onnx", "triton")
REPOSITORY = Path(__file__).parents[2] / "model_repository"
MODELS = [pytest.param(model.versions[model.first_version], id=name) for name, model in scan(REPOSITORY).models.items()]
SCORE_TOLERANCE = 1e-3  # of numbers in replies; tensors have the family's own


@pytest.fixture(scope="module")
def gateways(tmp_path_factory):
    folder = tmp_path_factory.mktemp("both")
    with ExitStack() as stack:
        found = {}
        for engine in ENGINES:
            repository = folder / engine / "models"
            shutil.copytree(REPOSITORY, repository)
            environment = stack.enter_context(beside_triton(repository, engine))
            state = folder / engine / "state"
            found[engine] = stack.enter_context(gateway_process(repository, state, **environment))
        yield found


@pytest.mark.parametrize("version", MODELS)
def test_golden_rows_are_answered_alike_within_the_familys_tolerance(gateways, version):
    golden = read_golden(version.folder, version.name)
    assert golden is not None
    outputs = {}
    for engine, gateway in gateways.items():
        with client.InferenceServerClient(gateway.url.removeprefix("http://")) as server:
            inputs = []
            for name, values in golden.inputs.items():
                tensor = client.InferInput(name, values.shape, datatype(values.dtype))
                tensor.set_data_from_numpy(values)
                inputs.append(tensor)
            answer = server.infer(version.model, inputs)
            outputs[engine] = {name: answer.as_numpy(name) for name in golden.outputs}
    tolerance = version.manifest.parity.tolerance
    assert difference(outputs["triton"], outputs["onnx"], version.name) <= tolerance
    assert difference(outputs["triton"], golden.outputs, version.name) <= 10 * tolerance


@pytest.mark.parametrize("version", MODELS)
def test_a_tasks_own_example_is_answered_alike(gateways, version):
    example = plugins.find(FOLDER, version.manifest.task, "PLUGIN").example()
    replies = []
    for gateway in gateways.values():
        answer = httpx.post(
            f"{gateway.url}/v1/{version.manifest.task}",
            params={**example.parameters, "model": version.model},
            content=example.payload,
            headers={"content-type": example.content_type},
        )
        assert answer.status_code == 200, answer.text
        assert (answer.headers["tidegate-model"], answer.headers["tidegate-version"]) == (
            version.model,
            str(version.number),
        )
        replies.append(answer.json())
    assert alike(*replies), replies


def test_both_tell_the_same_of_their_models(gateways):
    told = [httpx.get(f"{gateway.url}/v1/models").json() for gateway in gateways.values()]
    assert told[0] == told[1]
    metadata = [httpx.get(f"{gateway.url}/v2/models/digits-cnn").json() for gateway in gateways.values()]
    assert metadata[0] == metadata[1]
    config = [httpx.get(f"{gateway.url}/v2/models/digits-cnn/config").json() for gateway in gateways.values()]
    assert config[0] == config[1]


def alike(one, other) -> bool:
    """Equal but for numbers that differ by no more than rounding does."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float):
        return abs(one - other) <= SCORE_TOLERANCE
    return one == other
