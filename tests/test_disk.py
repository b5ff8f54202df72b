import os
import re
import struct
import uuid
import zlib
from pathlib import Path
from typing import NamedTuple

import pytest

from kiln.errors import KilnError
from kiln.image.disk import ALIGNMENT, SECTOR, Kind, Partition, partition_guid, partuuid, starts, write_gpt, write_mbr
from kiln.sandbox import Mount, Sandbox

MIB = 1 << 20
GUID = uuid.UUID("0c3a6e0e-5f4c-4d5e-8f0a-1b2c3d4e5f60")


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


def parts_of(contents: list[Path]) -> list[Partition]:
    return [
        Partition(content=contents[0], kind="efi", bootable=True, name="boot"),
        Partition(content=contents[1], kind="linux", name="wurzel ü"),
    ]


def gpt_of(contents: list[Path]) -> bytes:
    path = contents[0].with_name("gpt.img")
    write_gpt(path, parts_of(contents), guid=GUID)
    return path.read_bytes()


@pytest.fixture
def inside(checkers: Sandbox, contents: list[Path]) -> Sandbox:
    """Tools that others wrote, with the disks below /work."""
    return checkers.with_mounts([Mount(source=contents[0].parent, target="/work")])


def disk_of(contents: list[Path]) -> bytes:
    path = contents[0].with_name("disk.img")
    parts = [Partition(content=contents[0], kind="fat16", bootable=True), Partition(content=contents[1], kind="linux")]
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


@pytest.mark.parametrize(("kind", "code"), [("fat16", 0x0E), ("linux", 0x83), ("efi", 0xEF)])
def test_each_kind_has_its_code(contents: list[Path], kind: Kind, code: int) -> None:
    path = contents[0].with_name("disk.img")
    write_mbr(path, [Partition(content=contents[0], kind=kind)], signature=1, boot_code=b"")
    assert table(path.read_bytes())[0].kind == code


def test_a_core_fills_the_sectors_before_the_first_partition_and_no_more(contents: list[Path]) -> None:
    path, core = contents[0].with_name("disk.img"), b"core" * (2047 * 128)
    write_mbr(path, parts_of(contents), signature=1, boot_code=b"", core=core)
    disk = path.read_bytes()
    assert disk[512:MIB] == core and disk[MIB:].startswith(b"BBBB")
    with pytest.raises(KilnError, match=r"disk\.img: .* 1 bytes too big to fit before the first partition\n"):
        write_mbr(path, parts_of(contents), signature=1, boot_code=b"", core=core + b"!")


def test_both_copies_of_the_guid_table_say_the_same(contents: list[Path]) -> None:
    disk = gpt_of(contents)
    total = len(disk) // SECTOR
    assert total == 10 * ALIGNMENT
    assert table(disk)[0] == Entry(0, b"\0\2\0", 0xEE, b"\xff\xff\xff", 1, total - 1)
    assert disk[: 446 + 16] == bytes(446) + disk[446 : 446 + 16]
    entries = disk[2 * SECTOR : 34 * SECTOR]
    assert disk[-33 * SECTOR : -SECTOR] == entries
    for own, other, place in ((1, total - 1, 2), (total - 1, 1, total - 33)):
        header = disk[own * SECTOR : (own + 1) * SECTOR]
        assert header[:16] == b"EFI PART" + bytes.fromhex("00000100 5c000000") and not header[92:].strip(b"\0")
        blank = header[:16] + bytes(4) + header[20:92]
        assert struct.unpack_from("<II", header, 16) == (zlib.crc32(blank), 0)
        assert struct.unpack_from("<4Q", header, 24) == (own, other, 34, total - 34)
        assert uuid.UUID(bytes_le=header[56:72]) == GUID
        assert struct.unpack_from("<QIII", header, 72) == (place, 128, 128, zlib.crc32(entries))


def test_the_partitions_are_between_the_tables(contents: list[Path]) -> None:
    disk = gpt_of(contents)
    boot, root = (path.read_bytes() for path in contents)
    assert disk[34 * SECTOR : MIB] == bytes(MIB - 34 * SECTOR)
    assert disk[MIB : 3 * MIB] == boot.ljust(2 * MIB, b"\0")
    assert disk[3 * MIB : -33 * SECTOR] == root.ljust(7 * MIB - 33 * SECTOR, b"\0")


