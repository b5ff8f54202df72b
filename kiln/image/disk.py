"""Disks with a partition table, classic (MBR) or GUID (GPT); both start partitions on whole MiB."""

import struct
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kiln.errors import KilnError

Kind = Literal["fat16", "linux", "efi"]

SECTOR = 512
# Where the first partition starts and what all are aligned to, in sectors: 1 MiB.
ALIGNMENT = 2048

_CHUNK = ALIGNMENT * SECTOR
_BOOT_CODE = 440
# Cylinder, head and sector of a partition that is to be found by its sector number (LBA).
_USE_LBA = b"\xfe\xff\xff"
_MBR_MOST = 4
_MBR_TYPES: dict[Kind, int] = {"fat16": 0x0E, "linux": 0x83, "efi": 0xEF}
# A partition of all that there is, for those who know no GPT; its sectors follow.
_PROTECTIVE = b"\0\0\2\0\xee\xff\xff\xff"

_GPT_MOST = 128
_GPT_TYPES: dict[Kind, uuid.UUID] = {
    "fat16": uuid.UUID("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"),
    "linux": uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4"),
    "efi": uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b"),
}
_GPT_ENTRY = struct.Struct("<16s16sQQQ72s")
_GPT_HEADER = struct.Struct("<8s4sIIIQQQQ16sQIII")
_GPT_TABLE = _GPT_MOST * _GPT_ENTRY.size // SECTOR
_BIOS_BOOTABLE = 1 << 2
_LONGEST_NAME = 36


@dataclass(frozen=True, kw_only=True)
class Partition:
    """``content`` is the partition's image; ``bootable`` is for a BIOS, and only a GPT keeps the ``name``."""

    content: Path
    kind: Kind
    bootable: bool = False
    name: str = ""


def write_mbr(
    path: Path, partitions: Sequence[Partition], *, signature: int, boot_code: bytes, core: bytes = b""
) -> None:
    """Write a disk of exactly its partitions, each rounded up to 1 MiB; blocks of zeros stay holes.

    ``signature`` (32 bits, not 0) is the disk's identity, ``boot_code`` up to 440 bytes, ``core`` is what it loads
    from the sectors before the first partition. Raises KilnError for more than 4 partitions or 2 TiB, and for a
    ``core`` that does not fit there.
    """
    assert 0 < signature < 2**32 and len(boot_code) <= _BOOT_CODE
    if len(partitions) > _MBR_MOST:
        raise KilnError(f"{len(partitions)} partitions, and an MBR holds {_MBR_MOST}", where=path.name)
    excess = len(core) - (ALIGNMENT - 1) * SECTOR
    if excess > 0:
        hint = "build fewer modules into it"
        message = f"the boot loader's core is {excess} bytes too big to fit before the first partition"
        raise KilnError(message, where=path.name, hint=hint)
    first, total = _layout(partitions)
    if total >= 2**32:
        raise KilnError(f"{total * SECTOR} bytes are more than an MBR can address (2 TiB)", where=path.name)
    table = b""
    for partition, start in zip(partitions, first, strict=True):
        status, kind, length = 0x80 * partition.bootable, _MBR_TYPES[partition.kind], _sectors(partition)
        table += struct.pack("<B3sB3sII", status, _USE_LBA, kind, _USE_LBA, start, length)
    _write(path, partitions, first, total, head=_mbr(table, signature, boot_code) + core)


