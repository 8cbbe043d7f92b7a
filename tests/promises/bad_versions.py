"""Versions that must never go live: each is a good one that is wrong in one way, and must be refused for that."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import spoiling
from onnx import TensorProto, helper
from spoiling import (
    beside,
    cut,
    edited,
    golden,
    graph,
    manifested,
    outside,
    regolden,
    signed,
    softmax,
    without,
    written,
)

from serving.repository.manifest import Metric, Parity


@dataclass(frozen=True)
class Bad:
    """change: what is done to version 2's folder. late: the same once the repository was read.

    check, fragment: what must refuse it, and what it must say; check None: it is on scan's list of problems.
    """

    name: str
    change: Callable[[Path], None]
    check: str | None
    fragment: str
    late: Callable[[Path], None] = spoiling.nothing


LOOSE = Parity(max_abs_difference=0, batch_max_abs_difference=0, tolerance=2, rows=6, engine="tests")
FLAT = np.full((6, 3), 1 / 3, dtype=np.float32)
PIXELS = TensorProto.UINT8
ROWS = np.array([0])


def overwritten(name: str, content: bytes) -> Callable[[Path], None]:
    """After the version was signed."""
    return lambda folder: (folder / name).write_bytes(content)


def node(kind: str, *names: str, **attributes):
    """An ONNX node; the last name is its output."""
    return helper.make_node(kind, names[:-1], names[-1:], **attributes)


def metrics(**changes) -> dict[str, dict[str, Metric]]:
    return {"metrics": {"accuracy": spoiling.ACCURACY.model_copy(update=changes)}}


FILES = (
    Bad("a pickle named model.onnx", written("model.onnx", pickle.dumps({"w": 1})), "files", "begins as a pickle"),
    Bad("a torch archive named model.onnx", written("model.onnx", b"PK\x03\x04torch"), "files", "begins as a zip"),
    Bad("a script named model.onnx", written("model.onnx", b"#!/bin/sh"), "files", "begins as a script"),
    Bad("an empty model.onnx", cut(0), "files", "begins as something else"),
    Bad("a pickle beside the model", written("weights.pkl", b"."), "files", "weights.pkl: expected one of .onnx"),
    Bad("a module beside the model", written("model.py", b"1"), "files", "model.py: expected one of .onnx"),
    Bad("a library beside the model", written("ops.so", b"\x7fELF"), "files", "ops.so: expected one of .onnx"),
    Bad("a program named .png", written("curve.png", b"\x7fELF1234"), "files", "begins as a program"),
    Bad(
        "the model is a link", spoiling.linked("model.onnx"), "files", "model.onnx: expected a plain file; found a link"
    ),
    Bad(
        "labels are a hard link",
        spoiling.linked("labels.txt", hard=True),
        "files",
        "labels.txt: expected a file of one",
    ),
    Bad("a folder in the folder", lambda folder: (folder / "more.json").mkdir(), "files", "found a folder"),
    Bad("a pipe in the folder", spoiling.piped("more.json"), "files", "more.json: expected a plain file; found a pipe"),
    Bad("a socket in the folder", spoiling.listening, "files", "found a socket"),
    Bad("names that differ by case", signed(spoiling.doubled_case), "files", "by more than case"),
    Bad("too many files", signed(spoiling.many_files), "files", "expected at most 64 files"),
    Bad("the folder is a link", spoiling.moved_and_linked, "files", "expected a folder, no link"),
)
DIGESTS = (
    Bad(
        "weights changed after publishing", spoiling.flipped_weights, "digests", "model.onnx: digest: expected sha256:"
    ),
    Bad("labels changed after publishing", overwritten("labels.txt", b"a\nb\nc\n"), "digests", "labels.txt: digest"),
    Bad("a file that is not listed", overwritten("more.txt", b"x"), "digests", "more.txt: expected no file"),
    Bad("a listed file is gone", lambda f: (f / "labels.txt").unlink(), "digests", "labels.txt: expected this file"),
    Bad("the manifest changed since", spoiling.nothing, "digests", "changed since", late=spoiling.spoil_manifest),
)
LISTED = (
    Bad("no manifest yet", lambda f: (f / "manifest.json").unlink(), None, "half-written: expected manifest.json"),
    Bad("no model yet", without("model.onnx"), None, "model.onnx: expected this file"),
    Bad("half a manifest", overwritten("manifest.json", b'{"task": "classify", '), None, "manifest.json: Invalid JSON"),
    Bad("a manifest of no task", spoiling.taskless, None, "manifest.json: task: Field required"),
)
# The twelve escapes of external data (promise M3), and three hiding places.
ESCAPES = (
    Bad("outside: ..", edited(outside(location="../labels.txt")), "external_data", "found '../labels.txt'"),
    Bad("outside: absolute", edited(outside(location="/etc/passwd")), "external_data", "found '/etc/passwd'"),
    Bad("outside: nested", edited(outside(location="sub/w.data")), "external_data", "found 'sub/w.data'"),
    Bad("outside: a link", beside(spoiling.linked("w.data")), "files", "w.data: expected a plain file; found a link"),
    Bad(
        "outside: a hard link", beside(spoiling.linked("w.data", hard=True)), "files", "w.data: expected a file of one"
    ),
    Bad(
        "outside: environment", edited(outside(location="/proc/self/environ")), "external_data", "'/proc/self/environ'"
    ),
    Bad("outside: a pipe", beside(spoiling.piped("w.data")), "files", "w.data: expected a plain file; found a pipe"),
    Bad("outside: a device", edited(outside(location="/dev/zero")), "external_data", "found '/dev/zero'"),
    Bad("outside: empty", edited(outside(location="")), "external_data", "found ''"),
    Bad("outside: huge length", beside(length="999999999999"), "external_data", "length 999999999999"),
    Bad("outside: negative offset", beside(offset="-4"), "external_data", "offset -4"),
    Bad("outside: of version 1", edited(outside(location="../1/model.onnx")), "external_data", "of 'scale': expected"),
    Bad("outside: of a branch", spoiling.nested_external(), "external_data", "of 'hidden': expected"),
    Bad("outside: of a function", spoiling.function_external(), "external_data", "of 'secret': expected"),
    Bad("outside: nowhere", edited(outside()), "external_data", "of 'scale': expected the name of a file"),
)
DAMAGED = (
    Bad("cut in half", cut(0.5), "external_data", "cut short or damaged"),
    Bad("cut by a tenth", cut(0.9), "external_data", "cut short or damaged"),
    Bad("cut after its first field", cut(0.008), "load", "its model file is not sound"),
    Bad("nested 4,000 deep", spoiling.deeply_nested(4000), "external_data", "cut short or damaged"),
    Bad("an operator of another name", spoiling.replaced(b"Softmax", b"Softmox"), "load", "Softmox"),
    Bad("an unknown opset", edited(lambda m: setattr(m.opset_import[0], "version", 999)), "load", "opset"),
    Bad("an unknown IR version", edited(lambda m: setattr(m, "ir_version", 99)), "load", "IR version"),
    Bad("a cast to no type", edited(lambda m: setattr(m.graph.node[0].attribute[0], "i", 77)), "load", "a valid type"),
    Bad("a weight of the wrong size", edited(spoiling.wrong_size), "load", "TensorProto"),
    Bad("77 bytes that want 8 GiB", spoiling.huge_constant(2**31), "warm_up", "more memory"),
    Bad("3,000 functions in a chain", spoiling.function_chain(3000), "load", "call depth"),
)
SIGNATURE = (
    Bad("another input name", spoiling.pixels_as("image", PIXELS, "n", 8, 8, 3), "signature", "input[0].name"),
    Bad(
        "another input type",
        spoiling.pixels_as("pixels", TensorProto.FLOAT, "n", 8, 8, 3),
        "signature",
        "expected TYPE_FP32",
    ),
    Bad("another input size", spoiling.pixels_as("pixels", PIXELS, "n", 9, 9, 3), "signature", "input[0].dims"),
    Bad("another input rank", spoiling.pixels_as("pixels", PIXELS, "n", 8, 8, 3, 1), "signature", "[8, 8, 3, 1]"),
    Bad("no such output", edited(spoiling.rename_output), "signature", "output[0].name"),
    Bad("an input more", edited(spoiling.further_input), "warm_up", "Required inputs"),
    Bad("an unknown task", manifested(task="divine"), "signature", "task: expected one of"),
    Bad("preprocessing of no size", manifested(preprocessing={"size": "big"}), "signature", "preprocessing"),
    Bad(
        "preprocessing to another size",
        manifested(preprocessing=spoiling.RESIZED),
        "warm_up",
        "has shape [1, 16, 16, 3]",
    ),
    Bad("no labels named", manifested(labels=None), "signature", "labels: expected the name"),
    Bad("labels outside", manifested(labels="nowhere.txt"), "signature", "nowhere.txt"),
    Bad("too few labels", spoiling.relabelled("red", "green"), "signature", "3 scores for 2 labels"),
    Bad("too many labels", spoiling.relabelled("red", "green", "blue", "grey"), "signature", "3 scores for 4 labels"),
)
RUNS = (
    Bad("an endless loop", spoiling.endless_loop(), "warm_up", "took more than"),
    Bad(
        "a fixed batch of one", spoiling.pixels_as("pixels", PIXELS, 1, 8, 8, 3), "warm_up", "run of 2 rows was refused"
    ),
    Bad(
        "rows are lost",
        graph(node("ReduceMean", "logits", "rows", "m"), softmax("m"), rows=ROWS),
        "warm_up",
        "2 rows has shape [1, 3]",
    ),
    Bad(
        "an index out of range",
        graph(node("Gather", "logits", "far", "g", axis=1), softmax("g"), far=np.array([9] * 3)),
        "warm_up",
        "indices",
    ),
)
GOLDEN = (
    Bad("golden rows of another network", golden(bias=2.0), "golden", "does not give what the trained network gave"),
    Bad(
        "golden rows of another best label",
        regolden(manifested(parity=LOOSE), bias=9.0),
        "golden",
        "another best label",
    ),
    Bad(
        "golden outputs of another shape",
        golden(**{"output.probabilities": FLAT[:, :2]}),
        "golden",
        "output.probabilities",
    ),
    Bad(
        "golden inputs of another shape",
        golden(**{"input.pixels": np.zeros((6, 9, 9, 3), np.uint8)}),
        "golden",
        "[1, 9, 9, 3]",
    ),
    Bad("golden rows of another input", golden(**{"input.image": FLAT}), "golden", "found image, pixels"),
    Bad(
        "golden rows of different number", golden(**{"output.probabilities": FLAT[:4]}), "golden", "same number of rows"
    ),
    Bad("golden rows of Python objects", spoiling.pickled_golden, "golden", "never loaded"),
    Bad("golden rows cut short", spoiling.cut_golden, "golden", "it is damaged"),
    Bad("no golden rows any more", without("golden.npz"), "golden", "as version 1 has"),
)
QUALITY = (
    Bad("weights that are NaN", edited(spoiling.set_bias(np.nan)), "finite", "63 values are NaN"),
    Bad("outputs that are infinite", spoiling.infinite(), "finite", "are infinite"),
    Bad(
        "one answer for all",
        regolden(edited(spoiling.set_scale(0)), **{"output.probabilities": FLAT}),
        "varied",
        "same whatever",
    ),
    Bad("rows that mix", spoiling.mixing(), "batch", "rows must not mix"),
    Bad("labels in another order", spoiling.relabelled("green", "blue", "red"), "agreement", "order of the scores"),
    Bad("ten times as slow", spoiling.slow(100), "latency", "of version 1's time"),
    Bad("a worse metric", manifested(**metrics(value=0.88)), "metric", "accuracy, against version 1's 0.9"),
    Bad(
        "a metric below its floor", manifested(**metrics(value=0.895, floor=0.9)), "metric", "accuracy misses its floor"
    ),
    Bad("no metric any more", manifested(metrics={}), "metric", "accuracy is not stated"),
)
BAD = (*FILES, *DIGESTS, *LISTED, *ESCAPES, *DAMAGED, *SIGNATURE, *RUNS, *GOLDEN, *QUALITY)
