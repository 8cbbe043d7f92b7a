"""Which space is searched and which are kept up: tables, and properties over all histories."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving import spaces
from serving.index import Counts
from serving.ledger import Canary, Pointers, Record, Wanted

ALL = 10


def counts(**complete_or_not: int) -> Counts:
    """_2=10 says that version 2 has embedded all ten items."""
    return Counts(ALL, 0, {int(name[1:]): count for name, count in complete_or_not.items()})


def wanted(version: int) -> Wanted:
    return Wanted(id="x", version=version, role="stable", action="promote", who="test", until=0)


def was_live(version: int) -> Record:
    return Record(time="now", action="rollback", from_=version, to=1, who="test")


@pytest.mark.parametrize(
    ("pointers", "found", "searched"),
    [
        (Pointers(stable=1), counts(_1=10), 1),
        (Pointers(stable=2, stack=(1,)), counts(_1=10, _2=10), 2),  # promoted, embedded anew
        (Pointers(stable=2, stack=(1,)), counts(_1=10, _2=9), 1),  # promoted offline: not yet
        (Pointers(stable=1, history=(was_live(2),)), counts(_1=10, _2=10), 1),  # rolled back: at once
        (Pointers(stable=1, history=(was_live(2),)), counts(_1=9, _2=10), 2),  # rolled back, and lacks an item
        (Pointers(stable=1, wanted=wanted(2)), counts(_1=10, _2=10), 1),  # ready, but not promoted
        (Pointers(stable=1, canary=Canary(version=2, percent=99)), counts(_1=10, _2=10), 1),  # never a canary
        (Pointers(stable=3, stack=(1, 2)), counts(_1=10, _2=10, _3=4), 2),  # the nearest of those before
        (Pointers(stable=3, stack=(2,)), counts(_1=10), 1),
        (Pointers(stable=3), counts(_1=3, _2=7), 2),  # a store that lost something: what finds most
        (Pointers(stable=3), Counts(0, 0, {}), 3),  # empty
        (Pointers(stable=1, canary=Canary(version=2, percent=1)), counts(_2=10), 2),  # nothing else is complete
    ],
)
def test_searched(pointers, found, searched):
    assert spaces.searched(pointers, found) == searched


def test_vectors_of_callers_pin_a_collection():
    pinned = Counts(ALL, 1, {1: ALL})
    moved = Pointers(stable=2, stack=(1,))
    assert spaces.searched(moved, pinned) == 1
    assert spaces.to_embed(moved, pinned, {1, 2}) == ()
    assert spaces.to_write(moved, pinned, {1, 2}) == (1,)
    assert not spaces.follows(pinned)


def test_what_is_embedded_anew_is_what_is_kept_incomplete_and_loaded():
    pointers = Pointers(stable=2, stack=(1,), wanted=wanted(3))
    assert spaces.to_embed(pointers, counts(_1=4, _2=10, _3=0), {1, 2, 3}) == (3, 1)
    assert spaces.to_embed(pointers, counts(_1=4, _2=10), {1, 2}) == (1,)
    assert spaces.to_embed(pointers, counts(_1=10, _2=10, _3=10), {1, 2, 3}) == ()


def test_an_item_goes_into_the_searched_space_and_all_that_are_kept():
    pointers = Pointers(stable=2, stack=(1,), wanted=wanted(3))
    assert spaces.to_write(pointers, counts(_1=10, _2=10), {1, 2, 3}) == (2, 3, 1)
    assert spaces.to_write(pointers, counts(_1=10, _2=3), {1, 2}) == (1, 2)


def test_few_spaces_are_held_and_the_oldest_go_first():
    pointers = Pointers(stable=6, stack=(5,))
    found = Counts(ALL, 0, dict.fromkeys(range(1, 7), ALL))
    assert spaces.surplus(pointers, found) == (1, 2)
    assert spaces.surplus(pointers, counts(_6=10, _5=10, _4=3)) == ()


versions = st.integers(1, 6)


@st.composite
def any_pointers(draw):
    stable = draw(versions)
    return Pointers(
        stable=stable,
        stack=tuple(draw(st.lists(versions, max_size=4))),
        canary=draw(st.none() | st.builds(Canary, version=versions, percent=st.just(10))),
        wanted=draw(st.none() | versions.map(wanted)),
        history=tuple(draw(st.lists(versions.map(was_live), max_size=3))),
    )


any_counts = st.builds(
    Counts, st.just(ALL), st.integers(0, 2), st.dictionaries(versions, st.integers(0, ALL), max_size=6)
)


@given(any_pointers(), any_counts)
def test_a_complete_space_is_searched_if_there_is_one_and_never_forgotten(pointers, found):
    version = spaces.searched(pointers, found)
    if any(found.complete(one) for one in found.spaces):
        assert found.complete(version)
    if found.complete(pointers.stable):
        assert version == pointers.stable
    assert version not in spaces.surplus(pointers, found)
    assert not {*spaces.kept(pointers)} & {*spaces.surplus(pointers, found)}
    assert spaces.to_write(pointers, found, set())[0] == version


@given(any_pointers(), any_counts, st.sets(versions))
def test_what_is_put_into_all_that_are_complete_leaves_the_searched_one_searched(pointers, found, resident):
    written = spaces.to_write(pointers, found, resident | {spaces.searched(pointers, found)})
    after = Counts(ALL + 1, found.vectors_alone, {v: n + (v in written) for v, n in found.spaces.items()})
    if found.complete(spaces.searched(pointers, found)) and found.spaces:
        assert after.complete(spaces.searched(pointers, found)) or not found.spaces.get(
            spaces.searched(pointers, found)
        )
