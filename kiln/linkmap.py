"""Linker maps: how much of a linked program comes from which object file, and how well that can be packed.

Runs by itself inside the sandbox too (``linkmap.py PROGRAM MAP JSON``), so it needs nothing but Python.
"""

import json
import os
import re
import struct
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

# What the linker puts between objects.
ALIGNMENT = "(alignment)"

_HEADING = "Linker script and memory map"
_SECTION = re.compile(r"([^\s*(]\S*)\s+0x[0-9a-f]+\s+0x[0-9a-f]+(?:\s+load address .*)?")
_INPUT = re.compile(r" (?!\*fill\*)\S+\s+(0x[0-9a-f]+)\s+(0x[0-9a-f]+) (\S+)")
_MEMBER = re.compile(r"[^/]*\((.+)\)")
_IN_MEMORY, _ZEROS = 2, 8


def objects(program: bytes, lines: Iterable[str]) -> dict[str, tuple[int, int]]:
    """The bytes in a 64 bit ELF program from each object file, by its path, and those that zlib makes of them.

    ``lines`` are the linker's map of it. ALIGNMENT has what is left of the sections.
    """
    sections = _sections(program)
    pieces: dict[str, list[bytes]] = {}
    address = start = 0
    for line in _whole(lines):
        section, part = _SECTION.fullmatch(line), _INPUT.fullmatch(line)
        if not line.startswith(" "):
            address, start, _ = sections.get(section[1], (0, 0, 0)) if section else (0, 0, 0)
        elif part and start:
            place, size = start + int(part[1], 16) - address, int(part[2], 16)
            pieces.setdefault(_MEMBER.sub(r"\1", part[3]), []).append(program[place : place + size])
    contents = {path: b"".join(found) for path, found in sorted(pieces.items())}
    sizes = {path: (len(content), len(zlib.compress(content))) for path, content in contents.items() if content}
    left = sum(size for _, _, size in sections.values()) - sum(size for size, _ in sizes.values())
    return {ALIGNMENT: (max(left, 0), 0)} | sizes


def _sections(program: bytes) -> dict[str, tuple[int, int, int]]:
    """Address, place in the file and size of each section that is loaded from it."""
    table, step, count, names = struct.unpack_from("<40xQ10xHHH", program)
    rows = [struct.unpack_from("<IIQQQQ", program, place) for place in range(table, table + step * count, step)]
    found = {}
    for name, kind, flags, address, start, size in rows:
        place = rows[names][4] + name
        if flags & _IN_MEMORY and kind != _ZEROS:
            found[program[place : program.index(b"\0", place)].decode()] = (address, start, size)
    return found


def _whole(lines: Iterable[str]) -> Iterator[str]:
    """The lines of the memory map; names that are too long for a line together with what follows."""
    lines = iter(lines)
    for line in lines:
        if line.startswith(_HEADING):
            break
    name = ""
    for line in map(str.rstrip, lines):
        joined = f"{name} {line.strip()}" if name and line.startswith(" " * 16) else line
        name = line if re.fullmatch(r" ?[^\s*(]\S*", line) else ""
        if joined and not name:
            yield joined


if __name__ == "__main__":
    program, source, target = sys.argv[1:]
    with open(source, encoding="utf-8", errors="replace") as file:
        found = objects(Path(program).read_bytes(), file)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    rows = [f"{json.dumps(path)}: [{size}, {packed}]" for path, (size, packed) in found.items()]
    Path(target).write_text("{\n" + ",\n".join(rows) + "\n}\n")
