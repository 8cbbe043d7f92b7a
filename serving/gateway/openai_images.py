"""Pictures as OpenAI's clients ask for them and read them.

Source: https://platform.openai.com/docs/api-reference/images/create
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serving.diffusion.drawing import MOST_SEED, any_seed
from serving.errors import ParameterInvalid
from serving.gateway.http import Inbound
from serving.gateway.payload import read_json, read_query, sticky_of, take_target
from serving.task import Parameters, Reply, Request
from serving.versions.router import Target

MOST_PICTURES: Final = 10
FIXED: Final[Any] = {"x-tidegate-fixed": True}  # there for clients that send it: no choice
TEXT: Final = "text"


class ImageOrder(BaseModel):
    """What a client may send beside the task's own parameters. Unknown names are refused."""

    model_config = ConfigDict(extra="forbid")

    prompt: str
    n: Annotated[
        int | None, Field(ge=1, le=MOST_PICTURES, description="How many pictures, of seeds that follow each other.")
    ] = 1
    response_format: Annotated[
        Literal["b64_json"] | None,
        Field(description="Pictures come in the answer: nothing is put on the web.", json_schema_extra=FIXED),
    ] = "b64_json"
    output_format: Annotated[Literal["png"] | None, Field(json_schema_extra=FIXED)] = "png"
    quality: Annotated[
        Literal["auto", "standard"] | None,
        Field(description="Ask for more steps instead.", json_schema_extra=FIXED),
    ] = "auto"
    background: Annotated[Literal["auto", "opaque"] | None, Field(json_schema_extra=FIXED)] = "auto"
    stream: Annotated[
        Literal[False] | None, Field(description="The events of a job say how far it is.", json_schema_extra=FIXED)
    ] = False
    user: Annotated[Any, Field(description="Ignored.")] = None
    # What take_target reads; here for the documentation.
    model: Annotated[str | None, Field(description="Without it the default model draws.")] = None
    version: Annotated[int | None, Field(description="Pins a version; without it the router decides.")] = None
    label: Annotated[Literal["stable", "canary"] | None, Field(description="Pins what is live under this label.")] = (
        None
    )


EXAMPLE_REPLY: Final[Mapping[str, Any]] = {
    "application/json": {
        "example": {
            "created": 1767225600,
            "data": [{"b64_json": "iVBORw0KGgo...", "seed": 7, "steps": 20}],
            "model": "diffusion",
            "output_format": "png",
            "size": "64x64",
        }
    }
}
REMEDIES: Final[Mapping[str, str]] = {
    "response_format": "Ask for b64_json, which is in the answer: this gateway puts no pictures on the web.",
    "stream": "Send Prefer: respond-async and follow the job's events.",
    "quality": "Leave it out; more steps make better pictures.",
}


@dataclass(frozen=True, slots=True)
class AskedImages:
    """The pictures that are asked for, one request each, and whom they are for. Each has its seed, so that whoever
    draws them, and if they are drawn once more, they are the same.
    """

    target: Target
    requests: Sequence[Request[Any]]


def request_schema(parameters: type[Parameters], example: Mapping[str, Any]) -> Mapping[str, Any]:
    """The documentation of a body: ours and the task's parameters in one object."""
    schema = ImageOrder.model_json_schema()
    own = parameters.model_json_schema().get("properties", {})
    properties = {**schema["properties"], **own}
    return {"application/json": {"schema": {**schema, "properties": properties}, "example": example}}


def read_images(request: Inbound, body: bytes, parameters: type[Parameters]) -> AskedImages:
    """BodyInvalid or ParameterInvalid, with the parameter's name in its extension. parameters: the task's."""
    fields = {**read_query(request), **read_json(body)}
    target = take_target(fields, sticky_of(request))  # which leaves the rest
    own = {name: fields.pop(name) for name in parameters.model_fields if name in fields}
    if own.get("size") == "auto":  # OpenAI's word for the usual one
        del own["size"]
    known = (*ImageOrder.model_fields, *parameters.model_fields)
    order: Any = _validated(ImageOrder, fields, known)
    wanted: Any = _validated(parameters, own, known)
    first = any_seed() if wanted.seed is None else wanted.seed
    seeds = [(first + i) % (MOST_SEED + 1) for i in range(order.n or 1)]
    prompt = order.prompt.encode()
    return AskedImages(target, [Request(prompt, wanted.model_copy(update={"seed": seed}), kind=TEXT) for seed in seeds])


def write_images(replies: Sequence[Reply], created: int) -> bytes:
    """The answer's JSON. created: Unix seconds. Blocking, for large pictures."""
    found: Sequence[Any] = replies
    data = [{"b64_json": base64.b64encode(one.content).decode(), "seed": one.seed, "steps": one.steps} for one in found]
    first = found[0]
    return orjson.dumps(
        {"created": created, "data": data, "model": first.model, "output_format": "png", "size": first.size}
    )


def _validated(kind: type[BaseModel], fields: Mapping[str, Any], known: Sequence[str]) -> BaseModel:
    # pydantic takes JSON's true for 1.
    given = {
        name: str(value).lower() if isinstance(value, bool) and name != "stream" else value
        for name, value in fields.items()
    }
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "extra_forbidden":
            remedy = f"There are: {', '.join(known)}."
            raise ParameterInvalid("There is a parameter of an unknown name.", remedy=remedy) from None
        name = str(first["loc"][0])
        remedy = REMEDIES.get(name, "GET /docs says what it may be.")
        raise ParameterInvalid(f"{name}: {first['msg']}.", remedy=remedy, extension={"param": name}) from None
