"""What all gateways together saw of a trial since they were last asked. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from serving.guard.standing import Standing
from serving.ledger import Member
from serving.trial import NOTHING, Counts, TrialSeen, total


@dataclass(slots=True)
class Pool:
    """The counts of one trial. What gateways say of an earlier one of the same versions is no word on it."""

    trial: Standing
    _last: dict[str, TrialSeen] = field(default_factory=dict)

    def heard(self, members: Collection[Member]) -> bool:
        """Whether any of them has said something of it."""
        return any(True for _ in self._said(members))

    def before(self, members: Collection[Member]) -> Counts:
        """What the other version did before the trial, all of it."""
        return total(seen.before for _, seen in self._said(members))

    def fresh(self, members: Collection[Member]) -> tuple[Counts, Counts]:
        """What came of the candidate and of the other version since this was last asked: at first, all there is."""
        candidate, other = [], []
        for name, seen in self._said(members):
            last = self._last.get(name)
            candidate.append(seen.candidate.since(last.candidate if last else NOTHING))
            other.append(seen.other.since(last.other if last else NOTHING))
            self._last[name] = seen
        return total(candidate), total(other)

    def _said(self, members: Collection[Member]) -> Iterator[tuple[str, TrialSeen]]:
        for member in members:
            seen = member.trials.get(self.trial.model)
            if seen is not None and seen.began == self.trial.began:
                yield member.id, seen
