"""FAT16 file systems, made by mkfs.vfat and mtools: no mount, no root, the same bytes on every machine."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from kiln.errors import KilnError
from kiln.image import loader
from kiln.sandbox import Mount, Sandbox
from kiln.trees import EPOCH

_MIB = 1 << 20
# Sectors of 512 bytes; the count of clusters has 16 bits.
_LARGEST = 2047 * _MIB
_LARGEST_CLUSTER = 32 << 10
# For the file system's own tables, and for enough clusters that none takes it for FAT12.
_TABLES = 5 * _MIB
_ROOM = 8 * _MIB
# What a name may have on this file system, in mtools' own language, and in every locale.
_NAME = re.compile(r"[A-Za-z0-9 !#$%&'()+,\-.;=@^_`{}~]{0,254}[A-Za-z0-9!#$%&'()+,\-;=@^_`{}~]")
# The menu of syslinux, and what it is linked to.
_MODULES = tuple(f"usr/lib/syslinux/modules/bios/{name}" for name in ("libutil.c32", "menu.c32"))


def write(
    files: Mapping[str, Path | bytes],
    path: Path,
    *,
    sandbox: Sandbox,
    label: str,
    serial: int,
    hidden_sectors: int = 0,
    room: bool = True,
) -> None:
    """Write a file system of exactly ``files``, by their path in it.

    ``label`` has up to 11 characters, ``serial`` is its 32 bit identity, ``hidden_sectors`` is where its partition
    starts. With ``room`` for as much again and 8 MiB, which a medium that nobody writes to can do without.
    Raises KilnError for what FAT16 cannot hold: names, and more than 2 GiB.
    """
    folders = _folders(files, path.name)
    mib = _size(files.values(), path.name, room=room) // _MIB
    with path.open("wb") as file:
        file.truncate(mib * _MIB)
    # The smallest clusters that make fewer than 65525, which would be FAT32. mtools gives a folder that is full one
    # more, in which the longest name must find room.
    cluster = max(2, 1 << (mib // 32).bit_length())
    inside, image = _with_image(path, sandbox), f"/dest/{path.name}"
    # fmt: off
    inside.run([
        "mkfs.vfat", "--invariant", "-F", "16", "-s", str(cluster), "-n", label, "-i", f"{serial:08x}",
        "-h", str(hidden_sectors), image,
    ])
    # fmt: on
    if folders:
        inside.run(["mmd", "-i", image, *(f"::/{folder}" for folder in folders)])
    for name, content in sorted(files.items()):
        if isinstance(content, bytes):
            inside.run(["mcopy", "-i", image, "-", f"::/{name}"], input=content)
        else:
            mounted = inside.with_mounts([Mount(source=content, target="/tmp/file")])
            mounted.run(["mcopy", "-i", image, "/tmp/file", f"::/{name}"])


def install_syslinux(path: Path, folder: str, *, sandbox: Sandbox) -> None:
    """Make the file system start syslinux, with its menu, from ``folder``, which is there already.

    Raises KilnError where the tools tree lacks a part of it.
    """
    for part in ("usr/bin/syslinux", *_MODULES):
        loader.find(sandbox, part)
    inside, image = _with_image(path, sandbox), f"/dest/{path.name}"
    inside.run(["syslinux", "--install", "--directory", folder, image])
    inside.run(["mcopy", "-i", image, *(f"/{module}" for module in _MODULES), f"::/{folder}"])


def _with_image(path: Path, sandbox: Sandbox) -> Sandbox:
    mounts = [Mount(source=path.parent, target="/dest", writable=True)]
    return sandbox.with_mounts(mounts).with_env({"SOURCE_DATE_EPOCH": str(EPOCH), "MTOOLS_SKIP_CHECK": "1"})


def _folders(files: Iterable[str], where: str) -> list[str]:
    """The folders of all files, outermost first. Raises KilnError for names that FAT cannot hold, or not together."""
    for name in files:
        if not all(map(_NAME.fullmatch, name.split("/"))):
            hint = "use letters, digits, spaces and !#$%&'()+,-.;=@^_`{}~"
            raise KilnError(f"a FAT file system cannot hold the name {name!r}", where=where, hint=hint)
    folders = {os.fspath(parent) for name in files for parent in PurePosixPath(name).parents[:-1]}
    seen: dict[str, str] = {}
    for place in sorted([*folders, *files]):
        if place.lower() in seen:
            hint = "rename one of them"
            raise KilnError(f"{seen[place.lower()]!r} and {place!r} are one name to FAT", where=where, hint=hint)
        seen[place.lower()] = place
    return sorted(folders)


def _size(contents: Iterable[Path | bytes], where: str, *, room: bool) -> int:
    """A size in bytes, in whole MiB. Raises KilnError where that is more than FAT16 has."""
    sizes = [len(content) if isinstance(content, bytes) else content.stat().st_size for content in contents]
    # Each file fills its last cluster in part only, and takes some of its folder's.
    needed = sum(-(-size // _LARGEST_CLUSTER) + 1 for size in sizes) * _LARGEST_CLUSTER
    size = needed + _TABLES + (needed + _ROOM) * room
    if size > _LARGEST:
        excess = -(-(size - _LARGEST) // (1 + room) // _MIB)
        what = "for FAT16 with room for as much again" if room else "for FAT16"
        hint = "put large files into a Linux partition"
        raise KilnError(f"its files are {excess} MiB too big {what}", where=where, hint=hint)
    return -(-size // _MIB) * _MIB
