"""What is on trial, by pointers and their history; and how counts of several gateways become one."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from serving.guard.pool import Pool
from serving.guard.standing import Standing, policy_of, standing
from serving.ledger import Canary, Member, Pointers, Record
from serving.repository.layout import Index
from serving.timestamp import timestamp
from serving.trial import Counts, Policy, TrialSeen

POLICY = Policy(watch_s=100)
NOW_S = 1_000_000.0


def at(seconds: float, action: str, before: int | None, after: int | None, percent: float | None = None) -> Record:
    time = timestamp(NOW_S - seconds, "milliseconds")
    return Record(time=time, action=action, from_=before, to=after, percent=percent, who="me")


def of(pointers: Pointers):
    return standing("m", pointers, POLICY, NOW_S)


def test_a_canary_is_on_trial_since_it_became_one_and_its_step_since_its_share_changed():
    history = (
        at(90, "promote", None, 1),
        at(60, "canary", 1, 2, 1),
        at(20, "canary", 1, 2, 10),
        at(5, "guard act", None, None),
    )
    trial = of(Pointers(stable=1, canary=Canary(version=2, percent=10), history=history))
    assert (trial.kind, trial.candidate, trial.other, trial.percent) == ("canary", 2, 1, 10)
    assert trial.began == history[1].time
    assert trial.step_s(NOW_S) == pytest.approx(20)


def test_the_same_version_put_on_trial_again_begins_anew():
    first = (at(60, "canary", 1, 2, 1),)
    again = (*first, at(40, "rollback", 2, 1), at(20, "canary", 1, 2, 1))
    canary = Canary(version=2, percent=1)
    keys = {of(Pointers(stable=1, canary=canary, history=history)).key for history in (first, again)}
    assert len(keys) == 2


def test_a_shadow_is_on_trial():
    trial = of(Pointers(stable=1, shadow=3, history=(at(9, "shadow", 1, 3),)))
    assert (trial.kind, trial.candidate, trial.percent) == ("shadow", 3, 0)


PROMOTED = Pointers(stable=2, stack=(1,), history=(at(50, "promote", 1, 2),))


def test_a_version_that_was_promoted_is_watched_for_a_while():
    trial = of(PROMOTED)
    assert (trial.kind, trial.candidate, trial.other) == ("promoted", 2, 1)
    assert of(PROMOTED.model_copy(update={"history": (at(101, "promote", 1, 2),)})) is None


@pytest.mark.parametrize(
    "pointers",
    [
        Pointers(stable=1),
        Pointers(stable=1, history=(at(5, "rollback", 2, 1),)),
        Pointers(stable=2, history=(at(5, "promote", None, 2),)),
        Pointers(stable=2, stack=(3,), history=(at(5, "promote", 1, 2),)),
        PROMOTED.model_copy(update={"unloaded": True}),
        Pointers(stable=1, canary=Canary(version=2, percent=1)),
    ],
    ids=["nothing", "rolled back", "first of all", "another way back", "unloaded", "no record of it"],
)
def test_else_nothing_is(pointers):
    assert of(pointers) is None


@dataclass
class Manifest:
    guard: Policy | None


@dataclass
class Version:
    manifest: Manifest


@dataclass
class Model:
    versions: dict[int, Version]


def test_an_operators_policy_counts_more_than_the_versions_and_that_more_than_the_gateways():
    said, published = Policy(mode="off"), Policy(mode="act")
    index = Index({"m": Model({1: Version(Manifest(None)), 2: Version(Manifest(published))})}, ())
    canary = Pointers(stable=1, canary=Canary(version=2, percent=1))
    assert policy_of("m", canary, index, "advise") == published
    assert policy_of("m", canary.model_copy(update={"guard": said}), index, "advise") == said
    assert policy_of("m", Pointers(stable=1), index, "advise") == Policy(mode="advise")


TRIAL = Standing("m", "canary", 2, 1, 10, "now", "now")


def member(name: str, candidate: int, began: str = "now", before: int = 0) -> Member:
    seen = TrialSeen(
        began=began,
        candidate=Counts(answered=candidate),
        other=Counts(answered=10 * candidate),
        before=Counts(answered=before),
    )
    return Member(id=name, trials={"m": seen})


def test_what_gateways_saw_is_added_up_from_the_first_request_on():
    pool = Pool(TRIAL)

    def fresh(*members: Member) -> int:
        candidate, other = pool.fresh(members)
        assert other.answered == 10 * candidate.answered
        return candidate.answered

    assert not pool.heard([Member(id="c")])
    assert fresh(member("a", 5)) == 5
    assert fresh(member("a", 25), member("b", 80)) == 100, "who comes late has its say too"
    assert fresh(member("a", 25), member("b", 85)) == 5
    assert fresh(member("b", 85)) == 0, "a gateway that left takes nothing away"
    assert fresh(member("a", 30), member("b", 3)) == 8, "one that counts from nothing again"
    assert fresh(Member(id="c")) == 0
    assert pool.before([member("a", 1, before=500), member("b", 1, before=28)]).answered == 528


def test_what_is_said_of_an_earlier_trial_of_the_same_versions_is_no_word_on_this_one():
    pool = Pool(TRIAL)
    assert not pool.heard([member("a", 500, began="before")])
    assert pool.fresh([member("a", 500, began="before")])[0].answered == 0
    assert pool.before([member("a", 500, began="before", before=7)]).answered == 0
