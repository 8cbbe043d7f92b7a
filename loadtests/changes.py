"""Versions that are promoted and rolled back while load goes on, through the admin port."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from loadtests.outcome import Made
from loadtests.scenario import Change
from loadtests.source import Clock
from serving.client import AdminClient, Refused, Unreachable

WHO = "load test"


def make_changes(
    changes: Sequence[Change], admin: AdminClient, clock: Clock, begun_s: float, record: Callable[[Made], None]
) -> None:
    """Gives the orders when they are due, one after another. What is refused is recorded, and the next one given."""
    for change in sorted(changes, key=lambda one: one.at_s):
        if (wait_s := begun_s + change.at_s - clock.now_s()) > 0:
            clock.sleep(wait_s)
        started_s = clock.now_s()
        refused = ""
        try:
            _give(admin, change)
        except (Refused, Unreachable) as error:
            refused = str(error)
        seconds = clock.now_s() - started_s
        record(Made(started_s - begun_s, seconds, change.action, change.model, change.version or 0, refused))


def _give(admin: AdminClient, change: Change) -> None:
    order = {"version": change.version, "canary": change.canary} if change.action == "promote" else {}
    given = {name: value for name, value in order.items() if value is not None}
    act = admin.promote if change.action == "promote" else admin.rollback
    act(change.model, {**given, "who": WHO})
