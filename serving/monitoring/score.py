"""How good an answer was, by the truth that somebody told later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator

from serving.errors import TruthInvalid

T = TypeVar("T")
SHOWN: Final = 8  # labels, where the right ones are listed
LONGEST: Final = 60  # characters of a place, which may be a key of the caller's


@dataclass(frozen=True, slots=True)
class Score:
    """metric: what was measured. quality: 0 to 1, where more is better. error: of tasks that give numbers, how far off
    the answer was, in their unit. truth: what is true, by name, of tasks where that is one of few.
    """

    metric: str
    quality: float
    error: float | None = None
    truth: str = ""


class TrueThing(BaseModel):
    """Something that is on the picture, by its label or its class_id."""

    model_config = ConfigDict(extra="forbid")

    label: str | None = None
    class_id: int | None = None

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        if (self.label is None) == (self.class_id is None):
            raise ValueError("expected either label or class_id")
        return self

    @property
    def what(self) -> str | int:
        """Whichever is there."""
        return self.label if self.label is not None else self.class_id or 0


def read_truth(kind: TypeAdapter[T], truth: object, remedy: str) -> T:
    """The truth, parsed from JSON, as the task wants it. TruthInvalid: where it does not fit."""
    try:
        return kind.validate_python(truth, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(["truth", *(str(part) for part in first["loc"] if not _is_kind(part))])
        raise TruthInvalid(f"{place[:LONGEST]}: {first['msg']}.", remedy=remedy) from None


def class_of(labels: Sequence[str], label: str | int) -> int:
    """The class of a label or of its place. TruthInvalid: the version has none such."""
    if isinstance(label, str) and label in labels:
        return labels.index(label)
    if isinstance(label, int) and 0 <= label < len(labels):
        return label
    more = ", ..." if len(labels) > SHOWN else ""
    remedy = f"Its labels are {', '.join(labels[:SHOWN])}{more}; class_ids go from 0 to {len(labels) - 1}."
    raise TruthInvalid("The version that answered has no such label.", remedy=remedy)


def _is_kind(part: str | int) -> bool:
    """Whether it says no place but which kind pydantic tried, of several that would do."""
    return isinstance(part, str) and (part in ("str", "int") or "[" in part or part.startswith("constrained"))
