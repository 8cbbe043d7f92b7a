"""Versions with TensorRT's plans, from the export to Triton. There is no GPU here: a plan is the ONNX file under
another name, built and run by ONNX Runtime, and Triton gets a backend `tensorrt` that runs such.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from pair_rig import LENGTH, SIDE, Pair
from triton_gateways import Triton
from triton_rig import DEPLOY, ROOT, need_triton

from exporters import parity, pipeline
from exporters.accelerating import set_tensorrt
from exporters.cli import main
from exporters.errors import PackageMissing, ParityFailed
from exporters.graph_config import make_config
from exporters.options import Options
from serving.claim import ClaimOptions
from serving.claims.file import FileClaims
from serving.engine import EngineOptions
from serving.engines.triton import TritonEngine
from serving.errors import RepositoryInvalid, SettingsInvalid
from serving.opening import open_host
from serving.repository.digests import verify_version
from serving.repository.layout import Version, scan
from serving.settings import read_settings
from serving.tensorrt import Host, misfit, read_host
from serving.threads import Threads
from serving.versions.examiner import Examiner

HOST = Host("NVIDIA H200", "9.0", "10.13.3")
OTHERS = {
    "GPU": HOST._replace(gpu="NVIDIA L4"),
    "compute capability": HOST._replace(compute_capability="8.9"),
    "TensorRT": HOST._replace(tensorrt="10.14.1"),
}


class OnnxAsPlan:
    """Builds what runs anywhere. `off`: what is added to every answer."""

    host = HOST

    def __init__(self, off: float = 0.0) -> None:
        self.off = off
        self.shapes = {}

    def build(self, content, shapes):
        self.shapes |= shapes
        return content

    @contextmanager
    def serve(self, plan, max_batch_size):
        config = make_config(plan, "plan", max_batch_size=max_batch_size, instances=1)
        with parity.serve(plan, config) as served:
            yield Off(served, self.off)


class Off:
    def __init__(self, served: parity.Served, by: float) -> None:
        self.max_batch_size = served.max_batch_size
        self._served, self._by = served, by

    def __call__(self, inputs):
        return self.in_batches(inputs, self.max_batch_size)

    def in_batches(self, inputs, size):
        found = self._served.in_batches(inputs, size)
        return {name: (array + self._by).astype(array.dtype) for name, array in found.items()}


def options(folder: Path) -> Options:
    return Options(folder / "models", folder / "runs.jsonl", plan="fp16")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A repository with a version of two graphs and their plans, and what built those."""
    folder = tmp_path_factory.mktemp("plans")
    builder = OnnxAsPlan()
    pipeline.export_family(Pair(), options(folder), builder)
    return folder / "models", builder


@pytest.fixture
def repository(exported, tmp_path) -> Path:
    return Path(shutil.copytree(exported[0], tmp_path / "models"))


def version_of(repository: Path) -> Version:
    index = scan(repository)
    assert index.problems == ()
    return index.models["pair"].versions[1]


@pytest.mark.parametrize(("role", "name"), [("image", "pair.plan"), ("text", "pair.text-plan")])
def test_a_plan_lies_beside_each_graph_with_its_record(exported, role, name):
    version = version_of(exported[0])
    graph, record = version.graphs[role], version.manifest.plans[role]
    assert graph.planned.record == record
    assert (record.graph, str(graph.planned.graph.key)) == (name, f"{name}/1")
    assert Host(record.gpu, record.compute_capability, record.tensorrt) == HOST
    assert record.precision == "fp16"
    assert record.parity.max_abs_difference <= record.parity.tolerance
    assert record.parity.engine == "TensorRT 10.13.3, fp16"
    config, like = graph.planned.graph.config, graph.config
    assert (config.platform, config.model_file) == ("tensorrt_plan", "model.plan")
    assert (config.inputs, config.outputs, config.rules) == (like.inputs, like.outputs, like.rules)
    verify_version(version)


def test_plans_are_built_for_the_batches_and_lengths_of_their_graphs(exported):
    shapes = exported[1].shapes
    assert (shapes["pixels"].least, shapes["pixels"].largest) == ((1, SIDE, SIDE, 3), (8, SIDE, SIDE, 3))
    assert (shapes["input_ids"].least, shapes["input_ids"].largest) == ((1, 1), (8, LENGTH))


