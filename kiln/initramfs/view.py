"""What a kernel makes of an initramfs: the tree after its last entry, as ``init/initramfs.c`` unpacks it."""

import hashlib
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from kiln.digest import of_bytes
from kiln.image.manifest import Kind, Node
from kiln.initramfs import segments
from kiln.initramfs.newc import Entry, Reader

_KINDS: dict[int, Kind] = {
    stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "symlink", stat.S_IFCHR: "char", stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo", stat.S_IFSOCK: "fifo",
}  # fmt: skip
# The archive inside a kernel has these, unless it was given another one.
_BUILTIN = ("dev", "root")
_LONGEST_CHAIN = 40
# Nothing bigger is a program, a library or a list, in bytes.
_LARGEST_KEPT = 64 << 20


@dataclass
class File:
    """What names lead to: several may lead to one. ``data`` is kept where the view was asked to."""

    entry: Entry
    digest: str = ""
    target: str = ""
    data: bytes = b""


@dataclass
class View:
    """``files`` by path; ``lost`` are the entries that a kernel leaves out, and why.

    ``compressor`` is the one of the last segment. ``keep`` says to keep what is in files, but for huge ones.
    """

    files: dict[str, File] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    compressor: str = ""
    keep: bool = False
    _links: dict[tuple[int, int, int, int], File] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def read(path: Path, *, keep: bool = False) -> "View":
        view = View(keep=keep)
        for segment in segments.read(path):
            view.compressor = segment.compressor
            for entry in segment:
                view.add(entry, segment.entries)
        return view

    def has_folder(self, path: str) -> bool:
        """Whether the path leads to a folder, maybe through links."""
        return self._resolve(f"{path}/.") is not None

    def find(self, name: str) -> str | None:
        """The path of what a name leads to in the end, through links; None where there is nothing."""
        for _ in range(_LONGEST_CHAIN):
            path = self._resolve(name)
            file = self.files.get(path) if path else None
            if not path or not file:
                return None
            if file.entry.kind != stat.S_IFLNK:
                return path
            name = file.target if file.target.startswith("/") else f"{path.rpartition('/')[0]}/{file.target}"
        return None

    def matching(self, pattern: str) -> Iterator[tuple[str, File]]:
        """The plain files whose whole paths match, in their order."""
        for path, file in sorted(self.files.items()):
            if file.entry.kind == stat.S_IFREG and re.fullmatch(pattern, path):
                yield path, file

    def nodes(self) -> Iterator[Node]:
        """All paths below the root as those of a manifest."""
        for path, file in sorted(self.files.items()):
            entry = file.entry
            kind = _KINDS.get(entry.kind, "file")
            yield Node(
                path=_printable(path),
                kind=kind,
                mode=stat.S_IMODE(entry.mode),
                package="",
                uid=entry.uid,
                gid=entry.gid,
                digest=file.digest,
                size=entry.size if kind == "file" else 0,
                target="socket" if entry.kind == stat.S_IFSOCK else _printable(file.target),
                device=(entry.rmajor, entry.rminor) if kind in ("char", "block") else None,
            )

    def add(self, entry: Entry, reader: Reader) -> None:
        """Unpack one more entry."""
        if entry.is_trailer:
            self._links.clear()
            return
        path = self._resolve(entry.name)
        if path is None:
            self.lost.append(f"{entry.name}: there is no folder for it")
        elif path:
            self._put(path, entry, reader)

    def _put(self, path: str, entry: Entry, reader: Reader) -> None:
        old = self.files.get(path)
        kept = old is not None and old.entry.kind == entry.kind != stat.S_IFLNK
        if old and not kept:
            if self._counts.get(path):
                self.lost.append(f"{entry.name}: a folder that is not empty is in its place")
                return
            self._remove(path)
        file = self._links.get(entry.link) if entry.link else None
        if file:
            file.entry = replace(entry, size=entry.size or file.entry.size)
        else:
            file = old if kept and old else File(entry)
            file.entry = entry
            if entry.link:
                self._links[entry.link] = file
        if path not in self.files:
            folder = path.rpartition("/")[0]
            self._counts[folder] = self._counts.get(folder, 0) + 1
        self.files[path] = file
        if entry.kind == stat.S_IFLNK:
            file.target = b"".join(reader.data()).partition(b"\0")[0].decode(errors="surrogateescape")
        elif entry.kind == stat.S_IFREG and (entry.size or not file.digest or file.entry.size == 0):
            file.data = b"".join(reader.data()) if self.keep and entry.size <= _LARGEST_KEPT else b""
            file.digest = of_bytes(file.data).hash if file.data else digest(reader)

    def _remove(self, path: str) -> None:
        del self.files[path]
        self._counts[path.rpartition("/")[0]] -= 1

    def _resolve(self, name: str) -> str | None:
        """The path of a name, whose folders are followed through links; None where one is not there."""
        path, left, followed = "", [part for part in reversed(name.split("/")) if part], 0
        while left:
            part = left.pop()
            if part == ".":
                continue
            if part == "..":
                path = path.rpartition("/")[0]
                continue
            path = f"{path}/{part}".lstrip("/")
            if not left:
                return path
            file = self.files.get(path)
            if file and file.entry.kind == stat.S_IFLNK:
                followed += 1
                if followed > _LONGEST_CHAIN:
                    return None
                path = "" if file.target.startswith("/") else path.rpartition("/")[0]
                left += [part for part in reversed(file.target.split("/")) if part]
            elif not (file and file.entry.kind == stat.S_IFDIR) and not (file is None and path in _BUILTIN):
                return None
        return path


def digest(reader: Reader) -> str:
    """The SHA-256 of the entry that the reader stands at."""
    found = hashlib.sha256()
    for piece in reader.data():
        found.update(piece)
    return found.hexdigest()


def _printable(name: str) -> str:
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")
