"""From `exporters train` to a repository that can be served, and the committed models against their sources."""

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
import torch
from click import ClickException
from click.testing import CliRunner
from http_rig import gateway_process
from onnx import TensorProto, helper

from exporters import parity
from exporters.cli import main, promote_published
from exporters.errors import ParityFailed
from exporters.families.efficientnet import EfficientNet
from exporters.graph_config import make_config
from serving.picture_task import PIXELS
from serving.repository.digests import verify
from serving.repository.layout import scan
from serving.task import Request
from serving.tasks.classify import PROBABILITIES, Classify, ClassifyParameters
from serving.vetting.golden import difference, read_golden

REPOSITORY = Path(__file__).parents[2] / "model_repository"
COMMITTED = tuple(scan(REPOSITORY).models)


@pytest.fixture(scope="module")
def committed(request):
    return scan(request.config.rootpath / "model_repository")


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """A repository with a quick digits-cnn, the log of its run and what the command printed."""
    folder = tmp_path_factory.mktemp("quick")
    options = ["--quick", "--repository", str(folder / "models"), "--runs", str(folder / "runs.jsonl")]
    result = CliRunner().invoke(main, ["train", "digits-cnn", *options])
    assert result.exit_code == 0, result.output
    return folder, result.output


def test_a_quick_run_publishes_a_sound_version(quick):
    folder, output = quick
    index = scan(folder / "models")
    version = index.models["digits-cnn"].versions[1]
    assert index.problems == ()
    assert "published" in output
    assert version.manifest.metrics["accuracy"].value >= version.manifest.metrics["accuracy"].floor
    assert version.manifest.metrics["accuracy"].baseline > 0.9
    assert version.manifest.intended_use.startswith("A quick run")
    assert version.manifest.reference.rows == version.manifest.data.rows["test"]
    assert {"brightness", "contrast", "sharpness"} == version.manifest.reference.inputs.keys()
    assert {"reply_class", "reply_score"} == version.manifest.reference.outputs.keys()
    assert version.manifest.parity.max_abs_difference <= version.manifest.parity.tolerance
    verify(version.folder, version.manifest.files, version.name)
    assert set(version.manifest.files) == {"model.onnx", "labels.txt", "golden.npz", "learning_curve.png", "run.json"}


def test_the_run_is_logged_on_one_line(quick):
    folder, _ = quick
    (line,) = (folder / "runs.jsonl").read_text().splitlines()
    run = json.loads(line)
    assert run["family"] == "cnn"
    assert run["parameters"]["optimizer"] == "adam"
    assert run["data"].startswith("sha256:")
    assert (run["device"], run["threads"]) == ("cuda:0" if torch.cuda.is_available() else "cpu", 2)
    assert run["torch"] == torch.__version__
    assert run["parameters"]["precision"] == "float32"
    assert run["baselines"]["accuracy"] > 0.9
    assert run["best"]["seconds"] <= run["training_seconds"] <= run["seconds"]
    assert json.loads((folder / "models" / "digits-cnn" / "1" / "run.json").read_text()) == run


def test_the_list_shows_what_was_reached(quick):
    folder, _ = quick
    result = CliRunner().invoke(main, ["list", "--json", "--repository", str(folder / "models")])
    by_family = {entry["family"]: entry for entry in json.loads(result.output)}
    assert list(by_family["cnn"]) == [
        "family",
        "task",
        "model",
        "floor",
        "reached",
        "seconds",
        "bytes",
        "metric",
        "higher_is_better",
    ]
    assert by_family["cnn"]["reached"] > 0.8
    assert by_family["cnn"]["bytes"] > 100_000
    assert by_family["efficientnet"]["reached"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["train", "nothing", "--repository", "x"], 2, "cnn, diffusion, efficientnet"),
        (["train", "cnn", "--quick"], 2, "name a --repository"),
        (["train", "cnn", "--seed", "-1"], 2, "seed"),
        (["train"], 2, "FAMILY"),
        (["train", "cnn", "--set", "lr=1", "--repository", "x"], 2, "learning_rate (number above 0)"),
        (["train", "cnn", "--set", "epochs=0", "--repository", "x"], 2, "epochs=0: input should be greater than 0"),
        (["train", "cnn", "--search", "0"], 2, "search"),
        (["train", "cnn", "--search", "2", "--resume"], 2, "give the recipe it found with --set"),
        (["train", "cnn", "--quick", "--resume", "--repository", "x"], 2, "Name a --checkpoint"),
        (["train", "efficientnet", "--set", "epochs=3", "--repository", "x"], 2, "nothing is trained"),
    ],
)
def test_wrong_usage_is_told_apart(arguments, code, words):
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == code
    assert words in result.output


