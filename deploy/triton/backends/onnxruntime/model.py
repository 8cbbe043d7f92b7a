"""ONNX models for a Triton that has no ONNX backend: one Triton backend for all of them, on its python backend.

Triton takes this file for every model of `platform: "onnxruntime_onnx"` or `backend: "onnxruntime"`, and runs it once
for each instance of each version, in a process of its own (a stub). A repository is served as by NVIDIA's image.
Sources: https://github.com/triton-inference-server/python_backend and
https://github.com/triton-inference-server/backend/blob/main/docs/python_based_backends.md
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

TYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(uint16)": "TYPE_UINT16",
    "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
    "tensor(string)": "TYPE_STRING",
}
DEFAULT_MAX_BATCH_SIZE = 4  # as Triton's own ONNX backend has it for models whose first axis is free


class TritonPythonModel:
    """One instance of one version: a session of ONNX Runtime."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config: Any) -> Any:
        """What config.pbtxt does not state is what the ONNX file says."""
        config = auto_complete_model_config
        stated = config.as_dict()
        if stated["input"] and stated["output"] and stated["max_batch_size"]:
            return config  # whole: initialize compares it with the file
        session = _open(_file(stated), 1)
        batched = bool(stated["max_batch_size"]) or _has_batch_axis(stated, session)
        if batched and not stated["max_batch_size"]:
            config.set_max_batch_size(DEFAULT_MAX_BATCH_SIZE)
            if "sequence_batching" not in stated:
                config.set_dynamic_batching()
        if not stated["input"]:
            for node in session.get_inputs():
                config.add_input(_stated(node, batched))
        if not stated["output"]:
            for node in session.get_outputs():
                config.add_output(_stated(node, batched))
        return config

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        self._session = _open(_file(config), _threads(config))
        self._batched = config["max_batch_size"] > 0
        self._inputs = [node.name for node in self._session.get_inputs()]
        self._outputs = [spec["name"] for spec in config["output"]]
        self._texts = {node.name for node in self._session.get_inputs() if node.type == "tensor(string)"}
        _compare("input", config["input"], self._session.get_inputs(), self._batched)
        _compare("output", config["output"], self._session.get_outputs(), self._batched)

    def execute(self, requests: list[Any]) -> list[Any]:
        """One answer for each request, in their order. What fails one of them fails no other."""
        answers: list[Any] = [None] * len(requests)
        batches: dict[Any, list[tuple[int, dict[str, np.ndarray]]]] = defaultdict(list)
        for i, request in enumerate(requests):
            if request.is_cancelled():
                answers[i] = _failed("The request was cancelled before it ran.", pb_utils.TritonError.CANCELLED)
                continue
            try:
                inputs = self._read(request)
            except ValueError as error:
                answers[i] = _failed(str(error), pb_utils.TritonError.INVALID_ARG)
                continue
            shapes = tuple((name, array.shape[1:]) for name, array in inputs.items())
            batches[shapes if self._batched else i].append((i, inputs))
        for batch in batches.values():
            self._answer(requests, batch, answers)
        return answers

    def finalize(self) -> None:
        self._session = None

    def _read(self, request: Any) -> dict[str, np.ndarray]:
        """The tensors as ONNX Runtime takes them; ValueError says what is wrong with them."""
        inputs = {}
        for name in self._inputs:
            tensor = pb_utils.get_input_tensor_by_name(request, name)
            if tensor is None:
                continue  # ONNX Runtime says whether it can do without
            inputs[name] = _decoded(name, tensor.as_numpy()) if name in self._texts else tensor.as_numpy()
        if self._batched and len({array.shape[:1] for array in inputs.values()}) > 1:
            sizes = ", ".join(f"{name} {array.shape[0]}" for name, array in inputs.items())
            raise ValueError(f"The inputs of one request have different numbers of rows: {sizes}.")
        return inputs

    def _answer(self, requests: list[Any], batch: list[tuple[int, dict[str, np.ndarray]]], answers: list[Any]) -> None:
        """Runs the requests together; where that fails, one by one, so that the error reaches its own caller only."""
        if len(batch) > 1:
            try:
                self._run_together(requests, batch, answers)
            except Exception:  # noqa: BLE001  (whatever it was, one of them may have caused it)
                for one in batch:
                    self._answer(requests, [one], answers)
            return
        ((i, inputs),) = batch
        wanted = self._wanted([requests[i]])
        try:
            answers[i] = _response(wanted, self._session.run(wanted, inputs))
        except InvalidArgument as error:
            answers[i] = _failed(f"ONNX Runtime refused the input: {error}", pb_utils.TritonError.INVALID_ARG)
        except Exception as error:  # noqa: BLE001  (of many kinds; Triton's caller is to hear of each)
            answers[i] = _failed(f"ONNX Runtime failed: {error}", pb_utils.TritonError.INTERNAL)

    def _run_together(
        self, requests: list[Any], batch: list[tuple[int, dict[str, np.ndarray]]], answers: list[Any]
    ) -> None:
        counts = [len(next(iter(inputs.values()))) for _, inputs in batch]
        total = sum(counts)
        together = {name: np.concatenate([inputs[name] for _, inputs in batch]) for name in batch[0][1]}
        wanted = self._wanted([requests[i] for i, _ in batch])
        arrays = dict(zip(wanted, self._session.run(wanted, together), strict=True))
        if any(array.shape[:1] != (total,) for array in arrays.values()):
            raise ValueError("an output has no batch axis")
        end = 0
        for (i, _), count in zip(batch, counts, strict=True):
            start, end = end, end + count
            own = self._wanted([requests[i]])
            answers[i] = _response(own, [arrays[name][start:end] for name in own])

    def _wanted(self, requests: list[Any]) -> list[str]:
        """Outputs that at least one of the requests asks for: Triton names all where a caller names none."""
        asked = {name for request in requests for name in request.requested_output_names()}
        return [name for name in self._outputs if name in asked]


