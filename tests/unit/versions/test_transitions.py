"""What pointers may do: every row of the rollback table, both phases, and what is refused."""

from __future__ import annotations

import pytest

from serving.errors import ChangeRefused
from serving.ledger import Document, Pointers, Summary, Wanted
from serving.versions.transitions import (
    MOST_HISTORY,
    MOST_STACKED,
    Author,
    WayBack,
    commit,
    load,
    of_model,
    renew,
    retreat,
    seeded,
    sweep,
    unload,
    want,
    way_back,
    withdraw,
)

NOW_S = 1_800_000_000.0
AUTHOR = Author("ada", "because", NOW_S)


def attempt(version: int, role: str = "stable", **fields) -> Wanted:
    known = {"id": f"{role}-{version}", "action": "promote" if role == "stable" else role, "who": "ada"}
    return Wanted(version=version, role=role, until=NOW_S + 10, **known | fields)


def made(pointers: Pointers, wanted: Wanted) -> Pointers:
    """Both phases."""
    return commit(want(pointers, wanted, NOW_S), wanted.id, AUTHOR)


def promoted(*versions: int) -> Pointers:
    """The first is where it starts, the others are promoted in turn."""
    pointers = Pointers(stable=versions[0])
    for version in versions[1:]:
        pointers = made(pointers, attempt(version))
    return pointers


def back(pointers: Pointers, to: int | None = None) -> Pointers:
    return retreat(pointers, way_back(pointers, to, ()), AUTHOR)


def standing(pointers: Pointers) -> tuple:
    canary = (pointers.canary.version, pointers.canary.percent) if pointers.canary else None
    return pointers.stable, pointers.stack, canary, pointers.shadow


# Forward


def test_promotions_push_what_was_stable():
    assert standing(promoted(1, 2, 3)) == (3, (1, 2), None, None)
    assert promoted(1, 2, 3).previous == 2


def test_nothing_moves_in_the_first_phase():
    before = promoted(1, 2)
    wanting = want(before, attempt(3), NOW_S)
    assert standing(wanting) == standing(before)
    assert wanting.history == before.history
    assert wanting.candidate == 3
    assert withdraw(wanting, "stable-3") == before


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (attempt(2), (2, (1,), None, None)),
        (attempt(2, "canary", percent=10), (1, (), (2, 10), None)),
        (attempt(2, "canary", percent=0.5), (1, (), (2, 0.5), None)),
        (attempt(2, "canary"), (1, (), (2, 1), None)),
        (attempt(2, "shadow"), (1, (), None, 2)),
    ],
    ids=["stable", "canary", "a small canary", "a canary of no size is the smallest", "shadow"],
)
def test_the_second_phase_moves_what_the_first_one_said(wanted, expected):
    assert standing(made(Pointers(stable=1), wanted)) == expected


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (attempt(2, "shadow"), attempt(2, "canary", percent=5), (1, (), (2, 5), None)),
        (attempt(2, "canary", percent=5), attempt(2, "canary", percent=50), (1, (), (2, 50), None)),
        (attempt(2, "canary", percent=5), attempt(2, "shadow"), (1, (), None, 2)),
        (attempt(2, "canary", percent=5), attempt(2), (2, (1,), None, None)),
        (attempt(2, "shadow"), attempt(2), (2, (1,), None, None)),
    ],
    ids=["shadow to canary", "more of a canary", "canary to shadow", "a canary finishes", "a shadow finishes"],
)
def test_a_version_on_trial_goes_further(first, second, expected):
    assert standing(made(made(Pointers(stable=1), first), second)) == expected


def test_a_record_says_who_why_when_and_what_the_gate_said():
    forced = Summary(passed=False, failed=("latency",), forced=True)
    pointers = made(Pointers(stable=1), attempt(2, "canary", percent=10, verdict=forced))
    assert [record.model_dump(by_alias=True) for record in pointers.history] == [
        {
            "time": "2027-01-15T08:00:00.000+00:00",
            "action": "canary",
            "from": 1,
            "to": 2,
            "percent": 10,
            "who": "ada",
            "why": "because",
            "verdict": {"passed": False, "failed": ("latency",), "forced": True},
        }
    ]


ON_TRIAL = made(Pointers(stable=1), attempt(2, "canary", percent=5))
IN_SHADOW = made(Pointers(stable=1), attempt(2, "shadow"))
UNDER_WAY = want(Pointers(stable=1), attempt(2), NOW_S)


