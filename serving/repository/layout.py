"""What lies in a model repository: Triton's layout, read once into an index that requests are looked up in.

    <model>/config.pbtxt
    <model>/<n>/{model.onnx, manifest.json, labels.txt, golden.npz, ...}
    <model>.<graph>/config.pbtxt        the further graphs of a model that has several
    <model>.<graph>/<n>/{model.onnx, golden.npz}
    <model>.<plan>/<n>/model.plan       a graph as TensorRT built it for one kind of host

No text of a caller is ever joined into a path: names are looked up in the index, or not found. One wrong folder is a
problem on a list and takes nothing else down.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from serving.errors import RepositoryInvalid
from serving.repository.config import GraphConfig, read_config
from serving.repository.manifest import MANIFEST, Manifest, Plan, read_manifest

MODEL_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
VERSION_NAME: Final = re.compile(r"[1-9][0-9]{0,9}")
CONFIG: Final = "config.pbtxt"
SINGLE_GRAPH: Final = "model"  # the role of the graph of a model that has but one


@dataclass(frozen=True, slots=True)
class GraphKey:
    """A graph as engines know it: a Triton model's name and a version."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


@dataclass(frozen=True, slots=True)
class Graph:
    """One graph of one version: where its file lies and how it is to be run; `planned`: by TensorRT, on its host."""

    key: GraphKey
    file: Path
    config: GraphConfig
    planned: Planned | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """A graph as TensorRT built it: the Triton model that it is, and what it was built with."""

    graph: Graph
    record: Plan


@dataclass(frozen=True, slots=True)
class Version:
    """One immutable version of a model. `manifest` is None for a plain Triton model; `graphs` by role."""

    model: str
    number: int
    folder: Path
    manifest: Manifest | None
    graphs: Mapping[str, Graph]

    @property
    def name(self) -> str:
        return f"{self.model}/{self.number}"

    @property
    def folders(self) -> dict[str, Path]:
        """Where its graphs and their plans lie, by their names."""
        graphs = list(self.graphs.values())
        plans = [graph.planned.graph for graph in graphs if graph.planned]
        return {graph.key.name: graph.file.parent for graph in (*graphs, *plans)}


@dataclass(frozen=True, slots=True)
class Model:
    """A model and its versions by number, in order."""

    name: str
    versions: Mapping[int, Version]

    @property
    def first_version(self) -> int:
        """Where a model without state starts: its lowest version marked `seed`, else its lowest. Never its newest."""
        seeds = [n for n, version in self.versions.items() if version.manifest and version.manifest.seed]
        return min(seeds or self.versions)


@dataclass(frozen=True, slots=True)
class Index:
    """What a repository holds, and what is wrong with the rest."""

    models: Mapping[str, Model]
    problems: tuple[RepositoryInvalid, ...]


def scan(root: Path) -> Index:
    """Reads the whole repository. RepositoryInvalid only when `root` itself is no folder."""
    if not root.is_dir():
        remedy = "Name a folder of models with --repository."
        raise RepositoryInvalid(root.name, "", "expected a folder, the model repository", remedy=remedy)
    models: dict[str, Model] = {}
    problems: list[RepositoryInvalid] = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        if folder.name.startswith(".") or "." in folder.name:
            continue  # staging folders, and graphs of models, which are read with their model
        try:
            model = _read_model(root, folder, problems)
        except RepositoryInvalid as problem:
            problems.append(problem)
        except OSError as error:
            problems.append(RepositoryInvalid(folder.name, "", f"expected a folder that can be read: {error.strerror}"))
        else:
            models[model.name] = model
    return Index(models, tuple(problems))


def signature(root: Path) -> tuple[tuple[str, int], ...]:
    """Something that changes when a model or a version comes or goes, or a configuration is written."""
    found: list[tuple[str, int]] = []
    for path in (root, *root.glob("*"), *root.glob("*/[1-9]*"), *root.glob(f"*/{CONFIG}")):
        if not path.name.startswith("."):
            with suppress(OSError):  # gone while it was looked at
                found.append((str(path), path.stat().st_mtime_ns))
    return tuple(sorted(found))


