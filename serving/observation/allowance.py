"""So many in a second and no more: what bounds the cost of looking on."""

from __future__ import annotations


class Allowance:
    """Lets through `per_s` in each second on time.monotonic()'s clock; all of them may come at once."""

    __slots__ = ("_left", "_per_s", "_until_s")

    def __init__(self, per_s: int) -> None:
        self._per_s = per_s
        self._left = per_s
        self._until_s = 0.0

    def take(self, now_s: float) -> bool:
        """Whether one more may pass now."""
        if now_s >= self._until_s:
            self._until_s = now_s + 1.0
            self._left = self._per_s
        if self._left <= 0:
            return False
        self._left -= 1
        return True
