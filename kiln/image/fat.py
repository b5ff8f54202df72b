"""Boot partitions: FAT16 with syslinux, its menu and a kernel, made by mkfs.vfat and mtools."""

from pathlib import Path

from kiln.sandbox import Mount, Sandbox
from kiln.trees import EPOCH

# Where a boot partition has its menu.
MENU = "syslinux/syslinux.cfg"

_MODULES = "/usr/lib/syslinux/modules/bios"
_MIB = 1 << 20


def write(kernel: Path, menu: str, path: Path, *, sandbox: Sandbox, serial: int, hidden_sectors: int) -> None:
    """Write a file system that a BIOS can start from, with room for syslinux and a second kernel.

    ``serial`` is its 32 bit identity, ``hidden_sectors`` is where its partition starts.
    """
    # More than enough for FAT16 rather than FAT12, and for the tables.
    mib = 2 * kernel.stat().st_size // _MIB + 13
    with path.open("wb") as file:
        file.truncate(mib * _MIB)
    # The smallest clusters that make fewer than 65525, which would be FAT32.
    cluster = 1 << (mib // 32).bit_length()
    mounts = [Mount(source=path.parent, target="/dest", writable=True), Mount(source=kernel.parent, target="/inputs")]
    inside = sandbox.with_mounts(mounts).with_env({"SOURCE_DATE_EPOCH": str(EPOCH), "MTOOLS_SKIP_CHECK": "1"})
    image, folder = f"/dest/{path.name}", MENU.partition("/")[0]
    # fmt: off
    inside.run([
        "mkfs.vfat", "--invariant", "-F", "16", "-s", str(cluster), "-n", "BOOT", "-i", f"{serial:08x}",
        "-h", str(hidden_sectors), image,
    ])
    # fmt: on
    inside.run(["mmd", "-i", image, f"::/{folder}"])
    inside.run(["mcopy", "-i", image, f"/inputs/{kernel.name}", f"::/{kernel.name}"])
    inside.run(["mcopy", "-i", image, "-", f"::/{MENU}"], input=menu.encode())
    inside.run(["syslinux", "--install", "--directory", folder, image])
    inside.run(["mcopy", "-i", image, f"{_MODULES}/libutil.c32", f"{_MODULES}/menu.c32", f"::/{folder}"])
