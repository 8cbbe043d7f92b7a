"""Where an ONNX file keeps tensors outside of itself: only in files that the manifest lists, in the same folder.

Four fixes of path escapes in onnx were incomplete (CVE-2022-25882, 2024-27318, 2026-27489, 34446), so nothing here
resolves a path: a location is the name of a listed file, or refused. The file is read with the few fields of its
protobuf that matter, since the onnx package is not needed to serve.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from serving.errors import RepositoryInvalid

_EXTERNAL: Final = 1  # TensorProto.DataLocation
# Message -> field -> (number, type or other message, repeated). Source:
# https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, all ways from a model to its tensors.
_FIELDS: Final[Mapping[str, Mapping[str, tuple[int, str, bool]]]] = {
    "Model": {"graph": (7, "Graph", False), "training": (20, "Training", True), "functions": (25, "Function", True)},
    "Training": {"initialization": (1, "Graph", False), "algorithm": (2, "Graph", False)},
    "Function": {"nodes": (7, "Node", True), "attributes": (11, "Attribute", True)},
    "Graph": {"nodes": (1, "Node", True), "tensors": (5, "Tensor", True), "sparse": (15, "Sparse", True)},
    "Node": {"attributes": (5, "Attribute", True)},
    "Attribute": {
        "tensor": (5, "Tensor", False),
        "graph": (6, "Graph", False),
        "tensors": (10, "Tensor", True),
        "graphs": (11, "Graph", True),
        "sparse": (22, "Sparse", False),
        "sparses": (23, "Sparse", True),
    },
    "Sparse": {"values": (1, "Tensor", False), "indices": (2, "Tensor", False)},
    "Tensor": {"name": (8, "string", False), "external": (13, "Entry", True), "location": (14, "int32", False)},
    "Entry": {"key": (1, "string", False), "value": (2, "string", False)},
}


def check_external_data(content: bytes, file: str, sizes: Mapping[str, int]) -> int:
    """How many tensors lie outside of the ONNX file `content`, all of them where they may.

    sizes: bytes of each file that the manifest lists, by name. RepositoryInvalid names the first tensor that lies
    elsewhere, or says that the file cannot be read.
    """
    model = _message("Model")()
    try:
        model.ParseFromString(content)
    except DecodeError:
        raise RepositoryInvalid(file, "", "expected an ONNX model; its protobuf is cut short or damaged") from None
    count = 0
    for tensor in _tensors(model):
        if tensor.external or tensor.location == _EXTERNAL:
            _check_tensor(tensor, file, sizes)
            count += 1
    return count


def _check_tensor(tensor: Any, file: str, sizes: Mapping[str, int]) -> None:
    field = f"external data of {_text(tensor.name)[:60]!r}"
    entries: dict[str, str] = {}
    for entry in tensor.external:
        key = _text(entry.key)
        if key in entries:
            raise RepositoryInvalid(file, field, f"expected {key[:20]!r} once")  # readers differ in which counts
        entries[key] = _text(entry.value)
    location = entries.get("location", "")
    if location not in sizes:
        expected = "expected the name of a file beside it that the manifest lists"
        raise RepositoryInvalid(file, field, f"{expected}; found {location[:60]!r}")
    offset = _whole(entries.get("offset", "0"))
    length = _whole(entries.get("length", "0"))
    if offset is None or length is None or offset + length > sizes[location]:
        expected = f"expected a range within the {sizes[location]} bytes of {location}"
        found = f"offset {entries.get('offset', '0')[:20]}, length {entries.get('length', '0')[:20]}"
        raise RepositoryInvalid(file, field, f"{expected}; found {found}")


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 15 else None


def _tensors(model: Any) -> Iterator[Any]:
    """Every tensor, at whatever depth. Protobuf itself refuses depths above 100."""
    waiting = [model]
    while waiting:
        message = waiting.pop()
        kind = message.DESCRIPTOR.name
        if kind == "Tensor":
            yield message
            continue
        for name, (_, _, repeated) in _FIELDS[kind].items():
            if repeated:
                waiting.extend(getattr(message, name))
            elif message.HasField(name):
                waiting.append(getattr(message, name))


@cache
def _message(name: str) -> Any:
    """The class of a message of _FIELDS. Fields that are not there are passed over, as protobuf does."""
    file = descriptor_pb2.FileDescriptorProto(name="tidegate_onnx.proto", package="tidegate_onnx", syntax="proto2")
    kinds = {"string": _field_type("BYTES"), "int32": _field_type("INT32")}
    for message, fields in _FIELDS.items():
        described = file.message_type.add(name=message)
        for field, (number, kind, repeated) in fields.items():
            added = described.field.add(name=field, number=number, label=3 if repeated else 1)
            if kind in kinds:
                added.type = kinds[kind]
            else:
                added.type, added.type_name = _field_type("MESSAGE"), f".tidegate_onnx.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tidegate_onnx.{name}"))


def _field_type(name: str) -> int:
    kind: int = descriptor_pb2.FieldDescriptorProto.Type.Value(f"TYPE_{name}")
    return kind