@pytest.mark.parametrize(
    ("pointers", "wanted", "said"),
    [
        (Pointers(stable=1), attempt(1), "Version 1 is stable already"),
        (Pointers(stable=1), attempt(1, "canary"), "Version 1 is stable: it cannot be on trial"),
        (Pointers(stable=1), attempt(1, "shadow"), "Version 1 is stable: it cannot be on trial"),
        (ON_TRIAL, attempt(3), r"Version 2 is on trial\. Promote it or roll back first"),
        (ON_TRIAL, attempt(3, "canary"), "Version 2 is on trial"),
        (IN_SHADOW, attempt(3), "Version 2 is on trial"),
        (IN_SHADOW, attempt(3, "canary"), "Version 2 is on trial"),
        (UNDER_WAY, attempt(3), "ada is on the way to promote version 2; version 3 must wait"),
        (UNDER_WAY, attempt(2, id="other"), "ada is on the way to promote version 2"),
    ],
)
def test_what_would_mix_or_lose_something_is_refused(pointers, wanted, said):
    with pytest.raises(ChangeRefused, match=said):
        want(pointers, wanted, NOW_S)


def test_an_attempt_whose_time_is_over_is_in_nobodys_way():
    late_s = NOW_S + 10
    assert want(UNDER_WAY, attempt(3), late_s).candidate == 3
    with pytest.raises(ChangeRefused):
        want(UNDER_WAY, attempt(3), late_s - 0.1)


@pytest.mark.parametrize("act", [commit, renew], ids=["commit", "renew"])
@pytest.mark.parametrize(
    "pointers", [Pointers(stable=1), want(Pointers(stable=1), attempt(2, id="another"), NOW_S)], ids=["none", "other"]
)
def test_an_attempt_that_was_ended_stays_ended(act, pointers):
    with pytest.raises(ChangeRefused, match="ended by someone else"):
        act(pointers, "stable-2", AUTHOR if act is commit else NOW_S)


def test_only_its_own_attempt_is_withdrawn():
    assert withdraw(UNDER_WAY, "another") == UNDER_WAY
    assert withdraw(UNDER_WAY, "stable-2") == Pointers(stable=1)
    assert withdraw(Pointers(stable=1), "stable-2") == Pointers(stable=1)


def test_renewing_moves_the_end_and_nothing_else():
    renewed = renew(UNDER_WAY, "stable-2", NOW_S + 99)
    assert renewed.wanted.until == NOW_S + 99
    assert renewed == UNDER_WAY.model_copy(update={"wanted": renewed.wanted})


# Back: the table of design.md


@pytest.mark.parametrize(
    ("pointers", "to", "expected", "then"),
    [
        (made(promoted(1, 2), attempt(3, "canary", percent=5)), None, (2, (1,), None, None), (3, 2)),
        (made(promoted(1, 2), attempt(3, "shadow")), None, (2, (1,), None, None), (3, 2)),
        (want(promoted(1, 2), attempt(3), NOW_S), None, (2, (1,), None, None), (3, 2)),
        (made(promoted(1, 2), attempt(3, "canary", percent=5)), 2, (2, (1,), None, None), (3, 2)),
        (made(promoted(1, 2), attempt(3, "canary", percent=5)), 1, (1, (), None, None), (2, 1)),
        (want(promoted(1, 2), attempt(3), NOW_S), 1, (1, (), None, None), (2, 1)),
        (promoted(1, 2, 3), None, (2, (1,), None, None), (3, 2)),
        (back(promoted(1, 2, 3)), None, (1, (), None, None), (2, 1)),
        (promoted(1, 2, 3), 1, (1, (), None, None), (3, 1)),
        (promoted(1, 2, 3), 2, (2, (1,), None, None), (3, 2)),
        (promoted(1, 2, 1, 3), 1, (1, (1, 2), None, None), (3, 1)),
        (promoted(1, 2, 1, 3), 2, (2, (1,), None, None), (3, 2)),
    ],
    ids=[
        "drops a canary",
        "drops a shadow",
        "ends a promotion under way",
        "to stable: drops a canary",
        "further back: drops a canary too",
        "further back: ends a promotion too",
        "pops to the one before",
        "again: pops to the first",
        "to N: pops down to it",
        "to the one before, by number",
        "to one that was live twice: the last time",
        "past one that was live twice",
    ],
)
def test_a_rollback_goes_as_the_table_says(pointers, to, expected, then):
    after = back(pointers, to)
    assert standing(after) == expected
    assert after.wanted is None
    record = after.history[-1]
    assert (record.action, record.from_, record.to) == ("rollback", *then)
    assert len(after.history) == len(pointers.history) + 1


