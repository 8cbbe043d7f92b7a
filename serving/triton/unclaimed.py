"""Since when nobody has claimed what a server has loaded: pure, with time as a number.

A store of claims may have lost one whose gateway lives, so nothing is let go before its patience is over.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from serving.repository.layout import GraphKey


class Unclaimed:
    """Versions that nobody claims. patience_s: for how long it must have been so before one may go."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._since_s: dict[GraphKey, float] = {}

    def seen(self, loaded: Collection[GraphKey], claimed: Mapping[str, Collection[int]], now_s: float) -> None:
        """What is loaded and claimed now; what is claimed again begins anew."""
        free = [key for key in loaded if key.version not in claimed.get(key.name, ())]
        self._since_s = {key: self._since_s.get(key, now_s) for key in free}

    def forget(self) -> None:
        """The claims cannot be asked: nobody knows who needs what."""
        self._since_s.clear()

    def surplus(self, name: str, needed: Collection[GraphKey], now_s: float) -> set[int]:
        """Versions of a graph that may be let go; none that is needed by now."""
        return {
            key.version
            for key, since_s in self._since_s.items()
            if key.name == name and since_s + self._patience_s <= now_s and key not in needed
        }
