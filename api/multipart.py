"""The form of an upload, read from pieces of its body as they arrive: fields are kept, file bytes are passed on."""

import re

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from api import errors, faults

FIELDS = frozenset({"purpose", "expires_after[anchor]", "expires_after[seconds]"})
FIELD_BYTES = 1_000
HEADER_BYTES = 16_000
HEADER_COUNT = 16
FILENAME_CHARACTERS = 255

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Form:
    """Feed it chunks, take the file's bytes, and ask for the fields at the end. Everything raises BadRequest."""

    def __init__(self, content_type: str) -> None:
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        """A label and nothing else: no part of a path or of a header is ever made of it."""
        self.pending_bytes = 0
        self._pending: list[bytes] = []
        self._header = (bytearray(), bytearray())
        self._headers: dict[bytes, bytes] = {}
        self._field: str | None = None
        self._value = bytearray()
        self._ended = False
        self._parser = self._make_parser(content_type)

    def feed(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise _malformed() from error

    def take(self) -> bytes:
        """The bytes of the file that came since the last call."""
        data = b"".join(self._pending)
        self._pending.clear()
        self.pending_bytes = 0
        return data

    def finish(self) -> None:
        """The body has ended. Raises BadRequest if it was cut short or the file is missing."""
        if not self._ended:
            raise _malformed()
        if self.filename is None:
            raise errors.BadRequest(
                "Missing required parameter: 'file'.", param="file", code="missing_required_parameter"
            )

    def _make_parser(self, content_type: str) -> MultipartParser:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise errors.UnsupportedMediaType(
                "Send the file as multipart/form-data with a boundary.", code="unsupported_media_type"
            )
        try:
            return MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part_begin,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_finished,
                    "on_part_data": self._part_data,
                    "on_part_end": self._part_end,
                    "on_end": self._end,
                },
                max_header_count=HEADER_COUNT,
                max_header_size=HEADER_BYTES,
            )
        except FormParserError as error:
            raise _malformed() from error

    def _part_begin(self) -> None:
        self._headers.clear()
        self._value.clear()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header[0].extend(data[start:end])

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1].extend(data[start:end])

    def _header_end(self) -> None:
        name, value = self._header
        self._headers[bytes(name).lower()] = bytes(value)
        name.clear()
        value.clear()

    def _headers_finished(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"").decode("latin-1")
        kind, options = parse_options_header(disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if kind != b"form-data" or not name:
            raise _malformed()
        if name == "file":
            self._begin_file(options.get(b"filename"))
            self._field = None
        elif name not in FIELDS:
            raise errors.BadRequest(
                f"Unknown parameter: '{faults.shown(name)}'.", param=faults.shown(name), code="unknown_parameter"
            )
        elif name in self.fields:
            raise errors.BadRequest(f"'{name}' was sent twice.", param=name, code="duplicate_parameter")
        else:
            self._field = name

    def _begin_file(self, filename: bytes | None) -> None:
        if filename is None:
            raise errors.BadRequest("'file' must be a file with a name.", param="file", code="invalid_type")
        if self.filename is not None:
            raise errors.BadRequest("'file' was sent twice.", param="file", code="duplicate_parameter")
        label = _UNPRINTABLE.sub("\ufffd", filename.decode("utf-8", "replace"))
        self.filename = label[:FILENAME_CHARACTERS] or "upload"

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self._pending.append(data[start:end])
            self.pending_bytes += end - start
            return
        self._value.extend(data[start:end])
        if len(self._value) > FIELD_BYTES:
            raise errors.BadRequest(f"'{self._field}' is too long.", param=self._field, code="invalid_value")

    def _part_end(self) -> None:
        if self._field is not None:
            self.fields[self._field] = self._value.decode("utf-8", "replace")

    def _end(self) -> None:
        self._ended = True


def _malformed() -> errors.BadRequest:
    return errors.BadRequest("The body of your request is not valid multipart/form-data.", code="invalid_multipart")
