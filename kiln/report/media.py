"""Image files taken apart: what a reader knows by its first bytes becomes parts, and parts of those, to the byte."""

import hashlib
import mmap
import struct
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kiln.image.manifest import Node
from kiln.report.breakdown import Part, groups

# What lies in an image, but not in its root file system.
FOREIGN = "(not in the root file system)"

# What comes of bytes that are not what the first ones say.
_DAMAGE = (ArithmeticError, LookupError, ValueError, RecursionError, struct.error, tarfile.TarError)


@dataclass(frozen=True, kw_only=True)
class Found:
    """``rest`` is what the bytes are that are in none of the parts."""

    parts: Iterable[Part]
    rest: str


@dataclass(frozen=True, kw_only=True)
class Reader:
    """``nodes`` is the root file system by path, ``objects`` the bytes of the kernel's object files, plain and packed.

    ``unpack`` is given a compressor's name and what that made. ``formats`` are tried in turn; each gives None for
    what it does not know.
    """

    nodes: Mapping[str, Node]
    objects: Mapping[str, tuple[int, int]]
    unpack: Callable[[str, memoryview], bytes]
    formats: Iterable[Callable[[memoryview, "Reader"], Found | None]]

    def file(self, path: Path) -> Part:
        """The parts of a file. Raises OSError where it cannot be read."""
        if not path.stat().st_size:
            return Part(name=path.name, size=0)
        with path.open("rb") as file:
            return self.part(path.name, memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))

    def part(self, name: str, data: memoryview) -> Part:
        """The parts of what lies in ``data``; what nobody knows, or is damaged, has none."""
        for take_apart in self.formats:
            try:
                found = take_apart(data, self)
                if found:
                    return Part.of(name, len(data), found.parts, rest=found.rest)
            except _DAMAGE:
                continue
        return Part(name=name, size=len(data))

    def owner(self, path: str, content: memoryview | None) -> str:
        """The package of a path, where the root file system has there a file with that content, or what is no file."""
        node = self.nodes.get(path)
        if node is None or (node.kind == "file") != (content is not None):
            return FOREIGN
        same = content is None or hashlib.sha256(content).hexdigest() == node.digest
        return node.package if same else FOREIGN

    def owned(self, sizes: Mapping[str, int], *, about: bool = False) -> list[Part]:
        """Paths of the root file system as parts of their packages."""
        packages = {path: node.package for path, node in self.nodes.items()}
        rows = ((packages.get(path, FOREIGN), f"/{path}", size) for path, size in sizes.items())
        return groups(rows, about=about)
