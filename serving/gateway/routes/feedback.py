"""/v1/feedback: the truth about answers that were given; on the admin port, what came of it."""

from __future__ import annotations

from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from serving.deadline import by_deadline
from serving.errors import ParameterInvalid, TidegateError
from serving.gateway.body import read_body
from serving.gateway.direct import DirectRoute
from serving.gateway.errors import PROBLEM_JSON
from serving.gateway.http import REQUEST_ID, Handler, Inbound, Outbound, deadline_of
from serving.gateway.payload import read_json
from serving.gateway.routes.admin import ADMIN
from serving.gateway.routes.v1 import PROBLEMS
from serving.gateway.traffic import Endpoint, Traffic
from serving.observation.feedback import OWNER, Feedback, LiveMetric, Told
from serving.observation.truths import Outcome, PassedOn, Truths
from serving.threads import Threads

PATH: Final = "/v1/feedback"
MOST_BYTES: Final = 4 * 2**20  # of a body; masks are some kilobytes each
INLINE: Final = 16 * 1024  # bytes of a body that are read here and now; of more, on a worker thread
MOST: Final = 1000  # truths of one request
STATUS: Final = 202
REMEDY: Final = (
    'Send {"request_id": "<X-Request-Id of the answer>", "truth": ...}, or a list of such under "truths".'
    " docs/feedback.md says what truths the tasks take."
)
EXAMPLE: Final = {"request_id": "1f2e3d4c5b6a-2a", "truth": "espresso"}
SCORED: Final = {
    "request_id": "1f2e3d4c5b6a-2a",
    "status": "scored",
    "model": "efficientnet-lite0",
    "version": 1,
    "metric": "accuracy",
    "quality": 1.0,
}


class SentTruth(BaseModel):
    """truth: what the answer should have been, in the task's own form."""

    model_config = ConfigDict(extra="forbid")
    request_id: Annotated[str, Field(pattern=f"^{REQUEST_ID.pattern.decode()}$")]
    truth: Any


class SentTruths(BaseModel):
    model_config = ConfigDict(extra="forbid")
    truths: Annotated[list[SentTruth], Field(min_length=1, max_length=MOST)]


ONE: Final = SentTruth.model_json_schema()
SEVERAL: Final = {
    "type": "object",
    "required": ["truths"],
    "properties": {"truths": {"type": "array", "items": ONE, "minItems": 1, "maxItems": MOST}},
}
BODY: Final = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"oneOf": [ONE, SEVERAL]},
            "example": EXAMPLE,
        }
    },
}


REFUSED: Final[dict[int | str, dict[str, Any]]] = {
    404: {"description": "No such answer to this caller is remembered.", "content": {PROBLEM_JSON.decode(): {}}},
    409: {"description": "Another truth was told of it before.", "content": {PROBLEM_JSON.decode(): {}}},
}


def feedback_route(
    truths: Truths, traffic: Traffic, threads: Threads, body_limit: int, longest_s: float
) -> DirectRoute:
    """Truths come as often as answers go, so the route is a direct one."""
    handler = _handler(truths, threads, min(body_limit, MOST_BYTES), longest_s)
    accepted = {
        "description": "What came of it; of a list, `results` in its order, refusals among them.",
        "content": {"application/json": {"example": SCORED}},
    }
    return DirectRoute(
        PATH,
        Endpoint(PATH, handler, traffic),
        need="predict",
        methods=["POST"],
        name="feedback",
        summary="Tell what an answer should have been",
        description="The answer is named by its X-Request-Id; its version's live metric counts it.",
        tags=["feedback"],
        responses={
            STATUS: accepted,
            **REFUSED,
            **{status: PROBLEMS[status] for status in (400, 401, 403, 413, 415, 422, 429, 503, 504)},
        },
        openapi_extra={"requestBody": BODY},
        status_code=STATUS,
    )


def live_metrics_router(feedback: Feedback) -> APIRouter:
    """What truths have said of a model's versions, at this gateway."""
    router = APIRouter(prefix="/admin/models/{model}")

    @router.get("/feedback", summary="The live metric of its versions, by the truths that were told here", **ADMIN)
    async def live_metrics(model: str) -> dict[str, list[LiveMetric]]:
        return {"versions": feedback.metrics(model)}

    return router


def _handler(truths: Truths, threads: Threads, body_limit: int, longest_s: float) -> Handler:
    async def handle(request: Inbound) -> Outbound:
        deadline_s = deadline_of(request.headers, longest_s)
        body = await by_deadline(deadline_s, read_body(request, body_limit))
        if len(body) > INLINE:
            sent, *_ = await threads.prepare(OWNER, lambda: _read(body))
        else:
            sent = _read(body)
        told = [Told(one.request_id.encode(), one.truth, request.caller) for one in _listed(sent)]
        outcomes = await by_deadline(deadline_s, truths.take(told))
        if isinstance(sent, SentTruth) and isinstance(outcomes[0], TidegateError):
            raise outcomes[0]
        results = [_result(*pair) for pair in zip(told, outcomes, strict=True)]
        answer = results[0] if isinstance(sent, SentTruth) else {"results": results}
        return Outbound(orjson.dumps(answer), STATUS)

    return handle


def _read(body: bytes) -> SentTruth | SentTruths:
    """BodyInvalid, ParameterInvalid."""
    fields = read_json(body)
    kind: TypeAdapter[Any] = _MANY if "truths" in fields else _ONE
    try:
        sent: SentTruth | SentTruths = kind.validate_python(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "body"
        raise ParameterInvalid(f"{place[:60]}: {first['msg']}.", remedy=REMEDY) from None
    return sent


_ONE: Final = TypeAdapter(SentTruth)
_MANY: Final = TypeAdapter(SentTruths)


def _listed(sent: SentTruth | SentTruths) -> list[SentTruth]:
    return sent.truths if isinstance(sent, SentTruths) else [sent]


def _result(told: Told, outcome: Outcome) -> dict[str, Any]:
    """As it stands in the answer."""
    named = {"request_id": told.request_id.decode()}
    if isinstance(outcome, PassedOn):
        return named | {"status": "passed_on"}
    if isinstance(outcome, TidegateError):
        why = {"code": outcome.code, "detail": outcome.detail, "remedy": outcome.remedy}
        return named | {"status": "refused"} | {name: text for name, text in why.items() if text}
    return named | {"status": "scored"} | outcome.model_dump(exclude_none=True)