@pytest.mark.parametrize(
    ("pointers", "to", "versions", "said"),
    [
        (Pointers(stable=1), None, (1, 2, 3), r"bottom of the history\. Promote one instead: 2, 3"),
        (Pointers(stable=1), None, (1,), "publish another version first"),
        (promoted(1, 2), 2, (1, 2), "Version 2 is stable already"),
        (promoted(1, 2, 3), 4, (1, 2, 3, 4), r"4 is not on the way back \(2, 1\)\. Promote one instead: 1, 2, 4"),
        (ON_TRIAL, 2, (1, 2), "bottom of the history"),
    ],
)  # fmt: skip
def test_where_there_is_no_way_back_it_says_what_could_be_promoted(pointers, to, versions, said):
    with pytest.raises(ChangeRefused, match=said):
        way_back(pointers, to, versions)


@pytest.mark.parametrize(
    "between",
    [
        back,
        lambda pointers: made(pointers, attempt(9)),
        lambda pointers: back(pointers, 1),
        lambda pointers: made(back(pointers), attempt(9)),
    ],
    ids=["a rollback", "a promotion", "a rollback further", "back and forward"],
)
def test_of_two_who_plan_on_the_same_state_one_is_refused(between):
    pointers = promoted(1, 2, 3)
    way = way_back(pointers, None, ())
    moved = between(pointers)
    with pytest.raises(ChangeRefused, match="someone else was quicker"):
        retreat(moved, way, AUTHOR)
    with pytest.raises(ChangeRefused, match=r"quicker|already"):
        want(moved, attempt(way.to, pops=way.pops, leaves=way.from_), NOW_S)


def test_two_who_drop_the_same_canary_drop_it_once():
    way = way_back(ON_TRIAL, None, ())
    assert way == WayBack(2, 1, 0)
    with pytest.raises(ChangeRefused, match="Version 2 is not live any more"):
        retreat(retreat(ON_TRIAL, way, AUTHOR), way, AUTHOR)


def test_one_who_drops_a_canary_does_not_go_back_behind_the_one_who_finished_it():
    way = way_back(ON_TRIAL, None, ())
    with pytest.raises(ChangeRefused, match="quicker"):
        retreat(made(ON_TRIAL, attempt(2)), way, AUTHOR)


# Back to a version that has to be loaded first


def cold(pointers: Pointers, to: int | None = None, **fields) -> Wanted:
    way = way_back(pointers, to, ())
    return attempt(way.to, **{"id": "cold", "action": "rollback", "pops": way.pops, "leaves": way.from_} | fields)


def test_a_cold_way_back_has_two_phases_too():
    before = promoted(1, 2, 3)
    wanting = want(before, cold(before, 1), NOW_S)
    assert standing(wanting) == standing(before)
    assert wanting.candidate == 1
    after = commit(wanting, "cold", AUTHOR)
    assert standing(after) == (1, (), None, None)
    assert (after.history[-1].action, after.history[-1].from_, after.history[-1].to) == ("rollback", 3, 1)


def test_a_cold_way_back_ends_what_goes_on():
    before = want(promoted(1, 2, 3), attempt(4), NOW_S)
    wanting = want(before, cold(before, 1), NOW_S)
    with pytest.raises(ChangeRefused, match="ended by someone else"):
        commit(wanting, "stable-4", AUTHOR)
    assert commit(wanting, "cold", AUTHOR).stable == 1


def test_asked_again_while_the_way_back_is_loaded_it_goes_the_same_way():
    """Whoever is in a hurry and asks twice does not undo what they asked for."""
    before = promoted(1, 2)
    wanting = want(before, cold(before), NOW_S)
    assert way_back(wanting, None, ()) == WayBack(2, 1, 1)
    again = want(wanting, cold(wanting, id="again"), NOW_S)
    assert standing(commit(again, "again", AUTHOR)) == (1, (), None, None)
    assert standing(back(wanting)) == (1, (), None, None)


# Out of service, and back

OUT = unload(promoted(1, 2), AUTHOR)


def last(pointers: Pointers) -> tuple:
    record = pointers.history[-1]
    return record.action, record.from_, record.to, record.who, record.why


@pytest.mark.parametrize(
    "pointers",
    [
        promoted(1, 2),
        made(promoted(1, 2), attempt(3, "canary", percent=5)),
        made(promoted(1, 2), attempt(3, "shadow")),
        want(promoted(1, 2), attempt(3), NOW_S),
    ],
    ids=["stable", "a canary", "a shadow", "an attempt"],
)
def test_unloading_keeps_the_way_and_ends_the_rest(pointers):
    out = unload(pointers, AUTHOR)
    assert standing(out) == (2, (1,), None, None)
    assert (out.unloaded, out.wanted, out.candidate) == (True, None, None)
    assert last(out) == ("unload", 2, None, "ada", "because")
    assert len(out.history) == len(pointers.history) + 1
    assert unload(out, AUTHOR) is out


