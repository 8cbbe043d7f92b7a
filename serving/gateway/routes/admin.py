"""/admin and /metrics, on the admin port only."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from serving.gateway.access import needs
from serving.telemetry import Meters
from serving.versions.catalog import ModelList


def admin_router(models: Callable[[], ModelList], meters: Meters) -> APIRouter:
    router = APIRouter()

    @router.get(
        "/admin/models",
        tags=["admin"],
        summary="What models there are, and which versions are live",
        openapi_extra=needs("admin"),
    )
    async def list_models() -> ModelList:
        return models()

    @router.get(
        "/metrics", tags=["admin"], summary="All meters, in Prometheus' text format", openapi_extra=needs("metrics")
    )
    async def metrics() -> Response:
        return Response(meters.exposition(), media_type=CONTENT_TYPE_LATEST)

    return router
