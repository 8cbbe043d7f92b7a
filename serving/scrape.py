"""What is looked up when somebody scrapes, and costs nothing until then: graphs, padding, who is live.

Graphs whose batches are made here have the names and meanings that Triton has for them; in front of a Triton there are
none, since it tells its own. Source: https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/metrics.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, UnknownMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from serving.engine import Statistics
from serving.ledger import Pointers
from serving.repository.layout import GraphKey
from serving.text_task import positions_of
from serving.versions.reconciler import Reconciler
from serving.versions.router import Router

OF_A_VERSION: Final = ("model", "version")
US: Final = 1e6
# Name -> what it says, and how it is read.
TRITONS: Final[Mapping[str, tuple[str, Callable[[Statistics], float]]]] = {
    "nv_inference_request_success": ("Requests that were answered.", lambda one: one.answered),
    "nv_inference_request_failure": ("Requests that failed.", lambda one: one.failed),
    "nv_inference_count": ("Rows of answered requests.", lambda one: one.rows),
    "nv_inference_exec_count": ("Runs, each of one batch.", lambda one: one.runs),
    "nv_inference_request_duration_us": (
        "Microseconds of answered requests, from queue to answer.",
        lambda one: (one.queue_s + one.run_s) * US,
    ),
    "nv_inference_queue_duration_us": ("Microseconds that they waited.", lambda one: one.queue_s * US),
    "nv_inference_compute_infer_duration_us": ("Microseconds that they ran.", lambda one: one.run_s * US),
}


def register(
    registry: CollectorRegistry,
    tallies: Callable[[], Mapping[GraphKey, Statistics]],
    router: Router,
    reconciler: Reconciler,
) -> None:
    """Has the registry look these up. tallies: of the graphs whose batches are made here."""
    for collector in (Graphs(tallies), Rows(router), Live(reconciler.live)):
        registry.register(collector)
    gateways = Gauge("tidegate_gateways", "Gateways that live, as far as this one knows.", registry=registry)
    gateways.set_function(lambda: reconciler.gateways)
    behind = Gauge("tidegate_gateways_behind", "Of those, they that follow older pointers.", registry=registry)
    behind.set_function(lambda: reconciler.behind)


class Graphs(Collector):
    """What became of each graph's requests."""

    def __init__(self, tallies: Callable[[], Mapping[GraphKey, Statistics]]) -> None:
        self._tallies = tallies

    def collect(self) -> Iterable[Metric]:
        tallies = {(key.name, str(key.version)): one for key, one in self._tallies().items()}
        for name, (text, read) in TRITONS.items():
            family = UnknownMetricFamily(name, text, labels=OF_A_VERSION)  # as counters they would end in _total
            for labels, one in tallies.items():
                family.add_metric(labels, read(one))
            yield family
        waiting = GaugeMetricFamily(
            "nv_inference_pending_request_count", "Requests that wait to be run.", labels=OF_A_VERSION
        )
        for labels, one in tallies.items():
            waiting.add_metric(labels, one.waiting)
        yield waiting


class Rows(Collector):
    """What rows of tokens held, and how much of them was filled up. (Batches are never: rows of one have one shape.)"""

    def __init__(self, router: Router) -> None:
        self._router = router

    def collect(self) -> Iterable[Metric]:
        tokens = CounterMetricFamily(
            "tidegate_token_positions", "Positions of rows that held a token of a text.", labels=OF_A_VERSION
        )
        padding = CounterMetricFamily(
            "tidegate_padding_positions",
            "Positions of rows that were filled up and run for nothing.",
            labels=OF_A_VERSION,
        )
        for resident in self._router.residents():
            if (positions := positions_of(resident.task)) is not None:
                labels = (resident.version.model, str(resident.version.number))
                tokens.add_metric(labels, positions.tokens)
                padding.add_metric(labels, positions.padding)
        return tokens, padding


class Live(Collector):
    """Which version has which role, by the pointers that this gateway follows."""

    def __init__(self, live: Callable[[], Mapping[str, Pointers]]) -> None:
        self._live = live

    def collect(self) -> Iterable[Metric]:
        versions = GaugeMetricFamily(
            "tidegate_live_version", "The version that is stable, previous, canary, shadow.", labels=("model", "role")
        )
        percent = GaugeMetricFamily(
            "tidegate_canary_percent", "The canary's share of the requests; 0 without one.", labels=("model",)
        )
        for model, pointers in self._live().items():
            if pointers.unloaded:
                continue
            for role, version in roles(pointers).items():
                versions.add_metric((model, role), version)
            percent.add_metric((model,), pointers.canary.percent if pointers.canary else 0)
        return versions, percent


def roles(pointers: Pointers) -> dict[str, int]:
    """Role -> version, of the roles that one has."""
    found = {
        "stable": pointers.stable,
        "previous": pointers.previous,
        "canary": pointers.canary.version if pointers.canary else None,
        "shadow": pointers.shadow,
    }
    return {role: version for role, version in found.items() if version is not None}
