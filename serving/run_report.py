"""What a running job has to tell, until it is written down: how far it has come, and its previews."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Final

import orjson

from serving.job_store import Reached, Report, Told
from serving.task import Progress

MOST_PENDING: Final = 200  # while the store is away; the oldest are left out


class RunReport:
    """Of one job. changed: called when there is something new."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._requests = 1
        self._steps: dict[int, int] = {}
        self._reached: Reached | None = None
        self._told: list[Told] = []

    def begin(self, requests: int) -> None:
        """Counts anew, of so many requests."""
        self._requests = requests
        self._steps = {}
        self._reached = None

    def told(self, progress: Progress) -> None:
        """Takes note of a step. Steps of all the job's requests add up: each has as many."""
        self._steps[progress.index] = progress.step
        reached = self._reached = Reached(sum(self._steps.values()), progress.steps * self._requests)
        step = {"step": reached.step, "of": reached.of}
        if self._told and self._told[-1].kind == "progress":
            self._told.pop()  # steps that are quicker than the store are told together
        self._told.append(Told("progress", orjson.dumps(step)))
        if progress.preview is not None:
            preview = {**step, "index": progress.index, "b64_json": base64.b64encode(progress.preview).decode()}
            self._told.append(Told("preview", orjson.dumps(preview)))
        del self._told[:-MOST_PENDING]
        self._changed()

    def pending(self) -> Report:
        """What was not written down yet."""
        return Report(self._reached, tuple(self._told))

    def written(self, report: Report) -> None:
        """Forgets what was."""
        written = set(map(id, report.told))
        self._told = [told for told in self._told if id(told) not in written]
