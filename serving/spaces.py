"""Which of a collection's spaces is searched, and which are kept up, as pure decisions over pointers and counts.

Search and model move together because both follow the same pointers: there is no pointer of a collection's own that
could be left behind. A space is searched only when it is complete, so a promotion waits for that, a rollback finds
the old one as it was kept, and whatever goes wrong in between leaves the complete one in use.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final

from serving.index import Counts
from serving.ledger import Pointers

MOST_SPACES: Final = 4  # of a collection: those that are kept up, and what was begun last and may be gone on with


def kept(pointers: Pointers) -> tuple[int, ...]:
    """The versions whose spaces are kept up, the most urgent first: stable, the one to be, the way back."""
    found = (pointers.stable, pointers.candidate, pointers.previous)
    return tuple(dict.fromkeys(version for version in found if version is not None))


def searched(pointers: Pointers, counts: Counts) -> int:
    """The version whose space answers: stable, else the one that was live last of those that are complete.

    Never a canary before it is stable, unless nothing else is complete. Of an empty collection: stable.
    """
    order = tuple(dict.fromkeys(_by_nearness(pointers, counts.spaces)))
    complete = [version for version in order if counts.complete(version)]
    # None is complete only if a store lost something: what finds most is asked then.
    return complete[0] if complete else max(order, key=lambda version: counts.spaces.get(version, 0))


def follows(counts: Counts) -> bool:
    """Whether a collection can go with its model: vectors of callers' own can be embedded by no version."""
    return counts.vectors_alone == 0


def to_embed(pointers: Pointers, counts: Counts, resident: Collection[int]) -> tuple[int, ...]:
    """The versions that have items to embed and could do so now, the most urgent first."""
    if not follows(counts):
        return ()
    return tuple(version for version in kept(pointers) if version in resident and not counts.complete(version))


def to_write(pointers: Pointers, counts: Counts, resident: Collection[int]) -> tuple[int, ...]:
    """The versions that embed an item that is put now, the searched one first: so that complete spaces stay so."""
    first = searched(pointers, counts)
    others = kept(pointers) if follows(counts) else ()
    return (first, *(version for version in others if version != first and version in resident))


def surplus(pointers: Pointers, counts: Counts) -> tuple[int, ...]:
    """The versions whose spaces may be forgotten: neither searched nor kept up, the oldest beyond MOST_SPACES."""
    held = {searched(pointers, counts), *kept(pointers)}
    others = sorted(version for version in counts.spaces if version not in held)
    room = max(0, MOST_SPACES - len(held))
    return tuple(others[: max(0, len(others) - room)])


def _by_nearness(pointers: Pointers, spaces: Iterable[int]) -> Iterator[int]:
    yield pointers.stable
    yield from reversed(pointers.stack)
    for record in reversed(pointers.history):
        if record.from_ is not None:
            yield record.from_
    yield from sorted((version for version in spaces if version != pointers.candidate), reverse=True)
    yield from spaces
