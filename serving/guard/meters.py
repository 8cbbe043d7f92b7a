"""The guard's meters."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from serving.guard.signal import Finding

ACTIONS: Final = ("advance", "promote", "rollback", "advised_advance", "advised_rollback")


class GuardMeters:
    """In the gateway's registry. Each model has the series of one trial at most."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.evidence = Gauge(
            "tidegate_guard_evidence",
            "Evidence against the version on trial, by signal; from 1 on it is enough.",
            ("model", "version", "signal"),
            registry=registry,
        )
        self.decisions = Counter(
            "tidegate_guard_decisions",
            "What the guard did: advance, promote, rollback; advised_... where it only says so.",
            ("model", "action"),
            registry=registry,
        )
        self.leading = Gauge(
            "tidegate_guard_leading", "1 at the gateway whose guard decides for all.", registry=registry
        )
        self.webhooks = Counter(
            "tidegate_guard_webhooks", "What the webhook was told: delivered, failed.", ("outcome",), registry=registry
        )
        self._shown: dict[str, set[tuple[str, str, str]]] = {}

    def show(self, model: str, version: int, findings: tuple[Finding, ...]) -> None:
        """How the trial stands."""
        if model not in self._shown:  # a counter that first appears with its first event tells of no increase
            for action in ACTIONS:
                self.decisions.labels(model, action)
        shown = {(model, str(version), one.name): one.strength for one in findings if one.strength is not None}
        for labels in self._shown.get(model, set()) - shown.keys():
            self.evidence.remove(*labels)
        for labels, strength in shown.items():
            self.evidence.labels(*labels).set(strength)
        self._shown[model] = set(shown)

    def forget(self, model: str) -> None:
        """The trial is over."""
        for labels in self._shown.pop(model, set()):
            self.evidence.remove(*labels)
