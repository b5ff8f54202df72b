"""Disks with a classic partition table (MBR)."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kiln.errors import KilnError

SECTOR = 512
# Where the first partition starts and what all are aligned to, in sectors: 1 MiB.
ALIGNMENT = 2048

_BOOT_CODE = 440
_MOST = 4
_CHUNK = ALIGNMENT * SECTOR
# Cylinder, head and sector of a partition that is to be found by its sector number (LBA).
_USE_LBA = b"\xfe\xff\xff"


@dataclass(frozen=True, kw_only=True)
class Partition:
    """``content`` is the partition's image, ``kind`` its type byte (0x0e FAT16, 0x83 Linux)."""

    content: Path
    kind: int
    bootable: bool = False


def write_mbr(path: Path, partitions: Sequence[Partition], *, signature: int, boot_code: bytes) -> None:
    """Write a disk of exactly its partitions, each rounded up to 1 MiB; blocks of zeros stay holes.

    ``signature`` (32 bits, not 0) is the disk's identity, ``boot_code`` up to 440 bytes.
    Raises KilnError for more than 4 partitions or 2 TiB.
    """
    assert 0 < signature < 2**32 and len(boot_code) <= _BOOT_CODE
    if len(partitions) > _MOST:
        raise KilnError(f"{len(partitions)} partitions, and an MBR holds {_MOST}", where=path.name)
    sizes = [partition.content.stat().st_size for partition in partitions]
    offsets = starts(sizes)
    total = starts([*sizes, 0])[-1]
    if total >= 2**32:
        raise KilnError(f"{total * SECTOR} bytes are more than an MBR can address (2 TiB)", where=path.name)
    table = b"".join(
        struct.pack(
            "<B3sB3sII", 0x80 * partition.bootable, _USE_LBA, partition.kind, _USE_LBA, start, -(-size // SECTOR)
        )
        for partition, start, size in zip(partitions, offsets, sizes, strict=True)
    )
    with path.open("wb") as disk:
        disk.write(boot_code.ljust(_BOOT_CODE, b"\0"))
        disk.write(struct.pack("<IH", signature, 0) + table.ljust(16 * _MOST, b"\0") + b"\x55\xaa")
        for partition, start in zip(partitions, offsets, strict=True):
            disk.seek(start * SECTOR)
            with partition.content.open("rb") as content:
                while chunk := content.read(_CHUNK):
                    if chunk.strip(b"\0"):
                        disk.write(chunk)
                    else:
                        disk.seek(len(chunk), 1)
        disk.truncate(total * SECTOR)


def starts(sizes: Sequence[int]) -> list[int]:
    """The first sector of each partition, for sizes in bytes."""
    found, start = [], ALIGNMENT
    for size in sizes:
        found.append(start)
        start += -(-size // _CHUNK) * ALIGNMENT
    return found


def partuuid(signature: int, index: int) -> str:
    """What ``root=PARTUUID=`` calls partition ``index``, counted from 1."""
    return f"{signature:08x}-{index:02x}"
