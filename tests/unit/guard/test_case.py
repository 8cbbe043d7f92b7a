"""What the guard makes of blocks of counts: signals, and what is to be done by them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from loadtests.guarding import world
from serving.guard.case import Advance, Back, Case, Hold, decide
from serving.guard.signal import Finding
from serving.trial import SECONDS, Counts, Group, Policy, total

POLICY = Policy(step_s=60, step_requests=100)
CALM = (Finding("errors", 0.1), Finding("drift", None))


def counts(answered: int = 0, place: int = 30, **figures) -> Counts:
    """Answers that all took as long as the bound at that place."""
    return Counts(answered=answered, seconds=(*[0] * place, answered), **figures)


def named(case: Case) -> dict[str, Finding]:
    return {finding.name: finding for finding in case.findings()}


@pytest.mark.parametrize(
    ("percent", "step_s", "requests", "wanted"),
    [
        (1, 61, 100, 10.0),
        (5, 61, 100, 10.0),
        (10, 61, 100, 50.0),
        (50, 61, 100, None),
        (80, 61, 100, None),
        (100, 61, 100, None),
    ],
)
def test_a_canary_that_nothing_speaks_against_climbs_step_by_step(percent, step_s, requests, wanted):
    decision = decide(POLICY, "canary", CALM, percent=percent, step_s=step_s, step_requests=requests)
    assert isinstance(decision, Advance)
    assert decision.percent == wanted


@pytest.mark.parametrize(("step_s", "requests"), [(59, 1000), (600, 99)])
def test_a_step_takes_its_time_and_its_requests(step_s, requests):
    decision = decide(POLICY, "canary", CALM, percent=1, step_s=step_s, step_requests=requests)
    assert isinstance(decision, Hold)
    assert "more" in decision.why


@pytest.mark.parametrize("finding", [Finding("latency", 0.6), Finding("errors", 0.1, over=True)])
def test_a_canary_does_not_climb_while_something_may_speak_against_it(finding):
    decision = decide(POLICY, "canary", (*CALM, finding), percent=1, step_s=999, step_requests=999)
    assert isinstance(decision, Hold)
    assert finding.name in decision.why


@pytest.mark.parametrize("kind", ["canary", "shadow", "promoted"])
def test_what_is_proven_goes_back_by_what_is_proven_most(kind):
    findings = (Finding("errors", 1.2, detail="few"), Finding("latency", 3.0, detail="slow"), Finding("drift", 0.9))
    decision = decide(POLICY, kind, findings, percent=1, step_s=0, step_requests=0)
    assert decision == Back("latency", "latency: slow")


@pytest.mark.parametrize("kind", ["shadow", "promoted"])
def test_others_than_canaries_stay_where_they_are(kind):
    assert isinstance(decide(POLICY, kind, CALM, percent=0, step_s=9999, step_requests=9999), Hold)


@pytest.mark.parametrize(("name", "signal", "drawn"), [(name, *one) for name, one in world.HARMS.items()])
def test_each_harm_is_found_by_its_own_signal_within_half_a_minute(name, signal, drawn):
    """At 50 requests a second, half of them the canary's. Over 20 seeds each; the plot in docs/guard.md has more."""
    ends = [world.run(drawn, POLICY, seed, longest_s=30) for seed in range(20)]
    right = [isinstance(end.decision, Back) and end.decision.signal == signal for end in ends]
    assert sum(right) >= 19, name


def test_a_version_that_was_promoted_at_once_is_held_against_the_one_before():
    past = counts(2000, failed=4, truths=500, quality=450)
    case = Case(POLICY, past=past)
    for _ in range(10):
        case.add(counts(25, failed=3, truths=5, quality=5), Counts())
    assert named(case)["errors"].proven
    assert "disagreement" not in named(case), "nothing is copied any more"
    healthy = Case(POLICY, past=past)
    for _ in range(100):
        healthy.add(counts(25, truths=5, quality=4.5), Counts())
    assert not any(finding.proven for finding in healthy.findings())
    slow = Case(POLICY, past=past)
    for _ in range(5):
        slow.add(counts(25, place=36), Counts())
    assert named(slow)["latency"].proven
    poor = Case(POLICY, past=past)
    for _ in range(20):
        poor.add(counts(25, truths=5, quality=3), Counts())
    assert named(poor)["live_metric"].proven


def test_a_version_before_it_that_did_nothing_accuses_nobody():
    case = Case(POLICY, past=Counts())
    for _ in range(50):
        case.add(counts(10, failed=10), Counts())
    assert not any(finding.proven for finding in case.findings())


