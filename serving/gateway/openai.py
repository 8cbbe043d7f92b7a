"""Embeddings as OpenAI's clients ask for them and read them.

Source: https://platform.openai.com/docs/api-reference/embeddings
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from serving.errors import ParameterInvalid
from serving.gateway.http import Inbound
from serving.gateway.payload import read_json, read_query, sticky_of, take_target
from serving.task import Reply
from serving.versions.router import Target

MOST_INPUTS: Final = 2048
MOST_TOKEN_ID: Final = 2**31 - 1
DOCS: Final = "GET /docs says what it may be."
INPUT: Final = {
    "oneOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}, "maxItems": MOST_INPUTS},
        {"type": "array", "items": {"type": "integer"}},
        {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}, "maxItems": MOST_INPUTS},
    ],
    "description": "A text, several, or the token ids of one or of several by the model's own tokenizer.",
}


class Order(BaseModel):
    """What a client may send. Unknown names are refused."""

    model_config = ConfigDict(extra="forbid")

    input: Annotated[Any, WithJsonSchema(INPUT)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[
        int | None, Field(ge=1, strict=True, description="Only the model's own: they are not cut.")
    ] = None
    user: Annotated[Any, Field(description="Ignored.")] = None
    # What take_target reads; here for the documentation.
    model: Annotated[str | None, Field(description="Without it the default model for embed answers.")] = None
    version: Annotated[int | None, Field(description="Pins a version; without it the router decides.")] = None
    label: Annotated[Literal["stable", "canary"] | None, Field(description="Pins what is live under this label.")] = (
        None
    )


REQUEST: Final[Mapping[str, Any]] = {
    "application/json": {
        "schema": Order.model_json_schema(),
        "example": {"input": ["a grey disc on white", "a red square"]},
    }
}
EXAMPLE_REPLY: Final[Mapping[str, Any]] = {
    "application/json": {
        "example": {
            "object": "list",
            "data": [
                {"object": "embedding", "index": 0, "embedding": [0.6, 0.0, -0.8]},
                {"object": "embedding", "index": 1, "embedding": [0.0, 1.0, 0.0]},
            ],
            "model": "clip",
            "usage": {"prompt_tokens": 8, "total_tokens": 8},
        }
    }
}


@dataclass(frozen=True, slots=True)
class Asked:
    """Inputs of one kind, `text` or `tokens`, as a task's payloads, and whom they are for."""

    kind: str
    payloads: Sequence[bytes]
    target: Target
    order: Order


def read_order(request: Inbound, body: bytes) -> Asked:
    """BodyInvalid or ParameterInvalid, with the parameter's name in its extension. Blocking, for a large body."""
    fields = {**read_query(request), **read_json(body)}
    target = take_target(fields, sticky_of(request))  # which leaves the rest
    try:
        order = Order.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            known = ", ".join(Order.model_fields)
            raise ParameterInvalid("There is a parameter of an unknown name.", remedy=f"There are: {known}.") from None
        raise _wrong(name, f"{name}: {first['msg']}.", DOCS) from None
    kind, payloads = _payloads(order.input)
    return Asked(kind, payloads, target, order)


def write_reply(replies: Sequence[Reply], order: Order) -> bytes:
    """The answer's JSON. Blocking, for many: a million numbers take 50 ms."""
    data, tokens = [], 0
    for index, reply in enumerate(replies):
        found: Any = reply
        vector: Any = np.asarray(found.embedding, "<f4")
        if order.encoding_format == "base64":
            vector = base64.b64encode(vector.tobytes()).decode()
        data.append({"object": "embedding", "index": index, "embedding": vector})
        tokens += found.tokens
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    answer = {"object": "list", "data": data, "model": replies[0].model, "usage": usage}
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def check_dimensions(order: Order, reply: Any) -> None:
    """ParameterInvalid when others were asked for than the model has."""
    if order.dimensions not in (None, reply.dimensions):
        detail = f"{reply.model} gives {reply.dimensions} dimensions, not {order.dimensions}."
        raise _wrong("dimensions", detail, "Leave dimensions out.")


def _payloads(given: Any) -> tuple[str, list[bytes]]:
    """The inputs' kind and bytes: text in UTF-8, or token ids as little-endian int64."""
    inputs = [given] if isinstance(given, str) or _of(given, int) else given
    if not isinstance(inputs, list) or not inputs:
        raise _wrong("input", "input is neither a text nor a list of something.", DOCS)
    if len(inputs) > MOST_INPUTS:
        detail = f"input has {len(inputs):,} entries; {MOST_INPUTS:,} are the most."
        raise _wrong("input", detail, "Send the rest in further requests.")
    if _of(inputs, str):
        return "text", [text.encode() for text in inputs]
    if all(_of(ids, int) for ids in inputs):
        if any(not 0 <= one <= MOST_TOKEN_ID for ids in inputs for one in ids):
            raise _wrong("input", "input has numbers that are no token ids.", "Use the model's own tokenizer.")
        return "tokens", [np.array(ids, "<i8").tobytes() for ids in inputs]
    raise _wrong("input", "input is neither texts nor token ids throughout.", DOCS)


def _of(given: Any, kind: type) -> bool:
    """Whether it is a list of nothing but that; JSON's true is no number here."""
    return isinstance(given, list) and bool(given) and all(type(one) is kind for one in given)


def _wrong(name: str, detail: str, remedy: str) -> ParameterInvalid:
    return ParameterInvalid(detail, remedy=remedy, extension={"param": name})
