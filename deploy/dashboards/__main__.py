"""`make dashboards`: every dashboard into deploy/grafana/dashboards, and nothing else left there."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from deploy.dashboards.drift import DRIFT
from deploy.dashboards.model import MODEL
from deploy.dashboards.overview import OVERVIEW
from deploy.dashboards.panels import Dashboard, text_of
from deploy.dashboards.rollout import ROLLOUT

FOLDER: Final = Path(__file__).parents[1] / "grafana/dashboards"
DASHBOARDS: Final[tuple[Dashboard, ...]] = (OVERVIEW, MODEL, ROLLOUT, DRIFT)


def files() -> dict[str, str]:
    """Name -> what stands in it."""
    return {f"{dashboard.name}.json": text_of(dashboard, DASHBOARDS) for dashboard in DASHBOARDS}


def main() -> None:
    wanted = files()
    for path in FOLDER.glob("*.json"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
