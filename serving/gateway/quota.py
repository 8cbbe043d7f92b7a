"""What a key may use: so many requests a second, so many at once. Kept by each gateway for itself.

A rate is a token bucket that holds one second's worth. Gateways that share a ledger take an equal part of it each, so
that no store is asked on the way of a request; a key whose connections all go to one gateway has that one's part.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from typing import Final, NamedTuple

from serving.errors import QuotaExceeded
from serving.keys import Key

SLACK: Final = 1e-6  # of a token: who waited as long as they were told is not refused for the last bit of a float


class Bucket(NamedTuple):
    """The tokens that were left at a time, in seconds of a clock that does not go back."""

    tokens: float
    at_s: float


FULL: Final = Bucket(math.inf, 0.0)


def take(bucket: Bucket, rate: float, now_s: float) -> tuple[Bucket, float]:
    """The bucket after a request, and 0 if that got a token, else the seconds until there is one.

    It holds what `rate` gives in a second, but at least one token. A refusal leaves it as it was.
    """
    tokens = min(rate if rate > 1 else 1.0, bucket.tokens + (now_s - bucket.at_s) * rate)
    if tokens < 1 - SLACK:
        return bucket, (1 - tokens) / rate
    return Bucket(tokens - 1, now_s), 0.0


class Usage:
    """What one key uses at this gateway."""

    __slots__ = ("bucket", "running")

    def __init__(self) -> None:
        self.bucket = FULL
        self.running = 0

    def leave(self) -> None:
        """Gives back the place of a request that has ended."""
        self.running -= 1


class Quotas:
    """Holds each key to its limits, by its name: a key that is made anew goes on where the old one was.

    share: how many gateways there are to divide them by; names: of all keys.
    """

    def __init__(
        self,
        share: Callable[[], int],
        names: Callable[[], Collection[str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._share = share
        self._names = names
        self._clock = clock
        self._usages: dict[str, Usage] = {}

    def __len__(self) -> int:
        return len(self._usages)

    def enter(self, key: Key) -> Usage | None:
        """Counts a request; gives what to `leave` when it has ended, if that has to be told.

        QuotaExceeded when the key has used up what it may.
        """
        rate, places = key.rate, key.concurrency
        if rate is None and places is None:
            return None
        usage = self._usages.get(key.name) or self._open(key.name)
        gateways = self._share()
        if places is not None and usage.running >= max(1, places // gateways):
            raise QuotaExceeded(
                f"This key may have {places} requests at once, over all gateways.",
                remedy="Wait for the answers of those that run.",
                wait_s=1,
            )
        if rate is not None:  # last: who finds no place takes no token
            usage.bucket, wait_s = take(usage.bucket, rate / gateways, self._clock())
            if wait_s:
                raise QuotaExceeded(
                    f"This key may send {rate:.10g} requests a second, over all gateways.",
                    remedy="Send fewer, or ask the operator for more.",
                    wait_s=math.ceil(wait_s),
                )
        if places is None:
            return None
        usage.running += 1
        return usage

    def _open(self, name: str) -> Usage:
        """A fresh usage; there are never more than keys, and requests of keys that are gone."""
        names = self._names()
        if len(self._usages) >= len(names):
            kept = self._usages.items()
            self._usages = {one: usage for one, usage in kept if one in names or usage.running}
        usage = self._usages[name] = Usage()
        return usage
