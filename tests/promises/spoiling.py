"""A good model of two versions, and the ways in which version 2 can be spoilt.

Version 1 is live and version 2 would pass. What is changed is signed anew, so that digests are right unless they are
what is wrong.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import tiny
from onnx import TensorProto, helper, numpy_helper

from serving.repository.digests import digest_folder
from serving.repository.manifest import Metric, Parity, read_manifest, write_manifest

MODEL = "colours"
SIZE = 8
PARITY = Parity(max_abs_difference=0, batch_max_abs_difference=0, tolerance=1e-4, rows=6, engine="tests")
ACCURACY = Metric(value=0.9, floor=0.5, rows=100)


def good(root: Path) -> Path:
    """Versions 1 and 2, both sound; gives version 2's folder."""
    for number, bias in ((1, 0.0), (2, 0.1)):
        folder = tiny.add_classifier(root, MODEL, number, size=SIZE, bias=bias)
        write_golden(folder, bias=bias)
        resign(folder, metrics={"accuracy": ACCURACY}, parity=PARITY)
    return folder


def pixels() -> np.ndarray:
    """Six pictures, two of each colour."""
    rows = np.full((6, SIZE, SIZE, 3), 20, dtype=np.uint8)
    for i in range(6):
        rows[i, ..., i % 3] = 120 + 20 * i
    return rows


def probabilities(bias: float = 0.0) -> np.ndarray:
    """What tiny's graph makes of them."""
    logits = pixels().astype(np.float32).mean(axis=(1, 2)) / 32 + np.array([bias, 0, 0], dtype=np.float32)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def write_golden(folder: Path, bias: float = 0.1, **arrays) -> None:
    known = {"input.pixels": pixels(), "output.probabilities": probabilities(bias)}
    np.savez_compressed(folder / "golden.npz", **{**known, **arrays})


def resign(folder: Path, **changes) -> None:
    """Makes the manifest fit the files as they are now."""
    manifest = read_manifest(folder / "manifest.json", "manifest.json")
    write_manifest(folder / "manifest.json", manifest.model_copy(update={"files": digest_folder(folder), **changes}))


def signed(change: Callable[[Path], None], **fields) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        change(folder)
        resign(folder, **fields)

    return apply


def nothing(folder: Path) -> None:
    pass


def written(name: str, content: bytes) -> Callable[[Path], None]:
    return signed(lambda folder: (folder / name).write_bytes(content))


def cut(share: float) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = (folder / "model.onnx").read_bytes()
        (folder / "model.onnx").write_bytes(content[: int(len(content) * share)])

    return signed(change)


def replace_in(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))


def replaced(old: bytes, new: bytes) -> Callable[[Path], None]:
    return signed(lambda folder: replace_in(folder / "model.onnx", old, new))


def edited(edit: Callable[[onnx.ModelProto], None], **fields) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        model = onnx.load_model_from_string((folder / "model.onnx").read_bytes())
        edit(model)
        (folder / "model.onnx").write_bytes(model.SerializeToString())

    return signed(change, **fields)


def save(path: Path, nodes, constants, *, functions=(), imports=()) -> None:
    """A graph of these nodes, with the good one's inputs and outputs."""
    graph = helper.make_graph(
        nodes,
        "bad",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 18), *imports]
    path.write_bytes(
        helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=list(functions)).SerializeToString()
    )


