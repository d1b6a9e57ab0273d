"""Takes off the content-encoding of a body without ever holding more than a cap."""

import zlib


class TooLargeError(Exception):
    """The body is larger than the cap."""


class UnreadableError(Exception):
    """The body is not what its content-encoding says, or of an encoding that was not asked for."""


class Decoder:
    """Feed it the wire's chunks; at most `cap` bytes come out, however small the bomb was."""

    def __init__(self, encoding: str, cap: int) -> None:
        if encoding not in _WINDOW_BITS:
            raise UnreadableError(f"unknown content-encoding {encoding[:40]!r}")
        self._left = cap
        bits = _WINDOW_BITS[encoding]
        self._zlib = zlib.decompressobj(bits) if bits else None

    def decode(self, chunk: bytes) -> bytes:
        plain = self._inflate(chunk) if self._zlib else chunk
        self._left -= len(plain)
        if self._left < 0:
            raise TooLargeError
        return plain

    def finish(self) -> None:
        """Raises when the compressed stream was cut."""
        if self._zlib and not self._zlib.eof:
            raise UnreadableError("the compressed body is cut")

    def _inflate(self, chunk: bytes) -> bytes:
        assert self._zlib is not None
        try:
            return self._zlib.decompress(chunk, self._left + 1)
        except zlib.error:
            raise UnreadableError("the body is not compressed as its content-encoding says") from None


# zlib's window bits; +32 recognizes gzip and zlib headers by themselves. None: nothing to take off.
_WINDOW_BITS: dict[str, int | None] = {
    "": None,
    "identity": None,
    "gzip": zlib.MAX_WBITS + 32,
    "x-gzip": zlib.MAX_WBITS + 32,
    "deflate": zlib.MAX_WBITS + 32,
}