def test_the_graphs_are_as_they_are_without_plans(exported, tmp_path):
    version = version_of(exported[0])
    plain = Options(tmp_path / "models", tmp_path / "runs.jsonl")
    pipeline.export_family(Pair(), plain)
    other = version_of(tmp_path / "models")
    assert other.manifest.plans == {}
    assert '"plans"' not in (other.folder / "manifest.json").read_text()
    assert version.manifest.files["model.onnx"] == other.manifest.files["model.onnx"]
    assert set(version.manifest.graph_files) == {"pair.plan", "pair.text", "pair.text-plan"}


def test_a_plan_that_answers_otherwise_than_the_network_is_not_published(tmp_path):
    with pytest.raises(ParityFailed, match="differs from torch"):
        pipeline.export_family(Pair(), options(tmp_path), OnnxAsPlan(off=0.01))
    assert not (tmp_path / "models").exists()


def test_without_tensorrt_it_is_said_before_anything_is_trained(tmp_path):
    with pytest.raises(PackageMissing, match="tensorrt is not installed"):
        pipeline.export("digits-cnn", options(tmp_path))
    command = ["train", "digits-cnn", "--quick", "--plan", "fp16", "--repository", str(tmp_path)]
    result = CliRunner().invoke(main, [*command, "--runs", str(tmp_path / "runs.jsonl")])
    assert (result.exit_code, "tensorrt is not installed" in result.output) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_plans_are_left_alone_by_the_command_that_has_graphs_run_through_tensorrt(repository):
    changed = set_tensorrt(repository, "pair", on=True)
    assert [path.parent.name for path in changed] == ["pair", "pair.text"]
    assert scan(repository).problems == ()


# The record and the host


def test_a_plan_runs_where_it_was_built_and_nowhere_else(exported):
    record = version_of(exported[0]).manifest.plans["image"]
    assert misfit(record, HOST) is None
    assert "nothing is known" in misfit(record, None)
    for what, host in OTHERS.items():
        assert f"it was built for {what}" in misfit(record, host)


def test_the_host_is_a_setting():
    assert open_host(read_settings(triton_host="NVIDIA H200, 9.0, 10.13.3")) == HOST
    assert open_host(read_settings()) is None
    assert open_host(read_settings(triton_host="")) is None
    assert read_host(" NVIDIA H200,9.0 , 10.13.3 ") == HOST
    for text in ("NVIDIA H200", "NVIDIA H200, 9.0", "a,b,", "a,b,c,d"):
        with pytest.raises(SettingsInvalid, match=r"--triton-host \(TIDEGATE_TRITON_HOST\)"):
            read_settings(triton_host=text)


@pytest.mark.parametrize(
    ("host", "passed", "said"),
    [
        (HOST, True, "which Triton runs"),
        (OTHERS["TensorRT"], None, "built for TensorRT 10.13.3"),
        (None, None, "nothing is known"),
    ],
    ids=["same", "other", "unknown"],
)
def test_the_gate_compares_the_record_and_never_refuses_for_it(exported, host, passed, said):
    verdict = asyncio.run(Examiner(host=host).examine(version_of(exported[0]), None))
    [check] = [one for one in verdict.checks if one.name == "plan"]
    assert verdict.passed
    assert check.passed is passed
    assert said in check.detail


