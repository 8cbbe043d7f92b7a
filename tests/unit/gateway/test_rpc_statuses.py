"""Errors to gRPC's status codes, beside HTTP's."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from grpc import StatusCode

from serving import errors
from serving.errors import TidegateError
from serving.gateway import errors as over_http
from serving.gateway.errors import HeadersTooMany, HttpInvalid, InternalError
from serving.gateway.rpc.calls import address_of
from serving.gateway.rpc.statuses import MAX_TEXT, STATUS, status_of, text_of, trailers_of

CODES = {
    errors.InvalidInput: StatusCode.INVALID_ARGUMENT,
    errors.BodyInvalid: StatusCode.INVALID_ARGUMENT,
    errors.ParameterInvalid: StatusCode.INVALID_ARGUMENT,
    errors.TensorInvalid: StatusCode.INVALID_ARGUMENT,
    errors.ImageInvalid: StatusCode.INVALID_ARGUMENT,
    errors.ImageTooLarge: StatusCode.INVALID_ARGUMENT,
    errors.TextInvalid: StatusCode.INVALID_ARGUMENT,
    errors.VectorInvalid: StatusCode.INVALID_ARGUMENT,
    errors.TruthInvalid: StatusCode.INVALID_ARGUMENT,
    errors.BodyTooLarge: StatusCode.RESOURCE_EXHAUSTED,
    errors.MediaTypeUnsupported: StatusCode.UNIMPLEMENTED,
    errors.NotAcceptable: StatusCode.UNIMPLEMENTED,
    errors.NotFound: StatusCode.NOT_FOUND,
    errors.ModelNotFound: StatusCode.NOT_FOUND,
    errors.VersionNotFound: StatusCode.NOT_FOUND,
    errors.CollectionNotFound: StatusCode.NOT_FOUND,
    errors.ItemNotFound: StatusCode.NOT_FOUND,
    errors.JobNotFound: StatusCode.NOT_FOUND,
    errors.AnswerNotFound: StatusCode.NOT_FOUND,
    errors.RouteNotFound: StatusCode.NOT_FOUND,
    errors.MethodNotAllowed: StatusCode.UNIMPLEMENTED,
    errors.Unauthorized: StatusCode.UNAUTHENTICATED,
    errors.Forbidden: StatusCode.PERMISSION_DENIED,
    errors.Throttled: StatusCode.RESOURCE_EXHAUSTED,
    errors.TooManyAttempts: StatusCode.RESOURCE_EXHAUSTED,
    errors.QuotaExceeded: StatusCode.RESOURCE_EXHAUSTED,
    errors.JobsFull: StatusCode.RESOURCE_EXHAUSTED,
    errors.TaskMismatch: StatusCode.FAILED_PRECONDITION,
    errors.ModelAmbiguous: StatusCode.FAILED_PRECONDITION,
    errors.KeyReused: StatusCode.FAILED_PRECONDITION,
    errors.TruthGiven: StatusCode.FAILED_PRECONDITION,
    errors.ModelNotReady: StatusCode.UNAVAILABLE,
    errors.ChangeRefused: StatusCode.FAILED_PRECONDITION,
    errors.CollectionExists: StatusCode.FAILED_PRECONDITION,
    errors.GateFailed: StatusCode.FAILED_PRECONDITION,
    errors.LoadFailed: StatusCode.FAILED_PRECONDITION,
    errors.LedgerUnavailable: StatusCode.UNAVAILABLE,
    errors.IndexUnavailable: StatusCode.UNAVAILABLE,
    errors.JobsUnavailable: StatusCode.UNAVAILABLE,
    errors.Busy: StatusCode.UNAVAILABLE,
    errors.QueueFull: StatusCode.UNAVAILABLE,
    errors.ShuttingDown: StatusCode.UNAVAILABLE,
    errors.DeadlinePassed: StatusCode.DEADLINE_EXCEEDED,
    errors.OutputInvalid: StatusCode.INTERNAL,
    errors.EngineFailed: StatusCode.UNAVAILABLE,
    errors.EngineAway: StatusCode.UNAVAILABLE,
    HttpInvalid: StatusCode.INVALID_ARGUMENT,
    HeadersTooMany: StatusCode.RESOURCE_EXHAUSTED,
    InternalError: StatusCode.INTERNAL,
}
OF_OPERATORS = {TidegateError, errors.RepositoryInvalid, errors.SettingsInvalid}  # met at start-up


def tree_of(kind: type) -> list[type]:
    return [kind, *(grandchild for child in kind.__subclasses__() for grandchild in tree_of(child))]


def test_every_error_is_in_the_table():
    known = {kind for kind in tree_of(TidegateError) if kind.__module__.startswith("serving.")}
    assert known - OF_OPERATORS == set(CODES)
    assert set(STATUS) - {TidegateError} <= set(CODES)


@pytest.mark.parametrize(("kind", "code"), CODES.items(), ids=lambda one: getattr(one, "__name__", ""))
def test_each_error_has_its_code(kind, code):
    assert status_of(kind("x")) == code


@pytest.mark.parametrize("kind", CODES, ids=lambda kind: kind.__name__)
def test_both_transports_say_when_to_come_back(kind):
    wait_s = dict(trailers_of(kind("x"), "id")).get("retry-after")
    over = dict(over_http.problem(kind("x"), "/").headers).get(b"retry-after")
    assert (wait_s is None) == (over is None)
    status = over_http.status_of(kind("x"))
    assert (status == HTTPStatus.SERVICE_UNAVAILABLE) == (CODES[kind] == StatusCode.UNAVAILABLE)


def test_what_is_told_fits_into_trailers():
    assert text_of(errors.Busy("Busy.", remedy="Wait.")) == "Busy. Wait."
    assert len(text_of(errors.Busy("x" * 10_000))) == MAX_TEXT
    told = trailers_of(errors.QuotaExceeded("x", wait_s=7), "id-1")
    assert dict(told)["x-request-id"] == "id-1"
    assert dict(told)["tidegate-error"] == "quota_exceeded"
    assert 7 <= int(dict(told)["retry-after"]) <= 11


@pytest.mark.parametrize(
    ("peer", "address"),
    [("ipv4:127.0.0.1:5000", "127.0.0.1"), ("ipv6:%5B::1%5D:5000", "::1"), ("unix:", ""), ("", "")],
)
def test_an_address_is_the_same_for_all_connections_from_it(peer, address):
    assert address_of(peer) == address
