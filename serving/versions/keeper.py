"""Keeps the versions of one model loaded as its pointers want. What to do next is policy.py's; here it is done."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from serving.errors import EngineAway, RepositoryInvalid, TidegateError
from serving.ledger import Pointers
from serving.repository.layout import GraphKey, Model
from serving.versions.catalog import GraphState, task_of
from serving.versions.dependents import Dependents, NoDependents
from serving.versions.loader import Loader
from serving.versions.policy import Load, Step, Unload, next_step, wanted_versions
from serving.versions.resident import Resident
from serving.versions.router import Route, Router

log = logging.getLogger(__name__)

RETRY_SOON_S: Final = 0.5  # when it is the engine's server that is away, and not the version that is at fault
RETRY_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)


@dataclass(frozen=True, slots=True)
class Failure:
    """A version that could not be loaded: why, how often, and when to try again on time.monotonic()'s clock."""

    reason: str
    tries: int
    retry_s: float


class Keeper:
    """One model's residents. `turn`: held over each load, which measures and so wants the machine to itself.

    changed: called when something was loaded, let go, or failed.
    """

    def __init__(
        self,
        model: Model,
        loader: Loader,
        router: Router,
        turn: asyncio.Lock,
        changed: Callable[[], None],
        *,
        dependents: Dependents | None = None,
    ) -> None:
        self.model = model
        self.pointers = Pointers(stable=model.first_version)
        self.failures: dict[int, Failure] = {}
        self._loader = loader
        self._router = router
        self._turn = turn
        self._changed = changed
        self._dependents = dependents or NoDependents()
        self._residents: dict[int, Resident] = {}
        self._leaving: dict[int, asyncio.Task[None]] = {}  # routed to no more, waiting for their last lease
        self._serving: Resident | None = None
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._route()

    @property
    def ready(self) -> tuple[int, ...]:
        """The versions that can answer at once."""
        return tuple(sorted(self._residents))

    @property
    def serving(self) -> int | None:
        """The version that answers those who name none and meet no canary."""
        return self._serving.version.number if self._serving else None

    def states(self) -> list[GraphState]:
        """Of each graph of each version that is published or loaded."""
        loaded = {number: resident.version for number, resident in self._residents.items()}
        versions = sorted({**self.model.versions, **loaded}.items())
        return [self._state(graph.key) for _, version in versions for graph in version.graphs.values()]

    def follow(self, model: Model, pointers: Pointers) -> None:
        """Points where the ledger points, at once as far as it is loaded; the rest is loaded and let go meanwhile."""
        if self._attempt(pointers) != self._attempt(self.pointers) or model is not self.model:
            self.failures.clear()  # somebody tries again, or something was published
        self.model, self.pointers = model, pointers
        self._route()
        self._wake.set()

    def look_again(self) -> None:
        """To be called when dependents need other versions than before."""
        self._wake.set()

    async def load_stable(self) -> None:
        """Loads the version that shall answer, if there is one and it is not there."""
        if not self.pointers.unloaded and self.pointers.stable not in self._residents:
            await self._load(self.pointers.stable)

    def start(self) -> None:
        """Keeps on until `close`."""
        self._task = asyncio.create_task(self._keep(), name=f"keep {self.model.name}")

    async def close(self) -> None:
        """Unloads all, each version when its last lease has ended."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        for version in self.ready:
            self._retire(version)
        await asyncio.gather(*self._leaving.values())

    def _state(self, graph: GraphKey) -> GraphState:
        number = graph.version
        if number in self._residents:
            return GraphState(graph.name, number, "READY")
        if number in self._leaving:
            return GraphState(graph.name, number, "UNLOADING")
        if number in self.failures:
            return GraphState(graph.name, number, "UNAVAILABLE", self.failures[number].reason)
        if number in self._wanted():
            return GraphState(graph.name, number, "LOADING")
        return GraphState(graph.name, number, "UNAVAILABLE", "It is not among those to be kept loaded.")

    async def _keep(self) -> None:
        while True:
            self._wake.clear()
            step = self._next_step()
            if isinstance(step, Load):
                await self._load(step.version)
            elif isinstance(step, Unload):
                self._retire(step.version)
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._patience_s()):  # wait_for loses a cancellation, before Python 3.12
                        await self._wake.wait()

    def _wanted(self) -> tuple[int, ...]:
        return wanted_versions(self.pointers, self._dependents.needed(self.model.name))

    def _next_step(self) -> Step | None:
        now_s = time.monotonic()
        failed = [version for version, failure in self.failures.items() if failure.retry_s > now_s]
        return next_step(
            self._wanted(),
            self._residents,
            leaving=self._leaving,
            failed=failed,
            serving=self.serving,
        )

    def _patience_s(self) -> float | None:
        """Until a failed load is tried again; None when there is none to try."""
        wanted = self._wanted()
        waits = [failure.retry_s for version, failure in self.failures.items() if version in wanted]
        return max(0.05, min(waits) - time.monotonic()) if waits else None

    async def _load(self, number: int) -> None:
        attempt = self._attempt(self.pointers)
        try:
            async with self._turn:
                version = self.model.versions.get(number)
                if version is None:
                    expected = f"expected a sound version folder {number}, which the ledger names"
                    raise RepositoryInvalid(f"{self.model.name}/{number}", "", expected, remedy="Publish it again.")
                resident = await self._loader.load(version, quietly=self._task is not None)
        except TidegateError as error:
            self._fail(number, str(error), attempt, RETRY_SOON_S if isinstance(error, EngineAway) else None)
        except Exception:
            log.exception("%s/%d cannot be loaded", self.model.name, number)
            self._fail(number, "It met a bug while it was loaded; the log has it.", attempt)
        else:
            log.info("%s is ready", resident.version.name)
            self.failures.pop(number, None)
            self._residents[number] = resident
            self._route()
            self._changed()

    def _fail(self, number: int, reason: str, attempt: tuple[object, ...], pause_s: float | None = None) -> None:
        if attempt != self._attempt(self.pointers):
            log.error(
                "%s/%d is not ready: %s If it is still wanted, it is tried anew.", self.model.name, number, reason
            )
            return  # somebody asked meanwhile, maybe after mending it
        before = self.failures.get(number)
        tries = before.tries + 1 if before else 0
        pause_s = pause_s or RETRY_S[min(tries, len(RETRY_S) - 1)]
        self.failures[number] = Failure(reason, tries, time.monotonic() + pause_s)
        if before is None or before.reason != reason or pause_s != RETRY_SOON_S:
            log.error("%s/%d is not ready: %s Next try in %.1f s.", self.model.name, number, reason, pause_s)
        self._changed()

    def _retire(self, number: int) -> None:
        """Takes the version out of the routes, and lets it go when its last lease ends."""
        resident = self._residents.pop(number)
        self._route()
        self._changed()
        self._leaving[number] = asyncio.create_task(self._unload(resident), name=f"unload {resident.version.name}")

    async def _unload(self, resident: Resident) -> None:
        try:
            await self._loader.unload(resident)
        except Exception:
            log.exception("%s cannot be let go", resident.version.name)
        finally:
            del self._leaving[resident.version.number]
            self._wake.set()

    def _route(self) -> None:
        """Routes as the pointers say, as far as the versions are loaded; a stable one that is not yet here leaves the
        place to the one that answers already. Nowhere while the model is unloaded.
        """
        pointers = self.pointers
        residents = {} if pointers.unloaded else self._residents
        before = self._serving
        if before is not None and residents.get(before.version.number) is not before:
            before = None
        self._serving = residents.get(pointers.stable) or before
        if self._serving is not None and self._serving is not before:
            log.info("%s answers", self._serving.version.name)
        canary = residents.get(pointers.canary.version) if pointers.canary else None
        verb = self._serving.task.verb if self._serving and self._serving.task else task_of(self.model)
        self._router.set_route(
            self.model.name,
            Route(
                task=verb,
                stable=self._serving,
                canary=canary if canary is not self._serving else None,
                percent=pointers.canary.percent if pointers.canary else 0.0,
                shadow=residents.get(pointers.shadow) if pointers.shadow else None,
                residents=dict(residents),
                unloaded=pointers.unloaded,
            ),
        )

    @staticmethod
    def _attempt(pointers: Pointers) -> tuple[object, ...]:
        return pointers.stable, pointers.unloaded, pointers.loads, pointers.wanted.id if pointers.wanted else ""
