"""Tiny model repositories for tests: graphs of a few nodes, written with onnx, that answer in microseconds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save
from tritonclient.grpc import model_config_pb2 as pb

from serving.repository.config import ModelConfig, write_config
from serving.repository.digests import digest_folder
from serving.repository.layout import SINGLE_GRAPH, Graph, scan
from serving.repository.manifest import Code, Licence, Manifest, write_manifest

LICENCE = Licence(spdx="Apache-2.0", source="made by the tests")
CODE = Code(revision="tests", version="0")
COLOURS = ("red", "green", "blue")


def mean_colour_graph(path: Path, size: int, bias: float = 0.0, ballast: int = 0) -> None:
    """pixels uint8 [n, size, size, 3] -> probabilities float32 [n, 3]: the softmax of the mean of each channel / 32.

    bias: added to the first class, so that two versions can be told apart. ballast: weights that count for nothing.
    """
    nodes = [
        helper.make_node("Cast", ["pixels"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x", "axes"], ["means"], keepdims=0),
        helper.make_node("Mul", ["means", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    constants = {
        "axes": np.array([1, 2], dtype=np.int64),
        "scale": np.array(1 / 32, dtype=np.float32),
        "bias": np.array([bias, 0, 0], dtype=np.float32),
    }
    if ballast:
        nodes[3:4] = [
            helper.make_node("Add", ["scaled", "bias"], ["light"]),
            helper.make_node("Mul", ["means", "zero"], ["nothing"]),
            helper.make_node("Cast", ["nothing"], ["place"], to=TensorProto.INT64),
            helper.make_node("Gather", ["ballast", "place"], ["weight"]),
            helper.make_node("Add", ["light", "weight"], ["logits"]),
        ]
        constants["zero"] = np.array(0, dtype=np.float32)
        constants["ballast"] = np.random.default_rng(0).random(ballast, dtype=np.float32)
        constants["ballast"][0] = 0.0
    _save(path, nodes, constants, ("pixels", TensorProto.UINT8, ["n", size, size, 3]), ("probabilities", ["n", 3]))


def double_graph(path: Path) -> None:
    """x float32 [n, any] -> y float32 [n, any]: y = 2 x."""
    nodes = [helper.make_node("Mul", ["x", "two"], ["y"])]
    constants = {"two": np.array(2, dtype=np.float32)}
    _save(path, nodes, constants, ("x", TensorProto.FLOAT, ["n", "m"]), ("y", ["n", "m"]))


def _save(path, nodes, constants, inputs, outputs):
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    name, kind, shape = inputs
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, kind, shape)],
        [helper.make_tensor_value_info(outputs[0], TensorProto.FLOAT, outputs[1])],
        initializers,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


def write_graph(path, nodes, inputs, outputs, constants=()) -> None:
    """Writes any graph. constants: (name, value)."""
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    path.parent.mkdir(parents=True, exist_ok=True)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)


def add_loop(root) -> None:
    """Publishes `loop`: n int64 [1] -> y float32 [1], sin of sin of ... of 1, in n turns of half a microsecond."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Sin", ["at"], ["next"]),
        ],
        "body",
        [
            value("turn", TensorProto.INT64, []),
            value("go", TensorProto.BOOL, []),
            value("at", TensorProto.FLOAT, [1]),
        ],
        [value("go_on", TensorProto.BOOL, []), value("next", TensorProto.FLOAT, [1])],
    )
    write_graph(
        root / "loop/1/model.onnx",
        [
            helper.make_node("Squeeze", ["n"], ["turns"]),
            helper.make_node("Loop", ["turns", "yes", "start"], ["y"], body=body),
        ],
        [value("n", TensorProto.INT64, [1])],
        [value("y", TensorProto.FLOAT, [1])],
        [("yes", np.array(True)), ("start", np.ones(1, np.float32))],
    )
    write_config(root / "loop/config.pbtxt", config("loop", max_batch_size=0))


