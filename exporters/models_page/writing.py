"""The page and its pictures, written to a folder."""

from __future__ import annotations

from pathlib import Path

from exporters.models_page import page, pictures, samples, sheet
from serving.repository.layout import Version, scan


def write(repository: Path, docs: Path) -> list[Path]:
    """Writes models.md and models/<model>.png for the newest version of each model, and gives what was written.

    Pictures of models that are not there any more are removed. RepositoryInvalid: the repository is no folder.
    """
    index = scan(repository)
    folder = docs / page.PICTURES
    folder.mkdir(parents=True, exist_ok=True)
    shown = [version for version in page.newest(index) if page.has_picture(version)]
    for left in set(folder.glob("*.png")) - {folder / f"{version.model}.png" for version in shown}:
        left.unlink()
    written = []
    for version in shown:
        file = folder / f"{version.model}.png"
        file.write_bytes(_picture(version))
        written.append(file)
    (docs / page.PAGE).write_text(page.text(index, docs), encoding="utf-8")
    return [docs / page.PAGE, *written]


def _picture(version: Version) -> bytes:
    return sheet.draw_sheet(version) if sheet.can_draw(version) else pictures.draw(samples.run_samples(version))
