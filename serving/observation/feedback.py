"""What was answered meets the truth: a live metric of each version.

The truth may come to a gateway for as long as it remembers its answer, once; another truth for the same answer is
refused, and the same one again changes nothing, so that whoever is unsure may send it again.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import orjson
from pydantic import BaseModel

from serving.errors import AnswerNotFound, InvalidInput, TruthGiven, TruthInvalid
from serving.monitoring.score import Score
from serving.observation.answers import Answers, Judged, Remembered
from serving.observation.feedback_meters import FeedbackMeters
from serving.observation.seen import Seen
from serving.task import Gist, Task
from serving.threads import Threads
from serving.trial import Group

LATEST: Final = 1000  # truths that the gauge is the mean of
_new: Final = tuple.__new__  # a third of the time that the class itself takes; each request pays it
OWNER: Final = "feedback"  # of the worker threads' time
UNKNOWN_MODEL: Final = "_other"


class Sums(NamedTuple):
    """Of all truths of a version since the gateway started; none of these ever falls.

    truths: how many. quality: the sum of the qualities, each 0 to 1; squares: of their squares. error: of the errors,
    of tasks that have them.
    """

    truths: int = 0
    quality: float = 0.0
    squares: float = 0.0
    error: float = 0.0


class Told(NamedTuple):
    """A truth. caller: the name of the key that it came with."""

    request_id: bytes
    truth: Any
    caller: str = ""


class Scored(BaseModel):
    """What came of a truth. error: as of Score."""

    model: str
    version: int
    metric: str
    quality: float
    error: float | None = None


class LiveMetric(BaseModel):
    """How good a version's answers were, by the truths that this gateway was told since it started.

    mean: of all; latest: of the latest 1,000. mean_error: in the task's unit, of tasks that give numbers.
    """

    version: int
    metric: str
    count: int
    mean: float
    latest: float
    mean_error: float | None = None


@dataclass(slots=True)
class _Live:
    metric: str
    sums: Sums = field(default_factory=Sums)
    has_error: bool = False
    by_truth: Group = field(default_factory=Group)
    latest: deque[float] = field(default_factory=lambda: deque(maxlen=LATEST))

    @property
    def mean_of_latest(self) -> float:
        return sum(self.latest) / len(self.latest) if self.latest else float("nan")


class Feedback:
    """Remembers answers as it sees them given, and takes the truth about them."""

    def __init__(
        self, answers: Answers, meters: FeedbackMeters, threads: Threads, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.answers = answers
        self._meters = meters
        self._threads = threads
        self._clock = clock
        self._live: dict[tuple[str, int], _Live] = {}

    def saw(self, seen: Seen) -> None:
        """A witness (observation/seen.py). Keeps what has an id and a gist."""
        call, task = seen.call, seen.resident.task
        if task is None or not call.request_id:
            return
        gist = task.gist(seen.reply)
        if gist is not None:
            self.answers.keep(call.request_id, _new(Remembered, (task, call.caller, gist)), self._clock())

    def knows(self, told: Told) -> bool:
        """Whether there is an answer to this caller that the truth is about."""
        one = self.answers.find(told.request_id, self._clock())
        return one is not None and one.caller == told.caller

    def passed_on(self, count: int) -> None:
        """Counts truths that went to other gateways."""
        self._meters.count(UNKNOWN_MODEL, "passed_on", count)

    async def tell(self, told: Told) -> Scored:
        """Scores an answer by the truth. AnswerNotFound: there is none of that id, or it was for another caller;
        TruthInvalid: the truth does not fit; TruthGiven: it is not the one that was told before. QueueFull: too many at
        once.
        """
        one = self.answers.find(told.request_id, self._clock())
        if one is None or one.caller != told.caller:
            raise self._unknown()
        try:
            digest = _digest(told.truth)
            if isinstance(one, Judged):
                return self._again(one, digest)
            score = await self._score(one.task, one.gist, told.truth)
        except InvalidInput:
            self._meters.count(one.task.model, "unfit")
            raise
        now = self.answers.find(told.request_id, self._clock())
        if isinstance(now, Judged):  # while it was scored here, on another thread
            return self._again(now, digest)
        if now is not one:  # it was forgotten meanwhile, and so would be that it was scored
            raise self._unknown()
        self.answers.judge(told.request_id, one, digest, score, self._clock())
        self._count(one.task, score)
        return _scored(one.task, score)

    def sums(self, model: str, version: int) -> Sums:
        """What truths have said of a version so far."""
        live = self._live.get((model, version))
        return live.sums if live else Sums()

    def totals(self, model: str, version: int) -> tuple[int, float]:
        """Of `sums`, how many truths there were and the sum of the qualities."""
        return self.sums(model, version)[:2]

    def totals_by(self, model: str, version: int) -> Mapping[str, tuple[int, float]]:
        """The same by what is true, of tasks whose truth is one of few: of as many as Group takes."""
        live = self._live.get((model, version))
        return live.by_truth.totals() if live else {}

    def metrics(self, model: str) -> list[LiveMetric]:
        """The live metric of each version of a model that has one."""
        found = [(version, live) for (name, version), live in self._live.items() if name == model]
        return [_shown(version, live) for version, live in sorted(found, key=lambda pair: pair[0])]

    async def _score(self, task: Task[Any], gist: Gist, truth: Any) -> Score:
        if isinstance(gist, int | str):
            return task.score(gist, truth)
        score, *_ = await self._threads.prepare(OWNER, lambda: task.score(gist, truth))
        return score

    def _unknown(self) -> AnswerNotFound:
        self._meters.count(UNKNOWN_MODEL, "unknown")
        return AnswerNotFound(
            "This gateway remembers no such answer to this caller.",
            remedy="Send the X-Request-Id of an answer that takes truths, soon, and with the same key.",
        )

    def _again(self, one: Judged, digest: bytes) -> Scored:
        same = one.truth == digest
        self._meters.count(one.task.model, "repeated" if same else "conflicting")
        if not same:
            raise TruthGiven(
                "Another truth was told of this answer before; it counts.", remedy="Send one truth for each answer."
            )
        return _scored(one.task, one.score)

    def _count(self, task: Task[Any], score: Score) -> None:
        key = (task.model, task.version)
        live = self._live.get(key)
        if live is None:
            live = self._live[key] = _Live(score.metric)
            self._meters.follow(*key, score.metric, lambda: live.mean_of_latest)
        count, quality, squares, error = live.sums
        more = score.error or 0.0
        live.sums = Sums(count + 1, quality + score.quality, squares + score.quality**2, error + more)
        live.has_error = live.has_error or score.error is not None
        live.latest.append(score.quality)
        live.by_truth.add(score.truth, score.quality)
        self._meters.scored(*key, score)


def _digest(truth: Any) -> bytes:
    """By which the same truth is known again, whatever the order of its keys."""
    try:
        written = orjson.dumps(truth, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # it reads what it will not write: more than 254 levels
        raise TruthInvalid("truth: it is nested too deeply.", remedy="Send it as the task takes it.") from None
    return hashlib.blake2b(written, digest_size=8).digest()


def _scored(task: Task[Any], score: Score) -> Scored:
    return Scored(model=task.model, version=task.version, metric=score.metric, quality=score.quality, error=score.error)


def _shown(version: int, live: _Live) -> LiveMetric:
    count, quality, _, error = live.sums
    return LiveMetric(
        version=version,
        metric=live.metric,
        count=count,
        mean=quality / count,
        latest=live.mean_of_latest,
        mean_error=error / count if live.has_error else None,
    )
