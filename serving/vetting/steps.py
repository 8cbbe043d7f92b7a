"""The steps of a vetting, in order. Each ends with figures, a problem, or why there is nothing to measure."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from serving.versions.measurements import Job, Step
from serving.vetting import measuring, soundness
from serving.vetting.bench import Bench, NothingToMeasure
from serving.vetting.reasons import reason

log = logging.getLogger(__name__)

Tell = Callable[[Step], None]
Measure = Callable[[Bench], Awaitable[Mapping[str, float]]]
# Nothing after one of these makes sense when it fails.
_SOUND: Final[dict[str, Measure]] = {
    "external_data": soundness.external_data,
    "load": soundness.load,
    "stable": soundness.load_stable,
    "signature": soundness.signature,
    "warm_up": soundness.warm_up,
    "answer": soundness.answer,
}
_GOOD: Final[dict[str, Measure]] = {
    "golden": measuring.golden,
    "batch": measuring.batch,
    "agreement": measuring.agreement,
    "latency": measuring.latency,
}


async def vet(job: Job, tell: Tell) -> None:
    """Tells each step as it ends, up to the first that shows the version to be unsound."""
    started_s = time.monotonic()
    try:
        bench = Bench(job)
    except Exception as error:  # noqa: BLE001  (the folder may have changed since the gateway read it)
        tell(Step(name="start", problem=reason(error)))
        return
    try:
        tell(Step(name="start", seconds=time.monotonic() - started_s))
        for name, measure in (_SOUND | _GOOD).items():
            step = await _step(name, measure, bench)
            tell(step)
            if step.problem and name in _SOUND:
                break
    finally:
        await bench.close()


async def _step(name: str, measure: Measure, bench: Bench) -> Step:
    started_s = time.monotonic()
    try:
        figures = await measure(bench)
    except NothingToMeasure as words:
        return Step(name=name, skipped=str(words), seconds=time.monotonic() - started_s)
    except Exception as error:
        log.debug("%s failed", name, exc_info=True)
        return Step(name=name, problem=reason(error), seconds=time.monotonic() - started_s)
    return Step(name=name, figures=figures, seconds=time.monotonic() - started_s)
