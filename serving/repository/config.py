"""`config.pbtxt`: Triton's model configuration, as protobuf text, and what tidegate needs of it as plain data.

Source: https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto, whose messages
tritonclient carries. Our own bounds stand in `parameters`, which Triton hands to backends and does not judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2 as pb

from serving.errors import RepositoryInvalid
from serving.tensors import DTYPES

ModelConfig = pb.ModelConfig  # the protobuf message, whole

# `platform` or `backend` -> the file that a version folder must hold.
MODEL_FILES: Final[dict[str, str]] = {"onnxruntime_onnx": "model.onnx", "onnxruntime": "model.onnx"}
# The same, of a plan that stands beside the graph that it was built from: never alone, so its name has a dot.
PLAN_FILES: Final[dict[str, str]] = {"tensorrt_plan": "model.plan"}
DEFAULT_QUEUE_ROWS: Final = 256
MOST_DIGITS: Final = 9  # of a number in `parameters`
# The types that the protocol can carry: Triton's name -> the protocol's.
DATATYPES: Final = {"TYPE_STRING" if name == "BYTES" else f"TYPE_{name}": name for name in DTYPES}
_TYPES: Final = {kind: pb.DataType.Value(name) for name, kind in DATATYPES.items()}
_NAMES: Final = {pb.DataType.Value(name): name for name in DATATYPES}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output: `shape` without the batch axis, -1 where it is free; `datatype` as in the protocol."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BatchRules:
    """What the batching policy goes by. `max_batch_size` 0: the model has no batch axis and is never batched.

    `priority_levels` 0: all requests are alike. Priority 1 is the most urgent, as in Triton.
    """

    max_batch_size: int = 1
    preferred_batch_sizes: tuple[int, ...] = ()
    max_queue_delay_s: float = 0.0
    max_queue_rows: int = DEFAULT_QUEUE_ROWS
    priority_levels: int = 0
    default_priority: int = 0


@dataclass(frozen=True, slots=True)
class GraphConfig:
    """A config.pbtxt, read. `inputs` and `outputs` may be empty: then the model file itself says what they are.

    `instances` runs may go on at once; `threads_per_run` None means cores / instances. `message`: the file, whole.
    """

    name: str
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    instances: int
    threads_per_run: int | None
    rules: BatchRules
    message: Any = field(default=None, repr=False, compare=False)

    @property
    def model_file(self) -> str:
        return (MODEL_FILES | PLAN_FILES)[self.platform]

    @property
    def is_plan(self) -> bool:
        """Whether this is TensorRT's own, which runs on one kind of host."""
        return self.platform in PLAN_FILES


def read_config(path: Path, name: str) -> GraphConfig:
    """The configuration of the Triton model `name`; RepositoryInvalid names file, field and what was expected."""
    file = f"{name}/{path.name}"
    try:
        message = text_format.Parse(path.read_text(encoding="utf-8"), ModelConfig())
    except FileNotFoundError:
        raise RepositoryInvalid(file, "", "expected this file: Triton's model configuration") from None
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise RepositoryInvalid(file, f"line {error}", "expected protobuf text of Triton's ModelConfig") from None
    except OSError as error:
        raise RepositoryInvalid(file, "", f"expected a file that can be read; found: {error.strerror}") from None
    return parse_config(message, name, file)


def parse_config(message: Any, name: str, file: str = "config.pbtxt") -> GraphConfig:
    """The configuration as plain data, each field checked."""
    if message.name and message.name != name:
        raise RepositoryInvalid(
            file, "name", f"expected {name!r}, the folder's name, or nothing; found {message.name!r}"
        )
    platform = message.platform or message.backend
    if platform not in MODEL_FILES and not ("." in name and platform in PLAN_FILES):
        expected = f"expected one of {', '.join(sorted(MODEL_FILES))}; found {platform!r}"
        raise RepositoryInvalid(file, "platform", expected)
    if message.max_batch_size < 0:
        raise RepositoryInvalid(file, "max_batch_size", f"expected 0 or more; found {message.max_batch_size}")
    return GraphConfig(
        name=name,
        platform=platform,
        inputs=_tensors(message.input, file, "input"),
        outputs=_tensors(message.output, file, "output"),
        instances=_instances(message, file),
        threads_per_run=_whole_parameter(message, "intra_op_thread_count", file),
        rules=_rules(message, file),
        message=message,
    )


def write_config(path: Path, message: Any) -> None:
    """Writes the message as protobuf text."""
    path.write_text(config_as_text(message), encoding="utf-8")


def config_as_text(message: Any) -> str:
    """The message as config.pbtxt has it."""
    text: str = text_format.MessageToString(message)
    return text


