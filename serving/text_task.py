"""What tasks on text share: the version's own tokenizer, as it lies beside its manifest, and what it tells of texts."""

from __future__ import annotations

from typing import Any

import numpy as np

from serving.codecs.text import Positions, TextCodec, TextPreprocessing
from serving.errors import RepositoryInvalid
from serving.monitoring.text_features import token_features
from serving.repository.layout import Version
from serving.task import Request, Task
from serving.tensors import Array


def open_text(version: Version, settings: TextPreprocessing) -> TextCodec:
    """The version's tokenizer; RepositoryInvalid when its file is not there or is none."""
    file = f"{version.name}/{settings.tokenizer}"
    try:
        return TextCodec((version.folder / settings.tokenizer).read_text(encoding="utf-8"), settings)
    except (OSError, UnicodeDecodeError):
        raise RepositoryInvalid(file, "", "expected this file of UTF-8 text beside the manifest") from None
    except ValueError as error:
        raise RepositoryInvalid(file, "", f"expected a tokenizer of Hugging Face's library: {error}") from None


def tokens_seen(words: TextCodec, request: Request[Any], ids: Array) -> dict[str, float | str]:
    """Features of a text by its token ids, int64 [tokens] without padding. The text itself may not have been sent."""
    unknown = words.unknown
    count = 0 if unknown is None else int(np.count_nonzero(ids == unknown))
    characters = len(request.payload.decode(errors="replace")) if request.kind == "text" else 0
    return token_features(len(ids), count, characters)


def positions_of(task: Task[Any] | None) -> Positions | None:
    """What a task's rows of tokens held; None of one without text. Tasks on text have their codec as `words`."""
    words = getattr(task, "words", None)
    return words.positions if isinstance(words, TextCodec) else None
