"""What an unpacked initramfs was, in ``initramfs.json`` beside its files: all that a disk cannot hold without root.

::

    {"format": 1, "segments": [
    {"folder": "1", "compressor": "zstd", "magic": "070701", "lower": false, "length": 1024, "tail": 300,
     "parents": ["usr"], "entries": [
    {"name": "usr/init", "mode": "100755", "ino": 2, "nlink": 1, "mtime": 1767225600, "size": 5, "sha256": "..."},
    ...

Numbers of an entry that are not there are 0; its name and order are the archive's.
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kiln.errors import KilnError
from kiln.initramfs import compression
from kiln.initramfs.newc import CRC, PLAIN, Entry

NAME = "initramfs.json"

_FORMAT = 1
_NUMBERS = (
    "ino", "uid", "gid", "nlink", "mtime", "size", "major", "minor", "rmajor", "rminor", "check", "namesize",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Record:
    """An entry, and what it held: ``digest`` of a file with data (SHA-256), ``target`` of a link."""

    entry: Entry
    digest: str = ""
    target: str = ""


@dataclass(kw_only=True)
class Part:
    """A segment: ``folder`` has its files, ``length`` bytes with ``tail`` zeros at the end is what it unpacked to.

    ``parents`` are folders that the disk needs and the archive had not.
    """

    folder: str
    compressor: str = compression.NONE
    magic: str = PLAIN
    lower: bool = False
    length: int = 0
    tail: int = 0
    parents: list[str] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)


def write(parts: Iterable[Part], path: Path) -> None:
    with path.open("w", encoding="ascii") as out:
        for line in _lines(parts):
            out.write(f"{line}\n")


def read(path: Path) -> list[Part]:
    """Raises KilnError for a file that is none, or was damaged."""
    try:
        value = json.loads(path.read_bytes())
        if value["format"] != _FORMAT:
            raise ValueError(f"format {value['format']!r} instead of {_FORMAT}")
        return [_part(item) for item in value["segments"]]
    except OSError as error:
        message = f"cannot read it: {error.strerror}"
        raise KilnError(message, where=os.fspath(path), hint="doit cpio:unpack FILE FOLDER writes it") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        problem = f"something has no {error}" if isinstance(error, KeyError) else error
        message = f"does not say what the initramfs was: {problem}"
        raise KilnError(message, where=os.fspath(path), hint="undo what you changed in it, or unpack again") from error


def _lines(parts: Iterable[Part]) -> Iterator[str]:
    yield f'{{"format": {_FORMAT}, "segments": ['
    comma = ""
    for part in parts:
        value = {name: getattr(part, name) for name in ("folder", "compressor", "magic", "lower", "length", "tail")}
        yield f'{comma}{json.dumps(value | {"parents": part.parents})[:-1]}, "entries": ['
        last = len(part.records) - 1
        for number, record in enumerate(part.records):
            yield json.dumps(_entry(record)) + ("," if number < last else "")
        yield "]}"
        comma = ","
    yield "]}"


def _entry(record: Record) -> dict[str, Any]:
    entry = record.entry
    value: dict[str, Any] = {"name": entry.name, "mode": f"{entry.mode:o}"}
    value |= {name: getattr(entry, name) for name in _NUMBERS if getattr(entry, name)}
    if record.digest:
        value["sha256"] = record.digest
    if record.target:
        value["target"] = record.target
    return value


def _part(value: dict[str, Any]) -> Part:
    folder, magic, compressor = value["folder"], value["magic"], value["compressor"]
    if not isinstance(folder, str) or not folder.isdecimal() or not folder.isascii():
        raise ValueError(f"a segment's folder is {folder!r}, not a number")
    if magic not in (PLAIN, CRC):
        raise ValueError(f"unknown format {magic!r}")
    if compressor not in (*compression.NAMES, compression.LZ4_FRAME):
        raise ValueError(f"unknown compressor {compressor!r}")
    return Part(
        folder=folder,
        compressor=compressor,
        magic=magic,
        lower=bool(value["lower"]),
        length=int(value["length"]),
        tail=int(value["tail"]),
        parents=[str(path) for path in value["parents"]],
        records=[_record(item, magic, bool(value["lower"])) for item in value["entries"]],
    )


def _record(value: dict[str, Any], magic: str, lower: bool) -> Record:
    known = {"name", "mode", "sha256", "target", *_NUMBERS}
    unknown = sorted(value.keys() - known)
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}")
    numbers = {name: int(value.get(name, 0)) for name in _NUMBERS}
    name, mode = value["name"], int(value["mode"], 8)
    if not isinstance(name, str) or not name or "\0" in name:
        raise ValueError(f"{name!r} is no name")
    entry = Entry(name=name, mode=mode, magic=magic, lower=lower, **numbers)
    return Record(entry=entry, digest=str(value.get("sha256", "")), target=str(value.get("target", "")))
