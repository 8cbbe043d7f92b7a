"""The guard, put together."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from serving.claim import Claims
from serving.guard.acting import Acting
from serving.guard.guard import Guard
from serving.guard.meters import GuardMeters
from serving.guard.webhook import Webhook
from serving.ledger import Ledger
from serving.observation.drift import Drift
from serving.settings import Settings
from serving.shadow import Shadows
from serving.versions.changes import Changes
from serving.versions.reconciler import Reconciler


def open_guard(
    settings: Settings,
    reconciler: Reconciler,
    changes: Changes,
    *,
    ledger: Ledger,
    claims: Claims,
    shadows: Shadows,
    drift: Drift,
    registry: CollectorRegistry,
) -> Guard:
    """As the settings want it. claims: which whoever opened them closes."""
    meters = GuardMeters(registry)
    acting = Acting(changes, ledger, lambda: reconciler.index, Webhook(settings.webhook), meters)
    return Guard(reconciler, claims, acting, shadows, drift=drift, meters=meters, mode=settings.guard)
