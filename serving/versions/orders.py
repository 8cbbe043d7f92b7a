"""What may be ordered of a model's pointers, and what came of it."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from serving.ledger import LEASE_S, Canary, Percent, Role, Wanted
from serving.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Promotion:
    """Which version shall become what. version None: the one on trial. force: in spite of the gate."""

    model: str
    version: int | None = None
    role: Role = "stable"
    percent: Percent | None = None
    force: bool = False

    @classmethod
    def ordered(cls, model: str, version: int | None, canary: Percent | None, *, shadow: bool, force: bool) -> Self:
        """As an order has it: a canary of so many percent, a shadow, or neither."""
        role: Role = "canary" if canary is not None else "shadow" if shadow else "stable"
        return cls(model, version, role, canary, force)


class Outcome(BaseModel):
    """A change that was made. cold: a version had to be loaded first. gateways: how many follow; late: who does not.

    from and to: of its record; both None where there was nothing to change.
    seconds: from the call on, all gateways that are not late serving.
    """

    model_config = ConfigDict(populate_by_name=True)

    model: str
    action: str
    from_: int | None = Field(alias="from")
    to: int | None
    stable: int
    previous: int | None
    canary: Canary | None
    shadow: int | None
    cold: bool
    gateways: int
    late: tuple[str, ...]
    seconds: float
    verdict: Verdict | None = None


def attempt(promotion: Promotion, version: int, who: str, why: str) -> Wanted:
    """The first phase of it, that nobody has begun yet."""
    return Wanted(
        id=secrets.token_hex(8),
        version=version,
        role=promotion.role,
        percent=promotion.percent,
        action="promote" if promotion.role == "stable" else promotion.role,
        who=who,
        why=why,
        until=time.time() + LEASE_S,
    )
