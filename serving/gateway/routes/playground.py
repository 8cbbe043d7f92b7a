"""/: the playground, a static page that makes itself from what this server says of its tasks."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from serving.gateway.access import needs

MEDIA_TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
PAGE: Final = "index.html"
# Its own files and this server's answers; pictures also out of memory, where the chosen one is.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def playground_router() -> APIRouter:
    """The page at / and the files it wants, read once."""
    router = APIRouter(include_in_schema=False)
    for file in sorted(files("serving").joinpath("playground").iterdir(), key=lambda one: one.name):
        stem, dot, suffix = file.name.rpartition(".")
        if stem and (media_type := MEDIA_TYPES.get(dot + suffix)):
            path = "/" if file.name == PAGE else f"/playground/{file.name}"
            _add_file(router, path, file.read_bytes(), media_type)
    return router


def _add_file(router: APIRouter, path: str, content: bytes, media_type: str) -> None:
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {
        "etag": etag,
        "cache-control": "no-cache",  # kept, but asked about each time: an upgrade shows at once
        "content-security-policy": POLICY,
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }

    @router.api_route(path, methods=["GET", "HEAD"], openapi_extra=needs("public"))
    async def file(request: Request) -> Response:
        if _has(request.headers.get("if-none-match", ""), etag):
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=media_type)


def _has(if_none_match: str, etag: str) -> bool:
    """Whether the caller has this content. Source: RFC 9110, 13.1.2."""
    given = [one.strip().removeprefix("W/") for one in if_none_match.split(",")]
    return etag in given or given == ["*"]
