"""What speaks against a version on trial, one kind of evidence each. Pure: blocks of counts in, findings out.

Beside a version that answers at the same time each block compares the two. After a promotion there is none, and what
the version before it did until then sets the limits.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from serving.trial import Counts, Policy

# Of the risk, what each signal may take: the most for the one that is the slowest to tell.
SHARES: Final[Mapping[str, float]] = {
    "errors": 0.6, "latency": 0.1, "disagreement": 0.1, "live_metric": 0.1, "drift": 0.1,
}  # fmt: skip
UNPROVEN: Final = 0.99


@dataclass(frozen=True, slots=True)
class Finding:
    """How one signal stands. strength: its evidence by what is wanted of it, both as logarithms: from 1 on it is
    enough; None while there is nothing to compare. measured, limit, detail: as a verdict's check has them. over: what
    is seen is more than what is let pass, and speaks against the version, if it proves nothing yet.
    """

    name: str
    strength: float | None
    measured: str = ""
    limit: str = ""
    detail: str = ""
    over: bool = False

    @property
    def proven(self) -> bool:
        return self.strength is not None and self.strength >= 1


class Signal(ABC):
    """One kind of evidence. `risk`: the chance that it ever speaks against a version that is no worse."""

    name: ClassVar[str]

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.risk = policy.risk * SHARES[self.name]
        self.wanted = math.log(1 / self.risk)

    @abstractmethod
    def add(self, candidate: Counts, other: Counts) -> None:
        """One block of both."""

    @abstractmethod
    def finding(self) -> Finding:
        """As it stands."""

    def limited(self) -> float:
        """To be called where a limit comes from the past: the chance that the limit is too low, half of the risk."""
        self.wanted = math.log(2 / self.risk)
        return self.risk / 2

    def found(
        self, log_e: float, *, harmful: bool, measured: str, limit: str, detail: str, over: bool = False
    ) -> Finding:
        """harmful: whether what is seen is more than what is let pass; if not, no evidence is enough. over: as of
        Finding, where there is more to it than the evidence of all together.
        """
        strength = log_e / self.wanted
        if not harmful:
            strength = min(strength, UNPROVEN)
        odds = f"; of a version that is no worse one would see this once in {_odds(log_e)}" if strength >= 1 else ""
        return Finding(self.name, strength, measured, limit, detail + odds, over=harmful and (over or log_e > 0))


def percent(share: float) -> str:
    """As people read it."""
    return f"{share * 100:.2g} %"


def _odds(log_e: float) -> str:
    return f"{math.exp(log_e):,.0f}" if log_e < 20 else f"10^{log_e / math.log(10):.0f}"
