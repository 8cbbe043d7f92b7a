"""The graph on the engine that will serve it, against the network that it was made from. There is no way around it."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from torch import nn

from exporters.errors import ParityFailed
from exporters.family import Predict
from serving import engine, plugins
from serving.repository.config import parse_config
from serving.repository.layout import Graph, GraphKey
from serving.repository.manifest import Parity
from serving.task import Signature
from serving.tensors import Array, Tensors, concatenate, row_count, row_differences, rows
from serving.threads import Threads

ENGINE: Final = "onnx"
BATCH_SIZES: Final = (2, 3, 8)  # and max_batch_size


class Running(Protocol):
    """A graph that is loaded somewhere, as a function of any number of rows. `in_batches`: of this size at most."""

    max_batch_size: int

    def __call__(self, inputs: Tensors) -> Tensors: ...
    def in_batches(self, inputs: Tensors, size: int) -> Tensors: ...


class Served:
    """A graph loaded into the serving engine, as a function of any number of rows."""

    def __init__(self, runner: asyncio.Runner, loaded: engine.Engine, key: GraphKey, max_batch_size: int) -> None:
        self._runner = runner
        self._engine = loaded
        self._key = key
        self.max_batch_size = max_batch_size

    def __call__(self, inputs: Tensors) -> Tensors:
        return self.in_batches(inputs, self.max_batch_size)

    def in_batches(self, inputs: Tensors, size: int) -> Tensors:
        """The rows in runs of `size`, the last one of what is left."""
        starts = range(0, row_count(inputs), size)
        runs = [self._runner.run(self._engine.run(self._key, rows(inputs, i, i + size))) for i in starts]
        return concatenate([run.outputs for run in runs])


@contextmanager
def serve(graph: bytes, config: Any) -> Iterator[Served]:
    """Loads the ONNX file, with its ModelConfig message, into the engine that tidegate serves with."""
    parsed = parse_config(config, config.name)
    threads = Threads(os.cpu_count() or 1, 0)
    made: engine.Engine = plugins.find(engine.FOLDER, ENGINE, "PLUGIN")(engine.EngineOptions(threads))
    key = GraphKey(config.name, 1)
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        file = Path(folder, parsed.model_file)
        file.write_bytes(graph)
        try:
            runner.run(made.load(Graph(key, file, parsed), ()))
            yield Served(runner, made, key, parsed.rules.max_batch_size)
        finally:
            runner.run(made.close())
            threads.close()


def torch_predict(network: nn.Module, signature: Signature) -> Predict:
    """The network, whose forward takes and gives the signature's tensors in order, as a function of arrays."""

    def predict(inputs: Tensors) -> Tensors:
        tensors = [torch.from_numpy(inputs[spec.name]) for spec in signature.inputs]
        with torch.no_grad():
            outputs = network.eval()(*tensors)
        several = outputs if isinstance(outputs, tuple) else (outputs,)
        return {spec.name: output.numpy() for spec, output in zip(signature.outputs, several, strict=True)}

    return predict


def compare(expected: Predict, served: Running, inputs: Tensors, tolerance: float) -> Parity:
    """Runs real rows through both, and through the engine alone and in batches of several sizes.

    inputs: one row or more; where a batch needs more they are taken again from the front. ParityFailed says which
    output of which row is how far off.
    """
    count = row_count(inputs)
    wanted = max(count, *BATCH_SIZES, served.max_batch_size)
    repeated = {name: np.take(array, range(wanted), axis=0, mode="wrap") for name, array in inputs.items()}
    alone = served.in_batches(inputs, 1)
    alone_repeated = {name: np.take(array, range(wanted), axis=0, mode="wrap") for name, array in alone.items()}
    worst = _difference(alone, expected(inputs), tolerance, "alone on the engine differs from torch")
    worst_batch = 0.0
    for size in sorted({size for size in (*BATCH_SIZES, served.max_batch_size) if size <= served.max_batch_size}):
        what = f"in a batch of {size} differs from the same row alone"
        together = served.in_batches(repeated, size)
        worst_batch = max(worst_batch, _difference(together, alone_repeated, tolerance, what))
    return Parity(
        max_abs_difference=worst,
        batch_max_abs_difference=worst_batch,
        tolerance=tolerance,
        rows=count,
        engine=f"{ENGINE} (onnxruntime {metadata.version('onnxruntime')})",
    )


def _difference(found: Tensors, expected: Tensors, tolerance: float, what: str) -> float:
    """The largest absolute difference over all outputs; ParityFailed above the tolerance, or for other shapes."""
    if found.keys() != expected.keys():
        raise ParityFailed(f"The engine gives {', '.join(found)}; the network gives {', '.join(expected)}.")
    return max((_output_difference(found[name], expected[name], tolerance, name, what) for name in found), default=0.0)


def _output_difference(found: Array, expected: Array, tolerance: float, name: str, what: str) -> float:
    if found.shape != expected.shape or found.dtype != expected.dtype:
        shapes = f"{found.dtype} {list(found.shape)} against {expected.dtype} {list(expected.shape)}"
        raise ParityFailed(f"{name} has another type or shape: {shapes}.")
    by_row = row_differences(found, expected)
    if not (by_row <= tolerance).all():  # said this way round, NaN fails
        row = int(np.flatnonzero(~(by_row <= tolerance))[0])
        raise ParityFailed(f"{name} of row {row} {what} by {by_row[row]:.2e}; the tolerance is {tolerance:.0e}.")
    return float(by_row.max())
