"""/docs: the OpenAPI page, whole from this server, for hosts that reach no other, and the document that it shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastapi_offline
from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse

from serving.gateway.access import SECURITY_SCHEMES, needs

FILES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css", "favicon.png": "image/png"}


def docs_router(title: str) -> APIRouter:
    """The page and the three files it wants."""
    router = APIRouter(prefix="/docs", include_in_schema=False)
    folder = Path(fastapi_offline.__file__).parent / "static"

    @router.get("", openapi_extra=needs("public"))
    async def page() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title=title,
            swagger_js_url="/docs/swagger-ui-bundle.js",
            swagger_css_url="/docs/swagger-ui.css",
            swagger_favicon_url="/docs/favicon.png",
        )

    for name, media_type in FILES.items():
        _add_file(router, folder / name, media_type)
    return router


def document_router(document: Callable[[], dict[str, Any]]) -> APIRouter:
    """/openapi.json: FastAPI's document, and how keys are sent."""
    router = APIRouter(include_in_schema=False)

    @router.get("/openapi.json", openapi_extra=needs("public"))
    async def openapi() -> JSONResponse:
        whole = document()
        return JSONResponse(
            {**whole, "components": {**whole.get("components", {}), "securitySchemes": SECURITY_SCHEMES}}
        )

    return router


def _add_file(router: APIRouter, path: Path, media_type: str) -> None:
    @router.get(f"/{path.name}", openapi_extra=needs("public"))
    async def file() -> FileResponse:
        return FileResponse(path, media_type=media_type)
