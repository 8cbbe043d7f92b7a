"""What comes of one job: its errand through the pipeline, tried again where it failed only for the moment."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from serving.engine import Call
from serving.errand import Errand, read_errand, write_replies
from serving.errors import Busy, EngineFailed, ModelNotReady, TidegateError
from serving.job_store import Failure, Job
from serving.observation.tracing import Tracing
from serving.pipeline import Pipeline
from serving.run_report import RunReport
from serving.task import Watcher
from serving.trace import Trace, Value
from serving.traced import code_of

log = logging.getLogger(__name__)

PAUSES_S: Final = (1.0, 5.0)  # before another try, where the engine or the model was not there for a moment
PASSING: Final = (Busy, EngineFailed, ModelNotReady)
BUG: Final = Failure("internal_error", "This job met a bug. The gateway's log has it under the job's id.")
UNREADABLE: Final = Failure("job_unreadable", "This release of the gateway cannot read what the job is to do.")


async def outcome(
    job: Job, pipeline: Pipeline, report: RunReport, timeout_s: float, tracing: Tracing
) -> bytes | Failure:
    """The replies as they are kept, or why there are none. timeout_s: the longest that each try may take."""
    for pause_s in (*PAUSES_S, None):
        try:
            return await _try(job, pipeline, report, timeout_s, tracing)
        except PASSING as error:
            if pause_s is None:
                return Failure(error.code, str(error))
            log.warning("job %s waits for another try: %s", job.id, error)
            await asyncio.sleep(pause_s)
        except TidegateError as error:
            return Failure(error.code, str(error))
        except Exception:
            log.exception("job %s failed", job.id)
            return BUG
    return BUG


async def _try(job: Job, pipeline: Pipeline, report: RunReport, timeout_s: float, tracing: Tracing) -> bytes | Failure:
    """The version is chosen now, and stays the same for all of the job's requests."""
    try:
        errand = read_errand(job.content)
    except (ValueError, TidegateError):
        log.exception("job %s cannot be read", job.id)
        return UNREADABLE
    report.begin(len(errand.requests))
    watcher = Watcher(report.told, errand.preview_every)
    with traced_job(tracing, job.id, errand) as trace:
        call = Call(time.monotonic() + timeout_s, trace=trace)
        answers = await pipeline.predict_all(errand.verb, errand.target, errand.requests, call, watcher)
    if answers.afterwards is not None:
        answers.afterwards()
    return write_replies(answers.replies)


@contextmanager
def traced_job(tracing: Tracing, ident: str, errand: Errand) -> Iterator[Trace | None]:
    """A try as a span of the trace of the request that ordered the job, if that has one."""
    parents = (errand.traceparent.encode(),) if errand.traceparent else ()
    trace = tracing.read(parents, ()) if parents else None
    started_s, code = time.monotonic(), ""
    try:
        yield trace
    except BaseException as error:
        code = "cancelled" if isinstance(error, asyncio.CancelledError) else code_of(error)
        raise
    finally:
        if trace is not None:
            times = (started_s, time.monotonic())
            said: dict[str, Value] = {"tidegate.job_id": ident}
            tracing.finish(trace, f"job {errand.verb}", "consumer", attributes=said, times=times, error=code)
