"""What is on trial of a model, by its pointers. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from serving.guard.case import Kind
from serving.ledger import Pointers, Record
from serving.repository.layout import Index
from serving.trial import Mode, Policy


@dataclass(frozen=True, slots=True)
class Standing:
    """A version on trial and the one that it is compared with.

    began, step_began: when it was put on trial, and when its share last changed, as the history writes it. percent: of
    the requests; 0 of a shadow, 100 of one that was promoted.
    """

    model: str
    kind: Kind
    candidate: int
    other: int
    percent: float
    began: str
    step_began: str

    @property
    def key(self) -> tuple[str, str, int, int, str]:
        """The same for as long as what was seen of the trial counts."""
        return self.model, self.kind, self.candidate, self.other, self.began

    def step_s(self, now_s: float) -> float:
        """How long its share has been what it is; now_s: Unix seconds."""
        return max(0.0, now_s - _unix_s(self.step_began))


def standing(model: str, pointers: Pointers, policy: Policy, now_s: float) -> Standing | None:
    """What is on trial; None if nothing is. A version that was promoted is so for `watch_s`, while there is a way back
    to the one before it. now_s: Unix seconds.
    """
    if pointers.unloaded:
        return None
    moves = [record for record in pointers.history if not record.action.startswith("guard")]
    if pointers.canary is not None:
        trial = Standing(model, "canary", pointers.canary.version, pointers.stable, pointers.canary.percent, "", "")
        return _dated(trial, moves)
    if pointers.shadow is not None:
        return _dated(Standing(model, "shadow", pointers.shadow, pointers.stable, 0.0, "", ""), moves)
    last = moves[-1] if moves else None
    if last is None or last.action != "promote" or last.to != pointers.stable or last.from_ != pointers.previous:
        return None
    if last.from_ is None or now_s > _unix_s(last.time) + policy.watch_s:
        return None
    return Standing(model, "promoted", pointers.stable, last.from_, 100.0, last.time, last.time)


def policy_of(model: str, pointers: Pointers, index: Index, mode: Mode) -> Policy:
    """How it is guarded: as an operator said, else as the manifest of the version on trial says, else in this mode."""
    if pointers.guard is not None:
        return pointers.guard
    known = index.models.get(model)
    version = known.versions.get(pointers.candidate or pointers.stable) if known else None
    said = version.manifest.guard if version and version.manifest else None
    return said or Policy(mode=mode)


def _dated(trial: Standing, moves: list[Record]) -> Standing | None:
    """By the records at the end that are of it: the trial began with the first of them."""
    own: list[Record] = []
    for record in reversed(moves):
        if record.action != trial.kind or record.to != trial.candidate:
            break
        own.append(record)
    return replace(trial, began=own[-1].time, step_began=own[0].time) if own else None


def _unix_s(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()
