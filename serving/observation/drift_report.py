"""Drift as operators are shown it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from serving.monitoring.drift import LEAST_ROWS
from serving.observation.seen_version import LEARNED, Judged, SeenVersion, Side, Source


class FeatureDrift(BaseModel):
    """One feature of a version. Figures are null while its window has too few requests."""

    feature: str
    of: Side
    reference: Annotated[Source, Field(description="Where its reference is from.")]
    reference_rows: int
    rows: Annotated[int, Field(description="Requests of the window that have it.")] = 0
    psi: Annotated[float | None, Field(description="Population stability index.")] = None
    js: Annotated[float | None, Field(description="Jensen-Shannon divergence, in bits.")] = None
    ks: Annotated[float | None, Field(description="Kolmogorov-Smirnov distance; null of kinds.")] = None
    threshold: Annotated[float | None, Field(description="The PSI above which it is an alert.")] = None
    alert: bool = False


class VersionDrift(BaseModel):
    """One loaded version. seen: requests that were looked at since it was loaded."""

    version: int
    status: Literal["no requests", "learning", "too few requests", "steady", "drifted"]
    note: str
    seen: int
    window_requests: int
    features: list[FeatureDrift]


class DriftReport(BaseModel):
    """The versions of a model that this gateway has loaded."""

    model: str
    versions: list[VersionDrift]


def report_of(model: str, watched: Sequence[SeenVersion], now_s: float) -> DriftReport:
    """Of the versions in their order."""
    ordered = sorted(watched, key=lambda one: one.number)
    return DriftReport(model=model, versions=[_version(one, now_s) for one in ordered])


def _version(watched: SeenVersion, now_s: float) -> VersionDrift:
    features = [_feature(name, judged) for name, judged in watched.judged(now_s).items()]
    rows = watched.window_rows(now_s)
    version = VersionDrift(
        version=watched.number, status="steady", note="", seen=watched.seen, window_requests=rows, features=features
    )
    if not watched.seen:
        return version.model_copy(update={"status": "no requests"})
    if not watched.panels:
        note = f"No reference in its manifest: its first {LEARNED:,} requests become one, {rows:,} so far."
        return version.model_copy(update={"status": "learning", "note": note})
    if rows < LEAST_ROWS:
        note = f"Judged from {LEAST_ROWS} requests on."
        return version.model_copy(update={"status": "too few requests", "note": note})
    if drifted := [one.feature for one in features if one.alert]:
        return version.model_copy(update={"status": "drifted", "note": f"Drifted: {', '.join(drifted)}."})
    return version


def _feature(name: str, judged: Judged) -> FeatureDrift:
    found = judged.finding
    shown = FeatureDrift(feature=name, of=judged.side, reference=judged.source, reference_rows=judged.reference_rows)
    if found is None:
        return shown
    figures = {key: _rounded(getattr(found, key)) for key in ("psi", "js", "ks", "threshold")}
    return shown.model_copy(update={**figures, "rows": found.rows, "alert": found.alert})


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 6)