def test_a_plan_that_was_changed_does_not_pass_the_gate(repository):
    path = repository / "pair.text-plan/1/model.plan"
    path.write_bytes(path.read_bytes() + b"x")
    verdict = asyncio.run(Examiner(host=HOST).examine(version_of(repository), None))
    assert [one.name for one in verdict.checks if one.passed is False] == ["digests"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"graph": "pair"}, "found 'pair' again"),
        ({"graph": "pair.text"}, "found 'pair.text' again"),
        ({"graph": "pair.text-plan"}, "found 'pair.text-plan' again"),
        ({"graph": "other.plan"}, "expected pair or pair.<graph>"),
        ({"graph": "pair.gone"}, "expected this file"),
        ({"tensorrt": "ten"}, "plans.image.tensorrt"),
        ({"compute_capability": "9"}, "plans.image.compute_capability"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_record_that_names_something_else_is_a_problem_of_the_version(repository, change, said):
    path = repository / "pair/1/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["plans"]["image"] |= change
    path.write_text(json.dumps(manifest))
    [problem] = [one for one in scan(repository).problems if "manifest" in str(one) or "config" in str(one)]
    assert said in str(problem)


def test_a_plan_for_a_graph_that_there_is_not_and_one_that_is_no_plan_are_problems(repository):
    path = repository / "pair/1/manifest.json"
    before = path.read_text()
    path.write_text(before.replace('"plans": {\n    "image"', '"plans": {\n    "decoder"'))
    assert "plans.decoder" in str(scan(repository).problems[0])
    path.write_text(before)
    config = repository / "pair.plan/config.pbtxt"
    config.write_text(config.read_text().replace("tensorrt_plan", "onnxruntime_onnx"))
    assert "expected tensorrt_plan" in str(scan(repository).problems[0])


def test_a_plan_alone_is_no_model(repository):
    shutil.move(repository / "pair.plan", repository / "alone")
    config = repository / "alone/config.pbtxt"
    config.write_text(config.read_text().replace("pair.plan", "alone"))
    shutil.rmtree(repository / "pair")
    index = scan(repository)
    assert index.models == {}
    assert isinstance(index.problems[0], RepositoryInvalid)
    assert "platform" in str(index.problems[0])


# On a real Triton


@pytest.fixture(scope="module")
def backends(tmp_path_factory) -> Path:
    """Triton's backends here, and one for plans, which reads another file."""
    need_triton()
    folder = tmp_path_factory.mktemp("backends")
    for name in ("python", "onnxruntime"):
        (folder / name).symlink_to((ROOT / ".triton/env/backends" / name).resolve())
    source = (DEPLOY / "backends/onnxruntime/model.py").read_text()
    (folder / "tensorrt").mkdir()
    (folder / "tensorrt/model.py").write_text(source.replace('"model.onnx"', '"model.plan"'))
    return folder


@contextmanager
def triton_with(repository: Path, folder: Path, *flags: str) -> Iterator[Triton]:
    with Triton(repository, folder, "--disable-auto-complete-config", *flags) as server:
        yield server


PIXELS = np.arange(2 * SIDE * SIDE * 3, dtype=np.uint8).reshape(2, SIDE, SIDE, 3)


def answer_of(server: Triton, state: Path, host: Host | None) -> tuple[np.ndarray, dict[str, set[int]]]:
    """What the engine answers, and the versions that Triton then has of the graph and of its plan."""
    graph = version_of(server.repository).graphs["image"]

    async def ask():
        threads = Threads(1, 0)
        claims = FileClaims(ClaimOptions("a", state))
        engine = TritonEngine(EngineOptions(threads, server.grpc_url, claims, host))
        try:
            await engine.load(graph, [{"pixels": PIXELS}])
            run = await engine.run(graph.key, {"pixels": PIXELS})
            assert (await engine.statistics(graph.key)).answered >= 1
            loaded = {name: server.ready(name) for name in ("pair", "pair.plan")}
            await engine.unload(graph.key)
            return run.outputs["embedding"], loaded
        finally:
            await engine.close()
            threads.close()

    return asyncio.run(ask())


def expected(repository: Path) -> np.ndarray:
    graph = version_of(repository).graphs["image"]
    with parity.serve(graph.file.read_bytes(), graph.config.message) as served:
        return served({"pixels": PIXELS})["embedding"]


def test_triton_runs_the_plan_on_the_host_it_was_built_for_and_the_graph_elsewhere(repository, backends, tmp_path):
    with triton_with(repository, tmp_path / "triton", f"--backend-directory={backends}") as server:
        found, loaded = answer_of(server, tmp_path / "state", HOST)
        assert loaded == {"pair": set(), "pair.plan": {1}}
        assert np.abs(found - expected(repository)).max() < 1e-5
        found, loaded = answer_of(server, tmp_path / "elsewhere", OTHERS["GPU"])
        assert loaded["pair"] == {1}
        assert np.abs(found - expected(repository)).max() < 1e-5


def test_where_a_plan_cannot_be_loaded_the_graph_runs(repository, tmp_path, caplog):
    """This Triton has no backend for plans: the refusal is a real one."""
    need_triton()
    with triton_with(repository, tmp_path / "triton") as server:
        found, loaded = answer_of(server, tmp_path / "state", HOST)
    assert loaded == {"pair": {1}, "pair.plan": set()}
    assert np.abs(found - expected(repository)).max() < 1e-5
    assert "runs as ONNX: its plan cannot be used" in caplog.text
