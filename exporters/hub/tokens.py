"""A checkpoint's tokenizer as one file, tokenizer.json, whichever files it has."""

from __future__ import annotations

import json
from typing import Final

from exporters.errors import CheckpointUnsupported
from exporters.hub.checkpoint import CODE, Checkpoint
from serving.codecs.text import TextCodec, TextPreprocessing

FILE: Final = "tokenizer.json"
OLDER: Final = ("vocab.json", "vocab.txt")
SETTINGS: Final = "tokenizer_config.json"


def read_tokenizer(checkpoint: Checkpoint) -> bytes:
    """The tokenizer's file, or what transformers makes of the older ones. CheckpointUnsupported: there is none."""
    path = checkpoint.folder / FILE
    if path.is_file():
        text = path.read_text(encoding="utf-8")
    elif any((checkpoint.folder / name).is_file() for name in OLDER):
        text = _converted(checkpoint)
    else:
        remedy = "Save it there too: AutoTokenizer.from_pretrained(name).save_pretrained(folder)."
        raise CheckpointUnsupported(f"{checkpoint.folder.name} has no {FILE}.", remedy=remedy)
    try:
        TextCodec(text, TextPreprocessing())
    except ValueError as error:
        raise CheckpointUnsupported(f"{FILE} is no tokenizer: {error}", remedy="Save it again.") from None
    return text.encode()


def _converted(checkpoint: Checkpoint) -> str:
    from transformers import AutoTokenizer

    if CODE in (checkpoint.json(SETTINGS) or {}):
        raise CheckpointUnsupported(f"{SETTINGS} names code, which is never run.", remedy=f"Save a {FILE} with it.")
    tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder, local_files_only=True, trust_remote_code=False)
    if not tokenizer.is_fast:
        raise CheckpointUnsupported("Its tokenizer has no fast form.", remedy=f"Save a {FILE} with it.")
    text: str = tokenizer.backend_tokenizer.to_str()
    json.loads(text)
    return text
