"""What runs a batch: load, unload, run, close. A new engine is one file in `serving/engines/`.

Batching is an engine that wraps an engine (batching/batcher.py); an engine that batches by itself is not wrapped.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from serving.claim import Claims
from serving.errors import QueueFull, TensorInvalid
from serving.repository.config import BatchRules, TensorSpec
from serving.repository.layout import Graph, GraphKey
from serving.tensorrt import Host
from serving.tensors import DTYPES, Tensors, datatype
from serving.threads import Threads
from serving.trace import Place, Trace

FOLDER = "serving.engines"


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What an engine may need of the host; every engine's PLUGIN is called with it.

    threads: one a core, for whatever keeps a core busy. url: of the server that an engine stands for, as host:port;
    claims: what the gateways need that share it; host: what it is known to run on.
    """

    threads: Threads
    url: str = ""
    claims: Claims | None = None
    host: Host | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """What a run needs to know of its caller. `deadline_s` on time.monotonic()'s clock; `priority` 1 is most urgent.

    0 stands for the model's default priority. `begun_s`: of a request of several runs of a graph, when the first ended.
    Of one priority, what began earliest goes first, and what has begun is not turned away: its work would be lost.
    `request_id`: by which its caller knows it; empty of what nobody outside asked for. `caller`: the name of its key.
    `trace`: where its parts are noted and what is passed on, of a request that has one.
    """

    deadline_s: float = math.inf
    priority: int = 0
    begun_s: float = math.inf
    request_id: bytes = b""
    caller: str = ""
    trace: Trace | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """Outputs by name, row for row as the inputs were; seconds waited and seconds run; rows that ran together.

    batch: the span of their batch, if one of them is traced.
    """

    outputs: Tensors
    queue_s: float
    run_s: float
    batch_rows: int
    batch: Place | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """A graph that is ready: how many runs it takes at once, and what it wants and gives.

    row_costs_s: rows of a run -> seconds a row, as warm-up measured them; empty if it did not.
    """

    slots: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    row_costs_s: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Statistics:
    """What became of a graph's requests since it was loaded. Seconds add up over requests, failed ones apart.

    rows: of answered requests; runs: of the engine, each of one batch; batches: rows of a run -> how many such runs
    there were, and their seconds; last: Unix seconds of the last run, 0 for none; waiting: requests that wait now.
    """

    answered: int = 0
    failed: int = 0
    rows: int = 0
    runs: int = 0
    queue_s: float = 0.0
    run_s: float = 0.0
    failed_s: float = 0.0
    batches: Mapping[int, tuple[int, float]] = field(default_factory=dict)
    last: float = 0.0
    waiting: int = 0


ANY_TIME = Call()


class Engine(ABC):
    """Runs graphs. All methods are called from one event loop."""

    batches_itself: ClassVar[bool] = False

    @property
    def available(self) -> bool:
        """Whether what is loaded can answer now."""
        return True

    @abstractmethod
    async def load(self, graph: Graph, warm_up: Sequence[Tensors], *, quietly: bool = False) -> Loaded:
        """Makes a graph ready, each of the `warm_up` inputs run through it. EngineFailed if it cannot be.

        quietly: requests are being answered, which the warm-up must not hold up: it may be shorter.
        """

    @abstractmethod
    async def unload(self, key: GraphKey) -> None:
        """Lets a graph go, once its runs have ended. Nothing happens if it is not loaded."""

    @abstractmethod
    async def run(self, key: GraphKey, inputs: Tensors, call: Call = ANY_TIME) -> Run:
        """One run. Inputs have a batch axis, but for models of max_batch_size 0.

        TensorInvalid: the inputs do not fit; EngineFailed: it broke down; ModelNotReady: not loaded;
        DeadlinePassed: too late, nothing was started.
        """

    async def statistics(self, key: GraphKey) -> Statistics:
        """What became of the graph's requests, by whoever makes batches of them. ModelNotReady: not loaded."""
        raise NotImplementedError(f"{type(self).__name__} makes no batches of {key}.")

    def tallies(self) -> Mapping[GraphKey, Statistics]:
        """Statistics of all graphs whose batches are made in this process; of others, whoever makes them tells."""
        return {}

    @abstractmethod
    async def close(self) -> None:
        """Ends after all runs have ended. No run is taken from here on."""


def check_admission(name: str, rows: int, waiting_rows: int, rules: BatchRules, call: Call) -> None:
    """Whether a request may wait for its turn: TensorInvalid when it is larger than a batch, QueueFull when it may not.

    name: of the graph; waiting_rows: that wait already.
    """
    most = max(1, rules.max_batch_size)
    if rows > most:
        raise TensorInvalid(
            f"{rows} rows in one request; the model takes at most {most}.", remedy="Send fewer rows a request."
        )
    if waiting_rows + rows > rules.max_queue_rows and call.begun_s == math.inf:
        raise QueueFull(f"{waiting_rows} rows wait for {name} already.", remedy="Try again later.")


def check_inputs(inputs: Tensors, specs: Sequence[TensorSpec], *, batched: bool) -> None:
    """Compares tensors with what a graph wants; TensorInvalid says which tensor, what was expected and what was found.

    batched: the first axis is the batch axis, of equal length in all tensors and not in `specs`.
    """
    rows = -1
    for spec in specs:
        array = inputs.get(spec.name)
        if array is None:
            raise _other_tensors(inputs, specs)
        if array.dtype != DTYPES[spec.datatype]:
            raise TensorInvalid(f"{spec.name} is {datatype(array.dtype)}; the model takes {spec.datatype}.")
        shape = array.shape[1:] if batched else array.shape
        if (batched and not array.ndim) or (shape != spec.shape and not _fits(shape, spec.shape)):
            raise _other_shape(array.shape, spec, batched)
        if batched and rows not in (-1, len(array)):
            raise TensorInvalid("The tensors of the request differ in their number of rows.")
        rows = len(array) if batched else 1
    if len(inputs) != len(specs):
        raise _other_tensors(inputs, specs)
    if rows == 0:
        raise TensorInvalid("The request has no rows.", remedy="Send at least one.")


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(size in (-1, found) for size, found in zip(wanted, shape, strict=True))


def _other_tensors(inputs: Tensors, specs: Sequence[TensorSpec]) -> TensorInvalid:
    wanted = ", ".join(spec.name for spec in specs)
    return TensorInvalid(f"The model takes {wanted}; the request has {len(inputs)} tensors of other names or number.")


def _other_shape(found: tuple[int, ...], spec: TensorSpec, batched: bool) -> TensorInvalid:
    sizes = [*(["rows"] if batched else []), *("any" if size == -1 else str(size) for size in spec.shape)]
    return TensorInvalid(f"{spec.name} has shape {list(found)}; the model takes [{', '.join(sizes)}].")
