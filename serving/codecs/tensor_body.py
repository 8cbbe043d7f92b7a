"""The body of an inference and of its answer: JSON with tensors in it, or JSON and raw tensors behind it.

Source: https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson

from serving.codecs.tensor_binary import raw_view, read_raw, write_raw
from serving.codecs.tensor_json import named, read_signature, read_values, write_values
from serving.errors import ParameterInvalid, TensorInvalid
from serving.tensors import Array, Tensors, datatype

# Parameters of a tensor that change where its values are, or what they are; all others are passed over, as by Triton.
REFUSED: Final[Mapping[str, str]] = {
    "shared_memory_region": "Send the values in the request: this server reads no shared memory.",
    "classification": "Ask for the scores as they are, or use POST /v1/classify.",
}
_NO_PARAMETERS: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class Wanted:
    """The outputs that are asked for, in order (None: all), and which of them raw; `raw`: those not named."""

    names: tuple[str, ...] | None = None
    raw_by_name: Mapping[str, bool] | None = None
    raw: bool = False

    def is_raw(self, name: str) -> bool:
        """Whether the output is to follow the JSON as bytes."""
        return self.raw_by_name.get(name, self.raw) if self.raw_by_name else self.raw


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was read. `id` is None where it has none that is text."""

    inputs: dict[str, Array]
    wanted: Wanted
    parameters: Mapping[str, Any]
    id: str | None


def read_body(message: Mapping[str, Any], raw: memoryview) -> Asked:
    """The request. `message`: its JSON; `raw`: what lies behind it, of which the tensors are views.

    TensorInvalid or ParameterInvalid name what is wrong.
    """
    parameters = _parameters(message)
    identity = message.get("id")
    return Asked(
        inputs=_read_inputs(message.get("inputs"), raw),
        wanted=_read_wanted(message.get("outputs"), raw=_flag(parameters, "binary_data_output", default=False)),
        parameters=parameters,
        id=identity if isinstance(identity, str) else None,
    )


def write_body(message: dict[str, Any], outputs: Tensors, wanted: Wanted) -> tuple[bytes, int | None]:
    """The answer: `message` with the outputs in it; and the length of its JSON where raw tensors lie behind that."""
    described: list[dict[str, Any]] = []
    raw: list[Any] = []
    for name, values in outputs.items():
        if not wanted.is_raw(name):
            described.append(write_values(name, values))
            continue
        data: Any = write_raw(values) if values.dtype == np.object_ else raw_view(values)
        size = len(data) if isinstance(data, bytes) else data.nbytes
        described.append(
            {
                "name": name,
                "datatype": datatype(values.dtype),
                "shape": values.shape,
                "parameters": {"binary_data_size": size},
            }
        )
        raw.append(data)
    text = orjson.dumps({**message, "outputs": described}, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join([text, *raw]), len(text)) if raw else (text, None)


def _read_inputs(inputs: object, raw: memoryview) -> dict[str, Array]:
    tensors: dict[str, Array] = {}
    start = 0
    for name, tensor in named(inputs).items():
        parameters = _checked_parameters(tensor)
        if "binary_data_size" not in parameters:
            tensors[name] = read_values(tensor)
            continue
        size = parameters["binary_data_size"]
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise TensorInvalid(f"The binary_data_size of {name} is not a whole number from 0.")
        if "data" in tensor:
            raise TensorInvalid(f"{name} has both data and binary_data_size.", remedy="Send its values once.")
        stop = start + size
        if stop > len(raw):
            detail = f"{name} is to have {size} raw bytes; {len(raw) - start} are left behind the JSON."
            raise TensorInvalid(detail, remedy="Inference-Header-Content-Length says where they begin.")
        kind, shape = read_signature(tensor)
        tensors[name] = read_raw(name, raw[start:stop], kind, shape)
        start = stop
    if start != len(raw):
        raise TensorInvalid(f"{len(raw) - start} raw bytes lie behind those that the inputs account for.")
    return tensors


def _read_wanted(outputs: object, *, raw: bool) -> Wanted:
    if outputs is None or outputs == []:
        return Wanted(raw=raw)
    if not isinstance(outputs, list) or not all(
        isinstance(one, dict) and isinstance(one.get("name"), str) for one in outputs
    ):
        raise TensorInvalid("outputs is not a list of objects with a name.")
    raw_by_name = {one["name"]: _flag(_checked_parameters(one), "binary_data", default=raw) for one in outputs}
    if len(raw_by_name) < len(outputs):  # or a small request could ask for a reply of any size
        raise TensorInvalid("outputs names one of them twice.")
    return Wanted(tuple(raw_by_name), raw_by_name, raw)


def _checked_parameters(tensor: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters of an input or output, none of them one that would be answered wrongly if it were passed over."""
    parameters = _parameters(tensor)
    for name, remedy in REFUSED.items():
        if name in parameters:
            raise ParameterInvalid(f"The parameter {name} is not served here.", remedy=remedy)
    return parameters


def _parameters(of: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = of.get("parameters")
    return parameters if isinstance(parameters, dict) else _NO_PARAMETERS


def _flag(parameters: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise ParameterInvalid(f"{name} is neither true nor false.")
    return value
