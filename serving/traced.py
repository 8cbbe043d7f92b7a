"""Runs of requests that are traced: what is noted of them, and of the batches in which they met others."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Final

from serving.engine import Call, Engine, Run
from serving.errors import TidegateError
from serving.repository.layout import GraphKey
from serving.tensors import Tensors
from serving.trace import MOST_LINKS, Part, Place, Trace, Value, first_place

BROKE: Final = "internal_error"


def waited(trace: Trace, name: str, started_s: float, waited_s: float, ran_s: float) -> None:
    """Notes what waited its turn and was then done."""
    begun_s = started_s + waited_s
    trace.did("queue", started_s, begun_s)
    trace.did(name, begun_s, begun_s + ran_s)


async def traced_run(engine: Engine, key: GraphKey, inputs: Tensors, call: Call, trace: Trace) -> Run:
    """The run, noted with its wait and a link to its batch; what it passes on names it as what is above."""
    mine = trace.below()
    started_s = time.monotonic()
    try:
        run = await engine.run(key, inputs, replace(call, trace=mine))
    except Exception as error:
        _note_run(trace, mine.place, key, (started_s, time.monotonic()), error=code_of(error))
        raise
    begun_s = started_s + run.queue_s
    trace.did("queue", started_s, begun_s)
    _note_run(trace, mine.place, key, (begun_s, begun_s + run.run_s), run=run)
    return run


async def as_batch(work: Awaitable[Run], traces: Sequence[Trace], key: GraphKey, requests: int) -> Run:
    """The run of a batch in which some requests are traced: a span of its own, in a trace of its own, that links to
    theirs. It is kept with the first of them that is still waited for.
    """
    place = first_place()
    started_s = time.monotonic()
    rows, code = 0, ""
    try:
        run = await work
        rows = run.batch_rows
        return replace(run, batch=place)
    except Exception as error:
        code = code_of(error)
        raise
    finally:
        attributes: dict[str, Value] = {**_graph(key), "tidegate.batch.requests": requests}
        if rows:
            attributes["tidegate.batch.rows"] = rows
        links = tuple(trace.place for trace in traces[:MOST_LINKS])
        traces[0].note(Part("batch", place, None, started_s, time.monotonic(), attributes, links, code))


def code_of(error: BaseException) -> str:
    """The stable code of a failure, whatever it says."""
    return error.code if isinstance(error, TidegateError) else BROKE


def _note_run(
    trace: Trace, place: Place, key: GraphKey, times: tuple[float, float], *, error: str = "", run: Run | None = None
) -> None:
    if not trace.recorded:
        return
    attributes: dict[str, Value] = {**_graph(key), **({"tidegate.batch.rows": run.batch_rows} if run else {})}
    links = (run.batch,) if run is not None and run.batch is not None else ()
    trace.note(Part("run", place, trace.place, *times, attributes, links, error))


def _graph(key: GraphKey) -> dict[str, Value]:
    return {"tidegate.graph": key.name, "tidegate.version": key.version}