def turns(count: int) -> dict[str, np.ndarray]:
    return {"n": np.array([count])}


def graph_of(root: Path, name: str = "colours", number: int = 1) -> Graph:
    """The only graph of a version."""
    return scan(root).models[name].versions[number].graphs[SINGLE_GRAPH]


def config(name: str, **fields) -> ModelConfig:
    """A config.pbtxt with batches up to 8; fields as in Triton's ModelConfig."""
    return ModelConfig(**{"name": name, "platform": "onnxruntime_onnx", "max_batch_size": 8, **fields})


def add_classifier(
    root: Path,
    name: str = "colours",
    number: int = 1,
    *,
    size: int = 8,
    bias: float = 0.0,
    ballast: int = 0,
    labels: Sequence[str] = COLOURS,
    **fields,
) -> Path:
    """Publishes a version of a classifier of mean colours; gives its folder. labels: others are for fake engines."""
    folder = root / name / str(number)
    mean_colour_graph(folder / "model.onnx", size, bias, ballast)
    (folder / "labels.txt").write_text("\n".join(labels) + "\n")
    write_config(
        root / name / "config.pbtxt",
        config(
            name,
            input=[pb.ModelInput(name="pixels", data_type=pb.TYPE_UINT8, dims=[size, size, 3])],
            output=[pb.ModelOutput(name="probabilities", data_type=pb.TYPE_FP32, dims=[len(labels)])],
            **fields,
        ),
    )
    write_classifier_manifest(folder, size=size)
    return folder


@cache
def dark_graph(task: str, size: int) -> bytes:
    """pixels uint8 [n, size, size, 3] -> where they are dark. detect: the box around it, as class 0 with score .9, and
    a tenth smaller as class 0 with .6 and class 1 with .4; then suppression as in real detectors. segment: class 1.
    """
    import torch

    from exporters import nms, to_onnx
    from serving import plugins
    from serving.task import FOLDER

    class Detector(torch.nn.Module):
        def forward(self, pixels, score_threshold, iou_threshold, max_detections):
            limits = nms.Limits(score_threshold, iou_threshold, max_detections)
            dark, steps = self.dark(pixels), torch.arange(size)
            edges = []
            for axis in (1, 2):
                there = dark.any(dim=axis)
                edges.append((torch.where(there, steps, size).amin(1), torch.where(there, steps + 1, 0).amax(1)))
            box = torch.stack([edges[0][0], edges[1][0], edges[0][1], edges[1][1]], dim=1).float().unsqueeze(1)
            low, high = box.chunk(2, dim=2)
            smaller = torch.cat([low, high - (high - low) * 0.1], dim=2)
            scores = torch.tensor([[0.9, 0.0], [0.6, 0.4]]) * dark.any(2).any(1).float().view(-1, 1, 1)
            boxes = torch.cat([box, smaller], dim=1)
            return tuple(nms.suppress(boxes, scores, limits, candidates=4, most=3))

        def dark(self, pixels):
            return pixels.float().mean(dim=3) < 100

    class Segmenter(Detector):
        def forward(self, pixels):
            dark = self.dark(pixels)
            return dark.to(torch.uint8), torch.where(dark, 0.8, 0.7)

    signature = plugins.find(FOLDER, task, "PLUGIN").signatures[SINGLE_GRAPH]
    example = {"pixels": np.zeros((2, size, size, 3), np.uint8)}
    for spec in signature.inputs[1:]:
        example[spec.name] = np.ones((2, 1), np.int32 if spec.datatype == "INT32" else np.float32)
    return to_onnx.export(Detector() if task == "detect" else Segmenter(), signature, example)


def add_dark(
    root: Path, task: str, name: str = "", *, size: int = 32, labels=("ink", "shade"), **preprocessing
) -> Path:
    """Publishes a detector or segmenter of what is dark; gives its version's folder."""
    from exporters.graph_config import make_config

    graph, name = dark_graph(task, size), name or task
    folder = root / name / "1"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(graph)
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in labels))
    write_config(root / name / "config.pbtxt", make_config(graph, name, max_batch_size=8, instances=1))
    changes = {"resize": None, "size": size, "resample": "bilinear", "channels": 3, **preprocessing}
    write_classifier_manifest(folder, task=task, preprocessing=changes)
    return folder


