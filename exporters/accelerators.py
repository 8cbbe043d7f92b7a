"""TensorRT inside of Triton's ONNX Runtime: what config.pbtxt says of it. Written anywhere; used where there is a GPU.

Source: https://github.com/triton-inference-server/onnxruntime_backend, "ONNX Runtime with TensorRT optimization".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from exporters.errors import GraphUnsupported
from serving.repository.config import ModelConfig, parse_config
from serving.tensors import Tensors

NAME: Final = "tensorrt"
CACHE: Final = "/var/cache/tensorrt"  # in the container: a volume, since building an engine takes minutes
WORKSPACE_BYTES: Final = 2**30
LONGEST: Final = 128  # of a free axis, where no rows say how long inputs are
_TEXT: Final = "BYTES"


@dataclass(frozen=True, slots=True)
class Profile:
    """The shapes of one input that an engine is built for, batch axis first: least, usual, largest."""

    least: tuple[int, ...]
    usual: tuple[int, ...]
    largest: tuple[int, ...]


def profiles(config: Any, rows: Tensors) -> dict[str, Profile]:
    """Of each input: batches of 1 to max_batch_size, full ones being what load makes; free axes up to those of `rows`.

    config: Triton's ModelConfig message, which states all inputs. GraphUnsupported: texts, which TensorRT cannot take.
    """
    parsed = parse_config(config, config.name)
    batch = parsed.rules.max_batch_size
    found: dict[str, Profile] = {}
    for spec in parsed.inputs:
        if spec.datatype == _TEXT:
            raise GraphUnsupported(f"{config.name} takes texts as {spec.name}, which TensorRT cannot.")
        lengths = rows[spec.name].shape[1:] if spec.name in rows else (LONGEST,) * len(spec.shape)
        largest = tuple(at_most if size == -1 else size for size, at_most in zip(spec.shape, lengths, strict=True))
        least = tuple(1 if size == -1 else size for size in spec.shape)
        first = ((1,), (batch,), (batch,)) if batch else ((), (), ())
        found[spec.name] = Profile((*first[0], *least), (*first[1], *largest), (*first[2], *largest))
    return found


def accelerated(config: Any, rows: Tensors) -> Any:
    """A copy of Triton's ModelConfig that has TensorRT run what it can of the graph, in half precision.

    What it cannot run is left to CUDA, and on a host without a GPU all of it to the processor: it does no harm there.
    """
    shapes = profiles(config, rows)
    message = plain(config)
    accelerator = message.optimization.execution_accelerators.gpu_execution_accelerator.add(name=NAME)
    accelerator.parameters.update(
        {
            "precision_mode": "FP16",
            "max_workspace_size_bytes": str(WORKSPACE_BYTES),
            "trt_engine_cache_enable": "true",
            "trt_engine_cache_path": f"{CACHE}/{message.name}",
            "trt_timing_cache_enable": "true",
            "trt_timing_cache_path": CACHE,
            "trt_profile_min_shapes": _written({name: one.least for name, one in shapes.items()}),
            "trt_profile_opt_shapes": _written({name: one.usual for name, one in shapes.items()}),
            "trt_profile_max_shapes": _written({name: one.largest for name, one in shapes.items()}),
        }
    )
    return message


def plain(config: Any) -> Any:
    """A copy of Triton's ModelConfig without TensorRT; other accelerators stay."""
    message = ModelConfig()
    message.CopyFrom(config)
    found = message.optimization.execution_accelerators.gpu_execution_accelerator
    others = [one for one in found if one.name != NAME]
    del found[:]
    found.extend(others)
    if not message.optimization.execution_accelerators.ListFields():
        message.optimization.ClearField("execution_accelerators")
    if not message.optimization.ListFields():
        message.ClearField("optimization")
    return message


def is_accelerated(config: Any) -> bool:
    """Whether Triton's ModelConfig asks for TensorRT."""
    return any(one.name == NAME for one in config.optimization.execution_accelerators.gpu_execution_accelerator)


def _written(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())
