"""What there is and who is live, as /v1/models and `tidegate models` tell it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from serving.ledger import Canary, Pointers
from serving.repository.layout import Index, Model, Version
from serving.shadow import Tally


class Shadow(BaseModel):
    """A version that gets copies of requests, and what came of those at this gateway.

    agreement: the mean over those compared, 0 to 1. passed_by: requests not copied, as one copy was running already.
    """

    version: int
    compared: int
    agreement: float | None
    failed: int
    passed_by: int


class ModelState(BaseModel):
    """One model. unloaded: by an operator's order, so that nothing answers.

    `card` is its live version's: metrics and tables, data, licence, digests; None for a plain Triton model.
    """

    name: str
    task: str | None
    versions: list[int]
    stable: int | None
    previous: int | None = None
    canary: Canary | None = None
    shadow: Shadow | None = None
    ready: bool
    unloaded: bool
    card: dict[str, Any] | None


class ModelList(BaseModel):
    models: list[ModelState]

    def without_tables(self) -> ModelList:
        """As lists are shown: cards without what takes a row for each class."""
        return ModelList(models=[model.model_copy(update={"card": _brief(model.card)}) for model in self.models])


def _brief(card: dict[str, Any] | None) -> dict[str, Any] | None:
    return {name: part for name, part in card.items() if name != "tables"} if card else card


@dataclass(frozen=True, slots=True)
class GraphState:
    """Whether one version of a graph is loaded at this gateway, in Triton's words, and if it cannot be, why."""

    name: str
    version: int
    state: Literal["READY", "LOADING", "UNLOADING", "UNAVAILABLE"]
    reason: str = ""


Tallies = Callable[[str, int], Tally]


def describe(
    index: Index,
    pointers: Mapping[str, Pointers],
    serving: Mapping[str, int | None],
    tallies: Tallies = lambda *_: Tally(),
) -> ModelList:
    """Every model of the index. `serving`: the versions that answer now, by model; tallies: of copies, by version."""
    models = index.models.items()
    return ModelList(models=[_model(model, pointers.get(name), serving, tallies) for name, model in models])


def _model(model: Model, pointers: Pointers | None, serving: Mapping[str, int | None], tallies: Tallies) -> ModelState:
    pointers = pointers or Pointers(stable=model.first_version)
    live = model.versions.get(pointers.stable)
    return ModelState(
        name=model.name,
        task=task_of(model),
        versions=list(model.versions),
        stable=pointers.stable,
        previous=pointers.previous,
        canary=pointers.canary,
        shadow=_shadow(pointers.shadow, tallies(model.name, pointers.shadow)) if pointers.shadow else None,
        ready=serving.get(model.name) == pointers.stable,
        unloaded=pointers.unloaded,
        card=_card(live) if live else None,
    )


def _shadow(version: int, tally: Tally) -> Shadow:
    return Shadow(
        version=version,
        compared=tally.compared,
        agreement=tally.agreement / tally.compared if tally.compared else None,
        failed=tally.failed,
        passed_by=tally.passed_by,
    )


def task_of(model: Model) -> str | None:
    """The model's task, as its first version's manifest has it."""
    manifest = model.versions[model.first_version].manifest
    return manifest.task if manifest else None


def _card(version: Version) -> dict[str, Any] | None:
    if version.manifest is None:
        return None
    shown = {"family", "created", "intended_use", "metrics", "tables", "parity", "data", "licence", "code", "files"}
    if not version.manifest.tables:
        shown.remove("tables")
    if version.manifest.graphs:
        shown |= {"graphs", "graph_files"}
    return version.manifest.model_dump(mode="json", include=shown, exclude_none=True)
