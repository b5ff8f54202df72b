"""Archives that mean harm: whatever comes, it is told as a mistake or unpacked, and nothing outside is touched."""

import gzip
import os
import random
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from kiln.errors import KilnError
from kiln.initramfs import listing, packing
from kiln.initramfs.folder import unpack
from kiln.initramfs.view import View
from tests.initramfs import PACKERS, archive, device, file, folder, joined, pack, symlink

ROOT = Path(__file__).parent.parent
ROUNDS = 2000
MOST = 1 << 20

EASY = ["a", "b", "c", "a/b", "b/c", "./c", "/d"]
NAMES = ["..", "../x", "a/../b", "/", ".", "", "a//b", "./a/", "a/b/c", "x" * 256, "d/" * 20 + "e"]
TARGETS = ["b", "a", "..", "/", "/etc", "../../..", ".", "a/b", "", "x" * 4096]
NUMBERS = [
    b"00000000",
    b"00000001",
    b"FFFFFFFF",
    b"7FFFFFFF",
    b"80000000",
    b"00001001",
    b"-0000001",
    b"0x000001",
    b"        ",
]
MODES = [0o100644, 0o106777, 0o100000, 0o40755, 0o41000, 0o120777, 0o20600, 0o60600, 0o10600, 0o140755, 0o170000]


def valid() -> list[bytes]:
    data = archive(
        folder("."), folder("dev"), device("dev/null", stat.S_IFCHR | 0o666), symlink("sh", "bin/sh"),
        file("init", b"#!/bin/sh\n" * 30), folder("bin"), file("bin/sh", os.urandom(300), ino=4, nlink=2),
        file("bin/ash", ino=4, nlink=2),
    )  # fmt: skip
    return [joined([data, packer(data), bytes(4), data]) for packer in PACKERS.values()]


def random_archive(dice: random.Random) -> bytes:
    """Entries that fit together badly."""
    parts = []
    for _ in range(dice.randrange(1, 9)):
        mode, name = dice.choice(MODES), dice.choice(EASY if dice.random() < 0.9 else NAMES)
        links = {"ino": dice.randrange(3), "nlink": dice.randrange(4)}
        data = dice.randbytes(dice.randrange(9)) if stat.S_ISREG(mode) else b""
        if stat.S_ISLNK(mode):
            parts.append(symlink(name, dice.choice(TARGETS)))
        else:
            parts.append(file(name, data, mode=mode, **links))
    return pack(*parts)


def mutated(data: bytes, dice: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(dice.randrange(1, 5)):
        at = dice.randrange(len(found) or 1)
        match dice.randrange(6):
            case 0:
                del found[at:]
            case 1:
                found[at : at + 1] = bytes([dice.randrange(256)])
            case 2:
                del found[at : at + dice.randrange(1, 200)]
            case 3:
                found[at:at] = found[: dice.randrange(300)]
            case 4:  # a number of the first header
                field = 6 + 8 * dice.randrange(13)
                found[field : field + 8] = dice.choice(NUMBERS)
            case _:
                found[at : at + 8] = dice.choice(NUMBERS)
    return bytes(found)


def cases() -> Iterator[bytes]:
    dice, good = random.Random(20260101), valid()
    for _ in range(ROUNDS):
        yield random_archive(dice) if dice.random() < 0.4 else mutated(dice.choice(good), dice)


def test_whatever_comes_is_told_or_unpacked(tmp_path: Path) -> None:
    """Everything is done with each of them that a user may do."""
    place, tree = tmp_path / "place", tmp_path / "place/in/tree"
    path = place / "a.cpio"
    told = done = 0
    for data in cases():
        place.mkdir()
        path.write_bytes(data)
        with suppress(KilnError):
            for line in listing.lines(path):
                assert line.isprintable()
        with suppress(KilnError):
            list(View.read(path).nodes())
        try:
            unpack(path, tree, most=MOST)
        except KilnError as error:
            told += 1
            assert error.where and "Traceback" not in str(error)
            assert not list(place.glob("in/*"))
        else:
            done += 1
            for found in tree.rglob("*"):
                assert stat.S_IFMT(found.lstat().st_mode) in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)
                assert not found.lstat().st_mode & 0o7000
            packing.repack(tree, place / "again")
            list(listing.lines(place / "again"))
        assert {*os.listdir(tmp_path)} == {"place"} and {*os.listdir(place)} <= {"a.cpio", "in", "again"}
        shutil.rmtree(place)
    assert told > ROUNDS / 10 and done > ROUNDS / 10


BOMB = """
import resource, sys
from pathlib import Path
from kiln.initramfs import listing, packing
from kiln.initramfs.folder import unpack
for _ in listing.lines(Path(sys.argv[1])):
    pass
unpack(Path(sys.argv[1]), Path(sys.argv[2]), most=4 << 30)
packing.repack(Path(sys.argv[2]), Path(sys.argv[3]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_a_gigabyte_of_zeros_takes_neither_memory_nor_disk(tmp_path: Path) -> None:
    size = 1 << 30
    with gzip.open(tmp_path / "bomb", "wb") as out:
        out.write(file("zeros", size=size)[0].pack())
        for _ in range(size >> 20):
            out.write(bytes(1 << 20))
    words = [sys.executable, "-c", BOMB, *(os.fspath(tmp_path / name) for name in ("bomb", "tree", "again"))]
    run = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(run.stdout) < 300_000
    found = (tmp_path / "tree/1/zeros").stat()
    assert found.st_size == size and found.st_blocks * 512 < 1_000_000
    assert (tmp_path / "again").stat().st_size < 10_000_000
