"""/livez and /readyz: whether this process lives, and whether it wants requests. They need no key."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Response

from serving.gateway.access import needs


def probes_router(ready: Callable[[], bool]) -> APIRouter:
    """`ready`: whether all models were tried and nothing drains."""
    router = APIRouter(tags=["probes"])

    @router.get("/livez", summary="Whether this process lives", openapi_extra=needs("public"))
    async def livez() -> dict[str, str]:
        return {"status": "live"}

    @router.get(
        "/readyz",
        summary="Whether this gateway wants requests",
        responses={503: {"description": "Not now."}},
        openapi_extra=needs("public"),
    )
    async def readyz(response: Response) -> dict[str, str]:
        if not ready():
            response.status_code = 503
            return {"status": "not ready"}
        return {"status": "ready"}

    return router
