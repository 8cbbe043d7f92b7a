"""Versions appear at once and whole, numbered on, or not at all."""

import json
import os
import shutil
import time
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from exporters import publish
from exporters.errors import ConfigDiffers, FloorMissed
from exporters.graph_config import make_config
from serving.errors import RepositoryInvalid
from serving.repository.digests import verify, verify_version
from serving.repository.layout import scan
from serving.repository.manifest import Code, Licence, Manifest, Metric


def graph(width: int = 4) -> bytes:
    described = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", width])],
    )
    return helper.make_model(described, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()


def release(width: int = 4, **metrics: Metric) -> publish.Release:
    manifest = Manifest(
        task="classify",
        family="cnn",
        created="2026-01-01T00:00:00+00:00",
        metrics=metrics,
        licence=Licence(spdx="MIT", source="here"),
        code=Code(revision="abc", version="1"),
        files={},
    )
    config = make_config(graph(width), "echo", max_batch_size=8, instances=2)
    return publish.Release(config, {"model.onnx": graph(width), "labels.txt": b"a\n"}, manifest)


def test_a_new_model_is_there_with_its_config_and_its_seed(tmp_path):
    folder = publish.publish(release(), tmp_path)
    index = scan(tmp_path)
    version = index.models["echo"].versions[1]
    assert index.problems == ()
    assert folder == tmp_path / "echo" / "1"
    assert version.manifest.seed
    assert version.graphs["model"].config.rules.max_batch_size == 8
    assert version.graphs["model"].config.instances == 2
    verify(folder, version.manifest.files, "echo/1")
    assert [path.name for path in tmp_path.iterdir()] == ["echo"]


def test_the_next_version_has_the_next_number_and_is_no_seed(tmp_path):
    publish.publish(release(), tmp_path)
    (tmp_path / "echo" / "7").mkdir()
    config = (tmp_path / "echo" / "config.pbtxt").read_text()
    assert publish.publish(release(), tmp_path).name == "8"
    assert not scan(tmp_path).models["echo"].versions[8].manifest.seed
    assert (tmp_path / "echo" / "config.pbtxt").read_text() == config


def test_files_are_readable_for_all_whatever_the_umask(tmp_path):
    folder = publish.publish(release(), tmp_path)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}
    assert folder.stat().st_mode & 0o777 == 0o755
    assert folder.parent.stat().st_mode & 0o777 == 0o755


def test_a_tampered_file_is_found(tmp_path):
    folder = publish.publish(release(), tmp_path)
    files = json.loads((folder / "manifest.json").read_text())["files"]
    (folder / "labels.txt").write_text("b\n")
    with pytest.raises(RepositoryInvalid, match=r"echo/1/labels\.txt"):
        verify(folder, files, "echo/1")


@pytest.mark.parametrize(
    ("metric", "short"),
    [
        (Metric(value=0.9, floor=0.97), "0.0700"),
        (Metric(value=0.5, floor=0.2, higher_is_better=False), "0.3000"),
        (Metric.model_construct(value=float("nan"), floor=0.5, higher_is_better=True), "nan"),
    ],
)
def test_a_missed_floor_is_refused_and_nothing_is_written(tmp_path, metric, short):
    with pytest.raises(FloorMissed, match=f"by {short}"):
        publish.publish(release(accuracy=metric), tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


def test_other_tensors_are_refused(tmp_path):
    publish.publish(release(), tmp_path)
    with pytest.raises(ConfigDiffers, match="inputs"):
        publish.publish(release(width=5), tmp_path)
    assert [path.name for path in (tmp_path / "echo").iterdir() if path.is_dir()] == ["1"]


def test_everything_is_on_disk_before_it_is_seen_and_the_manifest_comes_last(tmp_path, monkeypatch):
    steps = []
    flush, rename, manifest = publish._flush, publish._rename, publish.write_manifest
    monkeypatch.setattr(publish, "_flush", lambda path: (steps.append(("flush", path.name)), flush(path)))
    monkeypatch.setattr(publish, "_rename", lambda a, b: (steps.append(("rename", b.name)), rename(a, b)))
    monkeypatch.setattr(publish, "write_manifest", lambda *a: (steps.append(("manifest", "")), manifest(*a)))
    publish.publish(release(), tmp_path)
    renamed = steps.index(("rename", "echo"))
    assert steps[0] == ("manifest", "")
    for name in ("model.onnx", "labels.txt", "manifest.json", "config.pbtxt", "1", "echo"):
        assert steps.index(("flush", name)) < renamed
    assert steps[renamed + 1] == ("flush", tmp_path.name)


def test_a_crash_before_the_rename_leaves_nothing_for_readers(tmp_path, monkeypatch):
    publish.publish(release(), tmp_path)

    def crash(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(publish, "_rename", crash)
    with pytest.raises(KeyboardInterrupt):
        publish.publish(release(), tmp_path)
    assert list(scan(tmp_path).models["echo"].versions) == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["echo"]


def pair(model: int = 4, beside: int = 4) -> publish.Release:
    """A release of two graphs: `echo`, and `echo.text` of the width `beside`."""
    made = release(model)
    config = make_config(graph(beside), "echo.text", max_batch_size=8, instances=2)
    manifest = made.manifest.model_copy(update={"graphs": {"image": "echo", "text": "echo.text"}})
    return replace(made, manifest=manifest, further=(publish.FurtherGraph(config, {"model.onnx": graph(beside)}),))


def test_further_graphs_lie_beside_their_model_and_are_listed_in_its_manifest(tmp_path):
    folder = publish.publish(pair(), tmp_path)
    version = scan(tmp_path).models["echo"].versions[1]
    verify_version(version)
    assert list(version.manifest.graph_files) == ["echo.text"]
    assert list(version.manifest.graph_files["echo.text"]) == ["model.onnx"]
    assert {path.name for path in tmp_path.iterdir()} == {"echo", "echo.text"}
    assert (tmp_path / "echo.text/config.pbtxt").exists()
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "echo.text/1").iterdir()} == {0o644}
    assert "graph_files" not in (publish.publish(release(), tmp_path / "other") / "manifest.json").read_text()
    assert folder.name == "1"


