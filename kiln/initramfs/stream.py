"""Bytes that are read once, in pieces: what stands between a file, its compressors and the archives inside."""

from collections.abc import Iterator

from kiln.errors import KilnError

# The most that is held at once, in bytes.
PIECE = 1 << 18


class Stream:
    """Reads from ``pieces``; ``offset`` is how many bytes were read. ``place`` is what errors call it."""

    def __init__(self, pieces: Iterator[bytes], place: str) -> None:
        self._pieces = pieces
        self._held = b""
        self._at = 0
        self.offset = 0
        self.place = place

    def peek(self, size: int) -> bytes:
        """The next bytes without reading them; fewer where the stream ends."""
        while len(self._held) - self._at < size:
            piece = next(self._pieces, b"")
            if not piece:
                break
            self._held = self._held[self._at :] + piece
            self._at = 0
        return self._held[self._at : self._at + size]

    def some(self, most: int = PIECE) -> bytes:
        """Read what is there, at least one byte unless the stream ends."""
        if self._at == len(self._held):
            self.peek(1)
        found = self._held[self._at : self._at + most]
        self._at += len(found)
        self.offset += len(found)
        return found

    def read(self, size: int, what: str) -> bytes:
        """Read exactly ``size`` bytes. Raises KilnError where the stream ends in ``what``."""
        found = self.peek(size)
        if len(found) < size:
            raise self.error(f"it ends in the middle of {what}", hint="it was cut short: copy or make it again")
        self.some(size)
        return found

    def unread(self, data: bytes) -> None:
        """Give back what was read last."""
        if self._at >= len(data):
            self._at -= len(data)
        else:
            self._held, self._at = data + self._held[self._at :], 0
        self.offset -= len(data)

    def zeros(self) -> int:
        """Read all zero bytes up to the next other one, and count them."""
        start = self.offset
        while self.peek(1) == b"\0":
            piece = self.some()
            self.unread(piece.lstrip(b"\0"))
        return self.offset - start

    def error(self, problem: str, *, hint: str | None = None) -> KilnError:
        return KilnError(f"byte {self.offset}: {problem}", where=self.place, hint=hint)
