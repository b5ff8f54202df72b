"""An initramfs as a folder: a numbered one for each segment, and beside them what a disk cannot hold without root.

Nothing is ever written through a link, outside of the folder, or with more rights than its owner's.
"""

import errno
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from kiln.errors import KilnError, say
from kiln.initramfs import segments, sidecar
from kiln.initramfs.newc import PLAIN, Entry, Reader
from kiln.initramfs.segments import Segment
from kiln.initramfs.sidecar import Part, Record
from kiln.report.size import human

# What each entry counts as, at least: a small file takes that much of a disk.
_LEAST = 4096
ON_DISK = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)


def unpack(path: Path, folder: Path, *, most: int) -> list[Part]:
    """Unpack an initramfs into a folder that is empty or not there.

    Raises KilnError for more than ``most`` bytes, for names that lead outside, and for what is damaged; nothing is
    left then.
    """
    with _fresh(folder) as place:
        room = _Room(most, path)
        parts = [_Unpacking(segment, place, room).run() for segment in segments.read(path)]
        sidecar.write(parts, place / sidecar.NAME)
    return parts


def place_of(name: str) -> str:
    """Where a name is below the root, as kernels see it: "" for the root. Raises KilnError for ``..``."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise KilnError(f"the name {name!r} leads outside", hint="doit cpio:list shows what it holds")
    return "/".join(parts)


def disk_mode(mode: int) -> int:
    """The permissions of a file or folder on the disk: those of the archive that do no harm, and its owner's."""
    return mode & 0o777 | (0o700 if stat.S_ISDIR(mode) else 0o600)


class _Room:
    """How much may still be unpacked, in bytes."""

    def __init__(self, most: int, path: Path) -> None:
        self._most, self._left, self._path = most, most, path

    def take(self, size: int) -> None:
        self._left -= max(size, _LEAST)
        if self._left < 0:
            message = f"unpacks to more than {human(self._most)}"
            hint = "where that is meant, name a limit: doit cpio:unpack FILE FOLDER 100G"
            raise KilnError(message, where=os.fspath(self._path), hint=hint)


