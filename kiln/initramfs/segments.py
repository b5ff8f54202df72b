"""An initramfs as the kernel goes through it: one archive after another, plain or compressed, with zeros between."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kiln.errors import KilnError
from kiln.initramfs import compression
from kiln.initramfs.newc import Entry, Reader, foreign
from kiln.initramfs.stream import PIECE, Stream

# What people take for an initramfs: where the magic bytes are, and what has them.
_OTHERS = (
    (0, b"\x7fELF", "a program or a kernel (ELF)"),
    (0, b"\xc7q", "a cpio archive in the old binary format, which no kernel unpacks: make it by `cpio -o -H newc`"),
    (0, b"q\xc7", "a cpio archive in the old binary format, which no kernel unpacks: make it by `cpio -o -H newc`"),
    (0, b"hsqs", "a squashfs image"),
    (0, b"\x27\x05\x19\x56", "an image of U-Boot (mkimage), which wraps it"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (257, b"ustar", "a tar archive"),
    (0x202, b"HdrS", "a kernel (bzImage)"),
    (0, b"MZ", "a program of UEFI, maybe a unified kernel image"),
    (1024, b"\xe2\xe1\xf5\xe0", "an erofs image"),
    (1080, b"\x53\xef", "an ext2, ext3 or ext4 image"),
    (0x8001, b"CD001", "an ISO image"),
    (510, b"\x55\xaa", "a disk, or a FAT image"),
)


@dataclass(kw_only=True)
class Segment:
    """``offset`` is where it starts in the file, in bytes. ``entries`` must be gone through before the next segment.

    After that ``packed`` and ``unpacked`` are its sizes in bytes, with the ``tail`` of zeros that ends what is
    unpacked.
    """

    number: int
    offset: int
    compressor: str
    entries: Reader
    stream: Stream
    raw: Stream
    packed: int = 0
    unpacked: int = 0
    tail: int = 0
    over: bool = False

    def __iter__(self) -> Iterator[Entry]:
        start = self.stream.offset
        yield from self.entries
        self.unpacked, self.tail = self.stream.offset - start, self.entries.gap
        if self.stream is not self.raw:
            if self.stream.peek(1):
                found = _other(self.stream) if self.unpacked == 0 else None
                raise self.error(f"this is no initramfs, but {found}") if found else foreign(self.stream)
            if not self.unpacked:
                raise self.error("there is nothing in it", hint="kernels refuse it")
        self.packed = self.raw.offset - self.offset
        self.over = True

    def error(self, problem: str, *, hint: str | None = None) -> KilnError:
        return KilnError(problem, where=self.stream.place, hint=hint)


def read(path: Path) -> Iterator[Segment]:
    """The segments of a file, one at a time. Raises KilnError for what is no initramfs, or is damaged."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise KilnError(f"cannot read it: {error.strerror}", where=os.fspath(path)) from error
    with file:
        if not path.is_file():
            raise KilnError("is not a file", where=os.fspath(path), hint="name an initramfs")
        raw = Stream(iter(lambda: file.read(PIECE), b""), os.fspath(path))
        number = 0
        found = None if raw.peek(1) == b"0" or compression.find(raw) else _other(raw)
        if found:
            raise KilnError(f"is no initramfs, but {found}", where=os.fspath(path))
        while raw.zeros() or raw.peek(1):
            if raw.peek(1):
                number += 1
                segment = _segment(raw, number, os.fspath(path))
                yield segment
                assert segment.over
        if not number:
            raise KilnError("is empty" if not raw.offset else "holds nothing but zeros", where=os.fspath(path))


def content(path: Path) -> Iterator[bytes]:
    """The last segment of a file, unpacked: what is in front of it is there to be found plain."""
    offset = 0
    for segment in read(path):
        offset = segment.offset
        for _ in segment:
            pass
    with path.open("rb") as file:
        file.seek(offset)
        raw = Stream(iter(lambda: file.read(PIECE), b""), os.fspath(path))
        compressor = compression.find(raw) or compression.named(compression.NONE)
        yield from compressor.unpack(raw)


def _segment(raw: Stream, number: int, path: str) -> Segment:
    offset = raw.offset
    if raw.peek(1) == b"0":
        raw.place = f"{path}, segment {number}"
        entries = Reader(raw, one=True)
        return Segment(number=number, offset=offset, compressor=compression.NONE, entries=entries, stream=raw, raw=raw)
    raw.place = path
    compressor = compression.find(raw)
    if not compressor:
        known = ", ".join(name for name in compression.NAMES if name != compression.NONE)
        message = f"{raw.peek(8).hex(' ')} is the start of no archive and no compressor"
        raise raw.error(message, hint=f"known are cpio archives (newc), plain or by {known}")
    inner = Stream(compressor.unpack(raw), f"{path}, segment {number}, unpacked by {compressor.name}")
    entries = Reader(inner, one=False)
    return Segment(number=number, offset=offset, compressor=compressor.name, entries=entries, stream=inner, raw=raw)


def _other(stream: Stream) -> str | None:
    for offset, magic, name in _OTHERS:
        if stream.peek(offset + len(magic))[offset:] == magic:
            return name
    return None
