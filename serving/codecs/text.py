"""Text as models take it, and back: a `tokenizer.json` as Hugging Face's library reads it.

Source: https://github.com/huggingface/tokenizers
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Annotated, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Tokenizer

from serving.errors import TextInvalid
from serving.tensors import Array

MOST_CHARACTERS: Final = 100_000  # of one text: far beyond what any model here reads


def read_text(payload: bytes) -> str:
    """TextInvalid for what is not UTF-8."""
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        detail = f"The text is not UTF-8: byte {error.start} cannot be read."
        raise TextInvalid(detail, remedy="Encode it as UTF-8.") from None


class TextPreprocessing(BaseModel):
    """How a version reads text. `pad_to`: rows are as long as the next multiple of it, so that texts of about the same
    length meet in a batch; what is longer than `max_tokens` is cut.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokenizer: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+\.json$")] = "tokenizer.json"
    max_tokens: Annotated[int, Field(ge=1, le=8192)] = 256
    pad_to: Annotated[int, Field(ge=1, le=8192)] = 16


class Positions:
    """How many positions of rows held a token, and how many were filled up: what padding costs. Of any thread."""

    def __init__(self) -> None:
        self.tokens = self.padding = 0
        self._lock = threading.Lock()

    def add(self, tokens: int, padding: int) -> None:
        with self._lock:
            self.tokens += tokens
            self.padding += padding


class TextCodec:
    """A tokenizer, of the text of its file. ValueError from the constructor when that is none."""

    def __init__(self, file: str, settings: TextPreprocessing) -> None:
        self.settings = settings
        self.positions = Positions()  # of all rows that it made
        try:
            self.tokenizer: Tokenizer = Tokenizer.from_str(file)
        except Exception as error:  # noqa: BLE001  (its own exceptions have no class)
            raise ValueError(str(error)) from None
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        stands_for_others = getattr(self.tokenizer.model, "unk_token", None)
        # The id that stands for what is not in the vocabulary; None where there is no such thing.
        self.unknown: int | None = self.tokenizer.token_to_id(stands_for_others) if stands_for_others else None

    def encode(self, text: str) -> tuple[Array, Array]:
        """One row: token ids and attention mask (1 for text, 0 for padding), int64 [1, length]. TextInvalid."""
        if len(text) > MOST_CHARACTERS:
            raise TextInvalid(f"The text has more than {MOST_CHARACTERS:,} characters.", remedy="Send less of it.")
        if not text.strip():
            raise TextInvalid("The text is empty.", remedy="Send some words.")
        return self.row(self.tokenizer.encode(text).ids)

    def row(self, ids: Sequence[int]) -> tuple[Array, Array]:
        """As encode, of token ids of this tokenizer. TextInvalid when there is none, or one that it does not know."""
        known = self.tokenizer.get_vocab_size()
        if not ids or not 0 <= min(ids) <= max(ids) < known:
            detail = f"The token ids are not 1 or more from 0 to {known - 1}."
            raise TextInvalid(detail, remedy="Use the model's own tokenizer, or send text.")
        most = self.settings.max_tokens
        if len(ids) > most:
            ids = [*ids[: most - 1], ids[-1]]  # the last token says that here the text ends
        length = min(most, -(-len(ids) // self.settings.pad_to) * self.settings.pad_to)
        tokens, mask = np.zeros((1, length), np.int64), np.zeros((1, length), np.int64)
        tokens[0, : len(ids)], mask[0, : len(ids)] = ids, 1
        self.positions.add(len(ids), length - len(ids))
        return tokens, mask

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special ones left out."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text.strip()
