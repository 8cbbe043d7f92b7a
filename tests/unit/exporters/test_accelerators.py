"""What config.pbtxt says of TensorRT: shapes, precision, and a cache in which no version is taken for another one."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from google.protobuf import text_format
from onnx import TensorProto, helper

from exporters import publish
from exporters.accelerating import set_tensorrt
from exporters.accelerators import accelerated, is_accelerated, plain, profiles
from exporters.cli import main
from exporters.errors import ConfigDiffers, GraphUnsupported
from exporters.graph_config import make_config
from exporters.graph_name import name_of, named
from serving.errors import NotFound
from serving.repository.config import ModelConfig, config_as_text, parse_config
from serving.repository.layout import scan
from serving.repository.manifest import Code, Licence, Manifest


def graph(weight: float = 1.0, kind: int = TensorProto.FLOAT, name: str = "main_graph") -> bytes:
    described = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["a"]), helper.make_node("Identity", ["n"], ["y"])],
        name,
        [
            helper.make_tensor_value_info("x", kind, ["rows", 4, 3]),
            helper.make_tensor_value_info("n", TensorProto.INT64, ["rows", "length"]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.INT64, ["rows", "length"])],
        [helper.make_tensor("w", TensorProto.FLOAT, [1], [weight])],
    )
    return helper.make_model(described, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()


ROWS = {"x": np.zeros((2, 4, 3), np.float32), "n": np.zeros((2, 11), np.int64)}


def config(max_batch_size: int = 8, **given) -> ModelConfig:
    return make_config(graph(**given), "echo", max_batch_size=max_batch_size, instances=2)


def test_profiles_go_from_one_row_to_a_full_batch_and_as_long_as_the_rows():
    shapes = profiles(config(), ROWS)
    assert (shapes["x"].least, shapes["x"].usual, shapes["x"].largest) == ((1, 4, 3), (8, 4, 3), (8, 4, 3))
    assert (shapes["n"].least, shapes["n"].usual, shapes["n"].largest) == ((1, 1), (8, 11), (8, 11))


def test_without_rows_and_without_a_batch_axis_there_are_profiles_too():
    assert profiles(config(), {})["n"].largest == (8, 128)
    unbatched = config()
    unbatched.max_batch_size = 0
    assert profiles(unbatched, {})["x"].largest == (4, 3)


def test_texts_are_refused():
    with pytest.raises(GraphUnsupported, match="texts as x"):
        accelerated(config(kind=TensorProto.STRING), ROWS)


def test_the_config_asks_for_tensorrt_in_half_precision_with_a_cache_and_shapes():
    message = accelerated(config(), ROWS)
    [one] = message.optimization.execution_accelerators.gpu_execution_accelerator
    assert one.name == "tensorrt"
    assert dict(one.parameters) == {
        "precision_mode": "FP16",
        "max_workspace_size_bytes": "1073741824",
        "trt_engine_cache_enable": "true",
        "trt_engine_cache_path": "/var/cache/tensorrt/echo",
        "trt_timing_cache_enable": "true",
        "trt_timing_cache_path": "/var/cache/tensorrt",
        "trt_profile_min_shapes": "x:1x4x3,n:1x1",
        "trt_profile_opt_shapes": "x:8x4x3,n:8x11",
        "trt_profile_max_shapes": "x:8x4x3,n:8x11",
    }


def test_the_text_is_read_back_as_it_was_and_means_the_same_to_the_embedded_engine():
    message = accelerated(config(), ROWS)
    assert text_format.Parse(config_as_text(message), ModelConfig()) == message
    assert parse_config(message, "echo") == parse_config(config(), "echo")


def test_asking_twice_says_it_once_and_plain_takes_it_back():
    once = accelerated(config(), ROWS)
    assert accelerated(once, ROWS) == once
    assert plain(once) == config()
    assert (is_accelerated(once), is_accelerated(config())) == (True, False)


def test_other_accelerators_stay():
    message = config()
    message.optimization.execution_accelerators.gpu_execution_accelerator.add(name="cuda")
    assert plain(accelerated(message, ROWS)) == message


# Names


def test_graphs_that_differ_in_a_weight_alone_have_names_of_their_own():
    names = {name_of(named(graph(weight), "echo")) for weight in (1.0, 1.5)}
    assert len(names) == 2
    assert all(name.startswith("echo_") for name in names)


def test_a_graph_of_the_same_content_has_the_same_name_whatever_it_was_called():
    assert named(graph(name="a"), "echo") == named(graph(name="b"), "echo")
    assert named(named(graph(), "echo"), "echo") == named(graph(), "echo")


def test_nothing_but_the_name_changes():
    before, after = onnx.load_from_string(graph()), onnx.load_from_string(named(graph(), "echo"))
    after.graph.name = before.graph.name
    assert after == before


# Published models


def add(repository, weight: float, *, tensorrt: bool = False, unnamed: bool = False):
    content = graph(weight) if unnamed else named(graph(weight), "echo")
    manifest = Manifest(
        task="classify",
        family="cnn",
        created="2026-01-01T00:00:00+00:00",
        licence=Licence(spdx="MIT", source="here"),
        code=Code(revision="abc", version="1"),
        files={},
    )
    message = accelerated(config(), ROWS) if tensorrt else config()
    files = {"model.onnx": content, "golden.npz": publish.golden(ROWS, {})}
    return publish.publish(publish.Release(message, files, manifest), repository)


def test_a_published_model_is_changed_and_changed_back_by_a_command(tmp_path):
    add(tmp_path, 1.0)
    add(tmp_path, 2.0)
    before = (tmp_path / "echo/config.pbtxt").read_text()
    result = CliRunner().invoke(main, ["tensorrt", "echo", "--repository", str(tmp_path)])
    assert (result.exit_code, "wrote" in result.output) == (0, True), result.output
    index = scan(tmp_path)
    assert index.problems == ()
    assert is_accelerated(index.models["echo"].versions[2].graphs["model"].config.message)
    assert "n:8x11" in (tmp_path / "echo/config.pbtxt").read_text(), "as long as its golden rows"
    assert set_tensorrt(tmp_path, "echo", on=True) == []
    result = CliRunner().invoke(main, ["tensorrt", "echo", "--off", "--repository", str(tmp_path)])
    assert result.exit_code == 0
    assert (tmp_path / "echo/config.pbtxt").read_text() == before


def test_versions_that_would_share_engines_are_refused_and_nothing_is_written(tmp_path):
    add(tmp_path, 1.0, unnamed=True)
    add(tmp_path, 2.0, unnamed=True)
    before = (tmp_path / "echo/config.pbtxt").read_text()
    with pytest.raises(GraphUnsupported, match=r"Versions 1 and 2 of echo.*names them apart"):
        set_tensorrt(tmp_path, "echo", on=True)
    assert (tmp_path / "echo/config.pbtxt").read_text() == before


@pytest.mark.parametrize("model", ["other", "../echo", ""])
def test_a_model_that_is_not_there_is_not_found(tmp_path, model):
    add(tmp_path, 1.0)
    with pytest.raises(NotFound):
        set_tensorrt(tmp_path, model, on=True)


def test_a_version_that_asks_for_it_does_not_slip_into_a_model_that_does_not(tmp_path):
    add(tmp_path, 1.0)
    with pytest.raises(ConfigDiffers, match="exporters tensorrt echo"):
        add(tmp_path, 2.0, tensorrt=True)
    set_tensorrt(tmp_path, "echo", on=True)
    assert add(tmp_path, 2.0, tensorrt=True).name == "2"
    assert add(tmp_path, 3.0).name == "3", "the file may say more than the release"
