"""Captured requests through a candidate and through another version, in a process of their own.

Both are loaded on the embedded engine here, so nothing of it reaches a gateway, nor Triton. Each request is answered by
both in turn, twice, in the order one, other, other, one: what slows the host down for a while slows down both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from serving import engine as engines
from serving import plugins
from serving.batching.batcher import Batcher
from serving.capturing.folder import captured_of
from serving.capturing.record import Captured
from serving.engine import ANY_TIME, Engine, EngineOptions
from serving.errors import NotFound, ParameterInvalid, TaskMismatch, TidegateError, VersionNotFound
from serving.monitoring.side_by_side import Limits, Pair, Report, Turn, report
from serving.opening import open_ledger
from serving.repository.layout import Index, Model, Version, scan
from serving.settings import Settings
from serving.steps import LentSteps
from serving.task import Reply, Request
from serving.telemetry import Meters, Stages
from serving.threads import Threads
from serving.versions.loader import Loader
from serving.versions.refusals import absent, broken
from serving.versions.resident import Resident

ENGINE: Final = "onnx"
SEED: Final = "seed"
LONGEST: Final = 100  # characters of an answer in some words


@dataclass(frozen=True, slots=True)
class Order:
    """What to replay: the candidate of a model, against another version or, without one, the stable one.

    most: how many of the latest captured requests.
    """

    model: str
    candidate: int
    against: int | None
    most: int
    limits: Limits


async def replay(settings: Settings, order: Order, told: Callable[[int], None] = lambda _: None) -> Report:
    """Where the answers differ, and which were slower. told: of each request that is done, how many are.

    NotFound: no such model or version, or nothing was captured; RepositoryInvalid, EngineFailed: it cannot be loaded.
    """
    before, candidate = await _versions(settings, order)
    threads = Threads(settings.cores, settings.cores)
    inner: Engine = plugins.find(engines.FOLDER, ENGINE, "PLUGIN")(EngineOptions(threads))
    engine = Batcher(inner, lambda _: None)
    try:
        loader = Loader(engine, Meters())
        bench = _Bench(engine, threads, await loader.load(before), await loader.load(candidate))
        pairs, unreadable = await bench.all(settings.state, order, told)
    finally:
        await engine.close()
        threads.close()
    if not pairs:
        detail = f"No request to {order.model} is captured in {settings.state} that can be read."
        raise NotFound(detail, remedy="Serve with TIDEGATE_CAPTURE=0.01, say, and see docs/replay.md.")
    return report(order.model, (before.number, candidate.number), pairs, unreadable, order.limits)


async def _versions(settings: Settings, order: Order) -> tuple[Version, Version]:
    index = scan(settings.repository)
    candidate = _found(index, order.model, order.candidate)
    against = order.against or await _stable(settings, index.models[order.model])
    if against == order.candidate:
        remedy = "Name another one with --against."
        raise ParameterInvalid(f"Version {against} would be held against itself.", remedy=remedy)
    return _found(index, order.model, against), candidate


def _found(index: Index, model: str, number: int) -> Version:
    """ModelNotFound, VersionNotFound: what the repository has instead, or what is wrong with it."""
    if model not in index.models:
        raise absent(index, model)
    version = index.models[model].versions.get(number)
    if version is not None:
        return version
    verdict = broken(index, model, number)
    raise VersionNotFound(verdict.checks[0].detail)


async def _stable(settings: Settings, model: Model) -> int:
    """As the state has it, or as a model without state begins."""
    ledger = open_ledger(settings)
    try:
        pointers = (await ledger.read()).models.get(model.name)
    finally:
        await ledger.close()
    return pointers.stable if pointers else model.first_version


class _Bench:
    """Both versions, loaded on one engine."""

    def __init__(self, engine: Engine, threads: Threads, before: Resident, candidate: Resident) -> None:
        self._engine = engine
        self._threads = threads
        self._residents = (before, candidate)
        tasks = [resident.task.verb if resident.task else "" for resident in self._residents]
        if not tasks[0] or tasks[0] != tasks[1]:
            raise TaskMismatch("Both versions must do one task, and the same.", remedy="Name another with --against.")

    async def all(self, state: Path, order: Order, told: Callable[[int], None]) -> tuple[list[Pair], int]:
        """The pairs, and how many captured requests could not be read."""
        pairs: list[Pair] = []
        unreadable = 0
        for captured in captured_of(state, order.model, order.most):
            request = self._request(captured) if captured is not None else None
            if captured is None or request is None:
                unreadable += 1
                continue
            if not pairs:  # what the first one costs alone is no version's own
                await self._turns(request)
            pairs.append(await self._pair(captured, request, len(pairs)))
            told(len(pairs))
        return pairs, unreadable

    def _request(self, captured: Captured) -> Request[Any] | None:
        """None: it is of another task, or this release knows no such parameters."""
        task: Any = self._residents[0].task
        if captured.task != task.verb or captured.kind not in task.payloads:
            return None
        parameters = dict(captured.parameters)
        if SEED in task.parameters.model_fields:  # or chance would make the difference
            parameters = {SEED: 0} | {name: value for name, value in parameters.items() if value is not None}
        try:
            checked = task.parameters.model_validate(parameters)
        except ValidationError:
            return None
        return Request(captured.payload, checked, captured.media_type, captured.kind)

    async def _pair(self, captured: Captured, request: Request[Any], place: int) -> Pair:
        order = (0, 1, 1, 0) if place % 2 == 0 else (1, 0, 0, 1)
        turns: Mapping[int, list[tuple[float, Reply | TidegateError]]] = {0: [], 1: []}
        for which in order:
            turns[which].append(await self._turn(which, request))
        replies = [turns[which][0][1] for which in (0, 1)]
        before, candidate = (_told(min(turn[0] for turn in turns[which]), replies[which]) for which in (0, 1))
        return Pair(captured.request_id, captured.at, self._agreement(*replies), before, candidate)

    async def _turns(self, request: Request[Any]) -> None:
        for which in (0, 1):
            await self._turn(which, request)

    async def _turn(self, which: int, request: Request[Any]) -> tuple[float, Reply | TidegateError]:
        resident = self._residents[which]
        task: Any = resident.task
        steps = LentSteps(resident, self._engine, self._threads, ANY_TIME, stages=Stages(), watcher=None)
        started_s = time.perf_counter()
        try:
            answer: Reply | TidegateError = await task.answer(request, steps)
        except TidegateError as error:
            answer = error
        return time.perf_counter() - started_s, answer

    def _agreement(self, one: Reply | TidegateError, other: Reply | TidegateError) -> float:
        """Two refusals agree where they are the same."""
        if isinstance(one, TidegateError) or isinstance(other, TidegateError):
            return float(getattr(one, "code", None) == getattr(other, "code", None))
        task: Any = self._residents[0].task
        return float(task.agreement(one, other))


def _told(seconds: float, reply: Reply | TidegateError) -> Turn:
    if isinstance(reply, TidegateError):
        return Turn(seconds, reply.code, failed=True)
    return Turn(seconds, _brief(reply))


def _brief(reply: Reply) -> str:
    """An answer in some words: its labels, or its text, or its fields."""
    fields: Mapping[str, Any] = reply.model_dump(exclude={"model", "version", "content"})
    predictions = fields.get("predictions")
    if isinstance(predictions, list):
        text = ", ".join(f"{one['label']} {one['score']:.2f}" for one in predictions[:3]) or "nothing"
        text += f" and {len(predictions) - 3} more" if len(predictions) > 3 else ""
    else:
        text = str(fields.get("text") or ", ".join(f"{name} {value}" for name, value in fields.items()))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
