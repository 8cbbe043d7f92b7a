"""A store that gateways share and that cannot be asked now, whichever it is: known without its library."""

from __future__ import annotations


class Away(Exception):
    """It cannot be reached, or refuses. `detail`, `remedy`: may be shown to callers; no host or password is in them."""

    def __init__(self, detail: str, remedy: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.remedy = remedy
