"""The operator's own code that looks at each captured request before it is kept."""

from __future__ import annotations

import importlib

from serving.errors import SettingsInvalid
from serving.observation.capture import Redact


def open_hook(name: str, option: str) -> Redact:
    """The function that `module:function` names. SettingsInvalid: there is none; `option`: where it was named."""
    module, _, attribute = name.partition(":")
    remedy = "Write it as module:function, and put the module where Python finds it, such as with PYTHONPATH."
    try:
        hook: Redact | None = getattr(importlib.import_module(module), attribute) if module and attribute else None
    except Exception as error:  # noqa: BLE001  (it is code of others, and may fail in any way)
        raise SettingsInvalid(f"{option}: {name}: {type(error).__name__}: {error}.", remedy=remedy) from None
    if not callable(hook):
        raise SettingsInvalid(f"{option}: {name}: expected a function.", remedy=remedy)
    return hook
