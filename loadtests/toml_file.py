"""TOML files that people write, read strictly: what is misspelt is said, not passed over."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

M = TypeVar("M", bound=BaseModel)


class FileInvalid(Exception):
    """A file that cannot be used. The message names it, the field and what is wrong there."""


class Part(BaseModel):
    """Of a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def read_file(path: Path, kind: type[M]) -> M:
    """The file as `kind`. FileInvalid."""
    try:
        return kind.model_validate(tomllib.loads(path.read_text()))
    except (OSError, UnicodeError, tomllib.TOMLDecodeError) as error:
        raise FileInvalid(f"{path}: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise FileInvalid(f"{path}: {'.'.join(map(str, first['loc'])) or 'file'}: {first['msg']}") from None
