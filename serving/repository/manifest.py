"""`manifest.json`: what a version is, said by whoever published it. A version exists when its manifest does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from serving.errors import RepositoryInvalid
from serving.monitoring.reference import Bins, Reference
from serving.trial import Policy

MANIFEST: Final = "manifest.json"
_REFERENCE: Final = ',\n  "reference": '  # no text has this in it: JSON writes the end of a line in another way


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Metric(_Part):
    """One figure on held-out rows, beside what it must at least be and what a baseline reaches."""

    value: float
    rows: int | None = Field(default=None, ge=1)
    floor: float | None = None
    baseline: float | None = None
    baseline_name: str | None = None
    higher_is_better: bool = True


Text = Annotated[str, Field(max_length=200)]


class Table(_Part):
    """Figures by class or by bin, a row for each; null where one is not defined."""

    columns: tuple[Text, ...] = Field(min_length=1, max_length=64)
    rows: tuple[tuple[Text | int | FiniteFloat | None, ...], ...] = Field(max_length=1000)

    @model_validator(mode="after")
    def _check_rows(self) -> Self:
        wanted = len(self.columns)
        for i, row in enumerate(self.rows):
            if len(row) != wanted:
                raise ValueError(f"expected {wanted} cells in row {i}, one for each column; found {len(row)}")
        return self


class Parity(_Part):
    """How far the graph on the serving engine lies from the trained network, as largest absolute differences."""

    max_abs_difference: float = Field(ge=0)
    batch_max_abs_difference: float = Field(ge=0, description="rows alone against the same rows in one batch")
    tolerance: float = Field(gt=0)
    rows: int = Field(ge=1)
    engine: str


class Data(_Part):
    """What the version was trained and measured on."""

    name: str
    source: str
    licence: str
    digest: str | None = None
    rows: Mapping[str, int] = {}
    note: str = ""


class Licence(_Part):
    """Under what the weights may be used, and where they come from."""

    spdx: str
    source: str
    attribution: str = ""


class Code(_Part):
    """The code that made the version."""

    revision: str
    version: str


class Plan(_Part):
    """A TensorRT plan that was built from one of the version's graphs, and what it was built with.

    graph: the Triton model that it lies in. parity: as of the version, of the plan against the trained network.
    """

    graph: Text
    gpu: Text
    compute_capability: Annotated[str, Field(pattern=r"^\d+\.\d+$")]
    tensorrt: Annotated[str, Field(pattern=r"^\d+(\.\d+)+$")]
    precision: Literal["fp16", "fp32"]
    parity: Parity


class Manifest(_Part):
    """A version's manifest. `files` has the SHA-256 of every other file in the folder, as `sha256:<hex>`.

    `graphs` maps the role that the task knows a graph by to its Triton model name; empty for a model of one graph,
    whose role is `model`. `graph_files`: as `files`, of those graphs that lie in folders of their own, by their names.
    `preprocessing` is the task's own business: the task checks it when it is bound. `seed`: a model with no state yet
    starts here. `tables`: what stands behind the metrics. `plans`: by role, of graphs that TensorRT was asked to build.
    `guard`: how the version is guarded while it is on trial.
    `reference`: what requests and replies looked like on held-out rows, for drift to be seen against.
    """

    schema_: Literal[1] = Field(default=1, alias="schema")
    task: str
    family: str
    created: str
    seed: bool = False
    intended_use: str = ""
    graphs: Mapping[str, str] = {}
    labels: str | None = None
    preprocessing: Mapping[str, Any] = {}
    metrics: Mapping[str, Metric] = {}
    tables: Mapping[str, Table] = Field(default={}, max_length=8)
    parity: Parity | None = None
    data: Data | None = None
    licence: Licence
    code: Code
    files: Mapping[str, str]
    graph_files: Mapping[str, Mapping[str, str]] = {}
    plans: Mapping[str, Plan] = {}
    guard: Policy | None = None
    reference: Reference | None = None

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def read_manifest(path: Path, file: str) -> Manifest:
    """The manifest at `path`; RepositoryInvalid names `file`, the field and what was expected."""
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise RepositoryInvalid(file, field, first["msg"]) from None
    except OSError as error:
        raise RepositoryInvalid(file, "", f"expected a file that can be read; found: {error.strerror}") from None


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Writes the manifest as indented JSON, of its reference a line for each feature."""
    unused = {name for name in ("graph_files", "plans", "guard") if not getattr(manifest, name)} | {"reference"}
    text = manifest.model_dump_json(by_alias=True, indent=2, exclude_none=True, exclude=unused) + "\n"
    path.write_text(with_reference(text, manifest.reference), encoding="utf-8")


def with_reference(text: str, reference: Reference | None) -> str:
    """A manifest's text with this reference as its last field instead of the one it may have; all else as it is."""
    kept = text.partition(_REFERENCE)[0].removesuffix("\n}\n")
    if reference is None:
        return f"{kept}\n}}\n"
    parts = [f'    "rows": {reference.rows}']
    for name in ("inputs", "outputs"):
        features: Mapping[str, Bins] = getattr(reference, name)
        lines = [f"      {json.dumps(feature)}: {bins.model_dump_json()}" for feature, bins in features.items()]
        parts.append(f'    "{name}": {{\n' + ",\n".join(lines) + "\n    }" if lines else f'    "{name}": {{}}')
    return f"{kept}{_REFERENCE}{{\n" + ",\n".join(parts) + "\n  }\n}\n"
