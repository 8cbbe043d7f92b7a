"""What nobody claims is let go when it has been so for long enough, and not before."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.repository.layout import GraphKey
from serving.triton.unclaimed import Unclaimed

ONE, TWO, OTHER = GraphKey("a", 1), GraphKey("a", 2), GraphKey("b", 1)


def test_it_takes_patience():
    unclaimed = Unclaimed(5.0)
    unclaimed.seen([ONE, TWO, OTHER], {"a": {2}}, 0.0)
    assert unclaimed.surplus("a", (), 4.9) == set()
    assert unclaimed.surplus("a", (), 5.0) == {1}
    assert unclaimed.surplus("b", (), 5.0) == {1}
    assert unclaimed.surplus("a", [ONE], 5.0) == set(), "needed in the meantime"


@pytest.mark.parametrize("again", ["claimed", "gone", "unknown"])
def test_what_was_claimed_or_gone_in_between_begins_anew(again):
    unclaimed = Unclaimed(5.0)
    unclaimed.seen([ONE], {}, 0.0)
    if again == "claimed":
        unclaimed.seen([ONE], {"a": {1}}, 4.0)
    elif again == "gone":
        unclaimed.seen([], {}, 4.0)
    else:
        unclaimed.forget()
    unclaimed.seen([ONE], {}, 4.5)
    assert unclaimed.surplus("a", (), 9.0) == set()
    assert unclaimed.surplus("a", (), 9.5) == {1}


@given(st.lists(st.tuples(st.sets(st.sampled_from([1, 2, 3])), st.floats(0.1, 3)), min_size=1))
def test_nothing_goes_that_was_claimed_within_the_patience(looks):
    """Each look: what is claimed, and the seconds until the next."""
    unclaimed, now_s, claimed_s = Unclaimed(5.0), 0.0, {}
    for claimed, pause_s in looks:
        unclaimed.seen([GraphKey("a", version) for version in (1, 2, 3)], {"a": claimed}, now_s)
        claimed_s |= dict.fromkeys(claimed, now_s)
        now_s += pause_s
        for version in unclaimed.surplus("a", (), now_s):
            assert claimed_s.get(version, -1.0) < now_s - 4.99
