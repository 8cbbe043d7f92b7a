"""/admin and /metrics, on the admin port only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ConfigDict, Field, model_validator

from serving.errors import Forbidden, MediaTypeUnsupported
from serving.gateway.access import needs
from serving.gateway.http import caller_of
from serving.ledger import Number, Percent, Record
from serving.observation.drift import Drift
from serving.observation.drift_report import DriftReport
from serving.telemetry import Meters
from serving.verdict import Verdict
from serving.versions.catalog import ModelList
from serving.versions.changes import Changes
from serving.versions.orders import Outcome, Promotion

ADMIN: Any = {"tags": ["admin"], "openapi_extra": needs("admin")}
PROBLEMS: Any = {
    404: {"description": "No such model or version."},
    409: {"description": "The gate, a gateway or the pointers say no; nothing has moved. A verdict stands beside it."},
    503: {"description": "The ledger cannot be reached; inference goes on."},
}
Text = Annotated[str, Field(max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")]


class Said(BaseModel):
    """Who asks, where no key says it, and why; both go into the history."""

    model_config = ConfigDict(extra="forbid")
    who: Text = ""
    why: Text = ""


class CheckOrder(BaseModel):
    model_config = ConfigDict(extra="forbid")
    version: Number


class TrialOrder(Said):
    """version: left out for the one on trial. force: in spite of what the gate says of its quality."""

    version: Number | None = None
    force: bool = False


class CanaryOrder(TrialOrder):
    percent: Percent = 10


class PromoteOrder(TrialOrder):
    """canary: percent, to be that and not stable yet; shadow: only copies of requests."""

    canary: Percent | None = None
    shadow: bool = False

    @model_validator(mode="after")
    def _one_role(self) -> PromoteOrder:
        if self.canary is not None and self.shadow:
            raise ValueError("expected canary or shadow, not both")
        return self


class RollbackOrder(Said):
    """to: a version on the way back. live: what the caller takes for live; refused if it is not."""

    to: Number | None = None
    live: Number | None = None


class ServiceOrder(Said):
    """To take a model out of service, or back into it."""


def admin_router(models: Callable[[], ModelList], meters: Meters) -> APIRouter:
    """What is, to be read."""
    router = APIRouter()

    @router.get("/admin/models", summary="What models there are, and which versions are live", **ADMIN)
    async def list_models() -> ModelList:
        return models().without_tables()

    @router.get(
        "/metrics", tags=["admin"], summary="All meters, in Prometheus' text format", openapi_extra=needs("metrics")
    )
    async def metrics() -> Response:
        return Response(meters.exposition(), media_type=CONTENT_TYPE_LATEST)

    return router


def drift_router(drift: Drift) -> APIRouter:
    """How far what is asked lies from what versions were made for."""
    router = APIRouter(responses={404: {"description": "No version of such a model is loaded."}})

    @router.get(
        "/admin/models/{model}/drift", summary="Drift of requests and replies, feature by feature and version", **ADMIN
    )
    async def report(model: str) -> DriftReport:
        return drift.report(model)

    return router


def changes_router(changes: Changes) -> APIRouter:
    """What may be asked for, model by model, and what came of it."""
    router = APIRouter(prefix="/admin/models/{model}", responses=PROBLEMS)
    order: Any = {"dependencies": [Depends(by_no_web_page)], **ADMIN}

    @router.post("/check", summary="The gate alone: its verdict, point by point", **order)
    async def check(model: str, given: CheckOrder) -> Verdict:
        return await changes.check(model, given.version)

    @router.post("/promote", summary="Through the gate, onto all gateways, then live", **order)
    async def promote(model: str, given: PromoteOrder, request: Request) -> Outcome:
        promotion = Promotion.ordered(model, given.version, given.canary, shadow=given.shadow, force=given.force)
        return await changes.promote(promotion, who_asks(request, given), given.why)

    @router.post("/canary", summary="Through the gate, then a share of the requests", **order)
    async def canary(model: str, given: CanaryOrder, request: Request) -> Outcome:
        promotion = Promotion(model, given.version, "canary", given.percent, given.force)
        return await changes.promote(promotion, who_asks(request, given), given.why)

    @router.post("/shadow", summary="Through the gate, then copies of requests, compared", **order)
    async def shadow(model: str, given: TrialOrder, request: Request) -> Outcome:
        promotion = Promotion(model, given.version, "shadow", None, given.force)
        return await changes.promote(promotion, who_asks(request, given), given.why)

    @router.post("/rollback", summary="Back along the history, or back from a version on trial", **order)
    async def rollback(model: str, request: Request, given: Annotated[RollbackOrder, Body()]) -> Outcome:
        return await changes.rollback(model, given.to, who_asks(request, given), given.why, live=given.live)

    @router.get("/history", summary="Who was live when, by whom and why; the oldest first", **ADMIN)
    async def history(model: str) -> list[Record]:
        return list(await changes.history(model))

    @router.get("/verdicts", summary="What the gate said, the newest first", **ADMIN)
    async def verdicts(model: str) -> list[Verdict]:
        return list(await changes.verdicts(model))

    _add_service(router, changes, order)
    return router


def _add_service(router: APIRouter, changes: Changes, order: Any) -> None:
    """Out of service and back."""

    @router.post("/unload", summary="Out of service at all gateways; what is being answered ends", **order)
    async def unload(model: str, request: Request, given: Annotated[ServiceOrder, Body()]) -> Outcome:
        return await changes.unload(model, who_asks(request, given), given.why)

    @router.post("/load", summary="Back in service; returns once all gateways have the stable version", **order)
    async def load(model: str, request: Request, given: Annotated[ServiceOrder, Body()]) -> Outcome:
        return await changes.load(model, who_asks(request, given), given.why)


def who_asks(request: Request, said: Said) -> str:
    return caller_of(request.scope) or said.who or "admin port"


async def by_no_web_page(request: Request) -> None:
    """Where no key is asked for, a page in the operator's browser could send orders to this port: one that a browser
    sends without asking first is no JSON, and all of them name their origin.
    """
    if request.headers.get("origin") is not None:
        raise Forbidden("Web pages may not give orders here.", remedy="Use the tidegate command, or any HTTP client.")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise MediaTypeUnsupported("Orders are JSON.", remedy="Send Content-Type: application/json, with {} at least.")
