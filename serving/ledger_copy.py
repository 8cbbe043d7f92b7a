"""The last document that a gateway knew, on its own disk: what it serves when it starts and the ledger is away."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from serving.atomic_file import locked, replace_file
from serving.ledger import Document

FILE: Final = "ledger-copy.json"
LOCK: Final = "ledger-copy.lock"

log = logging.getLogger(__name__)


class _Copy(BaseModel):
    """`of`: the store that it is a copy of, as the gateway was told to find it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    of: str
    document: Document


class LedgerCopy:
    """One file under the state folder. Gateways may share it: the newest document stays."""

    def __init__(self, state: Path, of: str) -> None:
        self._state = state
        self._of = of
        self._failed = False

    def read(self) -> tuple[Document, bool]:
        """The document, and whether it is a copy of another store. An empty one when there is none that can be read."""
        copy = self._read()
        return (copy.document, copy.of != self._of) if copy else (Document(), False)

    def write(self, document: Document) -> None:
        """Keeps it, unless what is there is newer. Not being able to is logged: the gateway goes on without."""
        try:
            self._state.mkdir(parents=True, exist_ok=True)
            with locked(self._state / LOCK):
                kept, foreign = self.read()
                if foreign or (kept.epoch, kept.revision) <= (document.epoch, document.revision):
                    copy = _Copy(of=self._of, document=document)
                    replace_file(self._state / FILE, copy.model_dump_json(by_alias=True, exclude_none=True))
            self._failed = False
        except OSError as error:
            if not self._failed:
                log.error("%s cannot be written (%s): a start without Redis would miss it", FILE, error.strerror)  # noqa: TRY400
            self._failed = True

    def _read(self) -> _Copy | None:
        try:
            return _Copy.model_validate_json((self._state / FILE).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            log.error("%s cannot be read (%s) and counts as absent", FILE, type(error).__name__)  # noqa: TRY400
            return None