def write_gpt(path: Path, partitions: Sequence[Partition], *, guid: uuid.UUID) -> None:
    """Write a disk as ``write_mbr`` does, with a MiB more for the backup of the table at its end.

    ``guid`` is the disk's identity, from which those of its partitions follow. Raises KilnError for more than 128
    partitions, and for names of more than 36 characters.
    """
    if len(partitions) > _GPT_MOST:
        raise KilnError(f"{len(partitions)} partitions, and a GPT holds {_GPT_MOST}", where=path.name)
    first, end = _layout(partitions)
    total = end + ALIGNMENT
    table = b""
    for index, (partition, start) in enumerate(zip(partitions, first, strict=True), start=1):
        name = partition.name.encode("utf-16-le")
        if len(name) > 2 * _LONGEST_NAME:
            message = f"the partition name {partition.name!r} has more than {_LONGEST_NAME} characters"
            raise KilnError(message, where=path.name)
        kind, own = _GPT_TYPES[partition.kind].bytes_le, uuid.UUID(partition_guid(guid, index)).bytes_le
        flags = _BIOS_BOOTABLE * partition.bootable
        table += _GPT_ENTRY.pack(kind, own, start, start + _sectors(partition) - 1, flags, name)
    table = table.ljust(_GPT_TABLE * SECTOR, b"\0")
    protective = _PROTECTIVE + struct.pack("<II", 1, min(total - 1, 2**32 - 1))
    head = _mbr(protective) + _gpt_header(guid, table, own=1, other=total - 1, total=total) + table
    tail = table + _gpt_header(guid, table, own=total - 1, other=1, total=total)
    _write(path, partitions, first, total, head=head, tail=tail)


def partuuid(signature: int, index: int) -> str:
    """What ``root=PARTUUID=`` calls partition ``index`` of an MBR, counted from 1."""
    return f"{signature:08x}-{index:02x}"


def partition_guid(guid: uuid.UUID, index: int) -> str:
    """What ``root=PARTUUID=`` calls partition ``index`` of a GPT, counted from 1."""
    return str(uuid.uuid5(guid, str(index)))


def starts(sizes: Sequence[int]) -> list[int]:
    """The first sector of each partition, for sizes in bytes."""
    found, start = [], ALIGNMENT
    for size in sizes:
        found.append(start)
        start += -(-size // _CHUNK) * ALIGNMENT
    return found


def _layout(partitions: Sequence[Partition]) -> tuple[list[int], int]:
    """The first sector of each partition, and that after them all."""
    *first, end = starts([*(partition.content.stat().st_size for partition in partitions), 0])
    return first, end


def _sectors(partition: Partition) -> int:
    return -(-partition.content.stat().st_size // SECTOR)


def _mbr(table: bytes, signature: int = 0, boot_code: bytes = b"") -> bytes:
    identity = struct.pack("<IH", signature, 0)
    return boot_code.ljust(_BOOT_CODE, b"\0") + identity + table.ljust(16 * _MBR_MOST, b"\0") + b"\x55\xaa"


def _gpt_header(guid: uuid.UUID, table: bytes, *, own: int, other: int, total: int) -> bytes:
    """The header at sector ``own``, whose table is behind it at the disk's start and before it at its end."""
    place = own + 1 if own < other else own - _GPT_TABLE
    usable = (_GPT_TABLE + 2, total - _GPT_TABLE - 2)
    entries = (place, _GPT_MOST, _GPT_ENTRY.size, zlib.crc32(table))

    def header(checksum: int) -> bytes:
        words = (b"EFI PART", b"\0\0\1\0", _GPT_HEADER.size, checksum, 0, own, other, *usable, guid.bytes_le)
        return _GPT_HEADER.pack(*words, *entries)

    return header(zlib.crc32(header(0))).ljust(SECTOR, b"\0")


def _write(
    path: Path, partitions: Sequence[Partition], first: Sequence[int], total: int, *, head: bytes, tail: bytes = b""
) -> None:
    with path.open("wb") as disk:
        disk.write(head)
        for partition, start in zip(partitions, first, strict=True):
            disk.seek(start * SECTOR)
            with partition.content.open("rb") as content:
                while chunk := content.read(_CHUNK):
                    if chunk.strip(b"\0"):
                        disk.write(chunk)
                    else:
                        disk.seek(len(chunk), 1)
        disk.truncate(total * SECTOR)
        disk.seek(-len(tail), 2)
        disk.write(tail)
