"""ONNX Runtime inside this process: no server to install, one copy of the weights, several runs at once.

Sessions are thread-safe, so `instance_group.count` runs share one session, each on one of the gateway's threads with
cores / count threads for its operators. Source: https://onnxruntime.ai/docs/performance/tune-performance/threading.html
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from serving.engine import ANY_TIME, Call, Engine, EngineOptions, Loaded, Run
from serving.errors import DeadlinePassed, EngineFailed, ModelNotReady, RepositoryInvalid, TensorInvalid
from serving.repository.config import GraphConfig, TensorSpec
from serving.repository.layout import Graph, GraphKey
from serving.tensors import DTYPES, Array, Tensors, row_count
from serving.threads import Threads

log = logging.getLogger(__name__)

PROVIDERS: Final = ("CUDAExecutionProvider", "CPUExecutionProvider")  # in order of preference, those that are there
HOP_S: Final = 0.0002  # what a run costs beside the engine: batch, threads, answers apart
MEASURED_RUNS: Final = 3  # of each warm-up batch; the quickest counts
RUN_LIMIT_S: Final = 60.0  # a run is stopped after this long, whatever its callers would wait
_DATATYPES: Final = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}


class OnnxEngine(Engine):
    """One session for each graph version."""

    def __init__(self, options: EngineOptions) -> None:
        self._threads = options.threads
        self._sessions: dict[GraphKey, _Session] = {}

    async def load(self, graph: Graph, warm_up: Sequence[Tensors], *, quietly: bool = False) -> Loaded:
        """As Engine.load; RepositoryInvalid when config.pbtxt does not agree with the model file."""
        session = _Session(graph, self._threads)
        try:
            loaded = await session.open(warm_up, quietly)
        except BaseException:
            await session.close()
            raise
        self._sessions[graph.key] = session
        return loaded

    async def unload(self, key: GraphKey) -> None:
        if session := self._sessions.pop(key, None):
            await session.close()

    async def run(self, key: GraphKey, inputs: Tensors, call: Call = ANY_TIME) -> Run:
        session = self._sessions.get(key)
        if session is None:
            raise ModelNotReady(f"{key} is not loaded.", remedy="Ask GET /v1/models for what is.")
        return await session.run(inputs, call)

    async def close(self) -> None:
        for key in list(self._sessions):
            await self.unload(key)


class _Session:
    def __init__(self, graph: Graph, threads: Threads) -> None:
        self._graph = graph
        self._slots = graph.config.instances
        self._cores = graph.config.threads_per_run or max(1, threads.count // self._slots)
        # Runs on a GPU keep no core busy: they have threads of their own, and the shared ones go on with other work.
        self._own = Threads(self._slots, 0) if PROVIDERS[0] in ort.get_available_providers() else None
        self._threads = self._own or threads
        self._session: Any = None
        self._outputs: list[str] = []
        self._texts: list[str] = []  # inputs of BYTES
        self._owner = graph.key.name.partition(".")[0]  # the model, whose preparations these runs share cores with
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def open(self, warm_up: Sequence[Tensors], quietly: bool) -> Loaded:
        loaded = await asyncio.to_thread(self._load)
        if quietly:
            return replace(loaded, row_costs_s=await self._costs_beside_traffic(warm_up))
        costs = {row_count(inputs): await self._cost_s(inputs) for inputs in warm_up}
        return replace(loaded, row_costs_s=costs)

    async def _costs_beside_traffic(self, warm_up: Sequence[Tensors]) -> dict[int, float]:
        """As `_cost_s` for each of the inputs, one run at a time and behind those of requests, which are the load.

        Sizes end where more rows cost no less each: batches of such sizes will not be cut. (Loading EfficientNet with
        all slots running made the p99 of 40 photos a second 28 times as long, and so 1.3 times.)
        """
        costs: dict[int, float] = {}
        for inputs in warm_up:
            rows = max(1, row_count(inputs))
            seconds = [(await self._run(inputs, ANY_TIME, behind=True)).run_s for _ in range(MEASURED_RUNS)]
            least_s = min(costs.values(), default=math.inf)
            costs[rows] = (HOP_S + min(seconds)) / rows
            if costs[rows] >= least_s:
                break
        return costs

    async def _cost_s(self, inputs: Tensors) -> float:
        """Seconds a row takes in a run of these inputs while all slots run, as they do under load.

        The first runs, which plan memory, do not count.
        """
        costs = []
        for _ in range(1 + MEASURED_RUNS):
            runs = await asyncio.gather(*(self.run(inputs, ANY_TIME) for _ in range(self._slots)))
            costs.append(HOP_S + max(run.run_s for run in runs))
        return min(costs[1:]) / max(1, row_count(inputs))

    async def close(self) -> None:
        """Returns when the runs have ended and the session is gone."""
        await self._idle.wait()
        self._session = None
        if self._own is not None:
            self._own.close()

    async def run(self, inputs: Tensors, call: Call) -> Run:
        self._running += 1
        self._idle.clear()
        try:
            return await self._run(inputs, call)
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def _run(self, inputs: Tensors, call: Call, *, behind: bool = False) -> Run:
        if self._texts:
            inputs = {name: _as_text(name, x) if name in self._texts else x for name, x in inputs.items()}
        limit_s = min(call.deadline_s, time.monotonic() + RUN_LIMIT_S)
        options = ort.RunOptions()
        stop = asyncio.get_running_loop().call_later(limit_s - time.monotonic(), _terminate, options)
        work = partial(self._session.run, self._outputs, inputs, options)
        try:
            running = self._threads.run_behind(work) if behind else self._threads.run(self._owner, work)
            outputs, waited_s, ran_s = await running
        except asyncio.CancelledError:
            _terminate(options)  # nobody waits for it any more, and the timer that would stop it goes too
            raise
        except InvalidArgument as error:
            log.warning("%s refused its input: %s", self._graph.key, error)
            raise TensorInvalid(f"{self._graph.key.name} cannot take these tensors.") from None
        except Exception as error:
            if options.terminate:  # not the clock: timers may be a part of a millisecond early
                raise DeadlinePassed("The run was stopped: it took too long.") from None
            log.exception("%s failed over a run", self._graph.key)
            raise EngineFailed(f"{self._graph.key.name} failed over this run.") from error
        finally:
            stop.cancel()
        named = dict(zip(self._outputs, outputs, strict=True))
        return Run(named, waited_s, ran_s, row_count(inputs))

    def _load(self) -> Loaded:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._cores
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors; its warnings speak of graphs that nobody here can change
        # Threads that spin for work would take the cores from decoding and from the other runs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = [name for name in PROVIDERS if name in ort.get_available_providers()]
        try:
            self._session = ort.InferenceSession(str(self._graph.file), options, providers=providers)
        except Exception as error:
            log.exception("%s cannot be loaded", self._graph.key)
            raise EngineFailed(f"{self._graph.key} cannot be loaded: its model file is not sound.") from error
        config = self._graph.config
        inputs = _specs(self._session.get_inputs(), config)
        outputs = _specs(self._session.get_outputs(), config)
        _compare(config.inputs, inputs, f"{config.name}/config.pbtxt", "input")
        _compare(config.outputs, outputs, f"{config.name}/config.pbtxt", "output")
        wanted = config.outputs or outputs
        _check_types((*inputs, *wanted), f"{self._graph.key}/{config.model_file}")
        self._outputs = [spec.name for spec in wanted]
        self._texts = [spec.name for spec in inputs if spec.datatype == "BYTES"]
        return Loaded(self._slots, config.inputs or inputs, wanted)


def _as_text(name: str, values: Array) -> Array:
    """ONNX Runtime's strings are UTF-8, and of Python's bytes it takes the printed form, `b'...'`."""
    texts = np.empty(values.shape, dtype=np.object_)
    try:
        texts.reshape(-1)[:] = [one.decode() if isinstance(one, bytes) else one for one in values.reshape(-1).tolist()]
    except UnicodeDecodeError:
        raise TensorInvalid(f"{name} has elements that are not UTF-8 text.") from None
    return texts


def _terminate(options: Any) -> None:
    """Asks the run to stop at its next node. Source: RunOptions.terminate of ONNX Runtime."""
    options.terminate = True


def _specs(nodes: Sequence[Any], config: GraphConfig) -> tuple[TensorSpec, ...]:
    """What the model file says of itself, without the batch axis where the model has one."""
    first = 1 if config.rules.max_batch_size else 0
    return tuple(
        TensorSpec(
            node.name,
            _DATATYPES.get(node.type, node.type),
            tuple(size if isinstance(size, int) else -1 for size in node.shape[first:]),
        )
        for node in nodes
    )


def _compare(stated: Sequence[TensorSpec], found: Sequence[TensorSpec], file: str, field: str) -> None:
    """Each tensor that config.pbtxt states must be in the model file, of the same type and of a shape that fits."""
    by_name = {spec.name: spec for spec in found}
    for i, spec in enumerate(stated):
        actual = by_name.get(spec.name)
        if actual is None:
            names = ", ".join(by_name)
            raise RepositoryInvalid(file, f"{field}[{i}].name", f"expected one of {names}; found {spec.name!r}")
        if actual.datatype != spec.datatype:
            expected = f"expected TYPE_{actual.datatype}, as in the model file; found TYPE_{spec.datatype}"
            raise RepositoryInvalid(file, f"{field}[{i}].data_type", expected)
        if not _shapes_agree(actual.shape, spec.shape):
            expected = f"expected {list(actual.shape)} behind the batch axis, as in the model file"
            raise RepositoryInvalid(file, f"{field}[{i}].dims", f"{expected}; found {list(spec.shape)}")


def _check_types(specs: Sequence[TensorSpec], file: str) -> None:
    """What callers send and get must be of types that the protocol can carry: no sequences, maps or bfloat16."""
    for spec in specs:
        if spec.datatype not in DTYPES:
            expected = f"expected one of {', '.join(DTYPES)}; found {spec.datatype}"
            raise RepositoryInvalid(file, spec.name, expected)


def _shapes_agree(one: Sequence[int], other: Sequence[int]) -> bool:
    return len(one) == len(other) and all(a == b or -1 in (a, b) for a, b in zip(one, other, strict=True))


PLUGIN = OnnxEngine
