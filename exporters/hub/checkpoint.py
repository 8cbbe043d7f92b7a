"""A checkpoint's folder: what is in it, read as data. No pickle is opened, and no code of a checkpoint ever runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from exporters.errors import CheckpointUnsupported

CONFIG: Final = "config.json"
INDEX: Final = "model_index.json"  # of a folder of diffusers, whose parts have folders of their own
WEIGHTS: Final = ("model.safetensors", "model.safetensors.index.json")
DIFFUSERS_WEIGHTS: Final = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
)
PICKLED: Final = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")
CODE: Final = "auto_map"  # names classes in Python files beside the checkpoint


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The folder and its config.json, or its model_index.json."""

    folder: Path
    config: Mapping[str, Any]

    def number(self, *path: str) -> int:
        """A whole number above 0 of config.json, by its keys; CheckpointUnsupported where there is none."""
        found: Any = self.config
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        if not isinstance(found, int) or found < 1:
            raise CheckpointUnsupported(f"{CONFIG} has no size {'.'.join(path)}.", remedy="Download or save it again.")
        return found

    @property
    def model_type(self) -> str:
        return str(self.config.get("model_type", ""))

    @property
    def class_name(self) -> str:
        """Of diffusers' classes."""
        return str(self.config.get("_class_name", ""))

    def json(self, name: str) -> dict[str, Any] | None:
        """A file of the folder as an object; None where there is no such file."""
        path = self.folder / name
        return _read_object(path) if path.is_file() else None


def open_pipeline(folder: Path) -> Checkpoint | None:
    """A folder that diffusers' save_pretrained wrote, with its index; None for any other."""
    return Checkpoint(folder, _read_object(folder / INDEX)) if (folder / INDEX).is_file() else None


def open_checkpoint(folder: Path, weights: tuple[str, ...] = WEIGHTS) -> Checkpoint:
    """CheckpointUnsupported says what is missing or will not be run, and what to do. weights: names they may have."""
    if not folder.is_dir():
        raise CheckpointUnsupported(
            f"There is no folder {folder.name}.", remedy="Name the folder that save_pretrained wrote."
        )
    if not (folder / CONFIG).is_file():
        remedy = "Save it with transformers' save_pretrained, or download all of its files."
        raise CheckpointUnsupported(f"{folder.name} has no {CONFIG}.", remedy=remedy)
    config = _read_object(folder / CONFIG)
    if _names_code(config):
        raise CheckpointUnsupported(
            f"{CONFIG} names code that comes with the checkpoint ({CODE}), which is never run.",
            remedy="Load it where you trust it, and save it as one of transformers' own classes.",
        )
    if not any((folder / name).is_file() for name in weights):
        found = sorted(path.name for pattern in PICKLED for path in folder.glob(pattern))
        what = f"only {', '.join(found[:3])}, which are never unpickled" if found else "no weights"
        raise CheckpointUnsupported(
            f"{folder.name} has {what}; expected {weights[0]}.",
            remedy="Save it again with save_pretrained(folder, safe_serialization=True), where you trust it.",
        )
    return Checkpoint(folder, config)


def _names_code(config: Any) -> bool:
    """Whether an object has CODE, however deep."""
    if isinstance(config, dict):
        return CODE in config or any(map(_names_code, config.values()))
    return isinstance(config, list) and any(map(_names_code, config))


def _read_object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise CheckpointUnsupported(f"{path.name} is no JSON object.", remedy="Download or save it again.")
    return found
