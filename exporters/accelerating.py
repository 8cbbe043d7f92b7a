"""TensorRT for a model that is published already: its config.pbtxt is written anew, its versions stay as they are."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

import numpy as np

from exporters.accelerators import accelerated, is_accelerated, plain
from exporters.errors import GraphUnsupported
from exporters.graph_name import name_of
from exporters.publish import GOLDEN, GRAPH
from serving.atomic_file import replace_file
from serving.errors import NotFound
from serving.repository.config import config_as_text, read_config
from serving.repository.layout import CONFIG, MODEL_NAME, VERSION_NAME
from serving.tensors import Tensors

_INPUT: Final = "input."  # before the names of golden inputs


def set_tensorrt(repository: Path, model: str, *, on: bool) -> list[Path]:
    """The files that were changed: of the model and of its further graphs. Gateways and Triton find them by themselves.

    NotFound: no such model. GraphUnsupported: TensorRT cannot take it, or two of its versions would share engines.
    """
    if not MODEL_NAME.fullmatch(model) or not (repository / model / CONFIG).is_file():
        raise NotFound(f"There is no model {model!r} in {repository}.", remedy="`exporters list` shows the models.")
    folders = [repository / model, *sorted(repository.glob(f"{model}.*"))]
    configs = {folder: read_config(folder / CONFIG, folder.name) for folder in folders}
    messages = {folder: config.message for folder, config in configs.items() if not config.is_plan}
    texts = {}
    for folder, message in messages.items():
        if on:
            _check_names(folder)
            texts[folder / CONFIG] = config_as_text(accelerated(message, _rows(folder)))
        elif is_accelerated(message):
            texts[folder / CONFIG] = config_as_text(plain(message))
    changed = [path for path, text in texts.items() if path.read_text(encoding="utf-8") != text]
    for path in changed:
        replace_file(path, texts[path])
    return changed


def _versions(folder: Path) -> list[Path]:
    found = [path for path in folder.iterdir() if VERSION_NAME.fullmatch(path.name) and (path / GRAPH).is_file()]
    return sorted(found, key=lambda path: int(path.name))


def _check_names(folder: Path) -> None:
    """Engines are kept by the graph's name, so it must tell versions apart."""
    seen: dict[str, str] = {}
    for version in _versions(folder):
        other = seen.setdefault(name_of((version / GRAPH).read_bytes()), version.name)
        if other != version.name:
            detail = f"Versions {other} and {version.name} of {folder.name} have graphs of one name."
            remedy = "TensorRT would answer for one with the other. Export them again, which names them apart."
            raise GraphUnsupported(detail, remedy=remedy)


def _rows(folder: Path) -> Tensors:
    """Inputs of the newest version's golden rows, which say how long free axes get; none for plain models."""
    newest = max(_versions(folder), default=folder, key=lambda path: int(path.name))
    if not (newest / GOLDEN).is_file():
        return {}
    with np.load(io.BytesIO((newest / GOLDEN).read_bytes()), allow_pickle=False) as arrays:
        return {name.removeprefix(_INPUT): arrays[name] for name in arrays.files if name.startswith(_INPUT)}
