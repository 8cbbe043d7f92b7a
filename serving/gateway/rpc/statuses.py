"""Errors to gRPC: one table of status codes, as gateway/errors.py has for HTTP, and what goes beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from grpc import StatusCode

from serving import errors
from serving.errors import TidegateError
from serving.gateway.errors import HeadersTooMany, HttpInvalid, InternalError, retry_after_s

Metadata: TypeAlias = tuple[tuple[str, str], ...]
MAX_TEXT: Final = 1000  # it goes in the trailers, of which clients take 8 KiB; escaped it may be three times as long

# The nearest class in an error's own order of inheritance decides.
STATUS: Final[Mapping[type[TidegateError], StatusCode]] = {
    TidegateError: StatusCode.INTERNAL,
    errors.InvalidInput: StatusCode.INVALID_ARGUMENT,
    errors.BodyTooLarge: StatusCode.RESOURCE_EXHAUSTED,  # as gRPC itself answers a message that is too large
    HttpInvalid: StatusCode.INVALID_ARGUMENT,
    HeadersTooMany: StatusCode.RESOURCE_EXHAUSTED,
    errors.MediaTypeUnsupported: StatusCode.UNIMPLEMENTED,
    errors.NotAcceptable: StatusCode.UNIMPLEMENTED,
    errors.NotFound: StatusCode.NOT_FOUND,
    errors.MethodNotAllowed: StatusCode.UNIMPLEMENTED,
    errors.Unauthorized: StatusCode.UNAUTHENTICATED,
    errors.Forbidden: StatusCode.PERMISSION_DENIED,
    errors.Throttled: StatusCode.RESOURCE_EXHAUSTED,
    errors.TaskMismatch: StatusCode.FAILED_PRECONDITION,
    errors.ModelAmbiguous: StatusCode.FAILED_PRECONDITION,
    errors.KeyReused: StatusCode.FAILED_PRECONDITION,
    errors.TruthGiven: StatusCode.FAILED_PRECONDITION,
    errors.ModelNotReady: StatusCode.UNAVAILABLE,
    errors.ChangeRefused: StatusCode.FAILED_PRECONDITION,
    errors.LedgerUnavailable: StatusCode.UNAVAILABLE,
    errors.IndexUnavailable: StatusCode.UNAVAILABLE,
    errors.JobsUnavailable: StatusCode.UNAVAILABLE,
    errors.Busy: StatusCode.UNAVAILABLE,
    errors.DeadlinePassed: StatusCode.DEADLINE_EXCEEDED,
    errors.OutputInvalid: StatusCode.INTERNAL,
    errors.EngineFailed: StatusCode.UNAVAILABLE,
    InternalError: StatusCode.INTERNAL,
}


def status_of(error: TidegateError) -> StatusCode:
    """The gRPC status of an error."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def text_of(error: TidegateError) -> str:
    """What callers read."""
    text = str(error)
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 3]}..."


def trailers_of(error: TidegateError, request_id: str) -> Metadata:
    """What goes with a refusal: the request's id, the error's code, and when to come back."""
    told = (("x-request-id", request_id), ("tidegate-error", error.code))
    wait_s = retry_after_s(error)
    return told if wait_s is None else (*told, ("retry-after", str(wait_s)))