def fill_config(config: GraphConfig, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
    """The whole ModelConfig, a copy: what the file leaves to the model and to Triton's defaults is filled in.

    inputs, outputs: as the engine that loaded the graph tells them.
    """
    message = ModelConfig()
    message.CopyFrom(config.message)
    message.name = config.name
    message.default_model_filename = message.default_model_filename or config.model_file
    for field_, specs in ((message.input, inputs), (message.output, outputs)):
        if not field_:
            for spec in specs:
                field_.add(name=spec.name, data_type=_TYPES[spec.datatype], dims=spec.shape)
    if not message.instance_group:
        message.instance_group.add(name=config.name, count=config.instances, kind=pb.ModelInstanceGroup.KIND_AUTO)
    return message


def config_as_json(message: Any) -> dict[str, Any]:
    """The message as Triton's REST interface shows it: proto names, empty fields too, and 64-bit numbers as numbers.

    (protobuf's own JSON has those as text, which clients of Triton do not expect.)
    """
    value: dict[str, Any] = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    _text_to_numbers(value, message.DESCRIPTOR)
    return value


def _text_to_numbers(value: dict[str, Any], descriptor: Any) -> None:
    """Of the 64-bit fields, in place."""
    for field_ in descriptor.fields:
        found = value.get(field_.name)
        if not found:
            continue
        if field_.cpp_type in (field_.CPPTYPE_INT64, field_.CPPTYPE_UINT64):
            value[field_.name] = [int(one) for one in found] if isinstance(found, list) else int(found)
        elif field_.message_type is not None and field_.message_type.GetOptions().map_entry:
            kind = field_.message_type.fields_by_name["value"].message_type
            for one in found.values() if kind is not None else ():
                _text_to_numbers(one, kind)
        elif field_.message_type is not None:
            for one in found if isinstance(found, list) else [found]:
                _text_to_numbers(one, field_.message_type)


def _tensors(specs: Sequence[Any], file: str, field: str) -> tuple[TensorSpec, ...]:
    tensors = tuple(_tensor(spec, file, f"{field}[{i}]") for i, spec in enumerate(specs))
    names = [tensor.name for tensor in tensors]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise RepositoryInvalid(file, f"{field}[{i}].name", f"expected a name of its own; found {name!r} again")
    return tensors


def _tensor(spec: Any, file: str, field: str) -> TensorSpec:
    if not spec.name:
        raise RepositoryInvalid(file, f"{field}.name", "expected the tensor's name")
    if spec.data_type not in _NAMES:
        raise RepositoryInvalid(file, f"{field}.data_type", f"expected one of {', '.join(DATATYPES)}")
    if any(size == 0 or size < -1 for size in spec.dims):
        raise RepositoryInvalid(
            file, f"{field}.dims", f"expected sizes above 0, or -1 for free; found {list(spec.dims)}"
        )
    return TensorSpec(spec.name, DATATYPES[_NAMES[spec.data_type]], tuple(spec.dims))


def _instances(message: Any, file: str) -> int:
    """Runs at once, over all groups; a group that states no count has one, as in Triton."""
    for i, group in enumerate(message.instance_group):
        if group.count < 0:
            raise RepositoryInvalid(file, f"instance_group[{i}].count", f"expected 0 or more; found {group.count}")
    counts: list[int] = [max(1, group.count) for group in message.instance_group]
    return max(1, sum(counts))


def _rules(message: Any, file: str) -> BatchRules:
    batching = message.dynamic_batching
    for i, size in enumerate(batching.preferred_batch_size):
        if not 1 <= size <= message.max_batch_size:
            field = f"dynamic_batching.preferred_batch_size[{i}]"
            raise RepositoryInvalid(file, field, f"expected 1 to max_batch_size {message.max_batch_size}; found {size}")
    if batching.default_priority_level > batching.priority_levels:
        field = "dynamic_batching.default_priority_level"
        raise RepositoryInvalid(file, field, f"expected at most priority_levels {batching.priority_levels}")
    queue_rows = _whole_parameter(message, "max_queue_rows", file)
    return BatchRules(
        max_batch_size=message.max_batch_size,
        preferred_batch_sizes=tuple(sorted(set(batching.preferred_batch_size))),
        max_queue_delay_s=batching.max_queue_delay_microseconds / 1e6,
        max_queue_rows=queue_rows or DEFAULT_QUEUE_ROWS,
        priority_levels=batching.priority_levels,
        default_priority=batching.default_priority_level or (1 if batching.priority_levels else 0),
    )


def _whole_parameter(message: Any, key: str, file: str) -> int | None:
    if key not in message.parameters:
        return None
    text = message.parameters[key].string_value
    if not text.isdecimal() or not text.isascii() or len(text) > MOST_DIGITS or int(text) < 1:
        expected = f"expected a whole number of at least 1, of {MOST_DIGITS} digits at most; found {text[:20]!r}"
        raise RepositoryInvalid(file, f'parameters["{key}"]', expected)
    return int(text)
