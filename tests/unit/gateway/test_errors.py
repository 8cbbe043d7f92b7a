"""One table from errors to status codes, and the two shapes they are told in."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving import errors
from serving.errors import TidegateError
from serving.gateway.errors import (
    HeadersTooMany,
    HttpInvalid,
    InternalError,
    met_a_bug,
    problem,
    protocol_error,
    status_of,
)

# Stable for callers: a code and a status once given are never changed. -> (problem's status, v2's status)
CODES = {
    "error": (500, 500),
    "input_invalid": (422, 400),
    "body_invalid": (400, 400),
    "parameter_invalid": (422, 400),
    "tensor_invalid": (422, 400),
    "image_invalid": (422, 400),
    "image_too_large": (422, 400),
    "text_invalid": (422, 400),
    "vector_invalid": (422, 400),
    "truth_invalid": (422, 400),
    "body_too_large": (413, 413),
    "media_type_unsupported": (415, 415),
    "not_acceptable": (406, 406),
    "not_found": (404, 404),
    "model_not_found": (404, 404),
    "version_not_found": (404, 404),
    "collection_not_found": (404, 404),
    "item_not_found": (404, 404),
    "job_not_found": (404, 404),
    "answer_not_found": (404, 404),
    "route_not_found": (404, 404),
    "method_not_allowed": (405, 405),
    "unauthorized": (401, 401),
    "forbidden": (403, 403),
    "throttled": (429, 429),
    "too_many_attempts": (429, 429),
    "quota_exceeded": (429, 429),
    "jobs_full": (429, 429),
    "task_mismatch": (409, 400),
    "model_ambiguous": (409, 400),
    "idempotency_key_reused": (409, 400),
    "truth_given": (409, 400),
    "model_not_ready": (503, 503),
    "change_refused": (409, 400),
    "collection_exists": (409, 400),
    "gate_failed": (409, 400),
    "load_failed": (409, 400),
    "ledger_unavailable": (503, 503),
    "index_unavailable": (503, 503),
    "jobs_unavailable": (503, 503),
    "busy": (503, 503),
    "queue_full": (503, 503),
    "shutting_down": (503, 503),
    "deadline_passed": (504, 504),
    "model_output_invalid": (502, 502),
    "engine_failed": (503, 503),
    "engine_unavailable": (503, 503),
    "repository_invalid": (500, 500),
    "settings_invalid": (500, 500),
    "internal_error": (500, 500),
    "headers_too_many": (431, 431),
    "http_invalid": (400, 400),
}


def descendants(kind: type[TidegateError]) -> list[type[TidegateError]]:
    return [kind, *(further for child in kind.__subclasses__() for further in descendants(child))]


def make(kind: type[TidegateError], remedy: str = "Do this.") -> TidegateError:
    if issubclass(kind, errors.RepositoryInvalid):
        return kind("model/config.pbtxt", "platform", "expected another", remedy=remedy)
    return kind("It is so.", remedy=remedy)


KINDS = {kind.code: kind for kind in descendants(TidegateError) if kind.__module__.startswith("serving.")}


def test_every_error_has_a_code_of_its_own():
    assert set(KINDS) == set(CODES)
    assert len(KINDS) == len({kind for kind in descendants(TidegateError) if kind.__module__.startswith("serving.")})


@pytest.mark.parametrize("code", CODES)
def test_a_problem_says_what_why_and_what_to_do(code):
    error = make(KINDS[code])
    answer = problem(error, "/v1/classify")
    assert answer.media_type == b"application/problem+json"
    assert answer.status == status_of(error) == CODES[code][0]
    assert json.loads(answer.body) == {
        "type": f"urn:tidegate:error:{code}",
        "title": KINDS[code].title,
        "status": CODES[code][0],
        "detail": error.detail,
        "instance": "/v1/classify",
        "code": code,
        "remedy": "Do this.",
    }


@pytest.mark.parametrize("code", CODES)
def test_the_inference_protocol_has_its_own_shape(code):
    error = make(KINDS[code])
    answer = protocol_error(error, "/v2/models/m/infer")
    assert answer.media_type == b"application/json"
    assert answer.status == CODES[code][1]
    assert json.loads(answer.body) == {"error": str(error)}
    assert str(error).endswith(" Do this.")


def test_an_error_without_a_remedy_has_none_in_its_problem():
    assert "remedy" not in json.loads(problem(make(errors.QueueFull, remedy=""), "/").body)


def test_what_an_error_brings_with_it_stands_beside_the_rest():
    verdict = {"passed": False, "checks": []}
    error = errors.GateFailed("No.", remedy="Mend it.", extension={"verdict": verdict})
    body = json.loads(problem(error, "/").body)
    assert body["verdict"] == verdict
    assert body["code"] == "gate_failed"


def test_a_new_error_has_the_status_of_what_it_is_a_kind_of():
    class MaskInvalid(errors.ImageInvalid):
        code = "mask_invalid"

    assert status_of(MaskInvalid("It is so.")) == 422


@pytest.mark.parametrize("shape", [problem, protocol_error])
@pytest.mark.parametrize("code", CODES)
def test_who_may_try_again_is_told_when(shape, code):
    """Spread over seconds, so that those who were refused together do not come back together."""
    after = {int(dict(shape(make(KINDS[code]), "/").headers).get(b"retry-after", b"0")) for _ in range(200)}
    quota = {60, 61, 62, 63, 64}
    assert after == {503: {1, 2, 3, 4, 5}, 429: quota if code in ("quota_exceeded", "jobs_full") else {60}}.get(
        CODES[code][0], {0}
    )


@pytest.mark.parametrize("code", CODES)
def test_connections_end_where_the_rest_of_a_request_is_not_read(code):
    closes = (b"connection", b"close") in problem(make(KINDS[code]), "/").headers
    assert closes == (KINDS[code] in (errors.BodyTooLarge, errors.Unauthorized, errors.TooManyAttempts, HeadersTooMany))


def test_a_bug_tells_nothing_but_that_it_is_one():
    bug = met_a_bug()
    assert isinstance(bug, InternalError)
    assert "X-Request-Id" in bug.remedy


def test_an_unparsable_request_has_a_code_too():
    assert status_of(HttpInvalid("It is so.")) == 400


@pytest.mark.parametrize("shape", [problem, protocol_error])
@given(text=st.text(st.characters() | st.characters(categories=["Cs"])))
def test_any_text_of_a_caller_makes_valid_json(shape, text):
    body = json.loads(shape(errors.ModelNotFound(f"<{text}>"), text).body)
    assert f"<{text}>".encode(errors="replace").decode() in body.values()


@pytest.mark.parametrize(("shape", "key"), [(problem, "detail"), (protocol_error, "error")])
def test_half_a_surrogate_becomes_a_question_mark(shape, key):
    assert json.loads(shape(errors.ModelNotFound("<\ud800>"), "/").body)[key] == "<?>"
