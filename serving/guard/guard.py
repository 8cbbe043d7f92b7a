"""Watches versions on trial, and moves them on or back. All gateways weigh the same evidence; one of them acts.

Each second: what is on trial, by the pointers; what all gateways saw of it, by what they announce; what it proves; and
if this gateway leads, what is to be done about it. A gateway that takes over has the evidence already.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from serving.claim import Claims, ClaimsUnavailable
from serving.errors import ChangeRefused, TidegateError
from serving.guard.acting import Acting
from serving.guard.case import Hold
from serving.guard.meters import GuardMeters
from serving.guard.standing import Standing, policy_of, standing
from serving.guard.watched import TrialState, Watched
from serving.ledger import Pointers
from serving.observation.drift import Drift
from serving.shadow import Shadows
from serving.trial import Mode, Policy
from serving.versions.reconciler import Reconciler

log = logging.getLogger(__name__)

TICK_S: Final = 0.5  # gateways say what they saw once a second
PAUSE_S: Final = 5.0  # after something could not be done
TURN: Final = "guard"


class Guard:
    """mode: of models that nobody said anything of. shadows, drift: are told whose requests to look at more closely."""

    def __init__(
        self,
        reconciler: Reconciler,
        claims: Claims,
        acting: Acting,
        shadows: Shadows,
        *,
        drift: Drift,
        meters: GuardMeters,
        mode: Mode,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.leads = False
        self._reconciler = reconciler
        self._claims = claims
        self._acting = acting
        self._shadows = shadows
        self._drift = drift
        self._meters = meters
        self._mode = mode
        self._clock = clock
        self._watched: dict[str, Watched] = {}
        self._doing: dict[str, asyncio.Task[None]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        meters.leading.set_function(lambda: float(self.leads))

    async def start(self) -> None:
        """Keeps on until `close`."""
        for work in (self._lead, self._keep_looking):
            self._tasks.append(asyncio.create_task(work(), name=f"guard: {work.__name__}"))

    async def close(self) -> None:
        """Ends; a change that is being made is let finish or ends as changes do."""
        for task in (*self._tasks, *self._doing.values()):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._doing.values(), return_exceptions=True)
        await self._acting.close()

    def states(self) -> dict[str, TrialState]:
        """The trials, by model."""
        return {model: watched.state() for model, watched in self._watched.items()}

    def policy(self, model: str) -> Policy:
        """How a model's versions are guarded now."""
        pointers = self._reconciler.pointers(model)
        return policy_of(model, pointers, self._reconciler.index, self._mode) if pointers else Policy(mode=self._mode)

    def look(self) -> None:
        """One look at everything that is on trial."""
        document, now_s = self._reconciler.document, self._clock()
        for model in self._watched.keys() - document.models.keys():
            self._forget(model)
        for model, pointers in document.models.items():
            self._look_at(model, pointers, now_s)
        canaries = frozenset(model for model, one in self._watched.items() if one.standing.kind == "canary")
        self._shadows.copied = canaries
        self._drift.watch_closely(canaries)

    def _look_at(self, model: str, pointers: Pointers, now_s: float) -> None:
        policy = policy_of(model, pointers, self._reconciler.index, self._mode)
        trial = standing(model, pointers, policy, now_s) if policy.mode != "off" else None
        if trial is None:
            self._forget(model)
            return
        watched = self._watched.get(model)
        if watched is None or watched.standing.key != trial.key or _weighs_otherwise(watched.policy, policy):
            watched = self._watched[model] = Watched(trial, policy, now_s)
        watched.follow(trial, policy)
        decision = watched.look(self._reconciler.members, now_s)
        self._meters.show(model, trial.candidate, watched.findings)
        if self.leads and not isinstance(decision, Hold) and model not in self._doing:
            self._do(watched, trial)

    def _do(self, watched: Watched, trial: Standing) -> None:
        if watched.policy.mode == "advise":
            said = f"{type(watched.decision).__name__} {trial.percent}"
            if watched.advised != said:
                watched.advised = said
                self._spawn(trial.model, self._acting.advise(watched))
        else:
            self._spawn(trial.model, self._acting.act(watched))

    def _spawn(self, model: str, work: Coroutine[Any, Any, None]) -> None:
        async def guarded() -> None:
            try:
                await work
                await asyncio.sleep(TICK_S)  # the change is followed here as well before it is looked at again
            except ChangeRefused as refused:
                log.info("the guard of %s: %s", model, refused)
                await asyncio.sleep(TICK_S)
            except TidegateError as error:
                log.warning("the guard of %s could not act: %s", model, error)
                await asyncio.sleep(PAUSE_S)
            except Exception:
                log.exception("the guard of %s met a bug", model)
                await asyncio.sleep(PAUSE_S)
            finally:
                self._doing.pop(model, None)

        self._doing[model] = asyncio.create_task(guarded(), name=f"guard {model}")

    def _forget(self, model: str) -> None:
        if self._watched.pop(model, None) is not None:
            self._meters.forget(model)

    async def _keep_looking(self) -> None:
        while True:
            try:
                self.look()
            except Exception:
                log.exception("the guard met a bug; it looks again")
            await asyncio.sleep(TICK_S)

    async def _lead(self) -> None:
        """Leads whenever it is this gateway's turn, over all of them, and something is on trial."""
        while True:
            pause_s = TICK_S
            if not self._watched:
                await asyncio.sleep(pause_s)
                continue
            try:
                async with self._claims.turn(TURN) as turn:
                    self.leads = True
                    try:
                        while turn.held and self._watched:  # noqa: ASYNC110  (nothing tells)
                            await asyncio.sleep(TICK_S)
                    finally:
                        self.leads = False
            except ClaimsUnavailable:
                pause_s = PAUSE_S  # others ask for the store more often, and nothing can be changed without it
            await asyncio.sleep(pause_s)


def _weighs_otherwise(one: Policy, other: Policy) -> bool:
    """Whether evidence that was gathered under the one says nothing under the other."""
    return (one.risk, one.slowdown, one.disagreement) != (other.risk, other.slowdown, other.disagreement)
