"""The one place that knows the entries of a "newc" archive, with checksums (070702) or without (070701)."""

import stat
from collections.abc import Iterator
from dataclasses import dataclass

from kiln.errors import KilnError
from kiln.initramfs.stream import PIECE, Stream

PLAIN, CRC = "070701", "070702"
TRAILER = "TRAILER!!!"
LARGEST = 0xFFFFFFFF
# What the kernel takes of a name or of where a link leads, in bytes; it leaves longer ones out without a word.
PATH_MAX = 4096

_HEADER = 110
_FIELDS = (
    "ino", "mode", "uid", "gid", "nlink", "mtime", "size", "major", "minor", "rmajor", "rminor", "namesize", "check",
)  # fmt: skip
_ODC = b"070707"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One header. ``mode`` has the type, too; ``mtime`` is in seconds, ``size`` in bytes of what follows the name.

    ``major`` and ``minor`` are those of the disk that it came from. ``namesize`` counts the bytes of the name, where
    more than one zero ends it; ``lower`` tells of hexadecimal digits in small letters.
    """

    name: str
    ino: int = 0
    mode: int = 0
    uid: int = 0
    gid: int = 0
    nlink: int = 1
    mtime: int = 0
    size: int = 0
    major: int = 0
    minor: int = 0
    rmajor: int = 0
    rminor: int = 0
    check: int = 0
    namesize: int = 0
    magic: str = PLAIN
    lower: bool = False

    @property
    def is_trailer(self) -> bool:
        return self.name == TRAILER

    @property
    def kind(self) -> int:
        """The type bits of the mode."""
        return stat.S_IFMT(self.mode)

    @property
    def link(self) -> tuple[int, int, int, int] | None:
        """What the names of one file have in common; None for a file of one name."""
        many = self.nlink >= 2 and self.kind not in (stat.S_IFDIR, stat.S_IFLNK)
        return (self.ino, self.major, self.minor, self.kind) if many else None

    def pack(self) -> bytes:
        """The header, the name and its padding. Raises KilnError for a number that has no room."""
        name = self.name.encode(errors="surrogateescape") + b"\0"
        name = name.ljust(self.namesize, b"\0")
        numbers = [len(name) if field == "namesize" else getattr(self, field) for field in _FIELDS]
        for field, number in zip(_FIELDS, numbers, strict=True):
            if not 0 <= number <= LARGEST:
                raise KilnError(f"{field} {number} does not fit into a cpio archive", where=self.name)
        header = self.magic + "".join([f"{number:08X}" for number in numbers])
        data = (header.lower() if self.lower else header).encode() + name
        return data + padding(len(data))


def padding(size: int) -> bytes:
    """The zeros that follow ``size`` bytes."""
    return bytes(-size % 4)


class Reader:
    """Goes through the entries of a stream, as the kernel does: zeros may stand between them, trailers anywhere.

    Each entry's data is read by ``data`` before the next entry, or skipped. With ``one``, a trailer is the end.
    Raises KilnError where the kernel would give up, or would leave an entry out.
    """

    def __init__(self, stream: Stream, *, one: bool) -> None:
        self._stream = stream
        self._one = one
        self._entry = Entry(name="")
        self._left = 0
        self.gap = 0
        """The zeros in front of the entry, or behind the last one, that no alignment asks for."""

    def __iter__(self) -> Iterator[Entry]:
        stream = self._stream
        while True:
            for _ in self.data():
                pass
            self._align(self._entry.size)
            self.gap = stream.zeros()
            start = stream.peek(6)
            if (self._one and self._entry.is_trailer) or not start or start[:1] != b"0":
                return
            if stream.offset % 4:
                raise stream.error("an entry does not start at a multiple of 4", hint="kernels refuse it")
            self._entry = self._header()
            self._left = self._entry.size
            yield self._entry

    def data(self) -> Iterator[bytes]:
        """The bytes of the entry that came last."""
        check = self._left == self._entry.size
        total = 0
        while self._left:
            piece = self._stream.some(min(self._left, PIECE))
            if not piece:
                problem = f"it ends in {self._entry.name!r}, {self._left} bytes too early"
                raise self._stream.error(problem, hint="it was cut short: copy or make it again")
            self._left -= len(piece)
            if self._entry.magic == CRC:
                total += sum(piece)
            yield piece
        entry = self._entry
        if (
            check
            and entry.magic == CRC
            and entry.kind == stat.S_IFREG
            and entry.size
            and total & LARGEST != entry.check
        ):
            raise self._stream.error(f"the checksum of {entry.name!r} is wrong", hint="copy or make it again")

    def _header(self) -> Entry:
        stream = self._stream
        magic = stream.peek(6).decode(errors="replace")
        if magic not in (PLAIN, CRC):
            raise foreign(stream)
        header = stream.read(_HEADER, "a header")
        try:
            if not header.isalnum():
                raise ValueError
            fields = {name: int(header[6 + 8 * i : 14 + 8 * i], 16) for i, name in enumerate(_FIELDS)}
        except ValueError:
            stream.unread(header)
            raise stream.error("a header with a number that is not hexadecimal", hint=_DAMAGED) from None
        namesize = fields["namesize"]
        if not 0 < namesize <= PATH_MAX:
            raise stream.error(f"a name of {namesize} bytes; kernels take 1 to {PATH_MAX}", hint=_DAMAGED)
        raw = stream.read(namesize, "a name")
        self._align(_HEADER + namesize)
        name = raw.partition(b"\0")[0]
        if not raw.endswith(b"\0"):
            raise stream.error(f"the name {name!r} has no end", hint=_DAMAGED)
        if not name:
            raise stream.error("an entry without a name", hint=_DAMAGED)
        fields["namesize"] = 0 if len(name) + 1 == namesize else namesize
        lower = any(97 <= byte <= 102 for byte in header)
        entry = Entry(name=name.decode(errors="surrogateescape"), magic=magic, lower=lower, **fields)
        if entry.kind == stat.S_IFLNK and entry.size > PATH_MAX:
            raise stream.error(f"the link {entry.name!r} leads to {entry.size} bytes", hint=_DAMAGED)
        if entry.size and entry.kind not in (stat.S_IFREG, stat.S_IFLNK):
            raise stream.error(f"{entry.name!r} is no file, but has {entry.size} bytes of data", hint=_DAMAGED)
        return entry

    def _align(self, size: int) -> None:
        # The last padding may be cut off.
        zeros = self._stream.peek(-size % 4)
        if zeros.strip(b"\0"):
            raise self._stream.error(f"bytes that are not zero behind {self._entry.name!r}", hint=_DAMAGED)
        if zeros:
            self._stream.some(len(zeros))


_DAMAGED = "it is damaged: copy or make it again"


def foreign(stream: Stream) -> KilnError:
    """What to say of bytes that start no entry."""
    start = stream.peek(len(_ODC))
    if start == _ODC:
        message = "this is cpio's old portable format, which no kernel unpacks"
        return stream.error(message, hint="make it by `cpio -o -H newc`")
    return stream.error(f"{start!r} is no header of a cpio archive", hint=_DAMAGED)
