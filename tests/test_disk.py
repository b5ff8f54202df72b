import os
import struct
from pathlib import Path
from typing import NamedTuple

import pytest

from kiln.errors import KilnError
from kiln.image.disk import ALIGNMENT, SECTOR, Partition, partuuid, starts, write_mbr

MIB = 1 << 20


class Entry(NamedTuple):
    """A line of the partition table."""

    status: int
    first_chs: bytes
    kind: int
    last_chs: bytes
    start: int
    length: int


def table(disk: bytes) -> list[Entry]:
    assert disk[510:512] == b"\x55\xaa"
    return [Entry(*struct.unpack_from("<B3sB3sII", disk, 446 + 16 * index)) for index in range(4)]


@pytest.fixture
def contents(tmp_path: Path) -> list[Path]:
    boot, root = tmp_path / "boot", tmp_path / "root"
    boot.write_bytes(b"B" * (MIB + SECTOR))
    root.write_bytes(b"R" * 100 + bytes(5 * MIB) + b"r" * 412)
    return [boot, root]


def disk_of(contents: list[Path]) -> bytes:
    path = contents[0].with_name("disk.img")
    parts = [Partition(content=contents[0], kind=0x0E, bootable=True), Partition(content=contents[1], kind=0x83)]
    write_mbr(path, parts, signature=0x1234ABCD, boot_code=b"\xfa\x31" * 220)
    return path.read_bytes()


def test_the_table_says_where_each_partition_is(contents: list[Path]) -> None:
    disk = disk_of(contents)
    lba = b"\xfe\xff\xff"
    assert table(disk) == [
        Entry(0x80, lba, 0x0E, lba, 2048, 2049),
        Entry(0x00, lba, 0x83, lba, 3 * ALIGNMENT, 5 * ALIGNMENT + 1),
        Entry(0, b"\0\0\0", 0, b"\0\0\0", 0, 0),
        Entry(0, b"\0\0\0", 0, b"\0\0\0", 0, 0),
    ]
    assert disk[:440] == b"\xfa\x31" * 220
    assert disk[440:446] == bytes.fromhex("cdab34120000")


def test_the_partitions_are_in_it_and_nothing_else(contents: list[Path]) -> None:
    disk = disk_of(contents)
    assert len(disk) == 9 * MIB
    boot, root = (path.read_bytes() for path in contents)
    assert disk[512:MIB] == bytes(MIB - 512)
    assert disk[MIB : 3 * MIB] == boot.ljust(2 * MIB, b"\0")
    assert disk[3 * MIB :] == root.ljust(6 * MIB, b"\0")


def test_zeros_take_no_room_and_an_older_disk_leaves_nothing(contents: list[Path]) -> None:
    path = contents[0].with_name("disk.img")
    path.write_bytes(b"old" * 5 * MIB)
    assert b"old" not in disk_of(contents)
    if os.statvfs(path).f_bsize < MIB:
        assert path.stat().st_blocks * 512 < 6 * MIB


def test_starts_are_on_whole_mebibytes() -> None:
    assert starts([1, MIB, MIB + 1, 0]) == [2048, 4096, 6144, 10240]


@pytest.mark.parametrize("count", [5, 9])
def test_more_than_four_partitions_are_refused(contents: list[Path], count: int) -> None:
    part = Partition(content=contents[0], kind=0x83)
    with pytest.raises(KilnError, match=f"{count} partitions"):
        write_mbr(contents[0].with_name("disk.img"), [part] * count, signature=1, boot_code=b"")


def test_more_than_2_tib_are_refused(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    part = Partition(content=tmp_path / "huge", kind=0x83)
    with pytest.raises(KilnError, match="2 TiB"):
        write_mbr(tmp_path / "disk.img", [part, part], signature=1, boot_code=b"")


def test_partuuid_is_what_the_kernel_makes_of_the_signature() -> None:
    assert partuuid(0xCAFE0001, 2) == "cafe0001-02"
    assert partuuid(0x1, 1) == "00000001-01"
