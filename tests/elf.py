"""ELF programs and libraries for tests, as little as loaders look at."""

import struct
from collections.abc import Sequence

_INTERP, _LOAD, _DYNAMIC = 3, 1, 2
_NEEDED, _STRTAB, _STRSZ, _RUNPATH = 1, 5, 10, 29
_HEADER, _SEGMENT = 64, 56


def elf(*, loader: str = "", needed: Sequence[str] = (), runpath: str = "") -> bytes:
    """A program for x86_64; a library where it names no loader."""
    strings, tags = b"\0", []
    for tag, text in [*((_NEEDED, name) for name in needed), *([(_RUNPATH, runpath)] if runpath else [])]:
        tags.append((tag, len(strings)))
        strings += text.encode() + b"\0"
    start = _HEADER + 3 * _SEGMENT
    words = loader.encode() + b"\0"
    tags += [(_STRTAB, start + len(words)), (_STRSZ, len(strings)), (0, 0)]
    dynamic = b"".join(struct.pack("<QQ", *tag) for tag in tags)
    data = words + strings + dynamic
    segments = [(_LOAD, 0, start + len(data)), (_DYNAMIC, start + len(words + strings), len(dynamic))]
    segments += [(_INTERP, start, len(words))] if loader else []
    table = b"".join(
        struct.pack("<IIQQQQQQ", kind, 4, place, place, place, size, size, 1) for kind, place, size in segments
    )
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, 62, 1, 0, _HEADER, 0, 0, _HEADER, _SEGMENT,
                       len(segments), 64, 0, 0)  # fmt: skip
    return (head + table).ljust(start, b"\0") + data
