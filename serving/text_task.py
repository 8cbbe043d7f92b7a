"""What tasks on text share: the version's own tokenizer, as it lies beside its manifest."""

from __future__ import annotations

from serving.codecs.text import TextCodec, TextPreprocessing
from serving.errors import RepositoryInvalid
from serving.repository.layout import Version


def open_text(version: Version, settings: TextPreprocessing) -> TextCodec:
    """The version's tokenizer; RepositoryInvalid when its file is not there or is none."""
    file = f"{version.name}/{settings.tokenizer}"
    try:
        return TextCodec((version.folder / settings.tokenizer).read_text(encoding="utf-8"), settings)
    except (OSError, UnicodeDecodeError):
        raise RepositoryInvalid(file, "", "expected this file of UTF-8 text beside the manifest") from None
    except ValueError as error:
        raise RepositoryInvalid(file, "", f"expected a tokenizer of Hugging Face's library: {error}") from None
