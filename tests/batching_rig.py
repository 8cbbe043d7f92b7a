"""A batcher around a fake engine, for tests of who meets in a batch."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from serving.batching.batcher import Batch, Batcher
from serving.engine import Engine, Run
from serving.engines.fake import FakeEngine
from serving.repository.config import BatchRules, GraphConfig, TensorSpec
from serving.repository.layout import Graph, GraphKey

KEY = GraphKey("double", 1)


def graph(instances: int = 1, **rules) -> Graph:
    rules = {"max_batch_size": 8, **rules}
    specs = (TensorSpec("x", "FP32", (-1,)),)
    config = GraphConfig("double", "onnxruntime_onnx", specs, specs, instances, None, BatchRules(**rules))
    return Graph(KEY, Path("unused"), config)


def double(key, inputs):
    return {"y": inputs["x"] * 2}


def row(*values: float):
    return {"x": np.array([values], dtype=np.float32)}


@asynccontextmanager
async def batching(engine: Engine, *, instances: int = 1, **rules):
    """A batcher with the graph loaded, and the list of batches it cut."""
    batches: list[Batch] = []
    batcher = Batcher(engine, batches.append)
    await batcher.load(graph(instances, **rules), [])
    try:
        yield batcher, batches
    finally:
        await batcher.close()


async def until(condition, what: str) -> None:
    """Waits, turn by turn of the loop, until the condition holds."""
    deadline_s = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline_s, f"never: {what}"
        await asyncio.sleep(0)


async def hold_one(batcher: Batcher, engine: FakeEngine) -> asyncio.Task[Run]:
    """Closes the gate behind a first run, so that what comes next has to wait."""
    engine.gate.clear()
    ran = len(engine.runs)
    first = asyncio.create_task(batcher.run(KEY, row(-1)))
    await until(lambda: len(engine.runs) > ran, "the first run began")
    return first
