"""Items and queries of collections out of HTTP requests: JSON, or one picture or text as it is, with a query."""

from __future__ import annotations

from typing import Annotated, Any, Final, Self, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from serving.errors import ParameterInvalid, VectorInvalid
from serving.filters import Filter, check_ident, check_metadata, read_filter
from serving.gateway.http import Inbound
from serving.gateway.payload import read_base64, read_json, read_payload, read_query
from serving.index import Item, Source
from serving.search import fresh_id
from serving.tensors import Array

T = TypeVar("T", bound=BaseModel)
MOST_ITEMS: Final = 1000  # of one request
MOST_DIMENSIONS: Final = 8192
KINDS: Final = ("image", "text")
DOCS: Final = "GET /docs says what it may be."

Vector = Annotated[list[FiniteFloat], Field(min_length=1, max_length=MOST_DIMENSIONS)]
Neighbours = Annotated[int, Field(ge=1, le=1000, description="How many hits, the nearest first.")]


class _Sent(BaseModel):
    """What a vector is made of, or the vector: one of the three. image: the file in base64."""

    model_config = ConfigDict(extra="forbid")
    text: str | None = None
    image: str | None = None
    vector: Vector | None = None

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if sum(part is not None for part in (self.text, self.image, self.vector)) != 1:
            raise ValueError("expected exactly one of text, image and vector")
        return self

    def source(self) -> Source:
        """BodyInvalid when the image is no base64; VectorInvalid."""
        if self.text is not None:
            return Source("text", self.text.encode())
        if self.image is not None:
            return Source("image", read_base64(self.image, "image"))
        return Source("vector", as_vector(self.vector or []).tobytes())


class SentItem(_Sent):
    """id: made up if it is not there; an item of the same id is replaced. metadata: what filters go by."""

    id: str | None = None
    metadata: dict[str, Any] = {}


class SentItems(BaseModel):
    model_config = ConfigDict(extra="forbid")
    items: Annotated[list[SentItem], Field(min_length=1, max_length=MOST_ITEMS)]


class SentQuery(_Sent):
    k: Neighbours = 10
    filter: dict[str, Any] | None = None


class _ItemFields(BaseModel):
    """What stands beside an item that is sent as it is."""

    model_config = ConfigDict(extra="forbid")
    id: str | None = None
    metadata: dict[str, Any] = {}


class _QueryFields(BaseModel):
    model_config = ConfigDict(extra="forbid")
    k: Neighbours = 10
    filter: dict[str, Any] | None = None


def read_items(request: Inbound, body: bytes) -> list[Item]:
    """The items of a request. BodyInvalid, ParameterInvalid, VectorInvalid, MediaTypeUnsupported."""
    if _is_json(request):
        sent = _validated(SentItems, read_json(body)).items
        items = [_item(one.id, one.source(), one.metadata) for one in sent]
    else:
        source, given = _read_file(request, body)
        fields = _validated(_ItemFields, given)
        items = [_item(fields.id, source, fields.metadata)]
    if len({item.id for item in items}) < len(items):
        raise ParameterInvalid("Two items have the same id.", remedy="Send each item once.")
    return items


def read_search(request: Inbound, body: bytes) -> tuple[Source | Array, int, Filter | None]:
    """What is looked for, a source or a vector float32 [dimensions], how many, and under which condition."""
    if _is_json(request):
        query = _validated(SentQuery, {**read_query(request), **read_json(body)})
        condition = read_filter(query.filter) if query.filter is not None else None
        return as_vector(query.vector) if query.vector is not None else query.source(), query.k, condition
    source, given = _read_file(request, body)
    fields = _validated(_QueryFields, given)
    return source, fields.k, read_filter(fields.filter) if fields.filter is not None else None


def as_vector(numbers: list[float]) -> Array:
    """float32 [dimensions]. VectorInvalid: it has no direction, or does not fit in float32."""
    with np.errstate(over="ignore"):
        vector = np.asarray(numbers, np.float32)
    if not np.isfinite(vector).all() or not vector.any():
        raise VectorInvalid("The vector is zero, or its numbers are too large.", remedy="Send one with a direction.")
    return vector


def _item(ident: str | None, source: Source, metadata: dict[str, Any]) -> Item:
    if ident is not None:
        check_ident(ident)
    check_metadata(metadata)
    return Item(fresh_id() if ident is None else ident, source, metadata)


def _is_json(request: Inbound) -> bool:
    return request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower() == b"application/json"


def _read_file(request: Inbound, body: bytes) -> tuple[Source, dict[str, Any]]:
    """A picture or a text, and the fields beside it, of which `metadata` and `filter` are JSON."""
    kind, payload, fields = read_payload(request, body, KINDS)
    for name in ("metadata", "filter"):
        if isinstance(fields.get(name), str):
            fields[name] = read_json(fields[name].encode())
    return Source("text" if kind == "text" else "image", payload), fields


def _validated(kind: type[T], fields: dict[str, Any]) -> T:
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(str(part) for part in first["loc"]) or "body"
        raise ParameterInvalid(f"{name}: {first['msg']}.", remedy=DOCS) from None
