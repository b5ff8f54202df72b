"""What takes how much room in a store."""

import json
import os
import shutil
import stat
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kiln.report.size import human
from kiln.store import Work

# What a store holds beside results.
_REST = {
    "failed": "builds that failed, for `doit shell`",
    "running": "builds that run, or were killed",
    "ccache": "the compilers' cache",
    "roots": "what is to be kept",
    "damaged": "results without a stamp that can be read",
    "other": "the store's own files",
}
_BLOCK = 512
_MOST_VERSIONS = 5


@dataclass(frozen=True, kw_only=True)
class Row:
    """``count`` results or builds (0 where that is not counted), and the bytes that they take on the disk."""

    name: str
    count: int
    size: int
    versions: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Usage:
    """``results`` by name, ``rest`` is all else, each biggest first; ``free`` are the bytes left on that disk.

    ``unread`` counts the places that could not be looked into.
    """

    place: Path
    results: tuple[Row, ...]
    rest: tuple[Row, ...]
    unread: int
    free: int

    @property
    def total(self) -> int:
        return sum(row.size for row in (*self.results, *self.rest))


def measure(store: Path) -> Usage:
    """Look at every file of a store. What goes away meanwhile is left out; bytes with several names count once."""
    results: defaultdict[str, _Sum] = defaultdict(_Sum)
    rest: defaultdict[str, _Sum] = defaultdict(_Sum)
    walk = _Walk()
    rest["other"].size = walk.blocks(store)
    for path in walk.inside(store):
        if os.path.islink(path) or not os.path.isdir(path):
            rest["other"].size += walk.blocks(path)
        elif path.name == "work":
            rest["other"].size += walk.blocks(path)
            for build in walk.inside(path):
                kind = "failed" if os.path.exists(Work(path=build).failed) else "running"
                rest[kind].add(walk.weigh(build))
        elif path.name in _REST:
            rest[path.name].size += walk.weigh(path)
        else:
            stamp, size = _stamp(path), walk.weigh(path)
            if stamp:
                name, version = stamp
                results[name].add(size, version)
            elif os.path.exists(path):
                rest["damaged"].add(size)
    there = next(path for path in (store, *store.parents) if os.path.isdir(path))
    free = shutil.disk_usage(there).free
    return Usage(place=store, results=_rows(results), rest=_rows(rest), unread=walk.unread, free=free)


def weigh(path: Path) -> int:
    """The bytes that a file or folder takes on the disk."""
    return _Walk().weigh(path)


def render(usage: Usage) -> Iterator[str]:
    """A table, and how much is free."""
    lines = [(row.name, str(row.count), human(row.size), _versions(row.versions)) for row in usage.results]
    lines += [(row.name, str(row.count or ""), human(row.size), _REST[row.name]) for row in usage.rest]
    count = sum(row.count for row in usage.results)
    lines.append(("total", str(count), human(usage.total), f"{human(usage.free)} free, {usage.place}"))
    width = max(len(name) for name, *_ in lines)
    for name, number, size, note in lines:
        yield f"{name:<{width}}  {number:>6}  {size:>9}  {note}".rstrip()
    if usage.unread:
        yield f"{usage.unread} places could not be looked into; what they hold is not counted"


@dataclass
class _Sum:
    count: int = 0
    size: int = 0
    versions: set[str] = field(default_factory=set)

    def add(self, size: int, *versions: str) -> None:
        self.count += 1
        self.size += size
        self.versions.update(versions)


class _Walk:
    """Looks at files while others may remove them."""

    def __init__(self) -> None:
        self.unread = 0
        self._seen: set[tuple[int, int]] = set()

    def inside(self, folder: Path) -> list[Path]:
        try:
            return sorted(folder.iterdir())
        except FileNotFoundError:
            pass
        except OSError:
            self.unread += 1
        return []

    def blocks(self, path: Path) -> int:
        """The bytes of ``path`` itself; 0 where another name of it was counted, or it is gone."""
        try:
            return self._count(os.lstat(path))
        except FileNotFoundError:
            pass
        except OSError:
            self.unread += 1
        return 0

    def weigh(self, path: Path) -> int:
        """The bytes of a folder and all below it."""
        total = self.blocks(path)
        pending = [os.fspath(path)]
        while pending:
            try:
                with os.scandir(pending.pop()) as entries:
                    for entry in entries:
                        try:
                            found = entry.stat(follow_symlinks=False)
                        except FileNotFoundError:
                            continue
                        total += self._count(found)
                        if stat.S_ISDIR(found.st_mode):
                            pending.append(entry.path)
            except FileNotFoundError:
                continue
            except OSError:
                self.unread += 1
        return total

    def _count(self, found: os.stat_result) -> int:
        if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
            inode = (found.st_dev, found.st_ino)
            if inode in self._seen:
                return 0
            self._seen.add(inode)
        return found.st_blocks * _BLOCK


def _stamp(entry: Path) -> tuple[str, str] | None:
    """The name and version of a result, of whatever format; None where its stamp does not tell."""
    try:
        inputs = json.loads((entry / "stamp.json").read_bytes())["inputs"]
        return str(inputs["name"]), str(inputs["version"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _rows(sums: Mapping[str, _Sum]) -> tuple[Row, ...]:
    rows = [
        Row(name=name, count=found.count, size=found.size, versions=tuple(sorted(found.versions)))
        for name, found in sums.items()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.size, row.name)))


def _versions(versions: tuple[str, ...]) -> str:
    more = len(versions) - _MOST_VERSIONS
    return ", ".join(versions[:_MOST_VERSIONS]) + (f" and {more} more" if more > 0 else "")