def write_classifier_manifest(folder: Path, *, size: int = 8, **changes) -> None:
    """The manifest that fits the folder's files as they are now; of another task with `task`."""
    manifest = Manifest(
        task="classify",
        family="tiny",
        created="2026-01-01T00:00:00+00:00",
        labels="labels.txt",
        preprocessing={"resize": None, "size": size, "resample": "bilinear", "channels": 3},
        licence=LICENCE,
        code=CODE,
        files=digest_folder(folder),
    )
    write_manifest(folder / "manifest.json", manifest.model_copy(update=changes))


def add_plain(root: Path, name: str = "double", number: int = 1, **fields) -> Path:
    """A plain Triton model, with no manifest of ours; gives its folder."""
    folder = root / name / str(number)
    double_graph(folder / "model.onnx")
    write_config(
        root / name / "config.pbtxt",
        config(
            name,
            input=[pb.ModelInput(name="x", data_type=pb.TYPE_FP32, dims=[-1])],
            output=[pb.ModelOutput(name="y", data_type=pb.TYPE_FP32, dims=[-1])],
            **fields,
        ),
    )
    return folder


def add_identity(root: Path, name: str, kind: str, dims: tuple[int, ...], *, batched: bool = True) -> Path:
    """Publishes a plain model that gives back its input x as y. kind: a datatype of the protocol."""
    onnx_kind = {"BYTES": TensorProto.STRING, "FP16": TensorProto.FLOAT16, "FP32": TensorProto.FLOAT}[kind]
    shape = [*(["n"] if batched else []), *(f"d{i}" if size < 0 else size for i, size in enumerate(dims))]
    folder = root / name / "1"
    folder.mkdir(parents=True)
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", onnx_kind, shape)],
        [helper.make_tensor_value_info("y", onnx_kind, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    save(model, folder / "model.onnx")
    data_type = pb.TYPE_STRING if kind == "BYTES" else pb.DataType.Value(f"TYPE_{kind}")
    write_config(
        root / name / "config.pbtxt",
        config(
            name,
            max_batch_size=8 if batched else 0,
            input=[pb.ModelInput(name="x", data_type=data_type, dims=dims)],
            output=[pb.ModelOutput(name="y", data_type=data_type, dims=dims)],
        ),
    )
    return folder


def add_two_graphs(root: Path, name: str = "pair") -> Path:
    """Publishes a classifier whose manifest names two graphs: NAME.decoder, and NAME.encoder, which doubles."""
    folder = add_classifier(root, name)
    for graph, add in (("decoder", add_classifier), ("encoder", add_plain)):
        made = add(root, f"{name}.{graph}")
        for extra in ("manifest.json", "labels.txt"):
            (made / extra).unlink(missing_ok=True)
    write_graphs_manifest(folder, {"model": f"{name}.decoder", "encoder": f"{name}.encoder"})
    return folder


def write_graphs_manifest(folder: Path, graphs: dict[str, str], **changes) -> None:
    """As write_classifier_manifest, of a version with these graphs by role, as their files are now."""
    root, model = folder.parent.parent, folder.parent.name
    further = {name: digest_folder(root / name / folder.name) for name in graphs.values() if name != model}
    write_classifier_manifest(folder, graphs=graphs, graph_files=further, **changes)


def slow_graph(path: Path) -> None:
    """x float32 [n, any] -> y = x, after as many products of matrices as the greatest x says: 3,000 take .4 s."""
    side = np.zeros((256, 256), dtype=np.float32)
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["before", "factor"], ["after"]),
            helper.make_node("Identity", ["going"], ["going_on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, side.shape),
        ],
        [
            helper.make_tensor_value_info("going_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, side.shape),
        ],
        [numpy_helper.from_array(side, "factor")],
    )
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["steps"], to=TensorProto.INT64),
        helper.make_node("Loop", ["steps", "", "start"], ["end"], body=body),
        helper.make_node("ReduceSum", ["end"], ["nothing"], keepdims=0),
        helper.make_node("Add", ["x", "nothing"], ["y"]),
    ]
    _save(path, nodes, {"start": side}, ("x", TensorProto.FLOAT, ["n", "m"]), ("y", ["n", "m"]))


