"""Errors to HTTP: one table of status codes, and the shapes that clients of each protocol know.

RFC 9457 problems (https://www.rfc-editor.org/rfc/rfc9457) everywhere but under /v2, whose clients read
`{"error": "..."}`, and where OpenAI's clients ask.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import orjson

from serving import errors
from serving.errors import TidegateError
from serving.gateway.http import Header, Outbound

PROBLEM_JSON: Final = b"application/problem+json"
RETRY_AFTER_S: Final = (1, 5)  # spread, so that those who were refused together do not come back together
EMBEDDINGS_PATH: Final = "/v1/embeddings"
IMAGES_PATH: Final = "/v1/images/generations"
OPENAI_TYPES: Final = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}
OPENAI_TEXTS: Final[Mapping[str, str]] = {EMBEDDINGS_PATH: "input", IMAGES_PATH: "prompt"}  # the parameter with text
# Errors that are about the model, where they do not say themselves what they are about.
OF_THE_MODEL: Final = errors.NotFound | errors.TaskMismatch | errors.ModelAmbiguous | errors.ModelNotReady


class InternalError(TidegateError):
    """A bug of ours. The log has it under the request's id; the caller gets nothing of it but that id."""

    code = "internal_error"
    title = "Something went wrong here"


class HttpInvalid(TidegateError):
    code = "http_invalid"
    title = "The request is not HTTP/1.1"


class HeadersTooMany(TidegateError):
    code = "headers_too_many"
    title = "The request has too many headers"


# The nearest class in an error's own order of inheritance decides.
STATUS: Final[Mapping[type[TidegateError], HTTPStatus]] = {
    TidegateError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.InvalidInput: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.BodyInvalid: HTTPStatus.BAD_REQUEST,
    errors.BodyTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HttpInvalid: HTTPStatus.BAD_REQUEST,
    HeadersTooMany: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    errors.MediaTypeUnsupported: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.NotAcceptable: HTTPStatus.NOT_ACCEPTABLE,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.MethodNotAllowed: HTTPStatus.METHOD_NOT_ALLOWED,
    errors.Unauthorized: HTTPStatus.UNAUTHORIZED,
    errors.Forbidden: HTTPStatus.FORBIDDEN,
    errors.Throttled: HTTPStatus.TOO_MANY_REQUESTS,
    errors.TaskMismatch: HTTPStatus.CONFLICT,
    errors.ModelAmbiguous: HTTPStatus.CONFLICT,
    errors.KeyReused: HTTPStatus.CONFLICT,
    errors.TruthGiven: HTTPStatus.CONFLICT,
    errors.ModelNotReady: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.ChangeRefused: HTTPStatus.CONFLICT,
    errors.LedgerUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.IndexUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.JobsUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.Busy: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.DeadlinePassed: HTTPStatus.GATEWAY_TIMEOUT,
    errors.OutputInvalid: HTTPStatus.BAD_GATEWAY,
    errors.EngineFailed: HTTPStatus.SERVICE_UNAVAILABLE,
    InternalError: HTTPStatus.INTERNAL_SERVER_ERROR,
}


def status_of(error: TidegateError) -> HTTPStatus:
    """The HTTP status of an error."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def problem(error: TidegateError, path: str) -> Outbound:
    """An RFC 9457 problem. `path`: of the request, as `instance`."""
    status = status_of(error)
    body: dict[str, Any] = {
        "type": f"urn:tidegate:error:{error.code}",
        "title": error.title,
        "status": int(status),
        "detail": error.detail,
        "instance": path,
        "code": error.code,
    }
    if error.remedy:
        body["remedy"] = error.remedy
    body.update(error.extension)
    return Outbound(_dumps(body), status, PROBLEM_JSON, headers=_headers(error))


def protocol_error(error: TidegateError, path: str) -> Outbound:
    """The Open Inference Protocol's error, with the codes that its clients know: input errors are 400."""
    del path
    status = status_of(error)
    if status in (HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.CONFLICT):
        status = HTTPStatus.BAD_REQUEST
    return Outbound(_dumps({"error": str(error)}), status, headers=_headers(error))


def openai_error(error: TidegateError, path: str) -> Outbound:
    """OpenAI's error, with the status that its clients know: input errors are 400.

    Source: https://platform.openai.com/docs/guides/error-codes
    """
    status = status_of(error)
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        status = HTTPStatus.BAD_REQUEST
    headers = _headers(error)
    if status == HTTPStatus.CONFLICT:  # which the clients would try again
        headers += ((b"x-should-retry", b"false"),)
    place, parameter = error.extension.get("index"), error.extension.get("param")
    if parameter is None and isinstance(error, OF_THE_MODEL):
        parameter = "model"
    elif parameter is None and isinstance(error, errors.TextInvalid):
        parameter = OPENAI_TEXTS.get(path)
    usual = "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    body = {
        "message": f"Input {place}: {error}" if place is not None and path == EMBEDDINGS_PATH else str(error),
        "type": OPENAI_TYPES.get(status, usual),
        "param": parameter,
        "code": error.code,
    }
    return Outbound(b'{"error":' + _dumps(body) + b"}", status, headers=headers)


def shaped(error: TidegateError, path: str) -> Outbound:
    """The error in the shape that clients of this path know."""
    if path in OPENAI_TEXTS:
        return openai_error(error, path)
    shape = protocol_error if path == "/v2" or path.startswith("/v2/") else problem
    return shape(error, path)


def met_a_bug() -> InternalError:
    """What the caller is told of an exception that nobody foresaw."""
    return InternalError("This request met a bug.", remedy="Report it with the X-Request-Id of this answer.")


def _dumps(body: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:  # text of a caller with half a surrogate in it
        safe = {
            key: value.encode(errors="replace").decode() if isinstance(value, str) else value
            for key, value in body.items()
        }
        return orjson.dumps(safe)


def retry_after_s(error: TidegateError) -> int | None:
    """In how many seconds another try has a chance; None when that cannot be said."""
    if isinstance(error, errors.Throttled):
        # Never less than the wait: who comes back then is let in.
        most_s = RETRY_AFTER_S[1] - RETRY_AFTER_S[0] if isinstance(error, errors.QuotaExceeded | errors.JobsFull) else 0
        return error.wait_s + random.randint(0, most_s)  # noqa: S311  (a spread, no secret)
    if status_of(error) == HTTPStatus.SERVICE_UNAVAILABLE:
        return random.randint(*RETRY_AFTER_S)  # noqa: S311  (likewise)
    return None


def _headers(error: TidegateError) -> tuple[Header, ...]:
    headers: list[Header] = []
    wait_s = retry_after_s(error)
    if wait_s is not None:
        headers.append((b"retry-after", b"%d" % wait_s))
    if isinstance(error, errors.Unauthorized):
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, errors.BodyTooLarge | errors.Unauthorized | errors.TooManyAttempts | HeadersTooMany):
        headers.append((b"connection", b"close"))  # the rest of the body is not read
    return tuple(headers)
