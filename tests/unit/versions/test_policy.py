"""What to load or unload next: tables, and what must hold of every way from one set of versions to another."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.ledger import Canary, Pointers, Wanted
from serving.versions.policy import MOST_RESIDENT, Load, Unload, next_step, wanted_versions


def promoting(version: int) -> Wanted:
    return Wanted(id="a", version=version, role="stable", action="promote", who="tests", until=9e9)


@pytest.mark.parametrize(
    ("pointers", "wanted"),
    [
        (Pointers(stable=1), (1,)),
        (Pointers(stable=2, stack=(1,)), (2, 1)),
        (Pointers(stable=3, stack=(1, 2)), (3, 2)),
        (Pointers(stable=2, stack=(1,), canary=Canary(version=3, percent=5)), (2, 3, 1)),
        (Pointers(stable=2, stack=(1,), shadow=3), (2, 3, 1)),
        (Pointers(stable=2, stack=(1,), wanted=promoting(4)), (2, 4, 1)),
        (Pointers(stable=2, stack=(1,), canary=Canary(version=3, percent=5), wanted=promoting(3)), (2, 3, 1)),
        (Pointers(stable=2, stack=(1,), wanted=promoting(1)), (2, 1)),
        (Pointers(stable=2, stack=(1,), unloaded=True), ()),
        (Pointers(stable=2, stack=(1,), unloaded=True, wanted=promoting(3)), (3,)),
        (Pointers(stable=2, stack=(1,), unloaded=True, wanted=promoting(1)), (1,)),
    ],
    ids=[
        "one",
        "the way back",
        "only the next way back",
        "a canary",
        "a shadow",
        "one about to be live",
        "a canary about to be live",
        "the way back about to be live",
        "unloaded: none",
        "unloaded: one about to put it back in service",
        "unloaded: the way back about to do so",
    ],
)
def test_resident_are_stable_one_candidate_and_the_next_way_back(pointers, wanted):
    assert wanted_versions(pointers) == wanted


@pytest.mark.parametrize(
    ("wanted", "loaded", "more", "step"),
    [
        ([1], [], {}, Load(1)),
        ([1], [1], {}, None),
        ([], [1], {}, Unload(1)),
        ([], [1, 2, 3], {"leaving": [4]}, Unload(1)),
        ([3], [1, 2], {}, Load(3)),
        ([4], [1, 2, 3], {}, Unload(1)),
        ([2, 3, 1], [], {}, Load(2)),
        ([2, 3, 1], [2], {}, Load(3)),
        ([2, 3, 1], [2, 3], {}, Load(1)),
        ([2, 1], [1], {"serving": 1}, Load(2)),
        ([2], [1], {"serving": 1}, Load(2)),
        ([2], [1, 2], {"serving": 2}, Unload(1)),
        ([4, 3], [1, 2, 3], {"serving": 3}, Unload(1)),
        ([4], [1, 2, 3], {"serving": 1}, Unload(2)),
        ([2], [1], {"serving": 1, "failed": [2]}, None),
        ([2, 3], [1], {"serving": 1, "failed": [2]}, Load(3)),
        ([2, 3], [], {"failed": [2, 3]}, None),
        ([4, 5, 3], [2, 3, 5], {"serving": 2}, Unload(3)),
        ([4, 5, 3], [2, 3, 5], {"serving": 2, "failed": [4]}, None),
        ([1, 4], [1, 3], {"leaving": [2]}, Unload(3)),
        ([1, 4], [1], {"leaving": [2, 3]}, None),
        ([1, 2], [1], {"leaving": [2]}, None),
        ([1, 4], [1], {"leaving": [2]}, Load(4)),
    ],
    ids=[
        "nothing is loaded",
        "all is well",
        "nothing is wanted",
        "nothing is wanted of many",
        "one is wanted while others are still to go",
        "one is wanted and others take all places",
        "stable first",
        "then the candidate",
        "then the way back",
        "up before down",
        "up before down, the last one too",
        "then down",
        "full: down first",
        "full: never the one that answers",
        "the one that answers stays while the stable one fails",
        "a failure holds up no other",
        "all failed",
        "full of what is wanted: the way back makes place for stable",
        "but not while stable cannot be loaded",
        "one that leaves holds up no other",
        "those that leave take their places",
        "one that leaves is not loaded again before it left",
        "one that leaves leaves a place",
    ],
)
def test_one_step_at_a_time(wanted, loaded, more, step):
    assert next_step(wanted, loaded, **more) == step


VERSIONS = st.integers(1, 8)
WANTED = st.lists(VERSIONS, min_size=1, max_size=MOST_RESIDENT, unique=True)
LOADED = st.lists(VERSIONS, max_size=MOST_RESIDENT, unique=True)


def steps(wanted, loaded, serving):
    """All steps from `loaded` on, each with what is loaded after it and who answers then."""
    loaded = set(loaded)
    taken = []
    while step := next_step(wanted, loaded, serving=serving):
        loaded = loaded | {step.version} if isinstance(step, Load) else loaded - {step.version}
        serving = wanted[0] if wanted[0] in loaded else serving
        taken.append((step, frozenset(loaded), serving))
        assert len(taken) <= 4 * MOST_RESIDENT, f"it goes on and on: {taken}"
    return taken


@given(WANTED, LOADED, st.data())
def test_steps_lead_to_exactly_what_is_wanted_and_keep_an_answer_on_the_way(wanted, loaded, data):
    serving = data.draw(st.sampled_from(loaded)) if loaded else None
    if wanted[0] in loaded:
        serving = wanted[0]
    taken = steps(wanted, loaded, serving)
    assert (taken[-1][1] if taken else set(loaded)) == set(wanted)
    for step, after, answers in taken:
        assert len(after) <= MOST_RESIDENT
        assert serving is None or answers in after, "somebody always answers"
        assert not isinstance(step, Unload) or step.version != answers
    for (one, *_), (other, *_) in pairwise(taken):
        assert one.version != other.version, "no step undoes the one before"


@given(WANTED, LOADED, st.sets(VERSIONS))
def test_what_failed_is_not_tried_and_what_is_loaded_is_not_loaded_again(wanted, loaded, failed):
    step = next_step(wanted, loaded, failed=failed)
    if isinstance(step, Load):
        assert step.version in wanted
        assert step.version not in failed
        assert step.version not in loaded
    elif isinstance(step, Unload):
        assert step.version in loaded


@given(WANTED, LOADED)
def test_nothing_goes_down_while_something_can_go_up(wanted, loaded):
    step = next_step(wanted, loaded)
    if isinstance(step, Unload):
        assert set(wanted) <= set(loaded) or len(loaded) == MOST_RESIDENT
