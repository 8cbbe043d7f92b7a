"""What the guard does about a trial: the change, the verdict that stays of it, and who is told."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from serving.errors import LedgerUnavailable
from serving.guard.case import Advance, Back
from serving.guard.meters import GuardMeters
from serving.guard.watched import Watched
from serving.guard.webhook import Webhook
from serving.ledger import Ledger
from serving.repository.digests import version_digest
from serving.repository.layout import Index
from serving.versions.changes import Changes
from serving.versions.orders import Promotion

log = logging.getLogger(__name__)

WHO: Final = "guard"
WHY_LENGTH: Final = 500


class Acting:
    """Makes the changes that the guard decides on. index: what the repository holds."""

    def __init__(
        self,
        changes: Changes,
        ledger: Ledger,
        index: Callable[[], Index],
        webhook: Webhook,
        meters: GuardMeters,
    ) -> None:
        self._changes = changes
        self._ledger = ledger
        self._index = index
        self._webhook = webhook
        self._meters = meters

    async def act(self, watched: Watched) -> None:
        """Moves the version back, or further on. As the changes: ChangeRefused, LoadFailed, LedgerUnavailable."""
        trial, decision = watched.standing, watched.decision
        why = decision.why[:WHY_LENGTH]
        if isinstance(decision, Back):
            action = "rollback"
            live, on_trial = (trial.candidate, None) if trial.kind == "promoted" else (trial.other, trial.candidate)
            await self._changes.rollback(trial.model, None, WHO, why, live=live, trial=on_trial)
        elif isinstance(decision, Advance) and decision.percent is not None:
            action = "advance"
            promotion = Promotion(trial.model, trial.candidate, "canary", decision.percent)
            await self._changes.advance(promotion, WHO, why)
        else:
            action = "promote"
            await self._changes.advance(Promotion(trial.model, trial.candidate), WHO, why)
        await self._tell(watched, action)

    async def advise(self, watched: Watched) -> None:
        """Says what it would do."""
        action = "rollback" if isinstance(watched.decision, Back) else "advance"
        await self._tell(watched, f"advised_{action}")

    async def close(self) -> None:
        await self._webhook.close()

    async def _tell(self, watched: Watched, action: str) -> None:
        trial, decision = watched.standing, watched.decision
        self._meters.decisions.labels(trial.model, action).inc()
        log.warning("guard of %s/%d: %s, since %s", trial.model, trial.candidate, action, decision.why)
        verdict = watched.verdict(time.time(), await asyncio.to_thread(self._digest, trial.model, trial.candidate))
        with suppress(LedgerUnavailable):  # the change was made, kept or not
            await self._ledger.keep(verdict)
        news: dict[str, Any] = {
            "event": f"guard.{action}",
            "model": trial.model,
            "version": trial.candidate,
            "against": trial.other,
            "percent": trial.percent,
            "why": decision.why,
            "verdict": verdict.model_dump(mode="json"),
        }
        sending = self._webhook.tell(news)
        if sending is not None:
            sending.add_done_callback(self._count)

    def _count(self, sending: asyncio.Task[bool]) -> None:
        delivered = not sending.cancelled() and sending.exception() is None and sending.result()
        self._meters.webhooks.labels("delivered" if delivered else "failed").inc()

    def _digest(self, model: str, version: int) -> str:
        known = self._index().models.get(model)
        found = known.versions.get(version) if known else None
        with suppress(OSError):
            return version_digest(found) if found else ""
        return ""