def _file(config: dict[str, Any]) -> Path:
    return Path(pb_utils.get_model_dir()) / (config.get("default_model_filename") or "model.onnx")


def _open(file: Path, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; its warnings speak of graphs that nobody here can change
    # Threads that spin for work take the cores from the other instances.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise pb_utils.TritonModelException(f"ONNX Runtime cannot load {file}: {error}") from error


def _threads(config: dict[str, Any]) -> int:
    """Threads of one run: as `parameters` state, else an equal share of the cores for each instance."""
    stated = config.get("parameters", {}).get("intra_op_thread_count", {}).get("string_value", "")
    if stated:
        if not stated.isdecimal() or int(stated) < 1:
            raise pb_utils.TritonModelException(f"intra_op_thread_count: expected 1 or more; found {stated!r}")
        return int(stated)
    instances = sum(max(1, group.get("count", 1)) for group in config.get("instance_group", []))
    return max(1, len(os.sched_getaffinity(0)) // max(1, instances))


def _has_batch_axis(stated: dict[str, Any], session: Any) -> bool:
    """Whether all tensors of the file begin with a free axis that none of the stated shapes counts."""
    nodes = {node.name: node for node in (*session.get_inputs(), *session.get_outputs())}
    if any(not node.shape or isinstance(node.shape[0], int) for node in nodes.values()):
        return False
    specs = [spec for spec in (*stated["input"], *stated["output"]) if spec["name"] in nodes]
    return all(len(spec["dims"]) < len(nodes[spec["name"]].shape) for spec in specs)


def _stated(node: Any, batched: bool) -> dict[str, Any]:
    return {"name": node.name, "data_type": _type_of(node), "dims": _dims(node, batched)}


def _type_of(node: Any) -> str:
    if node.type not in TYPES:
        raise pb_utils.TritonModelException(f"{node.name}: {node.type} is no type that Triton can carry")
    return TYPES[node.type]


def _dims(node: Any, batched: bool) -> list[int]:
    return [size if isinstance(size, int) else -1 for size in node.shape[int(batched) :]]


def _compare(field: str, specs: list[dict[str, Any]], nodes: list[Any], batched: bool) -> None:
    """Each tensor that the configuration states must be in the file, of the same type and of a shape that fits."""
    found = {node.name: node for node in nodes}
    for spec in specs:
        name, node = spec["name"], found.get(spec["name"])
        if node is None:
            raise pb_utils.TritonModelException(f"{field} {name!r} is not in the model file, which has {list(found)}")
        if _type_of(node) != spec["data_type"]:
            raise pb_utils.TritonModelException(
                f"{field} {name!r} is {spec['data_type']} in config.pbtxt and {_type_of(node)} in the model file"
            )
        stated = [int(size) for size in (spec.get("reshape") or {}).get("shape", spec["dims"])]
        dims = _dims(node, batched)
        if len(stated) != len(dims) or any(a != b and -1 not in (a, b) for a, b in zip(stated, dims, strict=True)):
            raise pb_utils.TritonModelException(
                f"{field} {name!r} is {stated} in config.pbtxt, {dims} in the model file"
            )


def _decoded(name: str, array: np.ndarray) -> np.ndarray:
    """BYTES are text to ONNX, in UTF-8."""
    try:
        values = [value.decode() if isinstance(value, bytes) else value for value in array.flat]
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: not text in UTF-8: {error}") from None
    texts = np.empty(array.size, dtype=np.object_)
    texts[:] = values
    return texts.reshape(array.shape)


def _response(names: list[str], arrays: list[np.ndarray]) -> Any:
    tensors = [pb_utils.Tensor(name, _encoded(array)) for name, array in zip(names, arrays, strict=True)]
    return pb_utils.InferenceResponse(tensors)


def _encoded(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.object_:
        return array
    values = np.empty(array.size, dtype=np.object_)
    values[:] = [value.encode() if isinstance(value, str) else value for value in array.flat]
    return values.reshape(array.shape)


def _failed(message: str, code: Any) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
