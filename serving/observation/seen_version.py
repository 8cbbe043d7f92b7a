"""One loaded version as drift sees it: its latest requests and all since it was loaded, counted by bins."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from serving.monitoring.drift import Finding, judge
from serving.monitoring.features import Features
from serving.monitoring.reference import MOST_FEATURES, MOST_NAME, Reference, make_reference
from serving.monitoring.windows import Layout, Window
from serving.tensors import Array
from serving.versions.resident import Resident

LEARNED: Final = 1000  # of the first requests, which are the reference for what the manifest says nothing of

Source = Literal["manifest", "first requests"]
Side = Literal["input", "output"]


@dataclass(frozen=True, slots=True)
class Judged:
    """A feature: what it is of, what it is held against, and how far it has drifted; None while too few were seen."""

    side: Side
    source: Source
    reference_rows: int
    finding: Finding | None


class Panel:
    """A reference and the window that is held against it."""

    def __init__(self, reference: Reference, source: Source) -> None:
        self.reference, self.source = reference, source
        self.inputs = Layout(reference.inputs)
        self.window = Window(Layout({**reference.inputs, **reference.outputs}))

    def judged(self, features: int, now_s: float) -> dict[str, Judged]:
        """By feature; `features`: of the version, those of its other panels included."""
        layout = self.window.layout
        counts = layout.split(self.window.counts(now_s))
        return {
            name: Judged(
                "input" if name in self.inputs.bins else "output",
                self.source,
                sum(bins.counts),
                judge(bins, counts[name], features),
            )
            for name, bins in layout.bins.items()
        }


class SeenVersion:
    """A version since it was loaded. What its manifest has no bins for is learned from its first requests."""

    def __init__(self, resident: Resident) -> None:
        manifest = resident.version.manifest
        self.resident = resident
        self.model, self.number = resident.version.model, resident.version.number
        self.busy = False  # whether a request of it is being looked at
        self.seen = 0  # requests looked at since it was loaded
        self.panels = [Panel(manifest.reference, "manifest")] if manifest and manifest.reference else []
        self.totals: dict[str, Array] = {}  # by a layout's fingerprint: of all requests, how many fell into each bin
        self._first: _Columns | None = _Columns()

    @property
    def ruler(self) -> Layout | None:
        """The bins of its requests: of its manifest, else learned; None before there are any."""
        return self.panels[0].inputs if self.panels else None

    def add(self, inputs: Features, outputs: Features, rulers: Mapping[str, Layout], now_s: float) -> None:
        """Counts a request. rulers: in which all requests are to be counted, by their fingerprints."""
        self.seen += 1
        for panel in self.panels:
            panel.window.add(panel.window.layout.places({**inputs, **outputs}), now_s)
        for gone in self.totals.keys() - rulers.keys():
            del self.totals[gone]
        for fingerprint, layout in rulers.items():
            counts = self.totals.setdefault(fingerprint, layout.empty())
            counts[layout.places(inputs)] += 1
        if self._first is not None:
            known = {name for panel in self.panels for name in panel.window.layout.bins}
            self._first.add(_without(inputs, known), _without(outputs, known))
            if self._first.rows >= LEARNED:
                self._learn(self._first)

    def judged(self, now_s: float) -> dict[str, Judged]:
        """By feature, those of requests first."""
        features = sum(len(panel.window.layout.bins) for panel in self.panels)
        found = [item for panel in self.panels for item in panel.judged(features, now_s).items()]
        return dict(sorted(found, key=lambda item: item[1].side))

    def window_rows(self, now_s: float) -> int:
        """Requests in its window; before there is a reference, those it is being made from."""
        if self.panels:
            return self.panels[0].window.rows(now_s)
        return self._first.rows if self._first else 0

    def _learn(self, first: _Columns) -> None:
        self._first = None
        reference = make_reference(first.rows, first.inputs, first.outputs)
        if reference.inputs or reference.outputs:
            self.panels.append(Panel(reference, "first requests"))


class _Columns:
    """The values of each feature of the first requests."""

    def __init__(self) -> None:
        self.rows = 0
        self.inputs: dict[str, list[str] | array[float]] = {}
        self.outputs: dict[str, list[str] | array[float]] = {}

    def add(self, inputs: Features, outputs: Features) -> None:
        self.rows += 1
        for columns, features in ((self.inputs, inputs), (self.outputs, outputs)):
            for name, value in features.items():
                if name not in columns and len(columns) >= MOST_FEATURES:
                    continue
                column = columns.setdefault(name, [] if isinstance(value, str) else array("d"))
                if isinstance(column, list) is isinstance(value, str):
                    column.append(value[:MOST_NAME] if isinstance(value, str) else value)  # type: ignore[arg-type]


def _without(features: Features, known: set[str]) -> Features:
    return {name: value for name, value in features.items() if name not in known}
