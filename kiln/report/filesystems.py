"""File systems of loaders and of media that are only read, taken apart: FAT, ISO 9660, squashfs and EROFS."""

import struct
from collections.abc import Iterator

from kiln.report.breakdown import Part, shares
from kiln.report.media import Found, Reader

_ISO_BLOCK = 2048
_FOLDER, _LABEL, _LONG_NAME = 0x10, 0x08, 0x0F


def fat(data: memoryview, reader: Reader) -> Found | None:
    """FAT16 and FAT32: files, the tables, and the clusters that are free."""
    if bytes(data[54:59]) != b"FAT16" and bytes(data[82:87]) != b"FAT32":
        return None
    volume = _Fat(data)
    parts = [reader.part(name, memoryview(content)) for name, content in volume.walk()]
    parts.append(Part(name="free", size=volume.free()))
    return Found(parts=parts, rest="tables, folders and ends of clusters")


class _Fat:
    def __init__(self, data: memoryview) -> None:
        sector, per_cluster, reserved, copies, entries, small, length = struct.unpack_from("<HBHBHHxH", data, 11)
        large, long_length = struct.unpack_from("<II", data, 32)
        self._data = data
        self._wide = not length
        self._table: int = reserved * sector
        self._root = self._table + copies * (length or long_length) * sector
        self._first = self._root + entries * 32
        self._cluster: int = sector * per_cluster
        self._count = ((small or large) * sector - self._first) // self._cluster

    def walk(self) -> Iterator[tuple[str, bytes]]:
        """The path of each file, and its bytes."""
        if self._wide:
            yield from self._files(self._chain(struct.unpack_from("<I", self._data, 44)[0]), "")
        else:
            yield from self._files(bytes(self._data[self._root : self._first]), "")

    def free(self) -> int:
        """In bytes."""
        return sum(not self._next(cluster) for cluster in range(2, self._count + 2)) * self._cluster

    def _files(self, folder: bytes, above: str) -> Iterator[tuple[str, bytes]]:
        long_name = ""
        for place in range(0, len(folder), 32):
            entry = folder[place : place + 32]
            if entry[0] == 0:
                return
            if entry[0] == 0xE5:
                long_name = ""
            elif entry[11] == _LONG_NAME:
                text = (entry[1:11] + entry[14:26] + entry[28:32]).decode("utf-16-le", errors="replace")
                long_name = text.partition("\0")[0] + long_name
            else:
                short = f"{_text(entry[:8])}.{_text(entry[8:11])}".rstrip(".")
                name, long_name = f"{above}/{long_name or short}", ""
                high, low, size = struct.unpack_from("<H4xHI", entry, 20)
                if entry.startswith(b".") or entry[11] & _LABEL:
                    continue
                content = self._chain((high << 16 if self._wide else 0) | low)
                if entry[11] & _FOLDER:
                    yield from self._files(content, name)
                else:
                    yield name, content[:size]

    def _chain(self, cluster: int) -> bytes:
        found = []
        while 2 <= cluster < self._count + 2:
            start = self._first + (cluster - 2) * self._cluster
            found.append(bytes(self._data[start : start + self._cluster]))
            cluster = self._next(cluster)
        return b"".join(found)

    def _next(self, cluster: int) -> int:
        size = 4 if self._wide else 2
        place = self._table + size * cluster
        return int.from_bytes(self._data[place : place + size], "little") & 0x0FFFFFFF


def _text(name: bytes) -> str:
    return name.decode("ascii", errors="replace").rstrip()


def iso(data: memoryview, reader: Reader) -> Found | None:
    """ISO 9660 with Rock Ridge; what two names share counts for the first."""
    start = 16 * _ISO_BLOCK
    if bytes(data[start + 1 : start + 6]) != b"CD001":
        return None
    block, size = struct.unpack_from("<I4xI", data, start + 156 + 2)
    files: dict[int, tuple[str, int]] = {}
    for name, place, length in _iso_files(data, block, size, ""):
        files.setdefault(place, (name, length))
    parts = [reader.part(name, data[place : place + length]) for place, (name, length) in files.items()]
    return Found(parts=parts, rest="boot sectors, tables and padding")


def _iso_files(data: memoryview, block: int, size: int, above: str) -> Iterator[tuple[str, int, int]]:
    """Path, start and size in bytes of each file."""
    place, end = block * _ISO_BLOCK, block * _ISO_BLOCK + size
    while place < end:
        length = data[place]
        if not length:  # the rest of this block is empty
            place = (place // _ISO_BLOCK + 1) * _ISO_BLOCK
            continue
        inner, inner_size = struct.unpack_from("<I4xI", data, place + 2)
        flags, count = data[place + 25], data[place + 32]
        short = bytes(data[place + 33 : place + 33 + count])
        name = f"{above}/{_rock_ridge(data[place + 33 + count + (count + 1) % 2 : place + length]) or _plain(short)}"
        if short not in (b"\0", b"\1"):
            if flags & 2:
                yield from _iso_files(data, inner, inner_size, name)
            elif inner_size:
                yield name, inner * _ISO_BLOCK, inner_size
        place += length


def _rock_ridge(fields: memoryview) -> str:
    """The long name that stands behind a short one."""
    place, found = 0, b""
    while place + 4 < len(fields) and fields[place + 2] > 4:
        if bytes(fields[place : place + 2]) == b"NM":
            found += bytes(fields[place + 5 : place + fields[place + 2]])
        place += fields[place + 2]
    return found.decode(errors="replace")


def _plain(name: bytes) -> str:
    return name.decode("ascii", errors="replace").partition(";")[0].rstrip(".")


def squashfs(data: memoryview, reader: Reader) -> Found | None:
    """squashfs: the packed content of files, and the tables of what they are called and where they lie."""
    if bytes(data[:4]) != b"hsqs":
        return None
    used, _, _, tables = struct.unpack_from("<QQQQ", data, 40)
    parts = [_packed(tables - 96, reader), Part(name="tables of files and folders", size=used - tables)]
    return Found(parts=parts, rest="header and padding")


def erofs(data: memoryview, reader: Reader) -> Found | None:
    """EROFS, in which content and tables lie side by side."""
    if len(data) < 2048 or bytes(data[1024:1028]) != b"\xe2\xe1\xf5\xe0":
        return None
    blocks, size = struct.unpack_from("<I", data, 1024 + 36)[0], 1 << data[1024 + 12]
    return Found(parts=[_packed(blocks * size - 1024 - 128, reader)], rest="header and padding")


def _packed(size: int, reader: Reader) -> Part:
    """The content of all files of the root file system, each with its share by its length."""
    sizes = {path: node.size for path, node in reader.nodes.items() if node.size}
    parts = reader.owned(shares(size, sizes), about=True)
    return Part.of("packed files", size, parts, rest="")
