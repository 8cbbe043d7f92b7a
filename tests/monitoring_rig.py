"""Dashboards and rules as tests read them: expressions, and what they are made of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from tool_rig import ROOT

DASHBOARDS = sorted((ROOT / "deploy/grafana/dashboards").glob("*.json"))
RULES = sorted((ROOT / "deploy/prometheus/rules").glob("*.yml"))
METRIC = re.compile(r"\b(?:tidegate|nv|process|scrape)_\w+|\btidegate:[\w:]+|\b(?:up|ALERTS)(?=\{)")
SELECTOR = re.compile(rf"(?:{METRIC.pattern})(?:\{{[^}}]*\}})?")


def _rules(kind: str) -> dict[str, Any]:
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return {rule[kind]: rule for group in groups for rule in group["rules"] if kind in rule}


ALERTS = _rules("alert")
RECORDS = _rules("record")


def expressions(dashboard: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def names_in(expression: str) -> set[str]:
    return set(METRIC.findall(expression))


def selectors(expression: str) -> set[str]:
    """Metrics with the labels that they are chosen by, without what is computed of them."""
    return set(SELECTOR.findall(expression))


def panels(path: Path) -> Iterator[tuple[str, str]]:
    """Title and expression."""
    for panel in json.loads(path.read_text())["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
