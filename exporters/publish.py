"""A version, from staged folder to its place in the repository. What is published never changes afterwards.

<repository>/.staging-<model>-<random>/...    written and flushed to disk, unseen by readers
<repository>/<model>.<graph>/<n>/             further graphs, each by a rename: no version has them yet
<repository>/<model>/<n>/                     there at once and whole, by the last rename

What a publisher leaves that is killed in between is the business of the next: its staging folder says what it was.
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

from exporters.accelerators import is_accelerated
from exporters.errors import ConfigDiffers, ExportFailed, FloorMissed
from serving.errors import RepositoryInvalid
from serving.repository.config import parse_config, read_config, write_config
from serving.repository.digests import digest_folder
from serving.repository.layout import CONFIG, VERSION_NAME
from serving.repository.manifest import MANIFEST, Manifest, Metric, read_manifest, write_manifest
from serving.tensors import Tensors

GRAPH: Final = "model.onnx"
LABELS: Final = "labels.txt"
GOLDEN: Final = "golden.npz"
FILE_MODE: Final = 0o644  # whoever serves is seldom who publishes
FOLDER_MODE: Final = 0o755
STAGING: Final = ".staging-"
ABANDONED_S: Final = 24 * 3600


@dataclass(frozen=True, slots=True)
class FurtherGraph:
    """A graph that lies beside its model, in a folder of its own."""

    config: Any  # Triton's ModelConfig message, whose name is <model>.<graph>
    files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Release:
    """All of a version but its number. `manifest` is written with the digests of the files and with its seed mark."""

    config: Any  # Triton's ModelConfig message, which has the model's name
    files: Mapping[str, bytes]  # by their names in the version's folder
    manifest: Manifest
    further: tuple[FurtherGraph, ...] = ()

    @property
    def graphs(self) -> dict[str, tuple[Any, Mapping[str, bytes]]]:
        """Configuration and files by folder, in the order of the renames: the model's own is the last."""
        beside = {graph.config.name: (graph.config, graph.files) for graph in self.further}
        return {**beside, self.config.name: (self.config, self.files)}


def publish(release: Release, repository: Path) -> Path:
    """Adds the release as the model's next version, and gives its folder. The first version is marked `seed`.

    FloorMissed: a metric is not good enough, nothing is written. ConfigDiffers: the model has other tensors.
    """
    check_floors(release.manifest.metrics)
    repository.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    _sweep(repository)
    model: str = release.config.name
    number = next_version(repository, model)
    with _staging(repository, model) as staging:
        _write(staging, release, number, seed=not _versions(repository / model))
        _settle(staging)
        used = {name for name in release.graphs if _is_used(repository / name, repository / model)}
        for name in used:
            _check_config(repository / name / CONFIG, release.graphs[name][0])
        try:
            for name in release.graphs:
                _move(staging / name, repository / name, str(number), anew=name not in used)
        except BaseException:
            _take_back(staging, repository)
            raise
    return repository / model / str(number)


def _is_used(folder: Path, model: Path) -> bool:
    """Whether a configuration is there that counts: the model's own, or of a graph that some version of it has."""
    shared = folder == model or set(_versions(folder)) & set(_versions(model))
    return bool(shared) and (folder / CONFIG).exists()


def _move(staged: Path, target: Path, version: str, *, anew: bool) -> None:
    """The staged version of a graph to its place; anew: with its config.pbtxt."""
    if not target.exists():
        _rename(staged, target)
        return
    if anew:
        _rename(staged / CONFIG, target / CONFIG)
    _rename(staged / version, target / version)


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


def next_version(repository: Path, model: str) -> int:
    """One more than the highest version of the model or of one of its graphs, 1 when there is none."""
    folders = (repository / model, *repository.glob(f"{model}.*"))
    return max((number for folder in folders for number in _versions(folder)), default=0) + 1


def _versions(folder: Path) -> list[int]:
    """The numbers of the versions in a model's folder, which need not exist."""
    return [int(path.name) for path in folder.glob("*") if VERSION_NAME.fullmatch(path.name)]


def golden(inputs: Tensors, outputs: Tensors) -> bytes:
    """Rows and what the trained network makes of them, as a compressed npz of `input.<name>` and `output.<name>`."""
    arrays = {f"input.{name}": array for name, array in inputs.items()}
    arrays |= {f"output.{name}": array for name, array in outputs.items()}
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for its own flags
    return stream.getvalue()


def _write(staging: Path, release: Release, number: int, *, seed: bool) -> None:
    """Every graph's folder as it will be; the manifest, which has the digests of all, last."""
    digests = {name: _write_graph(staging / name, *parts, number) for name, parts in release.graphs.items()}
    changes = {"seed": seed, "files": digests.pop(release.config.name), "graph_files": digests}
    write_manifest(staging / release.config.name / str(number) / MANIFEST, release.manifest.model_copy(update=changes))


def _write_graph(folder: Path, config: Any, files: Mapping[str, bytes], number: int) -> dict[str, str]:
    """The digests of the files."""
    version = folder / str(number)
    version.mkdir(parents=True)
    for name, content in files.items():
        (version / name).write_bytes(content)
    write_config(folder / CONFIG, config)
    return digest_folder(version)


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
    if is_accelerated(message) and not is_accelerated(present.message):
        raise ConfigDiffers(
            f"{name}/{CONFIG} does not ask for TensorRT, and stays as it is.",
            remedy=f"Run first: exporters tensorrt {name.partition('.')[0]}",
        )


def _sweep(repository: Path) -> None:
    """Removes what publishers left who were killed: no publisher takes a day."""
    for folder in repository.glob(f"{STAGING}*"):
        with suppress(OSError, RepositoryInvalid):  # another sweeper was quicker
            if folder.stat().st_mtime < time.time() - ABANDONED_S:
                _take_back(folder, repository)
                shutil.rmtree(folder)


def _take_back(staging: Path, repository: Path) -> None:
    """Removes graphs that were renamed for a version whose own folder was not, so that nobody has them."""
    for path in staging.glob(f"*/*/{MANIFEST}"):  # none once the version is there, one before
        model, version = path.parent.parent.name, path.parent.name
        named = read_manifest(path, path.name).graph_files
        for folder in (folder for folder in repository.glob(f"{model}.*") if folder.name in named):
            if (staging / folder.name / version).exists():
                continue
            shutil.rmtree(folder / version, ignore_errors=True)
            if not _versions(folder):
                shutil.rmtree(folder, ignore_errors=True)


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
