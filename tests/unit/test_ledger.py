"""What a store that lost its data is given back: pure functions, by tables and properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.ledger import Document, LedgerOptions, Member, Pointers, reseed, reseeds, successor


def of(epoch, revision, base=0, mark=0):
    """A document. `mark`: tells apart what was written with the same epoch and revision."""
    return Document(epoch=epoch, revision=revision, base=base, models={"m": Pointers(stable=mark + 1)})


@pytest.mark.parametrize(
    ("known", "found", "lost"),
    [
        (of(0, 0), None, False),
        (of(0, 5), None, True),
        (of(0, 5), of(0, 5), False),
        (of(0, 5), of(0, 4), True),
        (of(0, 5), of(0, 6), False),
        (of(0, 5), of(1, 5, 5), False),
        (of(0, 5), of(1, 4, 4), True),
        (of(0, 5), of(1, 5, 4), False),
        (of(0, 9), of(1, 5, 4), False),
        (of(1, 5, 5), of(0, 4), True),
        (of(1, 5, 5), of(0, 9), True),
        (of(2, 5, 5), of(2, 4, 4), True),
    ],
    ids=[
        "nobody knows anything",
        "emptied",
        "as it was",
        "older",
        "newer",
        "given back by another",
        "given back by one who knew less",
        "given back, and one change made since",
        "given back by one who knew less, and changed since: those who knew more lose",
        "a snapshot of before the epoch",
        "a longer history of before the epoch",
        "an older one of the same epoch",
    ],
)
def test_when_a_store_has_lost_what_is_known(known, found, lost):
    assert reseeds(known, found) is lost


def test_what_is_written_then_is_what_is_known_in_an_epoch_above_both():
    given_back = reseed(of(2, 7, 3, mark=4), of(5, 6, 6))
    assert given_back == of(6, 7, 7, mark=4)
    assert reseed(of(2, 7), None) == of(3, 7, 7)
    assert not reseeds(given_back, given_back)


def test_an_edit_keeps_the_epoch_and_counts_on():
    edited = of(9, 9, 9, mark=3)  # whatever an edit says of these, it has no say in them
    assert successor(of(2, 7, 5), edited) == of(2, 8, 5, mark=3)


def test_a_password_in_the_url_is_not_shown(tmp_path):
    assert "geheim" not in repr(LedgerOptions(tmp_path, "redis://:geheim@localhost"))


def test_a_member_follows_a_document_when_it_has_that_one_or_a_later_one():
    member = Member(id="a", epoch=1, revision=5)
    assert member.follows(of(1, 5))
    assert member.follows(of(0, 9))
    assert not member.follows(of(1, 6))
    assert not member.follows(of(2, 1))


class World:
    """A store and gateways that look at it in turn, as ledgers/redis.py does."""

    def __init__(self, found, known):
        self.store = found
        self.known = list(known)
        self.written = 0

    def look(self, i):
        if reseeds(self.known[i], self.store):
            self.store = reseed(self.known[i], self.store)
            self.written += 1
        self.known[i] = self.store if self.store is not None else self.known[i]

    def all_look(self, times=1):
        for _ in range(times):
            for i in range(len(self.known)):
                self.look(i)


numbers = st.integers(0, 8)
orders = st.lists(st.integers(0, 5), max_size=20)


@given(st.one_of(st.none(), numbers), st.lists(numbers, min_size=1, max_size=6), orders)
def test_the_highest_revision_known_wins_whoever_comes_first(found, known, order):
    world = World(None if found is None else of(0, found, mark=found), [of(0, number, mark=number) for number in known])
    for i in order:
        world.look(i % len(known))
    world.all_look()
    highest = max([*known, found or 0])
    if highest == 0:
        return
    assert world.store.revision == highest
    assert world.store.models["m"].stable == highest + 1
    world.all_look()
    assert set(map(str, world.known)) == {str(world.store)}


documents = st.builds(
    lambda epoch, base, more, mark: of(epoch, base + more, base if epoch else 0, mark),
    st.integers(0, 3), numbers, st.integers(0, 2), st.integers(0, 3),
)  # fmt: skip


@given(st.one_of(st.none(), documents), st.lists(documents, min_size=1, max_size=6), orders)
def test_whatever_gateways_know_nothing_changes_any_more_after_each_has_looked_twice(found, known, order):
    world = World(found, known)
    for i in order:
        world.look(i % len(known))
    world.all_look(times=2)
    settled, written = world.store, world.written
    world.all_look(times=3)
    assert world.written == written
    assert world.store == settled
    if settled is not None:
        assert all(one == settled for one in world.known)


@given(documents, st.lists(st.integers(0, 5), max_size=12), st.lists(numbers, min_size=1, max_size=6))
def test_changes_go_on_counting_through_losses(first, order, losses):
    """One gateway that sees every document: no revision is ever given twice within an epoch, whatever is lost."""
    world, seen = World(first, [first]), {(first.epoch, first.revision)}
    for i, _ in enumerate(losses):
        if i in order:
            world.store = None
        world.look(0)
        if world.store is None:
            return  # nothing was known
        world.store = successor(world.store, world.store)
        pair = (world.store.epoch, world.store.revision)
        assert pair not in seen
        seen.add(pair)
        world.known[0] = world.store
