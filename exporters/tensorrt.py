"""TensorRT itself, on a host that has it: an ONNX file as a plan, and a plan as a function of rows.

Source: the Python API of TensorRT 10, https://docs.nvidia.com/deeplearning/tensorrt. It was not run in this project's
tests, which have no GPU: what surrounds it is tested with another builder of plans (tests/integration/test_plans.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import torch

from exporters.accelerators import WORKSPACE_BYTES, Profile
from exporters.errors import GraphUnsupported, PackageMissing
from serving.tensorrt import Host
from serving.tensors import Tensors, concatenate, row_count, rows

REMEDY: Final = "Build plans on the kind of host that Triton has, with the version of TensorRT that is in its image."


class TensorRT:
    """Builds plans for this host's first GPU. PackageMissing: TensorRT is not installed, or torch sees no GPU."""

    def __init__(self, precision: str) -> None:
        self._package = _package()
        if not torch.cuda.is_available():
            raise PackageMissing("torch sees no GPU, and TensorRT builds plans on one.", remedy=REMEDY)
        self._precision = precision
        self._logger = self._package.Logger(self._package.Logger.WARNING)

    @property
    def host(self) -> Host:
        """What the plans are built for."""
        major, minor = torch.cuda.get_device_capability(0)
        return Host(torch.cuda.get_device_name(0), f"{major}.{minor}", str(self._package.__version__))

    def build(self, content: bytes, shapes: Mapping[str, Profile]) -> bytes:
        """The plan of an ONNX file for inputs of these shapes. GraphUnsupported says what TensorRT could not take."""
        trt = self._package
        builder = trt.Builder(self._logger)
        network = builder.create_network(0)
        parser = trt.OnnxParser(network, self._logger)
        if not parser.parse(content):
            said = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
            raise GraphUnsupported(f"TensorRT cannot take the graph: {said}")
        config = builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
        if self._precision == "fp16":
            self._halve(config)
        profile = builder.create_optimization_profile()
        for name, shape in shapes.items():
            profile.set_shape(name, shape.least, shape.usual, shape.largest)
        config.add_optimization_profile(profile)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise GraphUnsupported("TensorRT could not build a plan of the graph; its own words are above.")
        return bytes(plan)

    @contextmanager
    def serve(self, plan: bytes, max_batch_size: int) -> Iterator[RunningPlan]:
        """The plan on the GPU, as long as the block lasts."""
        engine = self._package.Runtime(self._logger).deserialize_cuda_engine(plan)
        yield RunningPlan(self._package, engine, max_batch_size)

    def _halve(self, config: Any) -> None:
        flag = getattr(self._package.BuilderFlag, "FP16", None)
        if flag is None:  # where precision is a matter of the graph alone
            version = self._package.__version__
            raise GraphUnsupported(f"TensorRT {version} takes no flag for half precision.", remedy="Use --plan fp32.")
        config.set_flag(flag)


class RunningPlan:
    """A plan as a function of any number of rows; the same calls as parity.Served."""

    def __init__(self, package: Any, engine: Any, max_batch_size: int) -> None:
        self._package = package
        self._engine = engine
        self._context = engine.create_execution_context()
        self.max_batch_size = max_batch_size

    def __call__(self, inputs: Tensors) -> Tensors:
        return self.in_batches(inputs, self.max_batch_size)

    def in_batches(self, inputs: Tensors, size: int) -> Tensors:
        """The rows in runs of `size`, the last one of what is left."""
        starts = range(0, row_count(inputs), size)
        return concatenate([self._run(rows(inputs, i, i + size)) for i in starts])

    def _run(self, inputs: Tensors) -> Tensors:
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        held = {name: torch.from_numpy(np.ascontiguousarray(array)).cuda() for name, array in inputs.items()}
        for name, tensor in held.items():
            self._context.set_input_shape(name, tuple(tensor.shape))
        found = {name: self._empty(name) for name in names if name not in held}
        for name, tensor in (held | found).items():
            self._context.set_tensor_address(name, tensor.data_ptr())
        if not self._context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
            raise GraphUnsupported("TensorRT failed over a run; its own words are above.")
        torch.cuda.synchronize()
        return {name: tensor.cpu().numpy() for name, tensor in found.items()}

    def _empty(self, name: str) -> torch.Tensor:
        shape = tuple(self._context.get_tensor_shape(name))
        if -1 in shape:
            raise GraphUnsupported(f"The size of {name} depends on values, which plans here do not allow.")
        dtype = np.dtype(self._package.nptype(self._engine.get_tensor_dtype(name)))
        return torch.empty(shape, dtype=torch.from_numpy(np.empty(0, dtype)).dtype, device="cuda")


def _package() -> Any:
    try:
        import tensorrt
    except ModuleNotFoundError:
        raise PackageMissing("The package tensorrt is not installed.", remedy=REMEDY) from None
    return tensorrt