def add_slow(root: Path, name: str = "slow", number: int = 1, **fields) -> Path:
    """A plain Triton model whose callers say how long it takes; gives its folder."""
    folder = add_plain(root, name, number, **fields)
    slow_graph(folder / "model.onnx")
    return folder


def add_embedder(
    root: Path, name: str = "embed", number: int = 1, *, towers=("image", "text"), size: int = 8, turn: int = 0
) -> Path:
    """Publishes a version whose embeddings are the mean colour, or the shares of "red", "green" and "blue" among the
    words, and a fourth number that is never 0; gives its folder. turn: rolls them, so that versions have other spaces.
    """
    from exporters.graph_config import make_config

    folder, graphs = root / name / str(number), {}
    for tower in towers:
        graphs[tower] = name if tower == towers[0] else f"{name}.{tower}"
        path = root / graphs[tower] / str(number) / "model.onnx"
        (_colour_tower if tower == "image" else _word_tower)(path, size, turn)
        message = make_config(path.read_bytes(), graphs[tower], max_batch_size=8, instances=1)
        write_config(root / graphs[tower] / "config.pbtxt", message)
    preprocessing = {}
    if "image" in towers:
        preprocessing["image"] = {"resize": None, "size": size, "resample": "bilinear", "channels": 3}
    if "text" in towers:
        preprocessing["text"] = {"max_tokens": 16, "pad_to": 4}
        (folder / "tokenizer.json").write_text(word_tokenizer())
    write_graphs_manifest(folder, graphs, task="embed", labels=None, preprocessing=preprocessing)
    return folder