def graph(*nodes, functions=(), imports=(), **constants) -> Callable[[Path], None]:
    """The good graph up to `logits`, then these nodes, which make `probabilities` of them."""
    start = [
        helper.make_node("Cast", ["pixels"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x", "axes"], ["means"], keepdims=0),
        helper.make_node("Mul", ["means", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["logits"]),
    ]
    known = {
        "axes": np.array([1, 2]),
        "scale": np.array(1 / 32, dtype=np.float32),
        "bias": np.array([0.1, 0, 0], dtype=np.float32),
    }
    return signed(
        lambda folder: save(
            folder / "model.onnx", [*start, *nodes], known | constants, functions=functions, imports=imports
        )
    )


def softmax(source: str) -> onnx.NodeProto:
    return helper.make_node("Softmax", [source], ["probabilities"], axis=-1)


def linked(name: str, *, hard: bool = False) -> Callable[[Path], None]:
    """A file of the folder becomes a link to its like elsewhere."""

    def change(folder: Path) -> None:
        elsewhere = folder.parents[1] / ".elsewhere"
        elsewhere.write_bytes((folder / name).read_bytes())
        (folder / name).unlink()
        if hard:
            (folder / name).hardlink_to(elsewhere)
        else:
            (folder / name).symlink_to(elsewhere)

    return signed(change)


def piped(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return change


def listening(folder: Path) -> None:
    here = Path.cwd()
    os.chdir(folder)  # a socket's address may have 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("s.json")
    finally:
        os.chdir(here)


def moved_and_linked(folder: Path) -> None:
    folder.rename(folder.parents[1] / ".elsewhere")
    folder.symlink_to(folder.parents[1] / ".elsewhere")


def relabelled(*labels: str) -> Callable[[Path], None]:
    return written("labels.txt", "".join(f"{label}\n" for label in labels).encode())


def outside(**entries: str) -> Callable[[onnx.ModelProto], None]:
    """The scale lies outside of the model file, at these entries."""

    def edit(model: onnx.ModelProto) -> None:
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "scale")
        point_outside(tensor, **entries)

    return edit


def point_outside(tensor: TensorProto, **entries: str) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)


def beside(change: Callable[[Path], None] = nothing, **entries: str) -> Callable[[Path], None]:
    """As `outside`, with a file w.data beside the model, which `change` may spoil."""

    def apply(folder: Path) -> None:
        (folder / "w.data").write_bytes(np.array(1 / 32, dtype=np.float32).tobytes())
        edited(outside(**{"location": "w.data", **entries}))(folder)
        change(folder)

    return apply


def external_scale(name: str) -> TensorProto:
    tensor = numpy_helper.from_array(np.array(1, dtype=np.float32), name)
    point_outside(tensor, location="../1/model.onnx")
    return tensor


def branch(name: str, nodes) -> onnx.GraphProto:
    return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, ["n", 3])])


def nested_external() -> Callable[[Path], None]:
    hidden = [
        helper.make_node("Constant", [], ["one"], value=external_scale("hidden")),
        helper.make_node("Mul", ["logits", "one"], ["a_y"]),
    ]
    plain = [helper.make_node("Identity", ["logits"], ["b_y"])]
    choice = helper.make_node(
        "If", ["yes"], ["chosen"], then_branch=branch("a", hidden), else_branch=branch("b", plain)
    )
    return graph(choice, softmax("chosen"), yes=np.array(True))


def function_external() -> Callable[[Path], None]:
    nodes = [
        helper.make_node("Constant", [], ["one"], value=external_scale("secret")),
        helper.make_node("Mul", ["v", "one"], ["w"]),
    ]
    function = helper.make_function("f", "scale_it", ["v"], ["w"], nodes, [helper.make_opsetid("", 18)])
    call = helper.make_node("scale_it", ["logits"], ["called"], domain="f")
    return graph(call, softmax("called"), functions=[function], imports=[helper.make_opsetid("f", 1)])


def function_chain(depth: int) -> Callable[[Path], None]:
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("f", 1)]
    functions = [
        helper.make_function(
            "f", f"f{i}", ["v"], ["w"], [helper.make_node(f"f{i + 1}", ["v"], ["w"], domain="f")], opsets
        )
        for i in range(depth)
    ]
    last = [helper.make_node("Identity", ["v"], ["w"])]
    functions.append(helper.make_function("f", f"f{depth}", ["v"], ["w"], last, opsets))
    call = helper.make_node("f0", ["logits"], ["called"], domain="f")
    return graph(call, softmax("called"), functions=functions, imports=[helper.make_opsetid("f", 1)])


def deeply_nested(depth: int) -> Callable[[Path], None]:
    """Graphs in attributes of nodes of graphs, as bytes: onnx itself would not write them."""

    def field(number: int, content: bytes) -> bytes:
        length, size = b"", len(content)
        while size > 127:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + content

    nested = b""
    for _ in range(depth):
        nested = field(1, field(5, field(6, nested)))
    return written("model.onnx", b"\x08\x09" + field(7, nested))


def endless_loop() -> Callable[[Path], None]:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["still"]),
            helper.make_node("Mul", ["v", "one"], ["v_next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, ["n", 3]),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v_next", TensorProto.FLOAT, ["n", 3]),
        ],
    )
    loop = helper.make_node("Loop", ["", "yes", "logits"], ["looped"], body=body)
    return graph(loop, softmax("looped"), yes=np.array(True), one=np.array(1, dtype=np.float32))


