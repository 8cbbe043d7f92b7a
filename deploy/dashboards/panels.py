"""What dashboards are made of, and how Grafana wants it written: schema version 39, as of Grafana 10 and newer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

SOURCE: Final = {"type": "prometheus", "uid": "prometheus"}  # deploy/grafana/provisioning/datasources
SCHEMA: Final = 39
WIDTH: Final = 24  # of Grafana's grid
HEIGHT: Final = 8


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph over time. lines: expression -> its legend; unit: as Grafana names it; most: of the axis.

    limit: a value from which on it is drawn red.
    """

    title: str
    says: str
    lines: dict[str, str]
    unit: str = "short"
    most: float | None = None
    limit: float | None = None
    kind: str = "timeseries"


@dataclass(frozen=True, slots=True)
class Dashboard:
    """`name`: of its file and its address. variables: of VARIABLES, those that its panels go by."""

    name: str
    title: str
    variables: Sequence[str]
    panels: Sequence[Panel]
    columns: int = 2


# Variable -> what its choices are asked by.
VARIABLES: Final = {
    "model": "label_values(tidegate_model_ready, model)",
    "version": 'label_values(tidegate_model_ready{model=~"$model"}, version)',
}


def number(title: str, says: str, expression: str, unit: str = "short", limit: float | None = None) -> Panel:
    """A panel of single numbers, as they are now."""
    return Panel(title, says, {expression: ""}, unit, limit=limit, kind="stat")


def table(title: str, says: str, lines: dict[str, str]) -> Panel:
    """A panel of rows, one for each series, as they are now."""
    return Panel(title, says, lines, kind="table")


def text_of(dashboard: Dashboard, all_of_them: Sequence[Dashboard]) -> str:
    """The JSON that Grafana reads, with links to the others."""
    others = [_link(one) for one in all_of_them if one is not dashboard]
    whole = {
        "uid": f"tidegate-{dashboard.name}",
        "title": dashboard.title,
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": False,
        "tags": ["tidegate"],
        "timezone": "browser",
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "links": others,
        "annotations": {"list": [_changes()]},
        "templating": {"list": [_variable(name) for name in dashboard.variables]},
        "panels": [_panel(i, panel, dashboard.columns) for i, panel in enumerate(dashboard.panels)],
    }
    return json.dumps(whole, indent=1) + "\n"


def _link(dashboard: Dashboard) -> dict[str, Any]:
    return {
        "title": dashboard.title,
        "type": "link",
        "url": f"/d/tidegate-{dashboard.name}",
        "includeVars": True,
        "keepTime": True,
        "icon": "dashboard",
    }


def _changes() -> dict[str, Any]:
    """A line at each change of the pointers."""
    return {
        "name": "pointers changed",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "blue",
        "expr": "max(changes(tidegate_ledger_revision[1m])) > 0",
        "titleFormat": "pointers changed",
    }


def _variable(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "label": name.capitalize(),
        "datasource": SOURCE,
        "query": {"query": VARIABLES[name], "refId": name},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _panel(place: int, panel: Panel, columns: int) -> dict[str, Any]:
    width = WIDTH // columns
    now = panel.kind in ("stat", "table")
    return {
        "id": place + 1,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": SOURCE,
        "gridPos": {"h": HEIGHT, "w": width, "x": place % columns * width, "y": place // columns * HEIGHT},
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "options": OPTIONS[panel.kind],
        "targets": [_target(i, line, now, panel.kind) for i, line in enumerate(panel.lines.items())],
    }


OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "timeseries": {"legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]}},
    "stat": {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "textMode": "auto"},
    "table": {"showHeader": True},
}


def _field(panel: Panel) -> dict[str, Any]:
    field: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.most is not None:
        field["max"] = panel.most
    if panel.limit is not None:
        steps = [{"color": "green", "value": None}, {"color": "red", "value": panel.limit}]
        field["thresholds"] = {"mode": "absolute", "steps": steps}
        field["custom"] = {"thresholdsStyle": {"mode": "line"}}
    return field


def _target(place: int, line: tuple[str, str], now: bool, kind: str) -> dict[str, Any]:
    expression, legend = line
    target: dict[str, Any] = {"refId": chr(ord("A") + place), "expr": expression, "legendFormat": legend or "__auto"}
    if now:
        target |= {"instant": True, "range": False}
    if kind == "table":
        target["format"] = "table"
    return target