def program(folder, *arguments):
    """`exporters train digits-cnn --quick`, as another process with its log piped, into folder/models."""
    places = ["--repository", folder / "models", "--runs", folder / "runs.jsonl", "--checkpoint", folder / "checkpoint"]
    command = [sys.executable, "-m", "exporters.cli", "train", "digits-cnn", "--quick", *places, *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_stopped_with_ctrl_c_it_goes_on_to_the_same_model(quick, tmp_path):
    with program(tmp_path) as stopped:
        assert stopped.stderr.readline().startswith("digits-cnn: epoch 1/5  loss ")
        stopped.send_signal(signal.SIGINT)
        *_, last = stopped.stderr
    assert stopped.returncode == 130
    said = re.fullmatch(r"Error: Stopped after (\d) whole epochs. Run the same command with --resume to go on.\n", last)
    assert said, last  # one epoch, or two where this process was slow
    with program(tmp_path, "--resume") as resumed:
        first, *_ = resumed.stderr
    assert resumed.returncode == 0
    assert first == f"digits-cnn: goes on after epoch {said[1]}\n"
    graphs = [(folder / "models/digits-cnn/1/model.onnx").read_bytes() for folder in (quick[0], tmp_path)]
    assert graphs[0] == graphs[1]
    assert not (tmp_path / "checkpoint").exists()  # its weights are published


def test_a_search_logs_its_trials_and_publishes_the_best(tmp_path):
    options = ["--quick", "--search", "2", "--repository", str(tmp_path / "models"), "--runs", str(tmp_path / "runs")]
    result = CliRunner().invoke(main, ["train", "digits-cnn", *options, "--set", "learning_rate=0.003"])
    assert result.exit_code == 0, result.output
    *trials, run = [json.loads(line) for line in (tmp_path / "runs").read_text().splitlines()]
    assert [(trial["trial"], trial["parameters"]["epochs"]) for trial in trials] == [(0, 2), (1, 2)]
    assert {trial["parameters"]["learning_rate"] for trial in trials} == {0.003}
    assert "metrics" not in trials[0]
    assert "trial" not in run
    best = max(trials, key=lambda trial: trial["validation_score"])
    assert run["parameters"] == {**best["parameters"], "epochs": 5}
    assert "now trained in full: --set learning_rate=0.003 --set weight_decay=" in result.output


def test_a_training_that_diverges_is_logged_too(tmp_path):
    options = ["--quick", "--repository", str(tmp_path / "models"), "--runs", str(tmp_path / "runs")]
    result = CliRunner().invoke(main, ["train", "digits-cnn", *options, "--set", "learning_rate=1e30"])
    assert result.exit_code == 1
    assert "is not a number. Train with a lower rate" in result.output
    (run,) = [json.loads(line) for line in (tmp_path / "runs").read_text().splitlines()]
    assert run["failed"] == "training_diverged"
    assert run["parameters"]["learning_rate"] == 1e30


def test_a_missing_package_is_one_line_that_says_what_to_run():
    program = "import sys; sys.modules['torch'] = None; from exporters.cli import main; main(['train', 'cnn'])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr == "Error: The package torch is not installed. Run: pip install 'tidegate[export]'\n"


@pytest.mark.parametrize("model", COMMITTED)
def test_committed_versions_are_as_their_manifests_say(committed, model):
    assert not [problem for problem in committed.problems if problem.file.startswith(model)]
    version = committed.models[model].versions[1]
    verify(version.folder, version.manifest.files, version.name)
    assert version.manifest.seed
    for graph in version.graphs.values():
        assert graph.file.stat().st_size <= 10_000_000
        assert graph.file.with_name("golden.npz").stat().st_size <= 300_000
        assert not any(word in graph.file.read_bytes() for word in (b"torch", b".py", b"/root"))


@pytest.mark.parametrize("model", COMMITTED)
def test_committed_versions_give_their_golden_rows(committed, model):
    version = committed.models[model].versions[1]
    for graph in version.graphs.values():
        golden = read_golden(graph.file.parent, version.name)
        content = graph.file.read_bytes()
        with parity.serve(content, make_config(content, graph.key.name, max_batch_size=16, instances=1)) as served:
            found = served(golden.inputs)
        assert difference(found, golden.outputs, version.name) <= version.manifest.parity.tolerance


def test_the_committed_efficientnet_answers_as_the_original_weights_do(committed):
    version = committed.models["efficientnet-lite0"].versions[1]
    family = EfficientNet()
    photos = family.data(quick=False).test
    with torch.no_grad():
        expected = family.served(family.network())(torch.from_numpy(photos.inputs[PIXELS])).numpy()
    with _serve(version) as served:
        found = served(photos.inputs)[PROBABILITIES]
    assert np.abs(found - expected).max() <= 2e-4
    assert photos.targets[np.arange(len(found)), found.argmax(axis=1)].all()
    assert found[0, 967] >= 0.9  # the cup of espresso


def test_training_rows_are_what_the_task_makes_of_the_same_file(committed):
    from exporters.data.photos import PHOTOS
    from exporters.provenance import package_file

    task = Classify(committed.models["efficientnet-lite0"].versions[1])
    rows = EfficientNet().data(quick=False).test.inputs[PIXELS]
    for row, photo in zip(rows, PHOTOS, strict=True):
        request = Request(package_file(*photo.path).read_bytes(), ClassifyParameters())
        np.testing.assert_array_equal(task.encode(request)[PIXELS][0], row)


def test_parity_finds_a_broken_graph(committed):
    version = committed.models["digits-cnn"].versions[1]
    model = onnx.load(version.graphs["model"].file)
    bias = next(tensor for tensor in model.graph.initializer if list(tensor.dims) == [10])
    values = onnx.numpy_helper.to_array(bias) + np.eye(1, 10, 3, dtype=np.float32)[0] * 0.01
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    with np.load(version.folder / "golden.npz") as golden:
        inputs, outputs = {PIXELS: golden["input.pixels"]}, {PROBABILITIES: golden["output.probabilities"]}
    broken = model.SerializeToString()
    with (
        parity.serve(broken, make_config(broken, "digits-cnn", max_batch_size=16, instances=1)) as served,
        pytest.raises(ParityFailed, match=r"probabilities of row \d+ alone on the engine differs from torch by"),
    ):
        parity.compare(lambda _: outputs, served, inputs, tolerance=1e-5)


@pytest.mark.parametrize(("factor", "where"), [(1.0, "in a batch of 2"), (float("nan"), "alone on the engine")])
def test_parity_finds_rows_that_see_each_other_and_nan(factor, where):
    graph = _row_mixer(factor)
    inputs = {"x": np.arange(8, dtype=np.float32).reshape(4, 2)}
    with (
        parity.serve(graph, make_config(graph, "mixer", max_batch_size=4, instances=1)) as served,
        pytest.raises(ParityFailed, match=where),
    ):
        parity.compare(lambda rows: {"y": rows["x"] * 0}, served, inputs, tolerance=1e-3)


def test_the_config_says_how_the_graph_is_run(committed):
    version = committed.models["efficientnet-lite0"].versions[1]
    config = version.graphs["model"].config
    assert config.inputs[0].shape == (224, 224, 3)
    assert config.outputs[0].shape == (1000,)
    assert config.rules.max_batch_size == 16
    assert (config.instances, config.model_file) == (2, "model.onnx")


def _serve(version):
    graph = version.graphs["model"].file.read_bytes()
    return parity.serve(graph, make_config(graph, version.model, max_batch_size=16, instances=1))


def _row_mixer(factor: float) -> bytes:
    """y = (x - mean of x over the batch) * factor: right for a row alone, wrong in company."""
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
        helper.make_node("Mul", ["centred", "factor"], ["y"]),
    ]
    tensors = [
        onnx.numpy_helper.from_array(np.array([0]), "axes"),
        onnx.numpy_helper.from_array(np.array(factor, np.float32), "factor"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "mixer", values[:1], values[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()


def test_a_further_version_goes_live_by_itself_when_told_so(quick, tmp_path):
    repository = tmp_path / "repository"
    shutil.copytree(quick[0] / "models", repository)
    train = ["train", "digits-cnn", "--quick", "--repository", str(repository), "--runs", str(tmp_path / "runs")]
    with gateway_process(repository, tmp_path / "state") as gateway:
        done = CliRunner().invoke(main, [*train, "--promote", "--url", gateway.admin_url])
        assert done.exit_code == 0, done.output
        assert "digits-cnn/2 is live" in done.output
        state = httpx.get(f"{gateway.url}/v1/models/digits-cnn").json()
        assert (state["stable"], state["previous"], state["versions"]) == (2, 1, [1, 2])


def test_what_cannot_be_promoted_is_published_all_the_same(capsys):
    with pytest.raises(ClickException, match="Published, and not promoted: No gateway answers"):
        promote_published(Path("digits-cnn/2"), "http://127.0.0.1:9")
    promote_published(Path("digits-cnn/1"), "http://127.0.0.1:9")
    assert "gateways begin with it" in capsys.readouterr().out
