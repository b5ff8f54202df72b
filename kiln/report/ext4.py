"""ext4 taken apart: the blocks of each file and folder, the journal, the tables, and what is free."""

import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from kiln.report.breakdown import leaves
from kiln.report.media import Found, Reader

_ROOT, _RESIZE, _JOURNAL = 2, 7, 8
_64BIT = 0x80
_EXTENTS = 0x80000
_SECTOR = 512
# Where the size of a block is, in powers of two from 1 KiB, and the largest that there is: 64 KiB.
_BLOCK_SIZE, _LARGEST = 1024 + 24, 6


def ext4(data: memoryview, reader: Reader) -> Found | None:
    """Where a file has holes, the blocks that it does take."""
    if len(data) < 2048 or data[1024 + 56] != 0x53 or data[1024 + 57] != 0xEF:
        return None
    if struct.unpack_from("<I", data, _BLOCK_SIZE)[0] > _LARGEST:
        return None
    volume = _Volume(data)
    sizes = {path: size for path, size in volume.walk() if not path.startswith("lost+found")}
    own = {"journal": volume.inode(_JOURNAL).size, "room to grow its tables": volume.inode(_RESIZE).size}
    own |= {"free": volume.free, "behind the file system": len(data) - volume.size}
    return Found(parts=[*reader.owned(sizes), *leaves(own)], rest="tables and folders of its own")


@dataclass(frozen=True)
class _Inode:
    """``size`` is what it takes of the disk, in bytes; ``tree`` is the root of its extents, if it has such."""

    folder: bool
    size: int
    tree: memoryview | None


class _Volume:
    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._block = 1024 << self._word(_BLOCK_SIZE)
        self._inodes_per_group = self._word(1024 + 40)
        self._inode_size = struct.unpack_from("<H", data, 1024 + 88)[0]
        wide = self._word(1024 + 96) & _64BIT
        self._descriptor_size = struct.unpack_from("<H", data, 1024 + 254)[0] if wide else 32
        self._descriptors = (self._word(1024 + 20) + 1) * self._block
        self.size = self._word(1024 + 4) * self._block
        self.free = self._word(1024 + 12) * self._block

    def inode(self, number: int) -> _Inode:
        group, index = divmod(number - 1, self._inodes_per_group)
        table = self._word(self._descriptors + group * self._descriptor_size + 8) * self._block
        place = table + index * self._inode_size
        mode = struct.unpack_from("<H", self._data, place)[0]
        tree = self._data[place + 40 : place + 100] if self._word(place + 32) & _EXTENTS else None
        return _Inode(stat.S_ISDIR(mode), self._word(place + 28) * _SECTOR, tree)

    def walk(self, number: int = _ROOT, above: str = "") -> Iterator[tuple[str, int]]:
        """Each path below a folder, and the bytes that it takes."""
        for block in self._blocks(self.inode(number).tree):
            place, end = block * self._block, (block + 1) * self._block
            while place < end:
                child, length, size = struct.unpack_from("<IHB", self._data, place)
                name = bytes(self._data[place + 8 : place + 8 + size])
                if child and name not in (b".", b".."):
                    path, inode = above + name.decode(errors="replace"), self.inode(child)
                    yield path, inode.size
                    if inode.folder:
                        yield from self.walk(child, f"{path}/")
                place += max(length, 8)

    def _blocks(self, tree: memoryview | None) -> Iterator[int]:
        """The blocks that a tree of extents leads to."""
        if tree is None:
            return
        count, depth = struct.unpack_from("<2xH2xH", tree)
        for place in range(12, 12 + 12 * count, 12):
            if depth:
                leaf = struct.unpack_from("<4xI", tree, place)[0] * self._block
                yield from self._blocks(self._data[leaf : leaf + self._block])
            else:
                length, first = struct.unpack_from("<4xH2xI", tree, place)
                yield from range(first, first + length)

    def _word(self, place: int) -> int:
        found: int = struct.unpack_from("<I", self._data, place)[0]
        return found
