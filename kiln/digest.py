"""Digests: of JSON values, of files, and of whole trees.

All are SHA-256 in hexadecimal. A tree's digest is that of its Remote Execution API ``Directory`` message
(https://github.com/bazelbuild/remote-apis), so a store entry can be named to a shared cache without a second model.
"""

import hashlib
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# So many files are read before threads would have started.
_FEW = 64


@dataclass(frozen=True, slots=True)
class Digest:
    """A SHA-256 in hexadecimal and a size in bytes."""

    hash: str
    size: int


def canonical(value: Any) -> bytes:
    """``value`` as JSON with sorted keys and no spaces: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def of_value(value: Any) -> str:
    """The digest of a JSON value."""
    return hashlib.sha256(canonical(value)).hexdigest()


def of_bytes(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).hexdigest(), len(data))


def of_file(path: str | Path) -> Digest:
    """The digest of a regular file. Raises OSError where it cannot be read."""
    with open(path, "rb") as file:
        return Digest(hashlib.file_digest(file, "sha256").hexdigest(), file.tell())


def of_tree(root: Path) -> Digest:
    """The REAPI ``Directory`` digest of a folder: names, bytes, executable bits and link targets; no times, no owners.

    Raises ValueError for what such a tree cannot hold (devices, sockets, pipes).
    """
    return read_tree(root)[0]


def read_tree(root: Path) -> tuple[Digest, dict[str, str]]:
    """The digest of a folder, and what each path below it is.

    That is ``SHA256`` for a file, ``SHA256 x`` for an executable one, ``-> TARGET`` for a link, ``dir`` for a folder.
    """
    paths = [os.path.join(folder, name) for folder, _, files in os.walk(root) for name in files]
    plain = [path for path in paths if stat.S_ISREG(os.lstat(path).st_mode)]
    if len(plain) < _FEW:
        known = {path: of_file(path) for path in plain}
    else:
        with ThreadPoolExecutor(4) as pool:  # hashlib lets go of the interpreter lock for big buffers
            known = dict(zip(plain, pool.map(of_file, plain, chunksize=64), strict=True))
    found: dict[str, str] = {}
    return _directory(os.fspath(root), "", known, found), found


def _directory(path: str, below: str, known: dict[str, Digest], found: dict[str, str]) -> Digest:
    files, folders, links = b"", b"", b""
    for name in sorted(os.listdir(path), key=os.fsencode):
        child, place = os.path.join(path, name), below + name
        mode = os.lstat(child).st_mode
        label = _field(1, os.fsencode(name))
        if stat.S_ISREG(mode):
            executable = b"\x20\x01" if mode & 0o111 else b""
            files += _field(1, label + _field(2, _message(known[child])) + executable)
            found[place] = known[child].hash + (" x" if executable else "")
        elif stat.S_ISDIR(mode):
            found[place] = "dir"
            folders += _field(2, label + _field(2, _message(_directory(child, f"{place}/", known, found))))
        elif stat.S_ISLNK(mode):
            target = os.readlink(child)
            links += _field(3, label + _field(2, os.fsencode(target)))
            found[place] = f"-> {target}"
        else:
            raise ValueError(f"{child} is neither a file, a folder nor a link")
    return of_bytes(files + folders + links)


def _message(digest: Digest) -> bytes:
    size = b"\x10" + _varint(digest.size) if digest.size else b""
    return _field(1, digest.hash.encode()) + size


def _field(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80]) + _varint(value >> 7)