def huge_constant(elements: int) -> Callable[[Path], None]:
    nodes = [
        helper.make_node("ConstantOfShape", ["many"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["none"], keepdims=0),
        helper.make_node("Add", ["logits", "none"], ["more"]),
    ]
    return graph(*nodes, softmax("more"), many=np.array([elements]))


def slow(products: int) -> Callable[[Path], None]:
    width = 512
    nodes = [helper.make_node("MatMul", ["logits", "widen"], ["m0"])]
    nodes += [helper.make_node("MatMul", [f"m{i}", "wide"], [f"m{i + 1}"]) for i in range(products)]
    nodes += [
        helper.make_node("MatMul", [f"m{products}", "narrow"], ["nothing"]),
        helper.make_node("Add", ["logits", "nothing"], ["late"]),
    ]
    zeros = np.zeros((width, 3), dtype=np.float32)
    wide = np.eye(width, dtype=np.float32)
    return graph(*nodes, softmax("late"), widen=np.ascontiguousarray(zeros.T) + 1, wide=wide, narrow=zeros)


def manifested(**fields) -> Callable[[Path], None]:
    return signed(nothing, **fields)


def without(name: str) -> Callable[[Path], None]:
    return signed(lambda folder: (folder / name).unlink())


def regolden(change: Callable[[Path], None], **arrays) -> Callable[[Path], None]:
    """The change, with golden rows that would hide it."""

    def apply(folder: Path) -> None:
        write_golden(folder, **arrays)
        change(folder)

    return apply


def golden(**arrays) -> Callable[[Path], None]:
    return regolden(manifested(), **arrays)


def spoil_manifest(folder: Path) -> None:
    content = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**content, "family": "another"}))


def value_info(name: str, kind: int, *shape) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))


def pixels_as(name: str, kind: int, *shape) -> Callable[[Path], None]:
    """The good graph with another input, and a Cast or Identity in between where it needs one."""
    return edited(lambda model: swap_input(model, value_info(name, kind, *shape)))


def swap_input(model: onnx.ModelProto, info: onnx.ValueInfoProto) -> None:
    del model.graph.input[:]
    model.graph.input.append(info)
    model.graph.node[0].input[0] = info.name


def rename_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = model.graph.node[-1].output[0] = "scores"


def set_bias(value: float) -> Callable[[onnx.ModelProto], None]:
    def edit(model: onnx.ModelProto) -> None:
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "bias")
        tensor.raw_data = np.array([value, 0, 0], dtype=np.float32).tobytes()

    return edit


def many_files(folder: Path) -> None:
    for i in range(64):
        (folder / f"note-{i}.txt").touch()


def doubled_case(folder: Path) -> None:
    shutil.copy(folder / "labels.txt", folder / "Labels.txt")


RESIZED = {"resize": None, "size": 16, "resample": "bilinear", "channels": 3}


def flipped_weights(folder: Path) -> None:
    content = bytearray((folder / "model.onnx").read_bytes())
    content[-40] ^= 1
    (folder / "model.onnx").write_bytes(content)


def taskless(folder: Path) -> None:
    content = json.loads((folder / "manifest.json").read_text())
    del content["task"]
    (folder / "manifest.json").write_text(json.dumps(content))


def wrong_size(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].raw_data += b"\0"


def further_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(value_info("hint", TensorProto.FLOAT, "n", 3))


def set_scale(value: float) -> Callable[[onnx.ModelProto], None]:
    def edit(model: onnx.ModelProto) -> None:
        set_bias(0)(model)
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "scale")
        tensor.raw_data = np.array(value, dtype=np.float32).tobytes()

    return edit


def mixing() -> Callable[[Path], None]:
    """Alone a row is as it should be; in a batch it leans to the mean of all."""
    return graph(
        helper.make_node("ReduceMean", ["logits", "rows"], ["mean"], keepdims=1),
        helper.make_node("Add", ["logits", "mean"], ["both"]),
        helper.make_node("Mul", ["both", "half"], ["mixed"]),
        softmax("mixed"),
        rows=np.array([0]),
        half=np.array(0.5, dtype=np.float32),
    )


def infinite() -> Callable[[Path], None]:
    return graph(
        helper.make_node("Softmax", ["logits"], ["sound"], axis=-1),
        helper.make_node("Div", ["sound", "none"], ["probabilities"]),
        none=np.array(0, dtype=np.float32),
    )


def pickled_golden(folder: Path) -> None:
    np.savez(
        folder / "golden.npz", **{"input.pixels": np.array([{}, {}], dtype=object), "output.probabilities": pixels()}
    )
    resign(folder)


def cut_golden(folder: Path) -> None:
    content = (folder / "golden.npz").read_bytes()
    (folder / "golden.npz").write_bytes(content[: len(content) // 2])
    resign(folder)
