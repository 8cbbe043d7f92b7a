"""A version, from staged folder to its place in the repository. What is published never changes afterwards.

<repository>/.staging-<model>-<random>/...    written and flushed to disk, unseen by readers
<repository>/<model>/<n>/                     there at once and whole, by one rename
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from exporters.errors import ConfigDiffers, ExportFailed, FloorMissed
from serving.repository.config import parse_config, read_config, write_config
from serving.repository.digests import MANIFEST, digest_folder
from serving.repository.layout import CONFIG, VERSION_NAME
from serving.repository.manifest import Manifest, Metric, write_manifest
from serving.tensors import Tensors

LABELS: Final = "labels.txt"
GOLDEN: Final = "golden.npz"
FILE_MODE: Final = 0o644  # whoever serves is seldom who publishes
FOLDER_MODE: Final = 0o755
STAGING: Final = ".staging-"
ABANDONED_S: Final = 24 * 3600


@dataclass(frozen=True, slots=True)
class Release:
    """All of a version but its number. `manifest` is written with the digests of the files and with its seed mark."""

    config: Any  # Triton's ModelConfig message, which has the model's name
    files: Mapping[str, bytes]  # by their names in the version's folder
    manifest: Manifest


def publish(release: Release, repository: Path) -> Path:
    """Adds the release as the model's next version, and gives its folder. The first version is marked `seed`.

    FloorMissed: a metric is not good enough, nothing is written. ConfigDiffers: the model has other tensors.
    """
    check_floors(release.manifest.metrics)
    repository.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    _sweep(repository)
    name: str = release.config.name
    model = repository / name
    number = next_version(model)
    with _staging(repository, name) as staging:
        staged = staging / name
        version = staged / str(number)
        version.mkdir(parents=True)
        _write(version, release, seed=number == 1)
        write_config(staged / CONFIG, release.config)
        _settle(staged)
        if (model / CONFIG).exists():
            _check_config(model / CONFIG, release.config)
            _rename(version, model / version.name)
        elif model.exists():
            _rename(staged / CONFIG, model / CONFIG)
            _rename(version, model / version.name)
        else:
            _rename(staged, model)
    return model / version.name


def check_floors(metrics: Mapping[str, Metric]) -> None:
    """FloorMissed names the first metric that is not as good as its floor, and by how much."""
    for name, metric in metrics.items():
        if metric.floor is None:
            continue
        short = metric.floor - metric.value if metric.higher_is_better else metric.value - metric.floor
        if not short <= 0:  # said this way round, NaN misses
            raise FloorMissed(
                f"{name} is {metric.value:.4f}, which misses its floor {metric.floor:.4f} by {short:.4f}.",
                remedy="Nothing was published. Train longer, or with another seed or recipe.",
            )


def next_version(model: Path) -> int:
    """One more than the highest version in the model's folder, 1 when there is none."""
    numbers = (
        [int(path.name) for path in model.iterdir() if VERSION_NAME.fullmatch(path.name)] if model.is_dir() else []
    )
    return max(numbers, default=0) + 1


def golden(inputs: Tensors, outputs: Tensors) -> bytes:
    """Rows and what the trained network makes of them, as a compressed npz of `input.<name>` and `output.<name>`."""
    arrays = {f"input.{name}": array for name, array in inputs.items()}
    arrays |= {f"output.{name}": array for name, array in outputs.items()}
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for its own flags
    return stream.getvalue()


def _write(version: Path, release: Release, *, seed: bool) -> None:
    for name, content in release.files.items():
        (version / name).write_bytes(content)
    manifest = release.manifest.model_copy(update={"seed": seed, "files": digest_folder(version)})
    write_manifest(version / MANIFEST, manifest)


def _check_config(path: Path, message: Any) -> None:
    """The file may say less, and may be tuned otherwise, but the tensors that it names must be those of the release."""
    name = path.parent.name
    present, new = read_config(path, name), parse_config(message, name)
    for kind, old, now in (("inputs", present.inputs, new.inputs), ("outputs", present.outputs, new.outputs)):
        if old and old != now:
            raise ConfigDiffers(
                f"{name}/{CONFIG} has other {kind} than the new version: {old} against {now}.",
                remedy="Publish under another model name.",
            )


def _sweep(repository: Path) -> None:
    """Removes what publishers left who were killed: no publisher takes a day."""
    for folder in repository.glob(f"{STAGING}*"):
        with suppress(OSError):  # another sweeper was quicker
            if folder.stat().st_mtime < time.time() - ABANDONED_S:
                shutil.rmtree(folder)


@contextmanager
def _staging(repository: Path, name: str) -> Iterator[Path]:
    """A folder on the repository's own file system, gone afterwards. Its dot hides it from readers."""
    folder = Path(tempfile.mkdtemp(prefix=f"{STAGING}{name}-", dir=repository))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _settle(folder: Path) -> None:
    """Readable for all, and on disk: each file, then each folder, from the inside out."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            file = Path(parent, name)
            file.chmod(FILE_MODE)
            _flush(file)
        Path(parent).chmod(FOLDER_MODE)
        _flush(Path(parent))


def _rename(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except OSError as error:
        if not target.exists():
            raise
        remedy = "Nothing was published. Run it again."
        raise ExportFailed(f"{target.name} was published by someone else meanwhile.", remedy=remedy) from error
    _flush(target.parent)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
