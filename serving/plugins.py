"""A plugin is a file in a plural folder; its name is the file's name. Found by name, imported when asked for."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Any

from serving.errors import NotFound


@cache
def names(package: str) -> tuple[str, ...]:
    """The plugins of a package such as `serving.tasks`, sorted. A file's underscore reads as a hyphen."""
    folder = importlib.import_module(package)
    return tuple(sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(folder.__path__)))


def find(package: str, name: str, attribute: str) -> Any:
    """`attribute` of the plugin `name`; NotFound lists the plugins that exist.

    Only names that `names` lists are imported, so text from a file or a caller never reaches the importer.
    """
    known = names(package)
    if name not in known:
        kind = package.rpartition(".")[2]
        raise NotFound(f"There is no {name!r} among the {kind}.", remedy=f"There are: {', '.join(known)}.")
    return getattr(importlib.import_module(f"{package}.{name.replace('-', '_')}"), attribute)
