"""A real Triton reads what config.pbtxt says of TensorRT, strictly. Without a GPU nothing is run through TensorRT."""

from __future__ import annotations

import shutil
from pathlib import Path

import grpc
import numpy as np
import pytest
from triton_rig import TritonServer, need_triton

from exporters.accelerating import set_tensorrt
from serving.repository.layout import scan

COMMITTED = Path(__file__).parents[2] / "model_repository"
STRICT = "--disable-auto-complete-config"  # what the file does not say is not filled in
MODELS = {
    "digits-cnn": {"pixels": np.zeros((2, 32, 32, 1), np.uint8)},
    "clip.text": {"input_ids": np.ones((2, 5), np.int64), "attention_mask": np.ones((2, 5), np.int64)},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    need_triton()
    folder = tmp_path_factory.mktemp("tensorrt")
    repository = folder / "models"
    for name in ("digits-cnn", "clip", "clip.text"):
        shutil.copytree(COMMITTED / name, repository / name)
    set_tensorrt(repository, "digits-cnn", on=True)
    set_tensorrt(repository, "clip", on=True)
    with TritonServer(repository, folder / "triton", STRICT) as server:
        yield server


@pytest.mark.parametrize("name", MODELS)
def test_triton_takes_it_keeps_it_and_answers_as_without_it(server, name):
    server.client.load(name)
    [told] = server.client.config(name).optimization.execution_accelerators.gpu_execution_accelerator
    assert told.name == "tensorrt"
    assert told.parameters["precision_mode"] == "FP16"
    assert told.parameters["trt_engine_cache_path"] == f"/var/cache/tensorrt/{name}"
    assert told.parameters["trt_profile_max_shapes"].startswith(f"{next(iter(MODELS[name]))}:16x")
    answered = server.client.infer(name, MODELS[name])
    server.client.unload(name)
    plain = server.repository / name / "config.pbtxt"
    text = plain.read_text()
    shutil.copy(COMMITTED / name / "config.pbtxt", plain)
    server.client.load(name)
    assert not server.client.config(name).optimization.execution_accelerators.gpu_execution_accelerator
    for output, values in server.client.infer(name, MODELS[name]).items():
        assert np.array_equal(values, answered[output])
    plain.write_text(text)


def test_a_slip_in_the_file_would_be_seen(server):
    path = server.repository / "digits-cnn/config.pbtxt"
    text = path.read_text()
    path.write_text(text.replace("execution_accelerators {", "execution_acelerators {"))
    try:
        with pytest.raises(grpc.RpcError) as caught:
            server.client.load("digits-cnn")
        assert "digits-cnn" in caught.value.details()
    finally:
        path.write_text(text)


def test_every_committed_model_can_be_told_so(tmp_path):
    """Shapes for all inputs, and no two versions of one name."""
    repository = shutil.copytree(COMMITTED, tmp_path / "models")
    models = scan(repository).models
    for name, model in models.items():
        changed = set_tensorrt(repository, name, on=True)
        graphs = {graph.key.name for version in model.versions.values() for graph in version.graphs.values()}
        assert {path.parent.name for path in changed} == graphs
    assert scan(repository).problems == ()
