from collections.abc import Iterator

import pytest

from kiln.errors import KilnError
from kiln.initramfs.newc import CRC, PATH_MAX, TRAILER, Entry, Reader, padding
from kiln.initramfs.stream import Stream

FILE, LINK, FOLDER = 0o100644, 0o120777, 0o40755


def pack(*entries: tuple[Entry, bytes]) -> bytes:
    return b"".join(entry.pack() + data + padding(len(data)) for entry, data in entries)


def file(name: str, data: bytes, **fields: int | str | bool) -> tuple[Entry, bytes]:
    return Entry(name=name, mode=FILE, size=len(data), **fields), data  # type: ignore[arg-type]


def read(data: bytes, *, one: bool = False, piece: int = 7) -> list[tuple[Entry, bytes]]:
    """All entries with their data, from a stream that comes in small pieces."""
    stream = Stream((data[at : at + piece] for at in range(0, len(data), piece)), "test.cpio")
    reader = Reader(stream, one=one)
    return [(entry, b"".join(reader.data())) for entry in reader]


def test_an_entry_is_laid_out_as_the_kernel_documents_it() -> None:
    entry = Entry(
        name="a", ino=1, mode=FILE, uid=2, gid=3, nlink=4, mtime=5, size=6, major=7, minor=8, rmajor=9, rminor=10
    )
    fields = (1, FILE, 2, 3, 4, 5, 6, 7, 8, 9, 10, 2, 0)
    assert entry.pack() == b"070701" + b"".join(b"%08X" % field for field in fields) + b"a\0"
    assert len(Entry(name="ab").pack()) == 116 and Entry(name="ab").pack().endswith(b"ab\0\0\0\0")


def test_what_is_packed_is_read_back() -> None:
    entries = [
        (Entry(name=".", mode=FOLDER, nlink=2), b""),
        file("init", b"#!/bin/sh\n", uid=1000, mtime=0xFFFFFFFF, ino=0xFFFFFFFF),
        (Entry(name="sh", mode=LINK, size=7), b"busybox"),
        file("empty", b""),
        file("\udcff odd \n", b"x", lower=True, ino=0xABC),
        file("padded", b"x", namesize=64),
        (Entry(name=TRAILER), b""),
    ]
    assert read(pack(*entries)) == entries


def test_the_data_of_an_entry_may_be_left_unread() -> None:
    stream = Stream(iter([pack(file("a", bytes(999)), file("b", b"data"))]), "test.cpio")
    assert [entry.name for entry in Reader(stream, one=False)] == ["a", "b"]


def test_zeros_and_trailers_may_stand_anywhere() -> None:
    trailer = (Entry(name=TRAILER), b"")
    data = pack(file("a", b"1"), trailer) + bytes(512) + pack(file("b", b"2")) + bytes(8) + pack(trailer)
    assert [entry.name for entry, _ in read(data)] == ["a", TRAILER, "b", TRAILER]
    assert [entry.name for entry, _ in read(data, one=True)] == ["a", TRAILER]


def test_an_archive_needs_no_trailer_and_no_last_padding() -> None:
    assert read(pack(file("a", b"1"))[:-3]) == [file("a", b"1")]


def test_a_checksum_is_looked_at() -> None:
    good = file("a", b"\1\2\3", magic=CRC, check=6)
    assert read(pack(good)) == [good]
    with pytest.raises(KilnError, match="the checksum of 'a' is wrong"):
        read(pack(file("a", b"\1\2\4", magic=CRC, check=6)))


def broken() -> Iterator[tuple[str, bytes, str]]:
    whole = pack(file("init", b"hello"))
    yield "cut in its header", whole[:50], r"byte 0: it ends in the middle of a header"
    yield "cut in its name", whole[:112], r"byte 110: it ends in the middle of a name"
    yield "cut in its data", whole[:-6], r"it ends in 'init', 3 bytes too early"
    yield "odc", b"070707" + whole[6:], r"cpio's old portable format.*\n.*cpio -o -H newc"
    yield "no magic", b"070709" + whole[6:], r"b'070709' is no header"
    yield "no number", whole[:20] + b"ghijklmn" + whole[28:], r"not hexadecimal"
    yield "a sign", whole[:14] + b"-0000001" + whole[22:], r"not hexadecimal"
    yield "no name", whole[:94] + b"00000000" + whole[102:], r"a name of 0 bytes"
    yield "a long name", whole[:94] + b"%08X" % (PATH_MAX + 1) + whole[102:], r"a name of 4097 bytes"
    yield "a name without end", whole[:114] + b"x" + whole[115:], r"the name b'initx' has no end"
    yield "an empty name", Entry(name="").pack(), r"an entry without a name"
    yield "a long link", Entry(name="x", mode=LINK, size=5000).pack() + bytes(5000), r"leads to 5000 bytes"
    yield "a folder with data", Entry(name="x", mode=FOLDER, size=4).pack() + bytes(4), r"is no file, but has 4 bytes"
    yield "padding", whole[:-1] + b"x", r"bytes that are not zero behind 'init'"
    yield "out of line", whole + b"\0" + whole, r"not start at a multiple of 4"


@pytest.mark.parametrize(("data", "message"), [pytest.param(data, text, id=name) for name, data, text in broken()])
def test_what_is_broken_is_said_with_its_place(data: bytes, message: str) -> None:
    with pytest.raises(KilnError, match=r"test.cpio: byte \d+: ") as found:
        read(data)
    found.match(message)


def test_a_number_that_has_no_room_is_refused() -> None:
    with pytest.raises(KilnError, match="big: size 4294967296 does not fit"):
        Entry(name="big", size=1 << 32).pack()


def test_a_stream_counts_what_was_read_and_takes_it_back() -> None:
    stream = Stream(iter([b"abc", b"def\0\0\0", b"\0g"]), "test")
    assert (stream.peek(4), stream.offset) == (b"abcd", 0)
    assert (stream.some(2), stream.offset) == (b"ab", 2)
    stream.unread(b"ab")
    assert stream.read(5, "it") == b"abcde"
    stream.unread(b"XYZABCDE")
    assert (stream.read(8, "it"), stream.offset) == (b"XYZABCDE", 5)
    assert (stream.some(1), stream.zeros(), stream.peek(9), stream.offset) == (b"f", 4, b"g", 10)
    with pytest.raises(KilnError, match="byte 10: it ends in the middle of a block"):
        stream.read(2, "a block")