def _read_model(root: Path, folder: Path, problems: list[RepositoryInvalid]) -> Model:
    if not MODEL_NAME.fullmatch(folder.name):
        expected = "expected a name of a-z, 0-9, _ and -, at most 63 long, that begins with a letter or a digit"
        raise RepositoryInvalid(folder.name, "", expected)
    config = read_config(folder / CONFIG, folder.name)
    versions: dict[int, Version] = {}
    folders = [path for path in folder.iterdir() if path.is_dir() and VERSION_NAME.fullmatch(path.name)]
    published = any(_has_manifest(path) for path in folders)
    for path in folders:
        try:
            version = _read_version(root, path, config, published=published)
        except RepositoryInvalid as problem:
            problems.append(problem)
        else:
            versions[version.number] = version
    if not versions:
        raise RepositoryInvalid(folder.name, "", "expected at least one sound version folder, such as 1")
    return Model(folder.name, dict(sorted(versions.items())))


def read_version(folder: Path) -> Version:
    """One version by its folder; RepositoryInvalid as `scan` would list it."""
    config = read_config(folder.parent / CONFIG, folder.parent.name)
    return _read_version(folder.parent.parent, folder, config, published=False)


def _has_manifest(folder: Path) -> bool:
    """A link to nowhere is a manifest too, and a wrong one: without it nothing would be compared with its digest."""
    path = folder / MANIFEST
    return path.exists() or path.is_symlink()


def _read_version(root: Path, folder: Path, config: GraphConfig, *, published: bool) -> Version:
    """`published`: other versions of the model have manifests, so this one is no plain Triton model."""
    model, number = folder.parent.name, int(folder.name)
    file = f"{model}/{number}/{MANIFEST}"
    manifest = read_manifest(folder / MANIFEST, file) if _has_manifest(folder) else None
    if published and manifest is None:
        remedy = "Publish the version again."
        raise RepositoryInvalid(
            file, "", "half-written: expected manifest.json as its other versions have", remedy=remedy
        )
    names = (manifest.graphs if manifest else None) or {SINGLE_GRAPH: model}
    graphs: dict[str, Graph] = {}
    for role, name in names.items():
        _check_graph_name(name, model, [graph.key.name for graph in graphs.values()], file, f"graphs.{role}")
        key = GraphKey(name, number)
        if name == model:
            graphs[role] = _graph(key, folder, config)
        else:
            graphs[role] = _beside(key, root, plan=False)
    for role, plan in (manifest.plans if manifest else {}).items():
        if role not in graphs:
            raise RepositoryInvalid(file, f"plans.{role}", f"expected one of {', '.join(graphs)}")
        taken = [name for one in graphs.values() for name in (one.key.name, *_plan_names(one))]
        _check_graph_name(plan.graph, model, taken, file, f"plans.{role}.graph")
        planned = Planned(_beside(GraphKey(plan.graph, number), root, plan=True), plan)
        graphs[role] = replace(graphs[role], planned=planned)
    return Version(model, number, folder, manifest, graphs)


def _plan_names(graph: Graph) -> tuple[str, ...]:
    return (graph.planned.graph.key.name,) if graph.planned else ()


def _check_graph_name(name: str, model: str, taken: Sequence[str], file: str, field: str) -> None:
    """A version's graphs are its model's own, and each has one role: they come and go together."""
    owner, dot, graph = name.partition(".")
    if owner != model or (dot and not MODEL_NAME.fullmatch(graph)):
        raise RepositoryInvalid(file, field, f"expected {model} or {model}.<graph>; found {name!r}")
    if name in taken:
        raise RepositoryInvalid(file, field, f"expected a graph of its own; found {name!r} again")


def _beside(key: GraphKey, root: Path, *, plan: bool) -> Graph:
    """A graph, or a plan, in a folder of its own."""
    config = read_config(root / key.name / CONFIG, key.name)
    if config.is_plan is not plan:
        expected = "expected tensorrt_plan" if plan else "expected a graph of ONNX"
        raise RepositoryInvalid(f"{key.name}/{CONFIG}", "platform", f"{expected}; found {config.platform!r}")
    return _graph(key, root / key.name / str(key.version), config)


def _graph(key: GraphKey, folder: Path, config: GraphConfig) -> Graph:
    file = folder / config.model_file
    if not file.is_file():
        raise RepositoryInvalid(f"{key}/{config.model_file}", "", f"expected this file, for platform {config.platform}")
    return Graph(key, file, config)
