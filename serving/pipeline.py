"""READ FIRST: the path of a request, in order.

    gateway/routes/..., rpc/...   the body, read under limits; the deadline
      Pipeline.predict
        router.resolve            version first: labels and thresholds belong to it; the lease keeps it loaded
        task.answer               steps.pre    request -> tensors, on a worker thread     (tasks/<verb>.encode)
                                  steps.run    tensors -> tensors, rows of others beside  (batching -> engines)
                                  steps.post   tensors -> reply, by its labels            (tasks/<verb>.decode)
    then                          those who look on are shown it                          (observation/)
    then, the answer sent         a copy for the version in the shadow, if there is one   (shadow.py)
    failure anywhere              an error of errors.py, counted by its code; each transport has a table for them

`Pipeline.infer` is the same path for callers who bring tensors.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from serving.deadline import by_deadline
from serving.engine import Call, Engine
from serving.errors import InvalidInput, ShuttingDown, TaskMismatch, TidegateError
from serving.monitoring.agreement import same_tensors
from serving.observation.seen import Seen, Witness, tell
from serving.shadow import Shadows
from serving.steps import LentSteps
from serving.task import Reply, Request, Watcher
from serving.telemetry import Stages
from serving.tensors import Tensors
from serving.threads import Threads
from serving.versions.resident import Resident
from serving.versions.router import Router, Target

T = TypeVar("T")
SHADOW_S = 10.0  # for a copy to be answered
CALLER_LEFT = "caller_left"
AT_ONCE = 16  # of the rows that one caller sends together: enough for a batch or two, and the queue stays others' too


@dataclass(frozen=True, slots=True)
class Answer:
    """A task's reply and where its seconds went. `afterwards`: to be called when it was sent."""

    reply: Reply
    stages: Stages
    afterwards: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Answers:
    """The replies to several requests, in their order. `stages`: seconds of all of them, which overlap. `afterwards`:
    as of Answer, of the first request alone.
    """

    replies: Sequence[Reply]
    stages: Stages
    afterwards: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Inference:
    """Output tensors, the graph and version that gave them and where the seconds went. `afterwards`: as of Answer."""

    graph: str
    version: int
    outputs: Tensors
    stages: Stages
    afterwards: Callable[[], None] | None = None


