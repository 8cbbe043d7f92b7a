"""The page of the models: true to the repository, the same each time, with pictures of what was answered."""

import io
import json

import numpy as np
import PIL.Image
import pytest
import tiny
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from exporters import publish
from exporters.cli import main
from exporters.graph_config import make_config
from exporters.models_page import page, pictures, sheet
from exporters.models_page.samples import Samples, run_samples
from exporters.models_page.writing import write
from serving.repository.layout import scan
from serving.repository.manifest import Code, Data, Licence, Manifest, Metric, Table

SIDE = 32
TYPES = {"boxes": np.float32, "scores": np.float32, "class_ids": np.int32, "count": np.int32}
FOUND = {
    "boxes": np.array([[[4, 6, 20, 26], [0, 0, 0, 0]]], np.float32),
    "scores": np.array([[0.9, 0]], np.float32),
    "class_ids": np.array([[1, 0]], np.int32),
    "count": np.array([[1]], np.int32),
}


def as_model(nodes, inputs, outputs, constants) -> bytes:
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()


def pixels_in():
    return helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])


def detector() -> bytes:
    """Finds the same box on each picture."""
    nodes = [
        helper.make_node("Shape", ["pixels"], ["rows"], end=1),
        *(helper.make_node("Concat", ["rows", f"{name}_ones"], [f"{name}_times"], axis=0) for name in FOUND),
        *(helper.make_node("Tile", [f"{name}_one", f"{name}_times"], [name]) for name in FOUND),
    ]
    outputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), ["batch", *value.shape[1:]])
        for name, value in FOUND.items()
    ]
    constants = {f"{name}_one": value for name, value in FOUND.items()}
    constants |= {f"{name}_ones": np.ones(value.ndim - 1, np.int64) for name, value in FOUND.items()}
    return as_model(nodes, [pixels_in()], outputs, constants)


def segmenter() -> bytes:
    """Class 1 where red is above 127, else the background."""
    nodes = [
        helper.make_node("Gather", ["pixels", "first"], ["red"], axis=3),
        helper.make_node("Greater", ["red", "middle"], ["bright"]),
        helper.make_node("Cast", ["bright"], ["class_map"], to=TensorProto.UINT8),
        helper.make_node("Cast", ["bright"], ["confidence"], to=TensorProto.FLOAT),
    ]
    shape = ["batch", SIDE, SIDE]
    outputs = [
        helper.make_tensor_value_info("class_map", TensorProto.UINT8, shape),
        helper.make_tensor_value_info("confidence", TensorProto.FLOAT, shape),
    ]
    return as_model(nodes, [pixels_in()], outputs, {"first": np.array(0, np.int64), "middle": np.array(127, np.uint8)})