def test_the_version_s_own_folder_is_renamed_last(tmp_path, monkeypatch):
    renames, rename = [], publish._rename
    monkeypatch.setattr(publish, "_rename", lambda a, b: (renames.append(str(b.relative_to(tmp_path))), rename(a, b)))
    publish.publish(pair(), tmp_path)
    publish.publish(pair(), tmp_path)
    assert renames == ["echo.text", "echo", "echo.text/2", "echo/2"]


def test_a_publisher_that_fails_in_between_takes_its_graphs_back(tmp_path, monkeypatch):
    rename = publish._rename

    def fail_last(source, target):
        if target.name == "echo":
            raise OSError("no space left")
        rename(source, target)

    monkeypatch.setattr(publish, "_rename", fail_last)
    with pytest.raises(OSError, match="no space"):
        publish.publish(pair(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_further_graph_keeps_its_tensors_while_a_version_has_it(tmp_path):
    publish.publish(pair(), tmp_path)
    with pytest.raises(ConfigDiffers, match=r"echo\.text/config\.pbtxt has other inputs"):
        publish.publish(pair(beside=5), tmp_path)
    shutil.rmtree(tmp_path / "echo")  # what is left belongs to no version
    assert publish.publish(pair(beside=5), tmp_path).name == "2"
    version = scan(tmp_path).models["echo"].versions[2]
    assert [list(spec.shape) for spec in version.graphs["text"].config.inputs] == [[5]]
    assert version.manifest.seed


def test_a_graph_may_come_with_a_later_version(tmp_path):
    publish.publish(release(), tmp_path)
    publish.publish(pair(), tmp_path)
    assert [path.name for path in (tmp_path / "echo.text").iterdir() if path.is_dir()] == ["2"]
    assert scan(tmp_path).problems == ()


def test_golden_rows_are_named_by_tensor(tmp_path):
    file = tmp_path / "golden.npz"
    file.write_bytes(publish.golden({"pixels": np.zeros((2, 3), np.uint8)}, {"probabilities": np.ones(2, np.float32)}))
    with np.load(file) as arrays:
        assert sorted(arrays) == ["input.pixels", "output.probabilities"]
    again = publish.golden({"pixels": np.zeros((2, 3), np.uint8)}, {"probabilities": np.ones(2, np.float32)})
    assert again == file.read_bytes()


def test_config_is_read_from_the_graph():
    config = make_config(graph(), "echo", max_batch_size=16, instances=2)
    assert list(config.input[0].dims) == [4]
    assert config.HasField("dynamic_batching")
    assert onnx.load_from_string(graph()).graph.input[0].name == config.input[0].name


def test_what_killed_publishers_left_is_swept_once_it_is_old(tmp_path):
    for name, age_s in (("old", 2 * publish.ABANDONED_S), ("young", 60)):
        folder = tmp_path / f"{publish.STAGING}echo-{name}"
        (folder / "echo" / "1").mkdir(parents=True)
        then_s = time.time() - age_s
        os.utime(folder, (then_s, then_s))
    publish.publish(release(), tmp_path)
    assert [path.name for path in tmp_path.glob(f"{publish.STAGING}*")] == [f"{publish.STAGING}echo-young"]
