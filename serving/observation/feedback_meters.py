"""The meters of feedback."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge

from serving.monitoring.score import Score


class FeedbackMeters:
    """Labels: models and versions that answered, and the metrics of tasks."""

    def __init__(self, registry: CollectorRegistry, remembered: Callable[[], float]) -> None:
        """remembered: how many answers there are that a truth can be told of."""
        labels = ("model", "version", "metric")
        self._told = Counter(
            "tidegate_feedback",
            "Truths, by what came of them: scored, repeated, passed_on; unknown, unfit, conflicting.",
            ("model", "outcome"),
            registry=registry,
        )
        self._scored = Counter("tidegate_feedback_scored", "Truths that were scored.", labels, registry=registry)
        self._sum = Counter(
            "tidegate_feedback_score_sum", "Sum of the quality, 0 to 1, of what was scored.", labels, registry=registry
        )
        self._latest = Gauge(
            "tidegate_feedback_score", "Mean quality, 0 to 1, by the latest 1,000 truths.", labels, registry=registry
        )
        answers = Gauge(
            "tidegate_feedback_answers", "Answers that are remembered for truths to come.", registry=registry
        )
        answers.set_function(remembered)

    def count(self, model: str, outcome: str, truths: int = 1) -> None:
        """Truths of which the same has come."""
        self._told.labels(model, outcome).inc(truths)

    def scored(self, model: str, version: int, score: Score) -> None:
        """One truth that told how good an answer was."""
        labels = (model, str(version), score.metric)
        self.count(model, "scored")
        self._scored.labels(*labels).inc()
        self._sum.labels(*labels).inc(score.quality)

    def follow(self, model: str, version: int, metric: str, latest: Callable[[], float]) -> None:
        """Shows a version's live metric from here on."""
        self._latest.labels(model, str(version), metric).set_function(latest)
