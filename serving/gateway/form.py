"""Multipart forms, read under limits. Source: RFC 7578."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from serving.errors import BodyInvalid, ParameterInvalid

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_PARTS: Final = 64
MAX_PART_HEAD: Final = 8 * 1024
MAX_FIELD: Final = 64 * 1024  # of a form field that is not the payload
FORM_REMEDY: Final = "Let your HTTP library write the whole form and its Content-Type."


def read_form(body: bytes, content_type: bytes) -> dict[str, bytes]:
    """The parts by their names. BodyInvalid when the form is damaged or over a limit."""
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary or len(boundary) > 70:  # RFC 2046, 5.1.1
        raise BodyInvalid("The content type has no boundary of 1 to 70 characters.", remedy=FORM_REMEDY)
    form = _Form()
    try:
        parser = MultipartParser(boundary, form.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError:
        raise BodyInvalid("The multipart body is damaged.", remedy=FORM_REMEDY) from None
    if not form.complete:
        raise BodyInvalid("The multipart body ends before its last boundary.", remedy=FORM_REMEDY)
    return form.parts


def field_text(value: bytes) -> str:
    """A part that is no payload, as text."""
    if len(value) > MAX_FIELD:
        raise BodyInvalid(f"A form field has more than {MAX_FIELD:,} bytes.", remedy="Send less in it.")
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ParameterInvalid("A form field is not UTF-8 text.", remedy="Encode it as UTF-8.") from None


class _Form:
    """Collects the parts of a multipart body by name; file names are never looked at."""

    def __init__(self) -> None:
        self.parts: dict[str, bytes] = {}
        self.complete = False
        self._count = 0
        self._head: list[bytes] = []
        self._head_size = 0
        self._disposition = b""
        self._field = b""
        self._data: list[bytes] = []

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_field,
            "on_header_value": self._on_value,
            "on_header_end": self._on_header_end,
            "on_part_data": self._on_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }

    def _begin(self) -> None:
        self._count += 1
        if self._count > MAX_PARTS:
            raise BodyInvalid(f"The form has more than {MAX_PARTS} parts.", remedy="Send fewer.")
        self._head_size, self._disposition, self._data = 0, b"", []

    def _grow(self, size: int) -> None:
        self._head_size += size
        if self._head_size > MAX_PART_HEAD:
            detail = f"A part's head has more than {MAX_PART_HEAD:,} bytes."
            raise BodyInvalid(detail, remedy="Give it shorter names.")

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._grow(end - start)
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._grow(end - start)
        self._head.append(data[start:end])

    def _on_header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = b"".join(self._head)
        self._field, self._head = b"", []

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._data.append(data[start:end])

    def _on_part_end(self) -> None:
        name = parse_options_header(self._disposition)[1].get(b"name")
        if name is None:
            raise BodyInvalid(
                "A part of the form has no name.", remedy='Give it Content-Disposition: form-data; name="..."'
            )
        self.parts[name.decode(errors="replace")] = b"".join(self._data)

    def _on_end(self) -> None:
        self.complete = True
