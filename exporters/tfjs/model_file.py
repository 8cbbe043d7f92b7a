"""A TensorFlow.js graph model as it lies on disk: `model.json` says the nodes, a `.bin` file beside it the weights.

Format: https://github.com/tensorflow/tfjs/tree/master/tfjs-converter and TensorFlow's `graph.proto` and
`attr_value.proto` in their JSON form, where integers are texts and bytes are base64.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from exporters.errors import GraphUnsupported
from serving.tensors import Array

_STORED: Final = {"float32": np.dtype("<f4"), "int32": np.dtype("<i4")}
_HALF: Final = np.dtype("<f2")


@dataclass(frozen=True, slots=True)
class Node:
    """An operation. `inputs`: names of nodes, `name:1` for another output than the first."""

    name: str
    operation: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def integers(self, attribute: str) -> list[int]:
        """A list of integers, such as `strides`."""
        return [int(number) for number in self.attributes[attribute]["list"].get("i", [])]

    def text(self, attribute: str) -> str:
        """A text, such as `padding`."""
        return base64.b64decode(self.attributes[attribute]["s"]).decode()

    def flag(self, attribute: str) -> bool:
        return bool(self.attributes.get(attribute, {}).get("b", False))

    def number(self, attribute: str) -> float:
        return float(self.attributes[attribute]["f"])


@dataclass(frozen=True, slots=True)
class GraphFile:
    """A graph: its input, its nodes in an order that can be run, and its constants by name, float32 or int32."""

    input: str
    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]


def read(path: Path) -> GraphFile:
    """Reads `model.json` and the weights that it names. GraphUnsupported: not such a model, or what we do not read."""
    try:
        described = json.loads(path.read_bytes())
        nodes = tuple(_node(one) for one in described["modelTopology"]["node"])
        groups = described["weightsManifest"]
    except (ValueError, KeyError, TypeError) as error:
        raise GraphUnsupported(f"{path.name} is no TensorFlow.js graph model: {error!r}.") from None
    placeholders = [node.name for node in nodes if node.operation == "Placeholder"]
    if len(placeholders) != 1:
        raise GraphUnsupported(f"{path.name} has {len(placeholders)} inputs; graphs with one are read.")
    constants = {name: array for group in groups for name, array in _weights(path, group)}
    return GraphFile(
        placeholders[0], tuple(node for node in nodes if node.operation not in ("Placeholder", "Const")), constants
    )


def _node(described: Mapping[str, Any]) -> Node:
    inputs = tuple(name.removesuffix(":0") for name in described.get("input", ()))
    return Node(described["name"], described["op"], inputs, described.get("attr", {}))


def _weights(path: Path, group: Mapping[str, Any]) -> Iterator[tuple[str, Array]]:
    """The arrays of one group, which lie one after another in its files."""
    content = b"".join((path.parent / name).read_bytes() for name in group["paths"])
    start = 0
    for weight in group["weights"]:
        array, size = _array(weight, content, start)
        start += size
        yield weight["name"], array
    if start != len(content):
        raise GraphUnsupported(f"The weights of {path.name} are {len(content)} bytes; its list accounts for {start}.")


def _array(weight: Mapping[str, Any], content: bytes, start: int) -> tuple[Array, int]:
    """One weight, and how many bytes it takes. float16 is brought back to float32."""
    shape: Sequence[int] = weight["shape"]
    kind = weight["dtype"]
    quantised = weight.get("quantization", {}).get("dtype")
    stored = _STORED.get(kind) if quantised is None else _HALF if (kind, quantised) == ("float32", "float16") else None
    if stored is None:
        told = f"{kind} stored as {quantised}" if quantised else kind
        raise GraphUnsupported(f"The weight {weight['name']} is {told}; float32, float16 and int32 are read.")
    count = math.prod(shape)
    size = count * stored.itemsize
    if start + size > len(content):
        raise GraphUnsupported(f"The file of weights ends inside {weight['name']}.")
    array = np.frombuffer(content, stored, count, start).astype(_STORED[kind]).reshape(shape)
    return array, size
