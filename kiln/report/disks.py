"""Disks and programs of a PC's firmware taken apart: partition tables, and the sections of EFI programs."""

import struct
from collections.abc import Iterator

from kiln.report.media import Found, Reader

_SECTOR = 512
_PROTECTIVE = 0xEE
_REST = "partition table, boot code and alignment"


def disk(data: memoryview, reader: Reader) -> Found | None:
    """A disk with an MBR or a GPT."""
    if bytes(data[510:512]) != b"\x55\xaa":
        return None
    rows = list(_mbr(data))
    if any(kind == _PROTECTIVE for kind, *_ in rows) and bytes(data[_SECTOR : _SECTOR + 8]) == b"EFI PART":
        places = [
            (name or f"partition {number}", start, size) for number, (name, start, size) in enumerate(_gpt(data), 1)
        ]
    else:
        places = [(f"partition {number}", start, size) for number, (_, start, size) in enumerate(rows, 1)]
    if not places or any(start + size > len(data) for _, start, size in places):
        return None
    parts = [reader.part(name, data[start : start + size]) for name, start, size in places]
    return Found(parts=parts, rest=_REST)


def _mbr(data: memoryview) -> Iterator[tuple[int, int, int]]:
    """Type, start and size in bytes of each partition."""
    for place in range(446, 510, 16):
        kind, start, size = struct.unpack_from("<4xB3xII", data, place)
        if kind:
            yield kind, start * _SECTOR, size * _SECTOR


def _gpt(data: memoryview) -> Iterator[tuple[str, int, int]]:
    """Name, start and size in bytes of each partition."""
    table, count, step = struct.unpack_from("<QII", data, _SECTOR + 72)
    for place in range(table * _SECTOR, table * _SECTOR + count * step, step):
        first, last, name = struct.unpack_from("<QQ8x72s", data, place + 32)
        if any(data[place : place + 16]):
            text = name.decode("utf-16-le", errors="replace").rstrip("\0")
            yield text, first * _SECTOR, (last + 1 - first) * _SECTOR


def efi_program(data: memoryview, reader: Reader) -> Found | None:
    """A program of UEFI, such as a unified kernel image with a kernel and its initramfs in sections."""
    if bytes(data[:2]) != b"MZ" or len(data) < 64:
        return None
    header = struct.unpack_from("<I", data, 0x3C)[0]
    if bytes(data[header : header + 4]) != b"PE\0\0":
        return None
    count, optional = struct.unpack_from("<H12xH", data, header + 6)
    parts = []
    for place in range(header + 24 + optional, header + 24 + optional + 40 * count, 40):
        name, used, size, start = struct.unpack_from("<8sI4xII", data, place)
        text = name.rstrip(b"\0").decode(errors="replace")
        parts.append(reader.part(text, data[start : start + min(used, size)]))
    return Found(parts=parts, rest="headers and alignment")