class Pipeline:
    """Leads requests through router, task and engine."""

    def __init__(
        self, router: Router, engine: Engine, threads: Threads, shadows: Shadows, witnesses: Sequence[Witness] = ()
    ) -> None:
        self._router = router
        self._engine = engine
        self._threads = threads
        self._shadows = shadows
        self._witnesses = witnesses

    async def predict(
        self, verb: str, target: Target, request: Request[Any], call: Call, watcher: Watcher | None = None
    ) -> Answer:
        """The task's answer. Any error of errors.py but those of the repository."""
        with self._router.resolve(target, verb) as resident:
            return await self._answer(resident, request, call, watcher)

    async def predict_all(
        self,
        verb: str,
        target: Target,
        requests: Sequence[Request[Any]],
        call: Call,
        watcher: Watcher | None = None,
    ) -> Answers:
        """The answers of one version to all requests, as if each came alone, AT_ONCE at a time.

        Payloads of about the same length go together: their rows are then of the same shape, and meet in batches. The
        first error ends it: what is under way is let finish, and InvalidInput says which request, as its `index`.
        """
        answers: dict[int, Answer] = {}
        with self._router.resolve(target, verb) as resident:

            async def one(i: int) -> None:
                try:
                    answers[i] = await self._answer(resident, requests[i], call, _of_one(watcher, i))
                except InvalidInput as error:
                    error.extension = {**error.extension, "index": i}
                    raise

            await _in_turn(sorted(range(len(requests)), key=lambda i: len(requests[i].payload)), one)
        stages = Stages()
        for answer in answers.values():
            stages.add(answer.stages)
        return Answers([answers[i].reply for i in range(len(requests))], stages, answers[0].afterwards)

    async def _answer(self, resident: Resident, request: Request[Any], call: Call, watcher: Watcher | None) -> Answer:
        task = resident.task
        if task is None:  # the router checked the verb, but types cannot know
            raise TaskMismatch(f"{resident.version.model} does no task.")
        stages = Stages()
        steps = self._steps(resident, call, stages, watcher)
        started_s = time.monotonic()
        reply = await _held(resident, call, stages, task.answer(request, steps))
        if self._witnesses:
            lasted_s = time.monotonic() - started_s
            tell(self._witnesses, Seen(resident, request, steps.inputs, reply, call, stages, lasted_s))

        async def compare(shadow: Resident) -> float:
            if shadow.task is None:
                return 0.0
            late = Call(time.monotonic() + SHADOW_S)
            steps = self._steps(shadow, late, Stages())
            return task.agreement(reply, await by_deadline(late.deadline_s, shadow.task.answer(request, steps)))

        return Answer(reply, stages, self._mirror(resident, compare, lambda: task.group(reply)))

    async def infer(self, target: Target, inputs: Tensors, call: Call, graph: str = "") -> Inference:
        """One run of a graph on the caller's own tensors; TensorInvalid when they do not fit it.

        graph: its name in the repository, of a model that has several.
        """
        with self._router.resolve(target, None) as resident:
            role = resident.role(graph)
            stages = Stages()
            outputs = await _held(resident, call, stages, self._steps(resident, call, stages).run(role, inputs))

            async def compare(shadow: Resident) -> float:
                late = Call(time.monotonic() + SHADOW_S)
                run = self._steps(shadow, late, Stages()).run(shadow.role(graph), inputs)
                return same_tensors(outputs, await by_deadline(late.deadline_s, run))

            version = resident.version
            name = resident.key(role).name
            return Inference(name, version.number, outputs, stages, self._mirror(resident, compare))

    def _steps(self, resident: Resident, call: Call, stages: Stages, watcher: Watcher | None = None) -> LentSteps:
        return LentSteps(resident, self._engine, self._threads, call, stages=stages, watcher=watcher)

    def _mirror(
        self,
        resident: Resident,
        compare: Callable[[Resident], Awaitable[float]],
        group: Callable[[], str] = str,
    ) -> Callable[[], None] | None:
        """What starts a copy of an answered request; None when no version is in the shadow, or on trial and watched."""
        other, control = self._router.shadow(resident), False
        if other is None and self._shadows.due(resident.version.model):
            other = self._router.canary(resident)
            if other is None:
                other, control = self._router.control(resident), True
        if other is None:
            return None

        async def run() -> float:
            with other:
                return await compare(other)

        version = other.version
        return lambda: self._shadows.offer(version.model, version.number, run, group(), control=control)


def _of_one(watcher: Watcher | None, index: int) -> Watcher | None:
    """The watcher of several requests, told of one of them."""
    if watcher is None:
        return None
    told = watcher.told
    return replace(watcher, told=lambda progress: told(replace(progress, index=index)))


async def _in_turn(order: Iterable[int], one: Callable[[int], Awaitable[None]]) -> None:
    """Does `one` for each number, AT_ONCE at a time. After an error it begins no other, and raises it at the end."""
    rest = iter(order)
    failures: list[TidegateError] = []

    async def work() -> None:
        for i in rest:
            if failures:
                return
            try:
                await one(i)
            except TidegateError as error:
                failures.append(error)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())
    if failures:
        raise failures[0]


async def _held(resident: Resident, call: Call, stages: Stages, work: Awaitable[T]) -> T:
    """The work's result, held to the deadline, and metered however it ends."""
    started_s = time.monotonic()
    try:
        result = await by_deadline(call.deadline_s, work)
    except TidegateError as error:
        resident.meter.failed(error.code, fault=not isinstance(error, InvalidInput | ShuttingDown))
        error.of = (resident.version.model, resident.version.number)
        raise
    except asyncio.CancelledError:
        resident.meter.failed(CALLER_LEFT)
        raise
    except Exception:
        resident.meter.failed(TidegateError.code, fault=True)
        raise
    resident.meter.answered(time.monotonic() - started_s, stages)
    return result
