"""The text of docs/models.md. It depends on nothing but the versions' folders, so it is the same each time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from exporters import learning_curve, runs
from exporters.models_page.samples import can_be_shown
from exporters.models_page.sheet import can_draw
from serving.repository.layout import Index, Version
from serving.repository.manifest import Data, Manifest, Metric, Parity, Table

PAGE: Final = "models.md"
PICTURES: Final = "models"  # folder beside the page
HEAD: Final = """# Models

What lies in the model repository: for each model its newest version. Made by `make models-page` from the versions'
manifests; edit those who make them, not this page.
"""


def newest(index: Index) -> list[Version]:
    """The newest version of each model, by name, of those that have a manifest."""
    versions = [model.versions[max(model.versions)] for model in index.models.values()]
    return sorted((version for version in versions if version.manifest), key=lambda version: version.model)


def has_picture(version: Version) -> bool:
    """Whether what it answers can be shown."""
    return can_be_shown(version) or can_draw(version)


def text(index: Index, docs: Path) -> str:
    """The whole page, with links as they must be from the folder `docs`."""
    versions = newest(index)
    parts = [HEAD, _overview(versions), *(_model(version, docs) for version in versions)]
    return "\n".join(parts)


def _overview(versions: Sequence[Version]) -> str:
    rows = [_overview_row(version, _manifest(version)) for version in versions]
    return _table(("model", "task", "measured", "size"), rows)


def _overview_row(version: Version, manifest: Manifest) -> tuple[str, ...]:
    headline = next(iter(_headlines(manifest)), "-")
    return f"[{version.model}](#{version.model})", manifest.task, headline, _size(version)


def _headlines(manifest: Manifest) -> Iterator[str]:
    """Metrics in words, those with floors first."""
    for name, metric in sorted(manifest.metrics.items(), key=lambda item: item[1].floor is None):
        yield f"{_words(name)} {_figure(metric.value)}"


def _model(version: Version, docs: Path) -> str:
    manifest = _manifest(version)
    parts = [f"## {version.model}\n", f"{_escape(manifest.intended_use)}\n"]
    if has_picture(version):
        parts.append(
            f"![What {version.model} {'draws' if can_draw(version) else 'answers'}]({PICTURES}/{version.model}.png)\n"
        )
    parts.append(_table(("", ""), _facts(version, manifest)))
    if manifest.metrics:
        parts.append(_table(("metric", "value", "floor", "baseline", "rows"), _metric_rows(manifest)))
    parts += [_folded(name, table) for name, table in manifest.tables.items()]
    if (version.folder / learning_curve.FILE).is_file():
        curve = Path(os.path.relpath(version.folder / learning_curve.FILE, docs)).as_posix()
        parts.append(f"<details><summary>learning curve</summary>\n\n![Losses by epoch]({curve})\n\n</details>\n")
    return "\n".join(parts)


def _facts(version: Version, manifest: Manifest) -> Iterator[tuple[str, str]]:
    run = _run(version)
    yield "version", f"{version.number}, made {manifest.created[:10]} by family `{manifest.family}`"
    yield "task", f"`{manifest.task}`"
    yield "licence", f"{manifest.licence.spdx}: {manifest.licence.source}"
    if manifest.licence.attribution:
        yield "attribution", manifest.licence.attribution
    if manifest.data:
        yield from _data_facts(manifest.data)
    if manifest.parity:
        yield "parity", _parity(manifest.parity)
    yield "size", _size(version)
    if "seconds" in run:
        yield "made in", f"{run['seconds']:.0f} s"
    yield "code", f"{manifest.code.version}, revision `{manifest.code.revision}`"


def _data_facts(data: Data) -> Iterator[tuple[str, str]]:
    yield "data", f"{data.name}: {data.source}"
    yield "data's licence", data.licence
    if data.rows:
        yield "data's rows", ", ".join(f"{count:,} {part}" for part, count in data.rows.items())
    if data.digest:
        yield "data's digest", f"`{data.digest}`"
    if data.note:
        yield "data's note", data.note


def _parity(parity: Parity) -> str:
    return (
        f"{parity.max_abs_difference:.1e} from the trained network, {parity.batch_max_abs_difference:.1e} between "
        f"batch sizes, of {parity.tolerance:.0e} allowed; {parity.rows} rows on {parity.engine}"
    )


def _metric_rows(manifest: Manifest) -> Iterator[tuple[str, ...]]:
    for name, metric in manifest.metrics.items():
        lower = "" if metric.higher_is_better else " (lower is better)"
        floor = "-" if metric.floor is None else _figure(metric.floor)
        yield (
            f"{_words(name)}{lower}",
            f"**{_figure(metric.value)}**",
            floor,
            _baseline(metric),
            f"{metric.rows or '-'}",
        )


def _baseline(metric: Metric) -> str:
    return "-" if metric.baseline is None else f"{_figure(metric.baseline)} ({metric.baseline_name or 'baseline'})"


def _folded(name: str, table: Table) -> str:
    cells = [[_cell(cell) for cell in row] for row in table.rows]
    heads = [_words(column) for column in table.columns]
    return f"<details><summary>{_escape(_words(name))}</summary>\n\n{_table(heads, cells)}\n</details>\n"


def _cell(cell: str | float | None) -> str:
    if cell is None:
        return "-"
    return _figure(cell) if isinstance(cell, float) else f"{cell}"


def _table(heads: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(map(_escape, line))} |\n" for line in lines)


def _escape(cell: str) -> str:
    """Text of a manifest, so that it stays within its cell and makes no tags."""
    return " ".join(cell.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").split())


def _words(name: str) -> str:
    return name.replace("_", " ")


def _figure(value: float) -> str:
    return f"{value:.4f}"


def _size(version: Version) -> str:
    return f"{sum(graph.file.stat().st_size for graph in version.graphs.values()) / 1e6:.2f} MB"


def _run(version: Version) -> dict[str, Any]:
    file = version.folder / runs.FILE
    found: dict[str, Any] = json.loads(file.read_bytes()) if file.is_file() else {}
    return found


def _manifest(version: Version) -> Manifest:
    if version.manifest is None:
        raise ValueError(f"{version.name} is a plain Triton model")
    return version.manifest
