"""What operators ask for: check, promote, canary, shadow, rollback, unload, load, history. The edits: transitions.py.

A promotion: the gate, then `want`, then all gateways load, then `commit`; nothing has moved until then, and whatever
goes wrong before ends with nothing moved. A rollback to a version that is loaded is one edit.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

from serving.errors import ChangeRefused, LedgerUnavailable, ModelNotFound
from serving.ledger import LEASE_S, Document, Ledger, Pointers, Record
from serving.repository.layout import Index, Version
from serving.trial import Policy
from serving.verdict import Verdict
from serving.versions.orders import Outcome, Promotion, attempt
from serving.versions.refusals import absent, broken, judged
from serving.versions.rollout import Rollout
from serving.versions.transitions import Author, WayBack, guarded, load, of_model, retreat, unload, want, way_back


class Gatekeeper(Protocol):
    """Says whether a version may go live."""

    async def examine(self, candidate: Version, stable: Version | None) -> Verdict: ...


class Changes:
    """Makes changes of pointers. refresh: looks into the repository and gives what it holds now.

    load_s: the longest that all gateways together may take to load a version.
    """

    def __init__(
        self, ledger: Ledger, gate: Gatekeeper, refresh: Callable[[], Awaitable[Index]], load_s: float
    ) -> None:
        self._ledger = ledger
        self._gate = gate
        self._refresh = refresh
        self._rollout = Rollout(ledger, load_s)

    async def check(self, model: str, version: int) -> Verdict:
        """The gate's verdict, which is kept. ModelNotFound, VersionNotFound."""
        index = await self._refresh()
        pointers = (await self._ledger.read()).models.get(model)
        verdict = await self._examine(index, model, version, pointers)
        with suppress(LedgerUnavailable):  # whoever asks shall have it, kept or not
            await self._ledger.keep(verdict)
        return verdict

    async def promote(self, promotion: Promotion, who: str, why: str) -> Outcome:
        """Through the gate, onto all gateways, then live. GateFailed, LoadFailed, ChangeRefused: nothing has moved."""
        started_s = time.monotonic()
        pointers = self._known(await self._ledger.read(), promotion.model)
        version = promotion.version or pointers.candidate
        if version is None:
            raise ChangeRefused("No version is on trial.", remedy="Say which version to promote.")
        wanted = attempt(promotion, version, who, why)
        want(pointers, wanted, time.time())  # what will be refused anyway is refused before the gate takes its time
        verdict = await self.check(promotion.model, version)
        summary = judged(verdict, promotion.force)
        cold = await self._rollout.cold(promotion.model, version)
        wanted = wanted.model_copy(update={"verdict": summary, "until": time.time() + LEASE_S})
        document = await self._rollout.make(promotion.model, wanted)
        return await self._outcome(document, promotion.model, started_s, cold=cold, verdict=verdict)

    async def advance(self, promotion: Promotion, who: str, why: str) -> Outcome:
        """A canary further on, or stable, by the gate's verdict that put it on trial. ChangeRefused if it is none."""
        started_s = time.monotonic()
        document = await self._ledger.read()
        pointers = self._known(document, promotion.model)
        version = promotion.version or 0
        _check_on_trial(pointers, version)
        judged = [record.verdict for record in pointers.history if record.to == version and record.verdict]
        wanted = attempt(promotion, version, who, why)
        wanted = wanted.model_copy(update={"verdict": judged[-1] if judged else None})
        document = await self._rollout.make(promotion.model, wanted)
        return await self._outcome(document, promotion.model, started_s, cold=False)

    async def guard(self, model: str, policy: Policy | None, who: str, why: str) -> Policy | None:
        """How the model's versions on trial are guarded from now on; None: as their manifests say. ModelNotFound."""
        self._known(await self._ledger.read(), model)
        author = Author(who, why, time.time())
        document = await self._ledger.change(of_model(model, lambda pointers: guarded(pointers, policy, author)))
        return document.models[model].guard

    async def rollback(
        self, model: str, to: int | None, who: str, why: str, *, live: int | None = None, trial: int | None = None
    ) -> Outcome:
        """Back along the history; or, while a version is on trial, back from that.

        live, trial: what the caller takes for live, and for on trial; refused if it is not. ChangeRefused says what
        could be promoted instead.
        """
        started_s = time.monotonic()
        document = await self._ledger.read()
        pointers = self._known(document, model)
        if live is not None and pointers.stable != live:
            raise ChangeRefused(f"Version {pointers.stable} is live, not {live}.", remedy="Look again.")
        if trial is not None:
            _check_on_trial(pointers, trial)
        index = await self._refresh() if to is not None or not pointers.stack else None
        versions = list(index.models[model].versions) if index and model in index.models else []
        way = way_back(pointers, to, versions)
        cold = bool(way.pops) and await self._rollout.cold(model, way.to)
        if cold:
            wanted = attempt(Promotion(model), way.to, who, why)
            document = await self._rollout.make(
                model, wanted.model_copy(update={"action": "rollback", "pops": way.pops, "leaves": way.from_})
            )
        else:
            document = await self._retreat(model, way, who, why)
        return await self._outcome(document, model, started_s, cold=cold)

    async def unload(self, model: str, who: str, why: str) -> Outcome:
        """Out of service at all gateways, with nothing on trial; what is being answered ends. ModelNotFound."""
        started_s = time.monotonic()
        if model not in (await self._ledger.read()).models:
            await self._refresh()  # published just now
        self._known(await self._ledger.read(), model)
        author = Author(who, why, time.time())
        nothing = Record(time=author.time, action="unload", who=who)
        document, made = await self._edited(model, lambda pointers: unload(pointers, author))
        return await self._outcome(document, model, started_s, cold=False, made=made or nothing)

    async def load(self, model: str, who: str, why: str) -> Outcome:
        """Back in service, once all gateways have the stable version; what failed before is tried at once.

        ModelNotFound when the repository does not hold the model. LoadFailed: gateways go on trying. ChangeRefused: it
        was unloaded meanwhile.
        """
        started_s = time.monotonic()
        index = await self._refresh()
        if model not in index.models:
            raise absent(index, model)
        stable = self._known(await self._ledger.read(), model).stable
        author = Author(who, why, time.time())
        cold = await self._rollout.cold(model, stable)
        nothing = Record(time=author.time, action="load", who=who)
        document, made = await self._edited(model, lambda pointers: load(pointers, author, anew=cold))
        await self._rollout.ready(model, document)
        return await self._outcome(document, model, started_s, cold=cold, made=made or nothing)

    async def pointers(self, model: str) -> Pointers:
        """Who is live. ModelNotFound."""
        return self._known(await self._ledger.read(), model)

    async def history(self, model: str) -> tuple[Record, ...]:
        """The changes that were made, the oldest first. ModelNotFound."""
        return self._known(await self._ledger.read(), model).history

    async def verdicts(self, model: str) -> tuple[Verdict, ...]:
        """What the gate said, the newest first. ModelNotFound, LedgerUnavailable."""
        self._known(await self._ledger.read(), model)
        return await self._ledger.verdicts(model)

    def _known(self, document: Document, model: str) -> Pointers:
        pointers = document.models.get(model)
        if pointers is not None:
            return pointers
        if not self._ledger.connected:  # what is known may be nothing yet
            raise LedgerUnavailable("The ledger cannot be reached.", remedy="Inference goes on. Try again later.")
        raise ModelNotFound("There is no model of that name.", remedy="`tidegate models` lists them.")

    async def _examine(self, index: Index, model: str, version: int, pointers: Pointers | None) -> Verdict:
        known = index.models.get(model)
        candidate = known.versions.get(version) if known else None
        if known is None or candidate is None:
            return broken(index, model, version)
        stable = known.versions.get(pointers.stable) if pointers else None
        return await self._gate.examine(candidate, stable if stable is not candidate else None)

    async def _retreat(self, model: str, way: WayBack, who: str, why: str) -> Document:
        return await self._ledger.change(
            of_model(model, lambda pointers: retreat(pointers, way, Author(who, why, time.time())))
        )

    async def _edited(self, model: str, edit: Callable[[Pointers], Pointers]) -> tuple[Document, Record | None]:
        """What stands then, and the record that was made, if one was: what is newest may be of somebody else."""
        made: Record | None = None

        def keep(pointers: Pointers) -> Pointers:
            nonlocal made
            edited = edit(pointers)
            made = edited.history[-1] if edited.history != pointers.history else None
            return edited

        return await self._ledger.change(of_model(model, keep)), made

    async def _outcome(
        self,
        document: Document,
        model: str,
        started_s: float,
        *,
        cold: bool,
        made: Record | None = None,
        verdict: Verdict | None = None,
    ) -> Outcome:
        pointers = document.models[model]
        made = made or pointers.history[-1]
        gateways, late = await self._rollout.followed(document, model)
        return Outcome(
            model=model,
            action=made.action,
            from_=made.from_,
            to=made.to,
            stable=pointers.stable,
            previous=pointers.previous,
            canary=pointers.canary,
            shadow=pointers.shadow,
            cold=cold,
            gateways=gateways,
            late=late,
            seconds=time.monotonic() - started_s,
            verdict=verdict,
        )


def _check_on_trial(pointers: Pointers, version: int) -> None:
    if pointers.candidate != version:
        raise ChangeRefused(f"Version {version} is not on trial any more.", remedy="Look again.")
