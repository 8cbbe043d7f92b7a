"""What the gate found out about a version: one check for each point, with what was measured and what is allowed.

Kept with the history, printed by `tidegate check` and answered by the admin port, always in this one shape.
"""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict

# What no operator can overrule: a version that fails here is not what was published, or cannot answer at all, and one
# that could not be loaded in a child would take the gateway down with it. All else is a judgement of quality.
UNFORCEABLE: Final = frozenset({"files", "digests", "external_data", "load", "signature", "warm_up"})


class Check(BaseModel):
    """One point. `passed` None: it was not run, or there was nothing to compare with; `detail` says which.

    measured, limit: a figure, or words where no figure would say it.
    """

    name: str
    passed: bool | None
    measured: float | str | None = None
    limit: float | str | None = None
    detail: str = ""

    model_config = ConfigDict(frozen=True)


class Verdict(BaseModel):
    """All points for one version. `passed`: none of them failed.

    time: ISO 8601, UTC; digest: of the version that was examined; stable: the version that it was compared with.
    """

    model: str
    version: int
    passed: bool
    checks: tuple[Check, ...]
    time: str
    digest: str
    stable: int | None = None

    model_config = ConfigDict(frozen=True)

    def failed(self) -> tuple[str, ...]:
        """The names of the checks that failed, in order."""
        return tuple(check.name for check in self.checks if check.passed is False)

    @property
    def may_be_forced(self) -> bool:
        """Whether an operator may overrule what failed: never where the version is not sound."""
        return UNFORCEABLE.isdisjoint(self.failed())
