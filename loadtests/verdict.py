"""Whether a load test's table keeps what was promised: a pure function, point by point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from loadtests.outcome import Made
from loadtests.summary import ALL, Row

GREEN: Final = 0
RED: Final = 1
INVALID: Final = 3  # 2 is wrong usage, as of all commands

Unit = Literal["s", "share", "count"]


@dataclass(frozen=True, slots=True)
class Check:
    """One point. passed None: it is shown and not judged. least: the limit is the least that will do, else the most."""

    subject: str
    name: str
    measured: float
    limit: float
    unit: Unit
    passed: bool | None
    least: bool = False
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """invalid: why the run says nothing of the server; empty if it does."""

    checks: Sequence[Check]
    invalid: str = ""

    @property
    def passed(self) -> bool:
        return not self.invalid and all(check.passed is not False for check in self.checks)

    @property
    def exit_code(self) -> int:
        return INVALID if self.invalid else GREEN if self.passed else RED

    @property
    def sentence(self) -> str:
        if self.invalid:
            return f"INVALID: {self.invalid}"
        broken = [f"{check.subject}: {check.name}" for check in self.checks if check.passed is False]
        return f"RED: {'; '.join(broken)}" if broken else "GREEN: what was promised was kept."


def judge(rows: Sequence[Row], changes: Sequence[Made], late_p99_s: float, late_limit_s: float) -> Verdict:
    """rows: as summary.table gives them. late_p99_s: of the generator, and how much of it makes a run invalid.

    The row of all is judged by its errors alone: tasks have promises of their own for time.
    """
    checks = [check for row in rows for check in _of_row(row)]
    checks += [check for made in changes for check in _of_change(made, rows)]
    return Verdict(checks, _invalid(rows, checks, late_p99_s, late_limit_s))


def _of_row(row: Row) -> Iterator[Check]:
    promise = row.promise
    enough = row.due >= promise.requests
    detail = "" if enough else f"{row.due} requests are too few to judge"

    def check(name: str, measured: float, limit: float, unit: Unit, *, least: bool = False) -> Check:
        kept = measured >= limit if least else measured <= limit
        return Check(row.name, name, measured, limit, unit, kept if enough else None, least, detail)

    yield check("error rate", row.error_rate, promise.error_rate, "share")
    if row.task != ALL:
        yield check("p99", row.p99_s, promise.p99_s, "s")
        yield check("goodput", row.goodput, promise.goodput, "share", least=True)


def _of_change(made: Made, rows: Sequence[Row]) -> Iterator[Check]:
    """An order was carried out; and a version that went live has answered."""
    name = f"{made.action} at {made.at_s:.1f} s"
    done = not made.refused
    yield Check(made.model, name, float(done), 1, "count", done, least=True, detail=made.refused)
    if made.version and not made.refused:
        answered = sum(row.answered for row in rows if (row.model, row.version) == (made.model, made.version))
        subject = f"{made.model}/{made.version}"
        yield Check(subject, "answers", answered, 1, "count", answered > 0, least=True)


def _invalid(rows: Sequence[Row], checks: Sequence[Check], late_p99_s: float, late_limit_s: float) -> str:
    if not rows or not rows[0].due:
        return "nothing was sent."
    if late_p99_s > late_limit_s:
        return (
            f"the generator sent {late_p99_s * 1e3:.0f} ms late (p99), more than {late_limit_s * 1e3:.0f}: it could "
            "not keep up. Use another machine, --processes, or a lower rate."
        )
    if all(check.passed is None for check in checks):
        return "there were too few requests to judge anything by."
    return ""
