"""From files to an initramfs: an unpacked folder as it was, with what was edited in it, or one more segment."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from kiln.errors import KilnError, say
from kiln.initramfs import compression, sidecar
from kiln.initramfs.newc import CRC, LARGEST, TRAILER, Entry, padding
from kiln.initramfs.plan import Item, Plan, new
from kiln.initramfs.sidecar import Part, Record
from kiln.initramfs.stream import PIECE
from kiln.initramfs.view import View
from kiln.trees import EPOCH

_BLOCK = 512


def repack(folder: Path, path: Path, *, compress: str = "") -> None:
    """Write the initramfs of an unpacked folder. What nobody touched there comes out as it was.

    Changed files get the one time stamp of images, new ones belong to root. ``compress`` is for all segments but the
    plain ones in front of others; without it each has its own compressor. Raises KilnError for what is no such folder.
    """
    parts = _parts(folder)
    if compress:
        compression.named(compress)
    before = ""
    with replaced(path) as out:
        for number, part in enumerate(parts, 1):
            chosen = compress if compress and (part.compressor != compression.NONE or number == len(parts)) else ""
            compressor = chosen or part.compressor
            if compressor == compression.LZ4_FRAME:
                say(f"segment {part.folder}: kernels know no lz4 frames, so it is packed in lz4's legacy format")
                compressor = "lz4"
            _join(out, before)
            before = compressor
            try:
                _pack(Plan(part, folder / part.folder).items, out, compressor, length=part.length, tail=part.tail)
            except KilnError as error:
                where = os.path.join(folder, part.folder, error.where or "").rstrip("/")
                raise KilnError(error.message, where=where, hint=error.hint) from error


def append(base: Path, path: Path, items: Iterable[Item], *, after: str, compress: str = compression.NONE) -> None:
    """Write ``base``, whose last segment is compressed by ``after``, and behind it a segment of ``items``."""
    with replaced(path) as out:
        with base.open("rb") as file:
            shutil.copyfileobj(file, out, PIECE)
        _join(out, after)
        _pack([*items, Item(Entry(name=TRAILER))], out, compress)


def items(files: Mapping[str, Path], view: View) -> list[Item]:
    """The entries of a segment of ``files``, by their paths in it, with the folders that ``view`` has not."""
    folders = {path[:at] for path in files for at, char in enumerate(path) if char == "/"}
    missing = [path for path in folders - files.keys() if not view.has_folder(path)]
    found: list[Item] = []
    for number, path in enumerate(sorted({*missing, *files}), 1):
        if path in files:
            found.append(new(path, files[path], ino=number))
        else:
            found.append(Item(Entry(name=path, ino=number, mode=stat.S_IFDIR | 0o755, nlink=2, mtime=EPOCH)))
    return found


@contextmanager
def replaced(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of ``path`` when it is whole, and else leaves nothing."""
    try:
        number, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    except OSError as error:
        raise KilnError(f"cannot write it: {error.strerror}", where=os.fspath(path)) from error
    try:
        with open(number, "wb") as out:
            yield out
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException as error:
        os.unlink(name)
        if isinstance(error, IsADirectoryError):
            raise KilnError("is a folder", where=os.fspath(path), hint="name a file") from error
        raise


def _parts(folder: Path) -> list[Part]:
    parts = sidecar.read(folder / sidecar.NAME)
    there = {
        item.name for item in folder.iterdir() if item.is_dir() and not item.is_symlink() and item.name.isdecimal()
    }
    for part in parts:
        if part.folder not in there:
            say(f"{folder / part.folder} is gone, and so is its segment")
    known = {part.folder for part in parts}
    added = [Part(folder=name, records=[Record(entry=Entry(name=TRAILER))]) for name in there - known]
    found = [part for part in parts if part.folder in there] + sorted(added, key=lambda part: int(part.folder))
    if not found:
        raise KilnError("has no segments", where=os.fspath(folder), hint="each is a folder: 1, 2, ...")
    return found


@dataclass
class _Sink:
    """Gathers small pieces for a compressor; ``size`` is how much came, in bytes."""

    out: IO[bytes]
    packer: compression.Packer
    size: int = 0
    _held: list[bytes] = field(default_factory=list)
    _waiting: int = 0

    def write(self, data: bytes) -> None:
        self._held.append(data)
        self.size += len(data)
        self._waiting += len(data)
        if self._waiting >= PIECE:
            self._pass()

    def close(self) -> None:
        self._pass()
        self.out.write(self.packer.flush())

    def _pass(self) -> None:
        self.out.write(self.packer.compress(b"".join(self._held)))
        self._held, self._waiting = [], 0


def _join(out: IO[bytes], after: str) -> None:
    """Get ready for one more segment: kernels want a multiple of 4, and four zeros to end lz4's blocks."""
    out.write(padding(out.tell()))
    if after == "lz4":
        out.write(bytes(4))


def _pack(items: Iterable[Item], out: IO[bytes], compressor: str, *, length: int = 0, tail: int = 0) -> None:
    """Write a segment, with as many zeros at its end as one of ``length`` bytes with a ``tail`` had."""
    sink = _Sink(out, compression.named(compressor).packer())
    for item in items:
        entry = item.entry
        if entry.magic == CRC and stat.S_ISREG(entry.mode):
            entry = replace(entry, check=sum(sum(piece) for piece in _read(item)) & LARGEST)
        sink.write(entry.pack())
        for piece in _read(item):
            sink.write(piece)
        sink.write(padding(entry.size))
    if sink.size + tail != length and length % _BLOCK == 0:
        tail = -sink.size % _BLOCK
    sink.write(bytes(tail))
    sink.close()


def _read(item: Item) -> Iterator[bytes]:
    """The data of an entry, exactly as much as it says."""
    if isinstance(item.data, bytes):
        yield item.data
        return
    left = item.entry.size
    try:
        with open(item.data, "rb", buffering=0) as file:
            while piece := file.read(PIECE):
                left -= len(piece)
                yield piece
    except OSError as error:
        raise KilnError(f"cannot read it: {error.strerror}", where=os.fspath(item.data)) from error
    if left:
        raise KilnError("changed while it was packed", where=os.fspath(item.data), hint="run the same command again")
