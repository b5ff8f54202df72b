"""What an initramfs holds, line by line, as ``ls -l`` shows it."""

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from kiln.initramfs import compression, segments
from kiln.initramfs.newc import Entry
from kiln.initramfs.segments import Segment
from kiln.report.size import human


def lines(path: Path) -> Iterator[str]:
    """Every entry by segment, trailers left out, and the sums."""
    count = 0
    for segment in segments.read(path):
        name = segment.compressor
        warning = "; kernels know no lz4 frames, only lz4's legacy format" if name == compression.LZ4_FRAME else ""
        yield f"segment {segment.number} at byte {segment.offset}: {name}{warning}"
        entries = 0
        for entry in segment:
            if entry.is_trailer:
                continue
            entries += 1
            target = ""
            if entry.kind == stat.S_IFLNK:
                data = b"".join(segment.entries.data())
                target = " -> " + data.partition(b"\0")[0].decode(errors="surrogateescape")
            yield printable(f"{_row(entry)} {entry.name}{target}")
        yield f"segment {segment.number}: {_count(entries)}, {_sizes(segment)}"
        count += entries
    number = f"{segment.number} segment{'s' * (segment.number > 1)}"
    yield f"{printable(os.fspath(path))}: {_count(count)} in {number}, {human(path.stat().st_size)}"


def printable(text: str) -> str:
    """Names may hold what a terminal would obey."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _row(entry: Entry) -> str:
    device = entry.kind in (stat.S_IFCHR, stat.S_IFBLK)
    size = f"{entry.rmajor}, {entry.rminor}" if device else str(entry.size)
    date = time.strftime("%Y-%m-%d %H:%M", time.gmtime(entry.mtime))
    return f"{stat.filemode(entry.mode)} {entry.nlink:>3} {entry.uid:>5} {entry.gid:>5} {size:>10} {date}"


def _sizes(segment: Segment) -> str:
    if segment.compressor == compression.NONE:
        return human(segment.unpacked)
    return f"{human(segment.packed)}, unpacked {human(segment.unpacked)}"


def _count(number: int) -> str:
    return f"{number} {'entry' if number == 1 else 'entries'}"
