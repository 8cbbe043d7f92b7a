"""What this gateway has seen of versions on trial, as it says it to the others."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from serving.guard.standing import Standing, policy_of, standing
from serving.ledger import Document, Trials
from serving.repository.layout import Index
from serving.shadow import Shadows
from serving.trial import BINS, NOTHING, Counts, Mode, TrialSeen
from serving.versions.router import Router

SNAPSHOT_S: Final = 10.0
PAST_S: Final = 600.0  # before a promotion, that what the version before it did is known of


class Truths(Protocol):
    """What callers said was right: how many of a version, and the sum of how good its answers were."""

    def totals(self, model: str, version: int) -> tuple[int, float]: ...

    def totals_by(self, model: str, version: int) -> Mapping[str, tuple[int, float]]: ...


class Inputs(Protocol):
    """What was looked at of a version's inputs: rows by bin, feature by feature; `bins` names the bins of now."""

    def bins(self, model: str) -> str | None: ...

    def counts(self, model: str, version: int) -> Mapping[str, tuple[int, ...]]: ...


@dataclass(slots=True)
class _Past:
    """Of the stable version of a model: what it had done, now and then, the oldest first."""

    version: int
    seen: deque[tuple[float, Counts]] = field(default_factory=deque)


@dataclass(frozen=True, slots=True)
class _Begun:
    """A trial's key, what both versions had done when it began, and what the other one is known by from before."""

    trial: object
    counts: Mapping[int, Counts]
    before: Counts


class Tallies:
    """Counts of the versions that answer here. mode: of models that nobody said anything of."""

    def __init__(
        self,
        router: Router,
        shadows: Shadows,
        mode: Mode,
        *,
        truths: Truths,
        inputs: Inputs,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._router = router
        self._shadows = shadows
        self._mode = mode
        self._truths = truths
        self._inputs = inputs
        self._clock = clock
        self._past: dict[str, _Past] = {}
        self._begun: dict[str, _Begun] = {}

    def counts(self, model: str, version: int) -> Counts:
        """Since this gateway started; nothing of a version that is not loaded."""
        resident = next((one for one in self._router.residents(model) if one.version.number == version), None)
        if resident is None:
            return NOTHING
        seconds = resident.meter.seconds()
        tally = self._shadows.tally(model, version)
        controls = self._shadows.tally(model, version, control=True)  # which a candidate gets none of
        truths, quality = self._truths.totals(model, version)
        return Counts(
            answered=sum(seconds),
            failed=resident.meter.faults,
            seconds=_short(seconds),
            copies=tally.compared + controls.compared,
            copies_failed=tally.faults + controls.faults,
            disagreement=max(0.0, tally.compared - tally.agreement),
            copies_by=tally.differing.totals(),
            truths=truths,
            quality=quality,
            truths_by=self._truths.totals_by(model, version),
            features=self._features(model, version),
        )

    def _features(self, model: str, version: int) -> Mapping[str, tuple[int, ...]]:
        """By feature and the name of its bins: what other gateways count in other bins is not added to it."""
        bins = self._inputs.bins(model)
        return {f"{name}{BINS}{bins}": rows for name, rows in self._inputs.counts(model, version).items()}

    def announced(self, document: Document, index: Index) -> Trials:
        """Of each model on trial, what was seen of it here. To be asked every second."""
        now_s = self._clock()
        trials: dict[str, TrialSeen] = {}
        for model, pointers in document.models.items():
            policy = policy_of(model, pointers, index, self._mode)
            trial = standing(model, pointers, policy, now_s) if policy.mode != "off" else None
            if trial is None or trial.kind != "promoted":
                self._remember(model, pointers.stable, now_s)
            if trial is None:
                self._begun.pop(model, None)
            else:
                trials[model] = self._seen(trial)
        return trials

    def _seen(self, trial: Standing) -> TrialSeen:
        """What came since this gateway first saw the trial, which is when it began to follow the pointers."""
        now = {version: self.counts(trial.model, version) for version in (trial.candidate, trial.other)}
        begun = self._begun.get(trial.model)
        if begun is None or begun.trial != trial.key:
            before = self._window(trial, now[trial.other]) if trial.kind == "promoted" else now[trial.other]
            begun = self._begun[trial.model] = _Begun(trial.key, now, before)
        return TrialSeen(
            began=trial.began,
            candidate=now[trial.candidate].since(begun.counts[trial.candidate]),
            other=now[trial.other].since(begun.counts[trial.other]),
            before=begun.before,
        )

    def _window(self, trial: Standing, now: Counts) -> Counts:
        """What the version before did in the time before the promotion."""
        past = self._past.get(trial.model)
        known = past is not None and past.version == trial.other and past.seen
        return now.since(past.seen[0][1]) if past is not None and known else now

    def _remember(self, model: str, stable: int, now_s: float) -> None:
        past = self._past.get(model)
        if past is None or past.version != stable:
            past = self._past[model] = _Past(stable)
        if past.seen and now_s < past.seen[-1][0] + SNAPSHOT_S:
            return
        past.seen.append((now_s, self.counts(model, stable)))
        while now_s > past.seen[0][0] + PAST_S:
            past.seen.popleft()


def _short(seconds: tuple[int, ...]) -> tuple[int, ...]:
    """Without the noughts at the end."""
    end = len(seconds)
    while end and not seconds[end - 1]:
        end -= 1
    return seconds[:end]
