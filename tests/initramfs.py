"""Small initramfs for tests, laid out by hand."""

import bz2
import gzip
import lzma
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace

import lz4.block
import lz4.frame
from backports import zstd

from kiln.initramfs.newc import TRAILER, Entry, padding

FILE, LINK, FOLDER = 0o100644, 0o120777, 0o40755

Part = tuple[Entry, bytes]

END: Part = (Entry(name=TRAILER), b"")


def file(name: str, data: bytes = b"", **fields: int | str | bool) -> Part:
    return replace(Entry(name=name, mode=FILE, size=len(data)), **fields), data  # type: ignore[arg-type]


def folder(name: str, **fields: int) -> Part:
    return replace(Entry(name=name, mode=FOLDER, nlink=2), **fields), b""  # type: ignore[arg-type]


def symlink(name: str, target: str) -> Part:
    return Entry(name=name, mode=LINK, size=len(target)), target.encode()


def device(name: str, mode: int, major: int = 1, minor: int = 3) -> Part:
    return Entry(name=name, mode=mode, rmajor=major, rminor=minor), b""


def pack(*parts: Part) -> bytes:
    return b"".join(entry.pack() + data + padding(len(data)) for entry, data in parts)


def archive(*parts: Part, block: int = 512) -> bytes:
    """An archive as GNU cpio ends it."""
    data = pack(*parts, END)
    return data + bytes(-len(data) % block)


def _legacy_lz4(data: bytes) -> bytes:
    found = struct.pack("<I", 0x184C2102)
    for at in range(0, len(data), 8 << 20):
        packed = lz4.block.compress(data[at : at + (8 << 20)], store_size=False)
        found += struct.pack("<I", len(packed)) + packed
    return found


# By other code than ours: what these modules do in one go.
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    "zstd": zstd.compress,
    "lz4": _legacy_lz4,
    "lz4-frame": lz4.frame.compress,
}


def joined(segments: Sequence[bytes], *, gap: int = 0) -> bytes:
    """Segments one behind the other, each at a multiple of 4."""
    found = b""
    for segment in segments:
        found += segment + bytes(-len(found + segment) % 4 + gap)
    return found
