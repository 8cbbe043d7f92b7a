"""A name of its own for every graph that is published.

TensorRT inside of ONNX Runtime keeps built engines under names made of the graph's name and structure, not of its
weights: versions of one name would get each other's engine, and answers. docs/decisions/0025-tensorrt.md.
"""

from __future__ import annotations

import hashlib
from typing import Final

DIGITS: Final = 16


def named(content: bytes, model: str) -> bytes:
    """The ONNX file with its graph called `<model>_<digest of all that the file says>`. Nothing else changes."""
    import onnx

    file = onnx.load_from_string(content)
    file.graph.ClearField("name")
    digest = hashlib.sha256(file.SerializeToString(deterministic=True)).hexdigest()[:DIGITS]
    file.graph.name = f"{model}_{digest}"
    return bytes(file.SerializeToString(deterministic=True))


def name_of(content: bytes) -> str:
    """The name of an ONNX file's graph."""
    import onnx

    found: str = onnx.load_from_string(content).graph.name
    return found
