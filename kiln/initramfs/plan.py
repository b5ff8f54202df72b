"""Which entries an unpacked folder stands for: those that it was made from, and what was edited since."""

import hashlib
import os
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kiln.errors import KilnError
from kiln.initramfs.folder import ON_DISK, disk_mode, place_of
from kiln.initramfs.newc import LARGEST, Entry
from kiln.initramfs.sidecar import Part, Record
from kiln.trees import EPOCH


@dataclass(frozen=True)
class Item:
    """An entry, and where its data is; ``entry.size`` bytes of it."""

    entry: Entry
    data: Path | bytes = b""


def new(name: str, place: Path, *, ino: int = 0, like: Entry | None = None) -> Item:
    """What is on the disk as an entry of root's, with permissions of 0755 or 0644."""
    try:
        found = place.lstat()
        kind = stat.S_IFMT(found.st_mode)
        data: Path | bytes = b""
        mode, size = stat.S_IMODE(found.st_mode), 0
        if kind == stat.S_IFLNK:
            data = os.fsencode(os.readlink(place))
            mode, size = 0o777, len(data)
        elif kind == stat.S_IFREG:
            data, size = place, found.st_size
            mode = 0o755 if mode & 0o111 else 0o644
        elif kind == stat.S_IFDIR:
            mode = 0o755
    except OSError as error:
        raise KilnError(f"cannot read it: {error.strerror}", where=os.fspath(place)) from error
    device = (os.major(found.st_rdev), os.minor(found.st_rdev)) if kind in (stat.S_IFCHR, stat.S_IFBLK) else (0, 0)
    entry = Entry(
        name=name, ino=ino, mode=kind | mode, nlink=2 if kind == stat.S_IFDIR else 1, mtime=EPOCH, size=size,
        rmajor=device[0], rminor=device[1],
    )  # fmt: skip
    return Item(replace(entry, magic=like.magic, lower=like.lower) if like else entry, data)


class Plan:
    """The entries of a segment: those that were there, in their order, then what is new."""

    def __init__(self, part: Part, root: Path) -> None:
        self._part = part
        self._root = root
        self._disk = dict(_walk(os.fspath(root)))
        used = {record.entry.ino for record in part.records}
        self._free = (number for number in range(1, LARGEST) if number not in used)
        self.items = list(self._items())

    def _items(self) -> Iterator[Item]:
        records = self._part.records
        places = ["" if record.entry.is_trailer else place_of(record.entry.name) for record in records]
        last = {place: number for number, place in enumerate(places) if not records[number].entry.is_trailer}
        trailers = [number for number, record in enumerate(records) if record.entry.is_trailer]
        files = self._files(places)
        fresh = [self._new(path, path) for path in self._fresh(last)]
        for number, (record, place) in enumerate(zip(records, places, strict=True)):
            entry = record.entry
            if trailers and number == trailers[-1]:
                yield from fresh
            if number in files:
                yield files[number]
            elif entry.is_trailer:
                yield Item(entry)
            elif place not in self._disk:
                if entry.kind not in ON_DISK:
                    yield Item(entry)
            elif stat.S_IFMT(self._disk[place].st_mode) != entry.kind:
                yield self._new(entry.name, place)
            elif entry.kind == stat.S_IFLNK:
                yield self._symlink(record, place)
            else:
                # Of a folder that is there twice, the disk has the last one's mode.
                yield Item(self._with_mode(entry, place) if last[place] == number else entry)
        if not trailers:
            yield from fresh

    def _fresh(self, known: Collection[str]) -> list[str]:
        """The paths that the archive has not; folders that only the disk needed count where new things lie in them."""
        found = [path for path in self._disk if path and path not in known and path not in self._part.parents]
        above = {path[:at] for path in found for at, char in enumerate(path) if char == "/"}
        return sorted({*found, *(path for path in self._part.parents if path in above)})

    def _new(self, name: str, place: str) -> Item:
        like = Entry(name="", magic=self._part.magic, lower=self._part.lower)
        return new(name, self._root / place, ino=next(self._free), like=like)

    def _symlink(self, record: Record, place: str) -> Item:
        target = os.fsencode(os.readlink(self._root / place))
        if target == record.target.encode(errors="surrogateescape"):
            return Item(record.entry, target.ljust(record.entry.size, b"\0"))
        return Item(replace(record.entry, size=len(target), mtime=EPOCH), target)

    def _with_mode(self, entry: Entry, place: str) -> Entry:
        mode = stat.S_IMODE(self._disk[place].st_mode)
        return entry if mode == disk_mode(entry.mode) else replace(entry, mode=entry.kind | mode)

    def _files(self, places: Sequence[str]) -> dict[int, Item]:
        """The files that are still there, by the number of their record."""
        groups: dict[object, list[int]] = {}
        archive = 0
        for number, record in enumerate(self._part.records):
            entry = record.entry
            archive += entry.is_trailer
            if entry.kind == stat.S_IFREG and not entry.is_trailer:
                groups.setdefault((archive, entry.link) if entry.link else number, []).append(number)
        found: dict[int, Item] = {}
        for names in groups.values():
            found |= self._group({name: places[name] for name in names})
        return found

    def _group(self, places: Mapping[int, str]) -> dict[int, Item]:
        """The names of one file that are there still: those that were changed alone become files of their own."""
        records = self._part.records
        there = {
            number: place
            for number, place in places.items()
            if place in self._disk and stat.S_ISREG(self._disk[place].st_mode)
        }
        with_data = [records[number] for number in places if records[number].digest]
        known = with_data[-1] if with_data else records[min(places)]
        same = {number for number, place in there.items() if self._is(known, place)}
        one = len({(self._disk[place].st_dev, self._disk[place].st_ino) for place in there.values()}) == 1
        together = list(there) if one else sorted(same)
        carriers = {number for number in together if records[number].entry.size} or set(together[-1:])
        items: dict[int, Item] = {}
        for number, place in there.items():
            entry = self._with_mode(records[number].entry, place)
            size = self._disk[place].st_size
            if number not in same:
                entry = replace(entry, mtime=EPOCH)
            if number not in together:
                entry = replace(entry, ino=next(self._free), nlink=1)
            elif len(together) < len(places):
                entry = replace(entry, nlink=len(together))
            carries = number in carriers or number not in together
            items[number] = Item(replace(entry, size=size if carries else 0), self._root / place if carries else b"")
        return items

    def _is(self, record: Record, place: str) -> bool:
        """Whether a file has the record's data still."""
        found, entry = self._disk[place], record.entry
        if found.st_size != entry.size:
            return False
        if not entry.size or found.st_mtime_ns == entry.mtime * 10**9:
            return True
        with open(self._root / place, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == record.digest


def _walk(root: str, folder: str = "") -> Iterator[tuple[str, os.stat_result]]:
    if not folder:
        yield "", os.lstat(root)
    with os.scandir(f"{root}/{folder}") as found:
        for item in found:
            path = f"{folder}{item.name}"
            yield path, item.stat(follow_symlinks=False)
            if item.is_dir(follow_symlinks=False):
                yield from _walk(root, f"{path}/")