@pytest.mark.sandbox
def test_tools_of_others_find_no_fault_in_a_guid_table(contents: list[Path], inside: Sandbox) -> None:
    gpt_of(contents)
    assert b"No problems found" in inside.run(["sgdisk", "-v", "/work/gpt.img"])
    assert b"No errors detected" in inside.run(["sfdisk", "--verify", "/work/gpt.img"])
    dump = inside.run(["sfdisk", "--dump", "/work/gpt.img"]).decode()
    first, second = re.findall(r"^/work/gpt.img\d : start= *(\d+), size= *(\d+), type=(\S+), (.*)$", dump, re.MULTILINE)
    esp, linux = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
    guids = [partition_guid(GUID, index).upper() for index in (1, 2)]
    assert first == ("2048", "2049", esp, f'uuid={guids[0]}, name="boot", attrs="LegacyBIOSBootable"')
    assert second[:3] == (str(3 * ALIGNMENT), str(5 * ALIGNMENT + 1), linux) and f"uuid={guids[1]}" in second[3]
    assert f"label-id: {GUID}".upper() in dump.upper()
    assert "'wurzel ü'" in inside.run(["sgdisk", "-i", "2", "/work/gpt.img"]).decode()


@pytest.mark.sandbox
def test_tools_of_others_find_no_fault_in_an_mbr(contents: list[Path], inside: Sandbox) -> None:
    disk_of(contents)
    assert b"No errors detected" in inside.run(["sfdisk", "--verify", "/work/disk.img"])
    dump = inside.run(["sfdisk", "--dump", "/work/disk.img"]).decode()
    assert "label-id: 0x1234abcd" in dump
    assert re.search(r"disk.img1 : start= *2048, size= *2049, type=e, bootable$", dump, re.MULTILINE)
    assert re.search(r"disk.img2 : start= *6144, size= *10241, type=83$", dump, re.MULTILINE)
    assert b"partition 1 : ID=0xe, active" in inside.run(["file", "/work/disk.img"])


def test_the_disk_is_the_same_every_time(contents: list[Path], tmp_path: Path) -> None:
    first = disk_of(contents), gpt_of(contents)
    (tmp_path / "elsewhere").mkdir()
    umask = os.umask(0o077)
    try:
        # The same bytes, none of them in a hole.
        copies = [tmp_path / "elsewhere" / path.name for path in contents]
        for path, copy in zip(contents, copies, strict=True):
            copy.write_bytes(path.read_bytes())
        assert (disk_of(copies), gpt_of(copies)) == first
    finally:
        os.umask(umask)


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
    part = Partition(content=contents[0], kind="linux")
    with pytest.raises(KilnError, match=f"{count} partitions"):
        write_mbr(contents[0].with_name("disk.img"), [part] * count, signature=1, boot_code=b"")


def test_more_than_2_tib_are_refused(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    part = Partition(content=tmp_path / "huge", kind="linux")
    with pytest.raises(KilnError, match="2 TiB"):
        write_mbr(tmp_path / "disk.img", [part, part], signature=1, boot_code=b"")


def test_128_partitions_are_the_most_of_a_guid_table(contents: list[Path]) -> None:
    path, part = contents[0].with_name("gpt.img"), Partition(content=contents[0], kind="linux")
    write_gpt(path, [part] * 128, guid=GUID)
    assert path.stat().st_size == (1 + 2 * 128 + 1) * MIB
    with pytest.raises(KilnError, match=r"gpt\.img: 129 partitions"):
        write_gpt(path, [part] * 129, guid=GUID)


def test_a_name_has_36_characters_of_utf_16(contents: list[Path]) -> None:
    path = contents[0].with_name("gpt.img")
    for name in ("x" * 36, "\N{DECIDUOUS TREE}" * 18):
        write_gpt(path, [Partition(content=contents[0], kind="linux", name=name)], guid=GUID)
        assert path.read_bytes()[2 * SECTOR + 56 :].startswith(name.encode("utf-16-le"))
        with pytest.raises(KilnError, match="has more than 36 characters"):
            write_gpt(path, [Partition(content=contents[0], kind="linux", name=name + "x")], guid=GUID)


def test_partuuid_is_what_the_kernel_makes_of_the_signature() -> None:
    assert partuuid(0xCAFE0001, 2) == "cafe0001-02"
    assert partuuid(0x1, 1) == "00000001-01"


def test_partition_guids_follow_from_the_disks() -> None:
    found = {partition_guid(guid, index) for guid in (GUID, uuid.UUID(int=1)) for index in (1, 2)}
    assert len(found) == 4
    assert all(str(uuid.UUID(word)) == word for word in found)
    assert partition_guid(GUID, 1) == partition_guid(uuid.UUID(str(GUID)), 1)