def test_unloading_ends_an_attempt_to_put_it_back():
    """Else it would be in service again, after an order that said otherwise was accepted."""
    again = unload(want(OUT, attempt(3), NOW_S), AUTHOR)
    assert (again.unloaded, again.wanted) == (True, None)
    assert last(again) == ("unload", 3, None, "ada", "because")


def test_loading_is_back_where_it_was():
    back_in = load(OUT, AUTHOR, anew=False)
    assert standing(back_in) == standing(OUT)
    assert not back_in.unloaded
    assert back_in.loads == OUT.loads + 1
    assert last(back_in) == ("load", None, 2, "ada", "because")


def test_loading_what_is_in_service_changes_nothing_but_what_failed_is_tried_anew():
    pointers = promoted(1, 2)
    assert load(pointers, AUTHOR, anew=False) is pointers
    assert load(pointers, AUTHOR, anew=True) == pointers.model_copy(update={"loads": 1})


@pytest.mark.parametrize(
    "wanted",
    [attempt(3, "canary", percent=5), attempt(3, "shadow"), attempt(1, pops=1, leaves=2)],
    ids=["canary", "shadow", "a cold way back"],
)
def test_nothing_is_on_trial_and_nothing_goes_back_while_unloaded(wanted):
    with pytest.raises(ChangeRefused, match=r"The model is unloaded\. Load it first"):
        want(OUT, wanted, NOW_S)


@pytest.mark.parametrize("to", [None, 1, 2])
def test_while_unloaded_there_is_no_way_back(to):
    with pytest.raises(ChangeRefused, match=r"The model is unloaded\. Load it first"):
        way_back(OUT, to, (1, 2))


def test_a_way_back_that_was_found_before_is_refused():
    before = promoted(1, 2)
    with pytest.raises(ChangeRefused, match="unloaded"):
        retreat(unload(before, AUTHOR), way_back(before, None, ()), AUTHOR)


def test_a_promotion_puts_it_back_in_service_when_it_is_made():
    wanting = want(OUT, attempt(3), NOW_S)
    assert wanting.unloaded
    assert withdraw(wanting, "stable-3") == OUT
    after = commit(wanting, "stable-3", AUTHOR)
    assert standing(after) == (3, (1, 2), None, None)
    assert not after.unloaded
    assert last(after) == ("promote", None, 3, "ada", "because")


def test_what_is_stable_is_loaded_not_promoted():
    with pytest.raises(ChangeRefused, match=r"Version 2 is stable already\. Load the model"):
        want(OUT, attempt(2), NOW_S)


def test_a_promotion_that_is_under_way_outlives_a_load():
    after = commit(load(want(OUT, attempt(3), NOW_S), AUTHOR, anew=False), "stable-3", AUTHOR)
    assert [(one.action, one.from_, one.to) for one in after.history[-2:]] == [("load", None, 2), ("promote", 2, 3)]


# The rest


def test_attempts_that_were_left_are_swept_and_those_that_were_renewed_are_not():
    other = want(Pointers(stable=5), attempt(6), NOW_S)
    document = Document(models={"a": UNDER_WAY, "b": other, "c": Pointers(stable=1)})
    left = {"a": UNDER_WAY.wanted, "b": other.wanted.model_copy(update={"until": 0}), "gone": other.wanted}
    swept = sweep(left)(document)
    assert swept.models == {"a": Pointers(stable=1), "b": other, "c": Pointers(stable=1)}
    assert sweep(left)(swept) is swept


def test_history_and_ways_back_are_bounded_and_the_newest_stay():
    pointers = Pointers(stable=1)
    for version in range(2, MOST_HISTORY + 10):
        pointers = made(pointers, attempt(version))
    assert len(pointers.history) == MOST_HISTORY
    assert len(pointers.stack) == MOST_STACKED
    assert pointers.history[-1].to == pointers.stable == MOST_HISTORY + 9
    assert pointers.previous == MOST_HISTORY + 8


def test_models_without_pointers_get_them_and_others_keep_theirs():
    document = seeded({"a": 3, "b": 1})(Document(models={"a": Pointers(stable=1)}))
    assert document.models == {"a": Pointers(stable=1), "b": Pointers(stable=1)}
    assert seeded({"a": 7})(document) is document


def test_a_model_that_the_ledger_does_not_know_is_refused():
    with pytest.raises(ChangeRefused, match="does not know colours yet"):
        of_model("colours", lambda pointers: pointers)(Document())
