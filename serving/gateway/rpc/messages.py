"""Requests for inference and their answers: the protocol's messages, to and from tensors by name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as pb

from serving.codecs.tensor_binary import MAX_ELEMENTS, read_raw, write_raw
from serving.errors import BodyInvalid, ParameterInvalid, TensorInvalid
from serving.gateway.open_inference import priority_of, timeout_of
from serving.gateway.payload import read_version
from serving.gateway.rpc.weight import check_weight
from serving.pipeline import Inference
from serving.tensors import DTYPES, Array, Tensors, datatype

MAX_TENSORS: Final = 256
MAX_DIMS: Final = 32
EMPTY_FINAL: Final = "triton_enable_empty_final_response"
FINAL: Final = "triton_final_response"
# Datatype -> the field of InferTensorContents for it, and the type that its numbers have there. FP16 has no field.
CONTENTS: Final[dict[str, tuple[str, type[Any]]]] = {
    "BOOL": ("bool_contents", np.bool_),
    "INT8": ("int_contents", np.int32),
    "INT16": ("int_contents", np.int32),
    "INT32": ("int_contents", np.int32),
    "INT64": ("int64_contents", np.int64),
    "UINT8": ("uint_contents", np.uint32),
    "UINT16": ("uint_contents", np.uint32),
    "UINT32": ("uint_contents", np.uint32),
    "UINT64": ("uint64_contents", np.uint64),
    "FP32": ("fp32_contents", np.float32),
    "FP64": ("fp64_contents", np.float64),
    "BYTES": ("bytes_contents", np.object_),
}


@dataclass(frozen=True, slots=True)
class Ask:
    """What a ModelInferRequest asks for. version None: the router decides; wanted None: all outputs."""

    name: str
    version: int | None
    inputs: Tensors
    wanted: list[str] | None
    priority: int = 0
    timeout_s: float | None = None


def parse(data: bytes, light_limit: int) -> Any:
    """A ModelInferRequest; BodyInvalid, and BodyTooLarge for more than `light_limit` bytes beside raw tensors."""
    check_weight(data, light_limit)
    try:
        return pb.ModelInferRequest.FromString(data)
    except DecodeError:
        raise BodyInvalid("The message is no ModelInferRequest.") from None


def read_ask(message: Any) -> Ask:
    """What the message asks for; any InvalidInput."""
    version = version_of(message.model_version)
    inputs = _read_inputs(message)
    wanted = _read_wanted(message.outputs) if message.outputs else None
    if not message.parameters:
        return Ask(message.model_name, version, inputs, wanted)
    parameters = _read_parameters(message.parameters)
    if not isinstance(parameters.get(EMPTY_FINAL, False), bool):
        raise ParameterInvalid(f"{EMPTY_FINAL} is not a bool_param.")
    return Ask(message.model_name, version, inputs, wanted, priority_of(parameters), timeout_of(parameters))


def version_of(text: str) -> int | None:
    """A version as the protocol writes it: empty for none in particular."""
    return read_version(text) if text else None


def answer(inference: Inference, request_id: str) -> Any:
    """The ModelInferResponse: outputs raw, in their order."""
    message = pb.ModelInferResponse(model_name=inference.graph, model_version=str(inference.version), id=request_id)
    for name, values in inference.outputs.items():
        message.outputs.add(name=name, datatype=datatype(values.dtype), shape=values.shape)
        message.raw_output_contents.append(write_raw(values))
    return message


def stream_answer(inference: Inference, request_id: str) -> bytes:
    """The same in a stream. It is the only answer to its request, so it is marked final, asked for or not, as Triton
    does for models of one answer a request; an empty final one is for those that may have none.
    """
    message = pb.ModelStreamInferResponse(infer_response=answer(inference, request_id))
    message.infer_response.parameters[FINAL].bool_param = True
    data: bytes = message.SerializeToString()
    return data


def stream_error(text: str, request_id: str) -> bytes:
    """What a stream has in place of an answer to one request."""
    message = pb.ModelStreamInferResponse(error_message=text, infer_response=pb.ModelInferResponse(id=request_id))
    data: bytes = message.SerializeToString()
    return data


def _read_inputs(message: Any) -> Tensors:
    specs, raw = message.inputs, message.raw_input_contents
    if len(specs) > MAX_TENSORS:
        raise TensorInvalid(f"The request has more than {MAX_TENSORS} inputs.")
    if raw and len(raw) != len(specs):
        raise TensorInvalid(f"raw_input_contents has {len(raw)} entries for {len(specs)} inputs: it has one for each.")
    inputs: dict[str, Array] = {}
    for i, spec in enumerate(specs):
        name, shape = spec.name, _read_shape(spec)
        if name in inputs:
            raise TensorInvalid(f"Two inputs are named {name}.")
        if not raw:
            inputs[name] = _read_contents(name, spec.contents, spec.datatype, shape)
        elif spec.HasField("contents"):
            raise TensorInvalid(f"{name} has contents beside raw_input_contents.", remedy="Send one of them.")
        else:
            inputs[name] = read_raw(name, raw[i], spec.datatype, shape)
    return inputs


def _read_shape(spec: Any) -> tuple[int, ...]:
    """An input's shape, when all that is said of it beside its values can be used."""
    if spec.parameters:
        _refuse_shared_memory(spec.name, spec.parameters)
    if spec.datatype not in DTYPES:
        known = ", ".join(DTYPES)
        raise TensorInvalid(f"{spec.name} has a datatype that is not known here.", remedy=f"Known: {known}.")
    shape = tuple(spec.shape)
    if len(shape) > MAX_DIMS or (shape and min(shape) < 0):
        raise TensorInvalid(f"{spec.name} has a shape of more than {MAX_DIMS} sizes, or one below 0.")
    return shape


