"""FAT16 file systems for boot partitions, made by mkfs.vfat and mtools, and syslinux in them."""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from kiln.errors import KilnError
from kiln.image.disk import SECTOR
from kiln.sandbox import Mount, Sandbox
from kiln.store import EPOCH

# Where syslinux, its modules and its syslinux.cfg are.
SYSLINUX_FOLDER = "syslinux"
# Without a size given, so many bytes are left free: for syslinux, and for a bigger kernel.
LEAST_FREE = 4 << 20

_MODULES_FOLDER = "/usr/lib/syslinux/modules/bios"
_MIB = 1 << 20
# With fewer or more clusters it would be another kind of FAT; a cluster has 1 to 64 sectors.
_MOST_CLUSTERS = 65524
_SIZES = range(3 * _MIB, _MOST_CLUSTERS * 64 * SECTOR)
_ENTRY = 32
_LABEL = re.compile(r"[A-Z0-9_-]{1,11}")
_NAME = re.compile(r'(?=[ -~]{1,255}$)[^"*:<>?\\|]*[^"*:<>?\\| .]')


def write(
    files: Mapping[str, Path | bytes],
    path: Path,
    *,
    sandbox: Sandbox,
    scratch: Path,
    size: int | None,
    label: str,
    serial: int,
    hidden_sectors: int,
) -> None:
    """Write a file system of ``size`` bytes, or of what it needs and head room; its folders follow from the names.

    ``hidden_sectors`` is where its partition starts, ``serial`` its 32 bit identity. Raises KilnError for a name or
    label that FAT cannot hold, and for a size that is too small (with how much is missing) or not for FAT16.
    """
    folders = _folders(files)
    _check_names([*files, *folders], label, path.name)
    sizes = {name: len(data) if isinstance(data, bytes) else data.stat().st_size for name, data in files.items()}
    if size is None:
        size = _enough(sizes, folders, _SIZES.start, LEAST_FREE)
    least = _enough(sizes, folders, size, 0)
    if least > size:
        raise KilnError(
            f"{size} bytes are too few for its content: {least - size} are missing",
            where=path.name,
            hint=f"set its size to {-(-least // _MIB)} MiB or more",
        )
    if size not in _SIZES or size % SECTOR:
        raise KilnError(
            f"{size} bytes are no size for FAT16: 3 MiB to 2047 MiB, in sectors of {SECTOR} bytes", where=path.name
        )
    with path.open("wb") as image:
        image.truncate(size)
    tools = _Tools(path, sandbox)
    # fmt: off
    tools.run(
        "mkfs.vfat", "--invariant", "-F", "16", "-s", str(_cluster(size) // SECTOR), "-n", label,
        "-i", f"{serial:08x}", "-h", str(hidden_sectors), tools.image,
    )
    # fmt: on
    for folder in folders:
        tools.run("mmd", "-i", tools.image, f"::/{folder}")
    with tempfile.TemporaryDirectory(dir=scratch) as place:
        for name, data in sorted(files.items()):
            source = Path(place, "content") if isinstance(data, bytes) else data.resolve()
            if isinstance(data, bytes):
                source.write_bytes(data)
            inputs = Mount(source=source.parent, target="/inputs")
            tools.run("mcopy", "-i", tools.image, f"/inputs/{source.name}", f"::/{name}", mounts=(inputs,))


def syslinux(path: Path, *, sandbox: Sandbox) -> None:
    """Make a FAT file system boot by BIOS: syslinux with its menu, in the folder that holds its syslinux.cfg."""
    tools = _Tools(path, sandbox)
    tools.run("syslinux", "--install", "--directory", SYSLINUX_FOLDER, tools.image)
    modules = [f"{_MODULES_FOLDER}/{name}" for name in ("libutil.c32", "menu.c32")]
    tools.run("mcopy", "-i", tools.image, *modules, f"::/{SYSLINUX_FOLDER}")


class _Tools:
    """mtools and friends at work on one image, at a time that stands still."""

    def __init__(self, path: Path, sandbox: Sandbox) -> None:
        env = {**sandbox.env, "SOURCE_DATE_EPOCH": str(EPOCH), "MTOOLS_SKIP_CHECK": "1"}
        dest = Mount(source=path.parent, target="/dest", writable=True)
        self.sandbox = replace(sandbox, mounts=(dest,), env=env, cwd="/dest")
        self.image = f"/dest/{path.name}"

    def run(self, *command: str, mounts: tuple[Mount, ...] = ()) -> None:
        replace(self.sandbox, mounts=self.sandbox.mounts + mounts).run(command)


def _folders(files: Mapping[str, object]) -> list[str]:
    found = set()
    for name in files:
        while "/" in name:
            name = name.rpartition("/")[0]
            found.add(name)
    return sorted(found)


def _check_names(paths: list[str], label: str, where: str) -> None:
    if not _LABEL.fullmatch(label):
        raise KilnError(f"{label!r} is no FAT label: up to 11 of A-Z, 0-9, _ and -", where=where)
    seen: set[str] = set()
    for path in paths:
        if not all(_NAME.fullmatch(name) for name in path.split("/")):
            raise KilnError(f"FAT cannot hold a file called {path!r}", where=where, hint="rename it")
        if path.lower() in seen:
            raise KilnError(f"{path!r} is there twice: FAT ignores case", where=where, hint="rename one")
        seen.add(path.lower())


def _cluster(size: int) -> int:
    """The smallest cluster size in bytes for a file system of ``size`` bytes."""
    cluster = SECTOR
    while size // cluster > _MOST_CLUSTERS:
        cluster *= 2
    return cluster


def _enough(sizes: Mapping[str, int], folders: list[str], size: int, free: int) -> int:
    """The first size from ``size`` on that holds these files and leaves ``free`` bytes; rather too much."""
    while (wanted := _needed(sizes, folders, size) + free) > size:
        size = -(-wanted // _MIB) * _MIB
    return size


def _needed(sizes: Mapping[str, int], folders: list[str], size: int) -> int:
    cluster = _cluster(size)
    contents = list(sizes.values())
    for folder in folders:
        names = [path.rpartition("/")[2] for path in (*sizes, *folders) if path.rpartition("/")[0] == folder]
        # "." and "..", then for each name its short form and 13 characters an entry of the long one.
        contents.append(_ENTRY * (2 + sum(1 + -(-len(name) // 13) for name in names)))
    tables = 2 * (size // cluster * 2 + cluster)
    # Boot sector, root folder, and what mkfs.vfat cuts off to end at a whole track.
    rest = 2 * cluster + (64 + 63) * SECTOR
    return tables + rest + sum(-(-content // cluster) * cluster for content in contents)
