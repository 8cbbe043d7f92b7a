"""The committed models give the same answers on both engines, each behind a gateway of its own."""

from __future__ import annotations

import json
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import tritonclient.http as client
from http_rig import gateway_process
from triton_gateways import beside_triton

from exporters.data.pictures import as_png
from serving import plugins
from serving.picture_task import EXAMPLE_PNG
from serving.repository.layout import scan
from serving.task import FOLDER
from serving.tensors import datatype
from serving.vetting.golden import difference, read_golden

ENGINES = ("onnx", "triton")
REPOSITORY = Path(__file__).parents[2] / "model_repository"
MODELS = [pytest.param(model.versions[model.first_version], id=name) for name, model in scan(REPOSITORY).models.items()]
GRAPHS = [
    pytest.param(version, graph, id=graph.key.name)
    for version in (one.values[0] for one in MODELS)
    for graph in version.graphs.values()
]
TEXTS = [b"a red apple", b"something to eat", b"the quick brown fox jumps over the lazy dog", b"umbrella"]
TEXT = "text/plain"


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


@pytest.mark.parametrize(("version", "graph"), GRAPHS)
def test_golden_rows_are_answered_alike_within_the_familys_tolerance(gateways, version, graph):
    golden = read_golden(graph.file.parent, version.name)
    assert golden is not None
    outputs = {}
    for engine, gateway in gateways.items():
        with client.InferenceServerClient(gateway.url.removeprefix("http://")) as server:
            inputs = []
            for name, values in golden.inputs.items():
                tensor = client.InferInput(name, values.shape, datatype(values.dtype))
                tensor.set_data_from_numpy(values)
                inputs.append(tensor)
            answer = server.infer(graph.key.name, inputs)
            outputs[engine] = {name: answer.as_numpy(name) for name in golden.outputs}
    tolerance = version.manifest.parity.tolerance
    assert difference(outputs["triton"], outputs["onnx"], version.name) <= tolerance
    assert difference(outputs["triton"], golden.outputs, version.name) <= 10 * tolerance


@pytest.mark.parametrize("version", MODELS)
def test_payloads_are_answered_alike_by_the_tasks_own_route(gateways, version):
    for content in payloads(version):
        one, other = (ask(gateway, version, content) for gateway in gateways.values())
        assert same(version, one, other), (one, other)


@pytest.mark.parametrize("engine", ENGINES)
def test_callers_of_all_models_at_once_get_their_own_answers(gateways, engine):
    """32 at a time, so that batches are shared; each is told what it is told alone."""
    wanted = [(version.values[0], content) for version in MODELS for content in payloads(version.values[0])]
    alone = [ask(gateways[engine], *one) for one in wanted]
    order = random.Random(0).choices(range(len(wanted)), k=160)
    with ThreadPoolExecutor(32) as callers:
        answers = list(callers.map(lambda number: ask(gateways[engine], *wanted[number]), order))
    wrong = [
        (number, answer)
        for number, answer in zip(order, answers, strict=True)
        if not same(wanted[number][0], alone[number], answer)
    ]
    assert not wrong


def payloads(version) -> list[tuple[str, bytes]]:
    """Media types and contents: the task's example, what the golden rows show, and texts where they are read."""
    shown = list(golden_of(version).get("pixels", [])[:4])
    pictures = [as_png(pixels[..., 0] if pixels.shape[2] == 1 else pixels) for pixels in shown]
    texts = TEXTS if "text" in version.graphs else []
    return [*(("image/png", one) for one in pictures + [EXAMPLE_PNG][: len(shown)]), *((TEXT, text) for text in texts)]


def golden_of(version):
    """The golden inputs of the version's first graph."""
    return read_golden(version.folder, version.name).inputs


def task_of(version):
    return plugins.find(FOLDER, version.manifest.task, "PLUGIN")(version)


def ask(gateway, version, payload: tuple[str, bytes]):
    """What the model's own route says of it."""
    media_type, content = payload
    if task_of(version).path is not None:
        return drawn(gateway, version, content.decode())
    answer = httpx.post(
        f"{gateway.url}/v1/{version.manifest.task}",
        params={"model": version.model},
        content=content,
        headers={"content-type": media_type},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    who = (answer.headers["tidegate-model"], answer.headers["tidegate-version"])
    assert who == (version.model, str(version.number))
    return answer.json()


def drawn(gateway, version, prompt: str):
    """A picture of the prompt, as the task's reply has it."""
    order = {"model": version.model, "prompt": prompt, "seed": 1}
    answer = httpx.post(f"{gateway.url}{task_of(version).path}", json=order, timeout=60)
    assert answer.status_code == 200, answer.text
    (picture,) = answer.json()["data"]
    rest = {"model": version.model, "version": version.number, "media_type": "image/png", "size": answer.json()["size"]}
    return {"content": picture["b64_json"], "seed": picture["seed"], "steps": picture["steps"], **rest}


def same(version, one, other) -> bool:
    """The same, up to what engines round differently: of masks and drawn pictures that may be a few pixels."""
    task = task_of(version)
    replies = [task.reply.model_validate_json(json.dumps(reply)) for reply in (one, other)]
    if task.agreement(*replies) < 0.99:
        return False
    return version.manifest.task in ("segment", "generate-images") or alike(
        one, other, max(1e-3, 10 * version.manifest.parity.tolerance)
    )


def test_both_tell_the_same_of_their_models(gateways):
    told = [httpx.get(f"{gateway.url}/v1/models").json() for gateway in gateways.values()]
    assert told[0] == told[1]
    metadata = [httpx.get(f"{gateway.url}/v2/models/digits-cnn").json() for gateway in gateways.values()]
    assert metadata[0] == metadata[1]
    config = [httpx.get(f"{gateway.url}/v2/models/digits-cnn/config").json() for gateway in gateways.values()]
    assert config[0] == config[1]


def alike(one, other, tolerance: float) -> bool:
    """Equal but for numbers that differ by no more than the tolerance."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key], tolerance) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(alike(*pair, tolerance) for pair in zip(one, other, strict=True))
    if isinstance(one, float):
        return abs(one - other) <= tolerance
    return one == other