def _read_contents(name: str, contents: Any, kind: str, shape: Sequence[int]) -> Array:
    """Values out of the field of InferTensorContents that is for their type."""
    if kind not in CONTENTS:
        raise TensorInvalid(f"{name}: contents cannot hold {kind}.", remedy="Send it as raw_input_contents.")
    field, wide = CONTENTS[kind]
    for descriptor, _ in contents.ListFields():
        if descriptor.name != field:
            raise TensorInvalid(f"{name} has {descriptor.name}; {kind} stands in {field}.")
    given = getattr(contents, field)
    count = math.prod(shape)
    if len(given) != count:
        raise TensorInvalid(f"{name} has {len(given)} values in {field}; shape {list(shape)} takes {count}.")
    if kind == "BYTES" and count > MAX_ELEMENTS:
        raise TensorInvalid(f"{name} has more than {MAX_ELEMENTS:,} elements of BYTES.", remedy="Send fewer a request.")
    values = _narrow(name, np.fromiter(given, dtype=wide, count=count), kind)
    try:
        return values.reshape(shape)
    except ValueError:  # no values, and beside the 0 a size that numpy cannot hold
        raise TensorInvalid(f"{name} has a size in its shape that is too large.") from None


def _narrow(name: str, values: Array, kind: str) -> Array:
    """The values in the type that was meant: the protocol has one field for three widths."""
    narrow = DTYPES[kind]
    if narrow.itemsize >= values.itemsize:
        return values
    bounds = np.iinfo(narrow)
    if values.size and (values.min() < bounds.min or values.max() > bounds.max):
        raise TensorInvalid(f"{name} has numbers that are no {kind}.")
    return values.astype(narrow)


def _read_wanted(outputs: Any) -> list[str]:
    names = [one.name for one in outputs]
    if len(set(names)) < len(names):  # or a small request could ask for a reply of any size
        raise TensorInvalid("outputs names one of them twice.")
    for one in outputs:
        if one.parameters:
            _refuse_shared_memory(one.name, one.parameters)
            if "classification" in one.parameters:
                raise ParameterInvalid(
                    "Outputs are not classified over this protocol.",
                    remedy="Leave classification out, or ask the task over HTTP: POST /v1/classify.",
                )
    return names


def _refuse_shared_memory(name: str, parameters: Any) -> None:
    if any(key.startswith("shared_memory_") for key in parameters):
        detail = f"{name} is to be in shared memory, which this gateway does not use."
        raise ParameterInvalid(detail, remedy="Send raw_input_contents, and take raw_output_contents.")


def _read_parameters(parameters: Any) -> dict[str, Any]:
    """By name; those that nobody knows are there too, and ignored."""
    found = {}
    for name, value in parameters.items():
        kind = value.WhichOneof("parameter_choice")
        found[name] = getattr(value, kind) if kind else None
    return found