class _Unpacking:
    """One segment on its way into a folder of its own."""

    def __init__(self, segment: Segment, place: Path, room: _Room) -> None:
        self._segment = segment
        self._root = os.fspath(place / str(segment.number))
        self._room = room
        # What we made, by path: nothing is made below what is not a folder here.
        self._records: dict[str, Record] = {}
        self._order: dict[int, Record] = {}
        self._numbers: dict[str, int] = {}
        self._parents: dict[str, None] = {}
        self._links: dict[tuple[int, int, int, int], str] = {}

    def run(self) -> Part:
        segment = self._segment
        os.mkdir(self._root, 0o755)
        magic = PLAIN
        lower = False
        for number, entry in enumerate(segment):
            self._room.take(entry.size)
            if segment.entries.gap:
                say(f"{segment.stream.place}: zeros in front of {entry.name!r} are left out")
            magic, lower = entry.magic, lower or entry.lower
            self._order[number] = Record(entry=entry)
            if entry.is_trailer:
                self._links.clear()
                continue
            try:
                self._add(number, entry, segment.entries)
            except KilnError as error:
                raise segment.error(error.message, hint=error.hint) from error
            except (OSError, ValueError) as error:
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                    raise
                problem = getattr(error, "strerror", None) or error
                raise segment.error(f"cannot unpack {entry.name!r}: {problem}") from error
        records = list(self._order.values())
        self._finish(records)
        return Part(
            folder=str(segment.number),
            compressor=segment.compressor,
            magic=magic,
            lower=lower,
            length=segment.unpacked,
            tail=segment.tail,
            parents=list(self._parents),
            records=records,
        )

    def _add(self, number: int, entry: Entry, reader: Reader) -> None:
        path = place_of(entry.name)
        if not path and entry.kind != stat.S_IFDIR:
            raise KilnError(f"the root, {entry.name!r}, is not a folder")
        self._make_parents(path)
        old = self._records.get(path)
        was_parent = path in self._parents
        if old or was_parent:
            self._replace(path, old, entry)
        place = f"{self._root}/{path}".rstrip("/")
        record = Record(entry=entry)
        if entry.kind == stat.S_IFDIR:
            if path and not (was_parent or (old and old.entry.kind == stat.S_IFDIR)):
                os.mkdir(place)
            os.chmod(place, disk_mode(entry.mode))
        elif entry.kind == stat.S_IFLNK:
            target = b"".join(reader.data()).partition(b"\0")[0].decode(errors="surrogateescape")
            os.symlink(target, place)
            record = replace(record, target=target)
        elif entry.kind == stat.S_IFREG:
            record = replace(record, digest=self._write(path, entry, reader))
        elif entry.kind not in (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK):
            raise KilnError(f"{entry.name!r} is of no known type (mode {entry.mode:o})")
        self._records[path] = self._order[number] = record
        self._numbers[path] = number

    def _replace(self, path: str, old: Record | None, entry: Entry) -> None:
        """Make room for an entry whose path is there: kernels keep the last one."""
        place = f"{self._root}/{path}".rstrip("/")
        is_folder = old is None or old.entry.kind == stat.S_IFDIR
        if is_folder and entry.kind == stat.S_IFDIR:
            self._parents.pop(path, None)
            return
        if is_folder:
            os.rmdir(place)
            self._parents.pop(path, None)
        elif old and old.entry.kind in ON_DISK:
            os.unlink(place)
        if old:
            say(f"{self._segment.stream.place}: {entry.name!r} comes twice; the last one is kept, as by kernels")
            del self._order[self._numbers[path]]

    def _make_parents(self, path: str) -> None:
        folder = ""
        for name in path.split("/")[:-1]:
            folder = f"{folder}/{name}".lstrip("/")
            record = self._records.get(folder)
            if record and record.entry.kind != stat.S_IFDIR:
                what = "the link" if record.entry.kind == stat.S_IFLNK else "what is no folder,"
                hint = "doit cpio:list shows what it holds"
                raise KilnError(f"{path!r} lies behind {what} {folder!r}", hint=hint)
            if not record and folder not in self._parents:
                self._room.take(0)
                os.mkdir(f"{self._root}/{folder}", 0o755)
                self._parents[folder] = None

    def _write(self, path: str, entry: Entry, reader: Reader) -> str:
        """Write a file, with holes for zeros; return the SHA-256 of its data, if it has any."""
        first = self._records.get(self._links.get(entry.link, "")) if entry.link else None
        if entry.link and first and first.entry.kind == stat.S_IFREG:
            os.link(f"{self._root}/{self._links[entry.link]}", f"{self._root}/{path}", follow_symlinks=False)
            if not entry.size:
                return ""
        elif entry.link:
            self._links[entry.link] = path
        found = hashlib.sha256()
        place = f"{self._root}/{path}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with open(os.open(place, flags, 0o600), "wb") as out:
            for piece in reader.data():
                found.update(piece)
                if piece.count(0) == len(piece):
                    out.seek(len(piece), os.SEEK_CUR)
                else:
                    out.write(piece)
            out.truncate(out.tell())
        return found.hexdigest() if entry.size else ""

    def _finish(self, records: list[Record]) -> None:
        """Modes and times, the folders' last: whatever is made in them changes theirs."""
        for record in reversed(records):
            entry = record.entry
            if entry.is_trailer or entry.kind not in ON_DISK:
                continue
            path = place_of(entry.name)
            if self._records[path].entry.kind != entry.kind:  # a folder that something else took the place of
                continue
            place = f"{self._root}/{path}".rstrip("/")
            if entry.kind == stat.S_IFREG:
                os.chmod(place, disk_mode(entry.mode))
            os.utime(place, (entry.mtime, entry.mtime), follow_symlinks=False)


@contextmanager
def _fresh(folder: Path) -> Iterator[Path]:
    """A folder beside the wanted one, that takes its name in the end, or is removed."""
    try:
        if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir() or any(folder.iterdir())):
            message = "is there already" if folder.is_symlink() or not folder.is_dir() else "is not empty"
            raise KilnError(message, where=os.fspath(folder), hint="name a folder that is not there yet")
        folder.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise KilnError(f"cannot make it: {error.strerror}", where=os.fspath(folder)) from error
    try:
        place.chmod(0o755)
        yield place
        place.rename(folder)
    except BaseException:
        shutil.rmtree(place)
        raise
