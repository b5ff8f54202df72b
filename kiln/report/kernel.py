"""Kernels taken apart: into what starts them and, by the linker's map, into the folders of their source."""

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path

from kiln.errors import KilnError
from kiln.report.breakdown import Part, folders, shares
from kiln.report.media import Found, Reader

# Where the kernel's package keeps what comes from each object file; a folder above the kernel's own.
OBJECTS = "lib/kiln/kernel-sizes.json"

_SETUP, _MAGIC, _PAYLOAD = 0x1F1, 0x202, 0x248
_PLAIN = {56: (b"ARM\x64", b"RSC\x05"), 0: (b"\x7fELF",)}


def objects(kernel: Path) -> dict[str, tuple[int, int]]:
    """The bytes from each object file of a kernel, plain and packed; none where its package does not tell."""
    place = kernel.resolve().parent.parent / OBJECTS
    if not place.exists():
        return {}
    try:
        return {path: (int(size), int(packed)) for path, (size, packed) in json.loads(place.read_bytes()).items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise KilnError(f"cannot read it: {error}", where=os.fspath(place), hint="doit verify") from error


def unpacked(objects: Mapping[str, tuple[int, int]]) -> list[Part]:
    """The kernel as it lies in memory, without what is zeros when it starts."""
    return folders({path: size for path, (size, _) in objects.items()})


def compressed(data: memoryview, reader: Reader) -> Found | None:
    """A bzImage. What is packed is shared out by how well each object file can be packed alone."""
    if bytes(data[_MAGIC : _MAGIC + 4]) != b"HdrS":
        return None
    setup = (data[_SETUP] + 1) * 512
    start, size = struct.unpack_from("<II", data, _PAYLOAD)
    if setup + start + size > len(data):
        return None
    found = shares(size, {path: packed for path, (_, packed) in reader.objects.items() if packed})
    packed = Part.of("compressed kernel", size, folders(found, about=True), rest="")
    return Found(parts=[Part(name="setup", size=setup), packed], rest="decompressor and padding")


def plain(data: memoryview, reader: Reader) -> Found | None:
    """A kernel that is not compressed: an Image, or a vmlinux without its symbols."""
    known = any(bytes(data[place : place + 4]) in magic for place, magic in _PLAIN.items())
    parts = unpacked(reader.objects)
    if not known or not parts or sum(part.size for part in parts) > len(data):
        return None
    return Found(parts=parts, rest="padding between sections")