def word_tokenizer(words=("[PAD]", "[UNK]", *COLOURS), special=()) -> str:
    """A tokenizer.json of these words, by default [PAD] 0, [UNK] 1, red 2, green 3, blue 4."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(special))
    return tokenizer.to_str()


def _colour_tower(path: Path, size: int, turn: int) -> None:
    """pixels uint8 [n, size, size, 3] -> embedding float32 [n, 4]."""
    nodes = [
        helper.make_node("Cast", ["pixels"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x", "axes"], ["means"], keepdims=0),
        helper.make_node("Div", ["means", "most"], ["shares"]),
        *_unit_length(),
    ]
    constants = [
        ("axes", np.array([1, 2])),
        ("most", np.float32(255)),
        ("places", np.roll(np.eye(4, dtype=np.float32), turn, axis=1)[:3]),
        ("fourth", np.roll(np.float32([0, 0, 0, 0.1]), turn)),
    ]
    value = helper.make_tensor_value_info
    pixels = value("pixels", TensorProto.UINT8, ["n", size, size, 3])
    write_graph(path, nodes, [pixels], [value("embedding", TensorProto.FLOAT, ["n", 4])], constants)


def _word_tower(path: Path, _size: int, turn: int) -> None:
    """input_ids and attention_mask int64 [n, length] -> embedding float32 [n, 4]."""
    table = np.zeros((5, 3), np.float32)
    table[2:] = np.eye(3)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["words"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["words", "column"], ["counted"]),
        helper.make_node("ReduceSum", ["counted", "first"], ["sums"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "first"], ["lengths"], keepdims=1),
        helper.make_node("Div", ["sums", "lengths"], ["shares"]),
        *_unit_length(),
    ]
    constants = [
        ("table", table),
        ("last", np.array([2])),
        ("first", np.array([1])),
        ("places", np.roll(np.eye(4, dtype=np.float32), turn, axis=1)[:3]),
        ("fourth", np.roll(np.float32([0, 0, 0, 0.1]), turn)),
    ]
    value = helper.make_tensor_value_info
    inputs = [value(name, TensorProto.INT64, ["n", "length"]) for name in ("input_ids", "attention_mask")]
    write_graph(path, nodes, inputs, [value("embedding", TensorProto.FLOAT, ["n", 4])], constants)


def _unit_length():
    return [
        helper.make_node("MatMul", ["shares", "places"], ["placed"]),
        helper.make_node("Add", ["placed", "fourth"], ["vector"]),
        helper.make_node("LpNormalization", ["vector"], ["embedding"], axis=1, p=2),
    ]


CAPTION_WORDS = ("[PAD]", "[UNK]", "[START]", "[END]", "a", *COLOURS, "disc", "spot")


def add_captioner(
    root: Path,
    name: str = "caption",
    number: int = 1,
    *,
    size: int = 8,
    longest: int = 12,
    ends: bool = True,
    queue_rows: int = 256,
) -> Path:
    """Publishes a version that says "a red disc" of what is red, and with two beams or more "a red spot", which is
    likelier; gives its folder. longest: tokens of a caption; ends: whether it comes to an end before; queue_rows: that
    may wait for the decoder.
    """
    from exporters.graph_config import make_config

    folder, graphs = root / name / str(number), {"encoder": name, "decoder": f"{name}.decoder"}
    for graph, write in zip(graphs.values(), (_colour_encoder, _word_decoder), strict=True):
        path = root / graph / str(number) / "model.onnx"
        write(path, size, longest, ends)
        message = make_config(path.read_bytes(), graph, max_batch_size=8, instances=1)
        if graph != name:
            message.parameters["max_queue_rows"].string_value = str(queue_rows)
        write_config(root / graph / "config.pbtxt", message)
    (folder / "tokenizer.json").write_text(word_tokenizer(CAPTION_WORDS, special=CAPTION_WORDS[:4]))
    write_graphs_manifest(
        folder, graphs, task="caption", labels=None, preprocessing=caption_preprocessing(size, longest)
    )
    return folder


def caption_preprocessing(size: int = 8, longest: int = 12) -> dict:
    """As add_captioner's manifest has it."""
    image = {"resize": None, "size": size, "resample": "bilinear", "channels": 3}
    return {"image": image, "text": {"max_tokens": longest, "start": 2, "end": 3, "pad": 0}}


