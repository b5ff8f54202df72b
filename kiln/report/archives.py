"""Archives taken apart by file, also compressed ones: what each entry takes of the packed bytes."""

import io
import posixpath
import stat
import tarfile
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from kiln.report.breakdown import Part, groups
from kiln.report.media import FOREIGN, Found, Reader

# A compressor's name, and what its files start with.
_PACKED = {
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\0": "xz",
    b"\x02\x21\x4c\x18": "lz4",
    b"\x04\x22\x4d\x18": "lz4",
}
_ZSTD_BLOCK = 1 << 17


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """``end`` is where the next one starts; ``content`` is that of a file."""

    path: str
    end: int
    content: memoryview | None


def archive(data: memoryview, reader: Reader) -> Found | None:
    """A cpio or tar archive, compressed or not."""
    packer = next((name for magic, name in _PACKED.items() if bytes(data[: len(magic)]) == magic), None)
    content = memoryview(reader.unpack(packer, data)) if packer else data
    entries = list(_entries(content))
    if not entries:
        return None
    cost = _costs(data, len(content)) if packer == "zstd" else [(0, 0), (len(content), len(data))]
    rows, parts, start = [], [], 0
    for entry in entries:
        size, start = _at(cost, entry.end) - _at(cost, start), entry.end
        owner = reader.owner(entry.path, entry.content)
        # A container image is an archive with archives in it.
        inner = reader.part("", entry.content).parts if entry.content and not packer and owner == FOREIGN else ()
        if inner:
            parts.append(Part.of(f"/{entry.path}", size, inner, rest="header and padding"))
        elif entry.path:
            rows.append((owner, f"/{entry.path}", size))
    parts += groups(rows, about=packer is not None)
    return Found(parts=parts, rest="root folder and end of the archive")


def _entries(data: memoryview) -> Iterator[_Entry]:
    if bytes(data[:6]) == b"070701":
        return _cpio(data)
    if bytes(data[257:262]) == b"ustar":
        return _tar(data)
    return iter(())


def _cpio(data: memoryview) -> Iterator[_Entry]:
    place = 0
    while bytes(data[place : place + 6]) == b"070701":
        mode, size, length = (int(bytes(data[place + at : place + at + 8]), 16) for at in (14, 54, 94))
        name = bytes(data[place + 110 : place + 109 + length]).decode(errors="replace")
        if name == "TRAILER!!!":
            return
        start = (place + 110 + length + 3) // 4 * 4
        place = start + (size + 3) // 4 * 4
        yield _Entry(path=_path(name), end=place, content=data[start : start + size] if stat.S_ISREG(mode) else None)


def _tar(data: memoryview) -> Iterator[_Entry]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            start = member.offset_data
            content = data[start : start + member.size] if member.isreg() else None
            end = start + (member.size + 511) // 512 * 512 if member.isreg() else start
            yield _Entry(path=_path(member.name), end=end, content=content)


def _path(name: str) -> str:
    """As manifests have it; the root folder's is empty."""
    path = posixpath.normpath(name).lstrip("/")
    return "" if path == "." else path


def _costs(data: memoryview, size: int) -> list[tuple[int, int]]:
    """How far the packed bytes are at places of the content; zstd packs a block of it at a time."""
    found, place, done = [(0, 0)], _zstd_header(data), 0
    last = False
    while not last and place + 3 <= len(data):
        header = int.from_bytes(data[place : place + 3], "little")
        last, kind, length = bool(header & 1), header >> 1 & 3, header >> 3
        done += _ZSTD_BLOCK if kind == 2 else length
        place += 3 + (1 if kind == 1 else length)
        found.append((min(done, size), place))
    # Blocks of other lengths than the usual one: all that is known are the sums.
    if not 0 <= done - size < _ZSTD_BLOCK or len(data) - place > 4:
        return [(0, 0), (size, len(data))]
    return [*found[:-1], (size, len(data))]


def _zstd_header(data: memoryview) -> int:
    """The length of the header before the first block."""
    flags = data[4]
    single = flags >> 5 & 1
    return 5 + (1 - single) + (0, 1, 2, 4)[flags & 3] + (single, 2, 4, 8)[flags >> 6]


def _at(cost: list[tuple[int, int]], place: int) -> int:
    """How many packed bytes there are before a place of the content."""
    index = min(bisect_right(cost, (place, 1 << 62)), len(cost) - 1)
    (start, before), (end, after) = cost[index - 1], cost[index]
    return before + (after - before) * (place - start) // max(end - start, 1)