@pytest.mark.parametrize(("places", "proven"), [(0, False), (2, False), (4, True)])
def test_what_is_let_pass_is_a_factor_of_the_other_versions_seconds(places, proven):
    """A place more is 19 % more seconds; 1.5 times is let pass."""
    case = Case(POLICY, known=counts(1000))
    for _ in range(30):
        case.add(counts(25, place=30 + places), counts(25))
    assert named(case)["latency"].proven == proven


def test_a_difference_that_is_let_pass_is_never_enough():
    policy = POLICY.model_copy(update={"errors": 0.05})
    case = Case(policy)
    for _ in range(500):
        case.add(counts(24, failed=1), counts(25))
    errors = named(case)["errors"]
    assert not errors.proven
    assert errors.strength == pytest.approx(0.99)


@pytest.mark.parametrize(("failed", "over"), [(0, False), (2, True)])
def test_more_failures_than_are_let_pass_hold_a_canary_up_before_they_prove_anything(failed, over):
    case = Case(POLICY, known=counts(1000))
    case.add(counts(300, failed=failed), counts(300))
    errors = named(case)["errors"]
    assert not errors.proven
    assert errors.over == over


def test_requests_that_fail_at_both_accuse_nobody_however_few_of_them_are_copied():
    """Those that were not answered are not copied, so copies never fail here; the other version gets many more."""
    case = Case(Policy(errors=0.0))
    for _ in range(400):
        case.add(counts(18, failed=2, copies=1), counts(18, failed=2, copies=40))
    assert named(case)["errors"].strength < 0.5


def test_controls_tell_sooner_that_the_other_version_does_not_fail():
    alone, controlled = Case(POLICY), Case(POLICY)
    for _ in range(20):
        candidate = counts(24, failed=1, copies=20)
        alone.add(candidate, counts(25))
        controlled.add(candidate, counts(25, copies=20))
    assert named(controlled)["errors"].strength > 1.2 * named(alone)["errors"].strength


def test_a_version_that_is_wrong_about_one_thing_is_told_by_that_thing():
    case = Case(POLICY)
    for _ in range(20):
        case.add(counts(25, copies=30, disagreement=3.0, copies_by={"dog": (3, 3.0), "cat": (27, 0.0)}), counts(25))
    finding = named(case)["disagreement"]
    assert finding.proven
    assert "'dog'" in finding.detail


def test_verdicts_name_figures_that_people_can_read():
    case = Case(POLICY, known=counts(1000))
    for _ in range(30):
        case.add(counts(20, place=38, failed=5), counts(25))
    found = named(case)
    assert (found["errors"].measured, found["errors"].limit) == ("20 %", "0.2 %")
    assert "of a version that is no worse one would see this once in" in found["errors"].detail
    assert found["latency"].measured == f"{SECONDS[38] * 1e3:.3g} ms"


@pytest.mark.parametrize(
    "fields",
    [{"steps": [10, 1]}, {"steps": []}, {"steps": [0]}, {"risk": 0}, {"slowdown": 0.5}, {"mode": "maybe"}, {"x": 1}],
)
def test_policies_that_mean_nothing_are_refused(fields):
    with pytest.raises(ValidationError):
        Policy.model_validate(fields)


def test_counts_add_up_and_come_apart():
    one = counts(3, place=2, copies_by={"a": (2, 1.0)}, features={"size": (1, 2)})
    other = counts(4, place=5, failed=1, copies_by={"a": (1, 0.5), "b": (1, 0.0)}, features={"size": (1, 0)})
    both = total([one, other])
    assert (both.answered, both.failed, sum(both.seconds)) == (7, 1, 7)
    assert both.copies_by == {"a": (3, 1.5), "b": (1, 0.0)}
    assert both.since(one).features == {"size": (1, 0)}
    assert both.since(one).copies_by["a"] == (1, 0.5)
    assert one.since(both) == one, "it was counted from nothing meanwhile"


def test_groups_are_as_many_as_may_be():
    group = Group()
    for i in range(100):
        group.add(f"class {i}", 1.0)
    group.add("class 0", 0.5)
    group.add("", 1.0)
    assert len(group.totals()) == 32
    assert group.totals()["class 0"] == (2, 1.5)


def test_worlds_that_are_healthy_are_promoted():
    quick = replace(world.HEALTHY, rate=200.0)
    policy = Policy(step_s=5, step_requests=20)
    ends = [world.run(quick, policy, seed, percent=1) for seed in range(10)]
    assert all(isinstance(end.decision, Advance) for end in ends)
