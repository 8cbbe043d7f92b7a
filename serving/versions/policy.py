"""What to load or unload next, as a pure decision. Up before down: nothing is let go while its place is still empty.

Resident of a model are its stable version, the next way back, at most one candidate, and what collections still need;
of one that is unloaded, only a version that shall put it back in service.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from serving.ledger import Pointers

MOST_RESIDENT: Final = 3


@dataclass(frozen=True, slots=True)
class Load:
    version: int


@dataclass(frozen=True, slots=True)
class Unload:
    version: int


Step = Load | Unload


def wanted_versions(pointers: Pointers, needed: Collection[int] = ()) -> tuple[int, ...]:
    """The versions that shall be resident, the most urgent first: stable, `needed` by others, candidate, way back."""
    if pointers.unloaded:
        return (pointers.candidate,) if pointers.candidate is not None else ()
    found = (pointers.stable, *sorted(needed), pointers.candidate, pointers.previous)
    return tuple(dict.fromkeys(version for version in found if version is not None))


def next_step(
    wanted: Sequence[int],
    loaded: Collection[int],
    *,
    leaving: Collection[int] = (),
    failed: Collection[int] = (),
    serving: int | None = None,
) -> Step | None:
    """The one step that brings `loaded` nearer to `wanted`; None when there is none to take now.

    leaving: versions that are being let go, and take a place until they are. failed: those that could not be loaded
    lately. serving: the version that answers, which stays until the stable one, the first of `wanted`, is loaded.
    """
    missing = [version for version in wanted if version not in {*loaded, *leaving, *failed}]
    kept = {*wanted, serving} if wanted and wanted[0] not in loaded else set(wanted)
    surplus = sorted(version for version in loaded if version not in kept)
    full = len({*loaded, *leaving}) >= max(MOST_RESIDENT, len(wanted))
    if missing and not full:
        return Load(missing[0])
    if surplus:
        return Unload(surplus[0])
    if full and not leaving and missing[:1] == [*wanted[:1]]:  # the stable version comes before all others
        return next((Unload(version) for version in reversed(wanted) if version in loaded and version != serving), None)
    return None
