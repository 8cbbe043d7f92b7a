"""A recipe with some of its fields set by the caller: `--set learning_rate=0.001`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from exporters.errors import SettingInvalid
from exporters.family import Recipe

NOTHING: Final = "none"  # of fields that may be left empty

_RECIPE: Final = TypeAdapter(Recipe)


def override(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """The recipe with each `name=value` set. SettingInvalid: no such field, or not a value of its type."""
    given: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or name not in asdict(recipe):
            raise SettingInvalid(f"{setting!r} is not a setting of a recipe.", remedy=f"There are: {_listed()}.")
        given[name] = None if value.lower() == NOTHING else value
    try:
        return _RECIPE.validate_python(asdict(recipe) | given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        detail = f"{name}={given.get(name)}: {first['msg'].lower()}."
        raise SettingInvalid(detail, remedy=f"There are: {_listed()}.") from None


def _listed() -> str:
    """`epochs (positive integer), ...`: names with what pydantic says of their values."""
    properties = _RECIPE.json_schema()["properties"]
    return ", ".join(f"{field.name} ({_values(properties[field.name])})" for field in fields(Recipe))


def _values(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(NOTHING if part["type"] == "null" else _values(part) for part in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(schema["enum"])
    bounds = {"exclusiveMinimum": "above", "minimum": "from", "exclusiveMaximum": "below"}
    said = [f"{word} {schema[bound]:g}" for bound, word in bounds.items() if bound in schema]
    return " ".join([schema["type"], *said])
