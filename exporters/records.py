"""What the log says of a run: what would be needed to repeat it, and what came of it. The log itself: runs.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from exporters import provenance
from exporters.data.splits import HeldOut
from exporters.family import Family, Recipe
from exporters.options import Options
from exporters.search import Trial
from exporters.training import Trained
from serving.repository.manifest import Metric


def origin(family: Family[Any], data: HeldOut[Any], recipe: Recipe | None, options: Options) -> dict[str, Any]:
    """How to repeat a run."""
    return {
        "time": now(),
        "family": family.name,
        "model": family.model,
        "quick": options.quick,
        "seed": options.seed,
        "parameters": asdict(recipe) if recipe else {},
        "data": data.card.digest,
        "code": provenance.code().model_dump(),
        "torch": provenance.package_version("torch").split()[1],
    }


def of_metrics(metrics: Mapping[str, Metric]) -> dict[str, Any]:
    """Values, and the values of what they are shown beside."""
    return {
        "metrics": {name: metric.value for name, metric in metrics.items()},
        "baselines": {name: metric.baseline for name, metric in metrics.items() if metric.baseline is not None},
    }


def of_training(trained: Trained | None) -> dict[str, Any]:
    """Epochs, the best of them, and on what they ran."""
    if trained is None:
        return {"epochs": 0, "best": None}
    return {
        "epochs": len(trained.history),
        "best": asdict(trained.best),
        "device": trained.device,
        "threads": trained.threads,
        "training_seconds": round(trained.seconds, 1),
    }


def of_trial(trial: Trial) -> dict[str, Any]:
    return {
        "trial": trial.number,
        "state": trial.state,
        "validation_score": trial.score,
        "epochs": trial.epochs,
        "seconds": trial.seconds,
    }


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