def _colour_encoder(path: Path, size: int, _longest: int, _ends: bool) -> None:
    """pixels uint8 [n, size, size, 3] -> memory float32 [n, size, 3]: the mean colour of each row of pixels, 0 to 1."""
    nodes = [
        helper.make_node("Cast", ["pixels"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x", "axis"], ["means"], keepdims=0),
        helper.make_node("Div", ["means", "most"], ["memory"]),
    ]
    value = helper.make_tensor_value_info
    pixels = value("pixels", TensorProto.UINT8, ["n", size, size, 3])
    memory = value("memory", TensorProto.FLOAT, ["n", size, 3])
    write_graph(path, nodes, [pixels], [memory], [("axis", np.array([2])), ("most", np.float32(255))])


def _word_decoder(path: Path, size: int, longest: int, ends: bool) -> None:
    """tokens int64 [n, longest], length int64 [n, 1], memory -> logits float32 [n, words]: what may follow the last
    word that counts, and of the colours the one that is seen.
    """
    chances = np.full((len(CAPTION_WORDS), len(CAPTION_WORDS)), 1e-9)
    start, end, a, disc, spot = (CAPTION_WORDS.index(word) for word in ("[START]", "[END]", "a", "disc", "spot"))
    colours = [CAPTION_WORDS.index(colour) for colour in COLOURS]
    chances[start, a] = 1
    chances[a, colours] = 1
    chances[np.ix_(colours, (disc, spot))] = [0.55, 0.45]
    chances[disc, [end, a, disc]] = [0.4, 0.3, 0.3]
    chances[spot, [end, a]] = [0.99, 0.01]
    if not ends:
        chances[:, end] = 1e-12
    seen = np.zeros((3, len(CAPTION_WORDS)))
    seen[range(3), colours] = 4
    nodes = [
        helper.make_node("Sub", ["length", "one"], ["place"]),
        helper.make_node("GatherElements", ["tokens", "place"], ["last"], axis=1),
        helper.make_node("Squeeze", ["last", "one"], ["word"]),
        helper.make_node("Gather", ["table", "word"], ["usual"]),
        helper.make_node("ReduceMean", ["memory", "one"], ["colour"], keepdims=0),
        helper.make_node("MatMul", ["colour", "seen"], ["looks"]),
        helper.make_node("Add", ["usual", "looks"], ["logits"]),
    ]
    value = helper.make_tensor_value_info
    inputs = [
        value("tokens", TensorProto.INT64, ["n", longest]),
        value("length", TensorProto.INT64, ["n", 1]),
        value("memory", TensorProto.FLOAT, ["n", size, 3]),
    ]
    logits = value("logits", TensorProto.FLOAT, ["n", len(CAPTION_WORDS)])
    table = np.log(chances).astype(np.float32)
    constants = [("one", np.array([1])), ("table", table), ("seen", seen.astype(np.float32))]
    write_graph(path, nodes, inputs, [logits], constants)


DRAWING_WORDS = ("[PAD]", "[UNK]", "[START]", "[END]", "a", *COLOURS, "disc")
HEED = 0.8  # how far the tiny network trusts the prompt: what is left is the seed's


def add_diffusion(
    root: Path,
    name: str = "generate-images",
    number: int = 1,
    *,
    size: int = 8,
    scale: int = 1,
    free: bool = False,
    queue_rows: int = 256,
    most_rows: int = 8,
    **changes,
) -> Path:
    """Publishes a version that draws the colour that the prompt names, with some of the seed's noise on it; gives its
    folder. size: of its samples; scale: pixels along a side of each; free: whether it draws other sizes too;
    queue_rows: that may wait for the network; most_rows: of its batches; changes: of the manifest's preprocessing.
    """
    from exporters.graph_config import make_config

    folder, graphs = root / name / str(number), {"unet": name, "text": f"{name}.text", "decoder": f"{name}.decoder"}
    writers = {"unet": _colour_denoiser, "text": _word_colours, "decoder": _enlarger}
    for role, graph in graphs.items():
        path = root / graph / str(number) / "model.onnx"
        writers[role](path, None if free else size, scale)
        message = make_config(path.read_bytes(), graph, max_batch_size=most_rows, instances=1)
        if role == "unet":
            message.parameters["max_queue_rows"].string_value = str(queue_rows)
        write_config(root / graph / "config.pbtxt", message)
    (folder / "tokenizer.json").write_text(word_tokenizer(DRAWING_WORDS, special=DRAWING_WORDS[:4]))
    sizes = {"multiple_of": 4 * scale, "most": 4 * size * scale} if free else None
    preprocessing = drawing_preprocessing(size, scale) | {"sizes": sizes} | changes
    write_graphs_manifest(folder, graphs, task="generate-images", labels=None, preprocessing=preprocessing)
    return folder


def drawing_preprocessing(size: int = 8, scale: int = 1) -> dict:
    """As add_diffusion's manifest has it."""
    return {
        "text": {"max_tokens": 6, "null": "[START]"},
        "latents": [3, size, size],
        "scale": scale,
        "schedule": {"kind": "linear", "steps": 1000},
        "steps": 5,
        "guidance": 1.5,
        "clip": 1.0,
    }


def _word_colours(path: Path, _size: int | None, _scale: int) -> None:
    """tokens int64 [n, length] -> context float32 [n, length, 3]: each word's colour, -1 to 1, and 0 of other words."""
    table = np.zeros((len(DRAWING_WORDS), 3), np.float32)
    for i, word in enumerate(COLOURS):
        table[DRAWING_WORDS.index(word)] = np.where(np.arange(3) == i, 1, -1)
    nodes = [helper.make_node("Gather", ["table", "tokens"], ["context"])]
    value = helper.make_tensor_value_info
    tokens = value("tokens", TensorProto.INT64, ["n", "length"])
    context = value("context", TensorProto.FLOAT, ["n", "length", 3])
    write_graph(path, nodes, [tokens], [context], [("table", table)])


def _colour_denoiser(path: Path, size: int | None, _scale: int) -> None:
    """latents float32 [n, 3, h, w], timestep float32 [n, 1], context -> prediction: the noise, if the picture were of
    the context's colour, made smaller.
    """
    from serving.diffusion.schedule import Schedule

    levels = Schedule(kind="linear").levels()
    nodes = [
        helper.make_node("Cast", ["timestep"], ["place"], to=TensorProto.INT64),
        helper.make_node("Gather", ["signals", "place"], ["signal_row"]),
        helper.make_node("Gather", ["noises", "place"], ["noise_row"]),
        helper.make_node("Unsqueeze", ["signal_row", "ends"], ["signal"]),
        helper.make_node("Unsqueeze", ["noise_row", "ends"], ["noise"]),
        helper.make_node("ReduceSum", ["context", "one"], ["sum"], keepdims=0),
        helper.make_node("Unsqueeze", ["sum", "ends"], ["colour"]),
        helper.make_node("Mul", ["signal", "colour"], ["seen"]),
        helper.make_node("Sub", ["latents", "seen"], ["left"]),
        helper.make_node("Div", ["left", "noise"], ["whole"]),
        helper.make_node("Mul", ["whole", "heed"], ["prediction"]),
    ]
    constants = [
        ("signals", np.sqrt(levels).astype(np.float32)),
        ("noises", np.sqrt(1 - levels).astype(np.float32)),
        ("ends", np.array([2, 3])),
        ("one", np.array([1])),
        ("heed", np.float32(HEED)),
    ]
    value = helper.make_tensor_value_info
    inputs = [
        value("latents", TensorProto.FLOAT, ["n", 3, size or "h", size or "w"]),
        value("timestep", TensorProto.FLOAT, ["n", 1]),
        value("context", TensorProto.FLOAT, ["n", "length", 3]),
    ]
    write_graph(
        path, nodes, inputs, [value("prediction", TensorProto.FLOAT, ["n", 3, size or "h", size or "w"])], constants
    )


def _enlarger(path: Path, size: int | None, scale: int) -> None:
    """latents float32 [n, 3, h, w], -1 to 1 -> pixels uint8 [n, scale * h, scale * w, 3]."""
    nodes = [
        helper.make_node("Resize", ["latents", "", "scales"], ["large"], mode="nearest"),
        helper.make_node("Transpose", ["large"], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node("Add", ["last", "one"], ["positive"]),
        helper.make_node("Mul", ["positive", "half"], ["levels"]),
        helper.make_node("Clip", ["levels", "least", "most"], ["bounded"]),
        helper.make_node("Round", ["bounded"], ["rounded"]),
        helper.make_node("Cast", ["rounded"], ["pixels"], to=TensorProto.UINT8),
    ]
    constants = [
        ("scales", np.float32([1, 1, scale, scale])),
        ("one", np.float32(1)),
        ("half", np.float32(127.5)),
        ("least", np.float32(0)),
        ("most", np.float32(255)),
    ]
    value = helper.make_tensor_value_info
    latents = value("latents", TensorProto.FLOAT, ["n", 3, size or "h", size or "w"])
    write_graph(
        path,
        nodes,
        [latents],
        [value("pixels", TensorProto.UINT8, ["n", *((size * scale,) * 2 if size else ("H", "W")), 3])],
        constants,
    )
