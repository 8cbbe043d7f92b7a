"""What there is and who is live, as /v1/models and `tidegate models` tell it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from serving.ledger import Pointers
from serving.repository.layout import Index, Model, Version


class ModelState(BaseModel):
    """One model. `card` is its live version's: metrics, data, licence, digests; None for a plain Triton model."""

    name: str
    task: str | None
    versions: list[int]
    stable: int | None
    previous: int | None = None
    canary: dict[str, int] | None = None
    shadow: int | None = None
    ready: bool
    card: dict[str, Any] | None


class ModelList(BaseModel):
    models: list[ModelState]


def describe(index: Index, pointers: Mapping[str, Pointers], ready: Mapping[str, int]) -> ModelList:
    """Every model of the index. `ready`: the versions that answer now, by model."""
    return ModelList(models=[_model(model, pointers.get(name), ready) for name, model in index.models.items()])


def _model(model: Model, pointers: Pointers | None, ready: Mapping[str, int]) -> ModelState:
    stable = pointers.stable if pointers else model.first_version
    live = model.versions.get(stable)
    return ModelState(
        name=model.name,
        task=task_of(model),
        versions=list(model.versions),
        stable=stable,
        ready=ready.get(model.name) == stable,
        card=_card(live) if live else None,
    )


def task_of(model: Model) -> str | None:
    """The model's task, as its first version's manifest has it."""
    manifest = model.versions[model.first_version].manifest
    return manifest.task if manifest else None


def _card(version: Version) -> dict[str, Any] | None:
    if version.manifest is None:
        return None
    shown = {"family", "created", "intended_use", "metrics", "parity", "data", "licence", "code", "files"}
    return version.manifest.model_dump(mode="json", include=shown, exclude_none=True)
