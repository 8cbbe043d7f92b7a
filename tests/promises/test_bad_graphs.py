"""A version of two graphs stands or falls with both: what is wrong with the second one is found by the right check."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import spoiling
import tiny
from onnx import TensorProto, helper

from serving.repository.digests import digest_folder
from serving.repository.layout import scan
from serving.repository.manifest import read_manifest
from serving.versions.examiner import Examiner
from serving.versions.measurements import Limits

GRAPH = "colours.double"
ROWS = np.array([[1.0, 2.0], [3.0, -4.0]], np.float32)


def good(root: Path) -> Path:
    """spoiling.good with a second graph, y = 2 x; gives the folder of version 2's second graph."""
    own = spoiling.good(root)
    for number in (1, 2):
        folder = tiny.add_plain(root, GRAPH, number)
        np.savez(folder / "golden.npz", **{"input.x": ROWS, "output.y": 2 * ROWS})
        sign(folder)
    return root / GRAPH / own.name


def sign(folder: Path, **changes) -> None:
    """Makes the manifest fit the second graph's files as they are now."""
    own = folder.parents[1] / "colours" / folder.name
    listed = {"graphs": {"model": "colours", "double": GRAPH}, "graph_files": {GRAPH: digest_folder(folder)}}
    spoiling.resign(own, **(listed | changes))


def examined(root: Path):
    versions = scan(root).models["colours"].versions
    return asyncio.run(Examiner(limits=Limits(wall_s=20)).examine(versions[2], versions[1]))


def graph(*nodes, **constants) -> Callable[[Path], None]:
    """Another graph from x to y."""

    def change(folder: Path) -> None:
        value = helper.make_tensor_value_info
        ends = [value("x", TensorProto.FLOAT, ["n", "m"])], [value("y", TensorProto.FLOAT, ["n", "m"])]
        tiny.write_graph(folder / "model.onnx", nodes, *ends, list(constants.items()))
        sign(folder)

    return change


def golden(**arrays) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        np.savez(folder / "golden.npz", **{"input.x": ROWS, "output.y": 2 * ROWS, **arrays})
        sign(folder)

    return change


def cut(folder: Path) -> None:
    content = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(content[: len(content) // 2])
    sign(folder)


def without_golden(folder: Path) -> None:
    (folder / "golden.npz").unlink()
    sign(folder)


def restore(folder: Path) -> None:
    """The manifest as it was with the golden rows of version 1, which are the same."""
    listed = read_manifest(folder.parents[1] / "colours" / "1" / "manifest.json", "").graph_files
    sign(folder, graph_files=listed)


def external(folder: Path) -> None:
    """A tensor in a file that is listed for the other graph's folder alone."""
    model = onnx.load_model_from_string((folder / "model.onnx").read_bytes())
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "labels.txt"
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    sign(folder)


node = helper.make_node
SLOW = (
    node("ReduceMean", ["x"], ["mean"], keepdims=1),
    node("Expand", ["mean", "shape"], ["wide"]),
    node("MatMul", ["wide", "wide"], ["product"]),
    node("ReduceMean", ["product"], ["one"], keepdims=0),
    node("Mul", ["one", "zero"], ["nothing"]),
    node("Add", ["x", "x"], ["twice"]),
    node("Add", ["twice", "nothing"], ["y"]),
)
BAD = {
    "a pickle beside it": (lambda f: (f / "w.pkl").write_bytes(b"."), "files", "double/2/w.pkl: expected one of"),
    "a link": (lambda f: (f / "w.data").symlink_to("/etc/passwd"), "files", "double/2/w.data: expected a plain file"),
    "changed": (lambda f: golden(**{"output.y": ROWS})(f) or restore(f), "digests", "double/2/golden.npz: digest"),
    "not listed": (lambda f: (f / "more.txt").write_text("x"), "digests", "double/2/more.txt: expected no file"),
    "a manifest of its own": (
        lambda f: (f / "manifest.json").write_text("{}"),
        "digests",
        "manifest.json: expected no",
    ),
    "gone": (lambda f: (f / "golden.npz").unlink(), "digests", "double/2/golden.npz: expected this file"),
    "no digests": (lambda f: sign(f, graph_files={}), "digests", "graph_files.colours.double: expected the digests"),
    "cut short": (cut, "external_data", "colours.double/2/model.onnx"),
    "outside": (external, "external_data", "colours.double/2/model.onnx"),
    "other values": (golden(**{"output.y": ROWS}), "golden", "largest difference"),
    "other names": (golden(**{"input.z": ROWS}), "golden", "expected the graph's inputs x; found x, z"),
    "no golden rows": (without_golden, "golden", "colours.double/2/golden.npz: expected this file, as version 1 has"),
    "rows mixed": (
        graph(node("ReduceMean", ["x", "axes"], ["m"], keepdims=1), node("Sub", ["x", "m"], ["y"]), axes=np.array([0])),
        "batch",
        "between a row alone and in a batch",
    ),
    "not a number": (graph(node("Sqrt", ["x"], ["y"])), "finite", "1 values are NaN"),
    "always the same": (graph(node("Sub", ["x", "x"], ["y"])), "varied", "answers the same"),
    "slow": (graph(*SLOW, shape=np.array([512, 512]), zero=np.array(0, np.float32)), "latency", "of version 1's time"),
}


def test_a_sound_version_of_two_graphs_passes(tmp_path):
    folder = good(tmp_path)
    verdict = examined(tmp_path)
    assert verdict.passed, verdict
    checks = {check.name: check for check in verdict.checks}
    assert checks["files"].measured == len(list(folder.iterdir())) + len(list((tmp_path / "colours/2").iterdir()))
    assert checks["digests"].measured == checks["files"].measured - 1, "all but the manifest"
    assert "over 8 golden rows" in checks["golden"].detail, "six of one graph, two of the other"
    assert checks["signature"].measured == 2


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_with_the_second_graph_is_found(tmp_path, name):
    change, check, fragment = BAD[name]
    change(good(tmp_path))
    verdict = examined(tmp_path)
    assert check in verdict.failed(), verdict
    detail = next(one.detail for one in verdict.checks if one.name == check)
    assert fragment in detail


def test_a_version_that_lost_a_graph_is_refused(tmp_path):
    good(tmp_path)
    spoiling.resign(tmp_path / "colours/2", graphs={}, graph_files={})
    verdict = examined(tmp_path)
    assert verdict.failed() == ("signature",)
    assert "expected a graph 'double', as version 1 has" in str(verdict)