def add(repository, model: str, task: str, graph: bytes) -> None:
    pixels = np.zeros((2, SIDE, SIDE, 3), np.uint8)
    pixels[:, :, SIDE // 2 :, 0] = 255
    manifest = Manifest(
        task=task,
        family="tiny",
        created="2026-01-02T00:00:00+00:00",
        intended_use="Say <that> | things are there.",
        labels=publish.LABELS,
        metrics={
            "ap50": Metric(value=0.81234, floor=0.75, rows=10),
            "error": Metric(value=0.1, baseline=0.4, baseline_name="guessing", rows=10, higher_is_better=False),
        },
        tables={"per_class": Table(columns=("class", "ap50"), rows=(("thing", 0.8), ("other", None)))},
        data=Data(name="squares", source="here", licence="CC0-1.0", digest="sha256:abc", rows={"test": 1000}),
        licence=Licence(spdx="MIT", source="made", attribution="by us"),
        code=Code(revision="abc1234", version="1"),
        files={},
    )
    files = {
        "model.onnx": graph,
        publish.LABELS: b"background\nthing\n",
        publish.GOLDEN: publish.golden({"pixels": pixels}, {}),
        "run.json": json.dumps({"seconds": 61.7}).encode(),
        "learning_curve.png": b"\x89PNG\r\n\x1a\n",
    }
    publish.publish(
        publish.Release(make_config(graph, model, max_batch_size=4, instances=1), files, manifest), repository
    )


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "models"
    add(folder, "finder", "detect", detector())
    add(folder, "cutter", "segment", segmenter())
    return folder


def test_the_committed_page_is_that_of_the_committed_models(request):
    root = request.config.rootpath
    found = (root / "docs" / page.PAGE).read_text()
    fresh = page.text(scan(root / "model_repository"), root / "docs")
    assert found == fresh, "docs/models.md is not that of model_repository. Run: make models-page"


def test_the_committed_pictures_are_there_and_small(request):
    docs = request.config.rootpath / "docs"
    versions = page.newest(scan(request.config.rootpath / "model_repository"))
    wanted = {f"{version.model}.png" for version in versions if page.has_picture(version)}
    found = {file.name: file.stat().st_size for file in (docs / page.PICTURES).iterdir()}
    assert set(found) == wanted, "docs/models/ is not that of model_repository. Run: make models-page"
    assert max(found.values()) <= pictures.MOST_BYTES


def test_writing_twice_changes_nothing_and_takes_away_what_is_gone(repository, tmp_path):
    first = {file: file.read_bytes() for file in write(repository, tmp_path)}
    (tmp_path / "models" / "gone.png").touch()
    assert {file: file.read_bytes() for file in write(repository, tmp_path)} == first
    assert {file.name for file in first} == {"models.md", "finder.png", "cutter.png"}
    assert not (tmp_path / "models" / "gone.png").exists()


def test_the_page_says_what_the_manifest_says(repository):
    text = page.text(scan(repository), repository.parent / "docs")
    for words in (
        "| [finder](#finder) | detect | ap50 0.8123 | ",
        "Say &lt;that> \\| things are there.",
        "![What finder answers](models/finder.png)",
        "| licence | MIT: made |",
        "| attribution | by us |",
        "| data | squares: here |",
        "| data's licence | CC0-1.0 |",
        "| data's rows | 1,000 test |",
        "| data's digest | `sha256:abc` |",
        "| made in | 62 s |",
        "| code | 1, revision `abc1234` |",
        "| ap50 | **0.8123** | 0.7500 | - | 10 |",
        "| error (lower is better) | **0.1000** | - | 0.4000 (guessing) | 10 |",
        "<details><summary>per class</summary>",
        "| other | - |",
        "![Losses by epoch](../models/finder/1/learning_curve.png)",
    ):
        assert words in text


def test_the_pictures_show_what_the_published_graph_answers(repository):
    version = scan(repository).models["cutter"].versions[1]
    samples = run_samples(version)
    assert samples.labels == ("background", "thing")
    assert samples.outputs["class_map"][0].mean() == 0.5
    drawn, plain = pictures.draw(samples), pictures.draw(without_answers(samples))
    assert len(drawn) <= pictures.MOST_BYTES
    assert drawn != plain


def without_answers(samples: Samples) -> Samples:
    return Samples(samples.task, samples.pixels, {"class_map": samples.outputs["class_map"] * 0}, samples.labels)


def test_a_box_is_drawn_where_it_was_found(repository):
    samples = run_samples(scan(repository).models["finder"].versions[1])
    one = Samples(
        "detect", samples.pixels[:1], {name: value[:1] for name, value in samples.outputs.items()}, ("a", "b")
    )
    none = Samples("detect", one.pixels, {**one.outputs, "count": np.zeros((1, 1), np.int32)}, one.labels)
    with_box, without = (
        np.asarray(PIL.Image.open(io.BytesIO(pictures.draw(each))).convert("L")) for each in (one, none)
    )
    rows, columns = np.nonzero(np.abs(with_box.astype(int) - without) > 40)
    frame = np.nonzero(without.min(axis=0) < 200)[0]
    left, width = frame[0], frame[-1] - frame[0]
    assert columns.min() == pytest.approx(left + 4 / SIDE * width, abs=0.05 * width)
    assert rows.max() > rows.min()


def test_a_sheet_shows_what_is_drawn_of_names_with_each_guidance(tmp_path):
    tiny.add_diffusion(tmp_path, "painter")
    version = scan(tmp_path).models["painter"].versions[1]
    assert page.has_picture(version)
    drawn = sheet.draw_sheet(version, ("red", "blue"))
    assert drawn == sheet.draw_sheet(version, ("red", "blue"))
    assert len(drawn) <= pictures.MOST_BYTES
    pixels = np.asarray(PIL.Image.open(io.BytesIO(drawn)).convert("RGB")).astype(int)
    height, width = pixels.shape[:2]
    reddish = pixels[..., 0] - pixels[..., 2] > 120
    bluish = pixels[..., 2] - pixels[..., 0] > 120
    assert reddish[:, : width // 2].sum() > 20 * max(1, reddish[:, 2 * width // 3 :].sum())
    assert bluish[:, 2 * width // 3 :].sum() > 20 * max(1, bluish[:, : width // 2].sum())
    rows = np.flatnonzero(reddish.any(axis=1))
    assert rows.min() > height / 5, "without a prompt nothing is red"


def test_many_colours_still_fit():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 200, 200, 3), np.uint8)
    samples = Samples("segment", pixels, {"class_map": np.zeros((4, 50, 50), np.uint8)}, ("background", "thing"))
    assert len(pictures.draw(samples)) <= pictures.MOST_BYTES


def test_the_command_says_what_it_wrote_and_refuses_what_is_no_folder(repository, tmp_path):
    result = CliRunner().invoke(main, ["describe", "--repository", str(repository), "--docs", str(tmp_path)])
    assert (result.exit_code, len(result.output.splitlines())) == (0, 3)
    result = CliRunner().invoke(main, ["describe", "--repository", str(tmp_path / "none"), "--docs", str(tmp_path)])
    assert result.exit_code == 1
    assert "expected a folder" in result.output
