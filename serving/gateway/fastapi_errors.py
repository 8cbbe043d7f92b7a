"""What FastAPI's routes raise, and what its routing finds no place for, in the shapes that errors have here."""

from __future__ import annotations

from typing import Any, Final

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from serving.errors import MethodNotAllowed, ParameterInvalid, RouteNotFound, TidegateError
from serving.gateway.errors import met_a_bug, shaped

CODE: Final = "tidegate.code"  # of a scope: of the error that was answered


async def _known(request: Request, error: Any) -> Response:
    return _respond(request, error)


async def _misfit(request: Request, error: Any) -> Response:
    """FastAPI's own checks of a path or query."""
    first = error.errors()[0]
    detail = f"{first['loc'][-1]}: {first['msg']}."
    return _respond(request, ParameterInvalid(detail, remedy="GET /docs says what it may be."))


async def _refused(request: Request, error: Any) -> Response:
    """What the routing found no place for."""
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        response = _respond(
            request, MethodNotAllowed("The path exists, the method does not.", remedy=f"Use {allowed}.")
        )
        response.headers["allow"] = allowed
        return response
    return _respond(request, RouteNotFound("There is nothing at this path.", remedy="GET /docs lists what there is."))


async def _bug(request: Request, error: Any) -> Response:
    del error  # Gateway logs it, with its traceback, under the request's id
    return _respond(request, met_a_bug())


def _respond(request: Request, error: TidegateError) -> Response:
    request.scope[CODE] = error.code
    answer = shaped(error, request.scope["path"])
    response = Response(answer.body, answer.status, media_type=answer.media_type.decode())
    response.raw_headers.extend(answer.headers)
    return response


EXCEPTION_HANDLERS: Final[dict[int | type[Exception], Any]] = {
    TidegateError: _known,
    RequestValidationError: _misfit,
    HTTPException: _refused,
    Exception: _bug,
}
