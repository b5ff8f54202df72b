import os
import re
import struct
from pathlib import Path

import pytest

from kiln.image import fat
from kiln.sandbox import Mount, Sandbox

pytestmark = pytest.mark.sandbox

MIB = 1 << 20
KERNEL = b"kernel" * 100_000
CONFIG = "DEFAULT linux\n"


def write(path: Path, sandbox: Sandbox, kernel: bytes = KERNEL) -> Path:
    image = path.parent / "kernel's image"
    image.write_bytes(kernel)
    fat.write(image, CONFIG, path, sandbox=sandbox, serial=0x1234ABCD, hidden_sectors=2048)
    return path


def inspect(path: Path, sandbox: Sandbox, *command: str) -> bytes:
    return sandbox.with_mounts([Mount(source=path.parent, target="/work")]).run(command)


def content(path: Path, sandbox: Sandbox, name: str) -> bytes:
    return inspect(path, sandbox, "mcopy", "-i", f"/work/{path.name}", f"::/{name}", "-")


def test_all_files_are_there_with_one_time(image_sandbox: Sandbox, tmp_path: Path) -> None:
    path = write(tmp_path / "a.fat", image_sandbox)
    modules = image_sandbox.root / "usr/lib/syslinux/modules/bios"
    for name in ("menu.c32", "libutil.c32"):
        assert content(path, image_sandbox, f"syslinux/{name}") == (modules / name).read_bytes()
    assert content(path, image_sandbox, "kernel's image") == KERNEL
    assert content(path, image_sandbox, fat.MENU) == CONFIG.encode()
    assert content(path, image_sandbox, "syslinux/ldlinux.c32").startswith(b"\x7fELF")
    assert b"SYSLINUX" in content(path, image_sandbox, "syslinux/ldlinux.sys")
    listing = inspect(path, image_sandbox, "mdir", "-i", "/work/a.fat", "-/", "-a", "::").decode()
    assert "is BOOT" in listing and "1234-ABCD" in listing
    times = re.findall(r"(\d{4}-\d\d-\d\d +\d+:\d\d)", listing)
    assert len(times) == 6 + 1 + 2 and set(times) == {"2026-01-01   0:00"}


def test_the_boot_sector_is_that_of_syslinux_and_knows_its_partition(image_sandbox: Sandbox, tmp_path: Path) -> None:
    sector = write(tmp_path / "a.fat", image_sandbox).read_bytes()[:512]
    assert struct.unpack_from("<I", sector, 28) == (2048,)
    assert sector[3:11] == b"SYSLINUX"
    assert sector[54:62] == b"FAT16   "


def test_the_image_is_the_same_every_time(image_sandbox: Sandbox, tmp_path: Path) -> None:
    images = []
    for name, mask in (("one", 0o022), ("two", 0o077)):
        umask = os.umask(mask)
        try:
            (tmp_path / name).mkdir()
            images.append(write(tmp_path / name / f"{name}.fat", image_sandbox).read_bytes())
        finally:
            os.umask(umask)
    assert images[0] == images[1]


@pytest.mark.parametrize("size", [0, 3 * MIB, 10 * MIB - 1, 10 * MIB, 30 * MIB, 200 * MIB])
def test_every_kernel_has_room_for_another(image_sandbox: Sandbox, tmp_path: Path, size: int) -> None:
    path = write(tmp_path / "a.fat", image_sandbox, bytes(size))
    report = inspect(path, image_sandbox, "fsck.vfat", "-n", "-v", "/work/a.fat").decode()
    assert "FATs, 16 bit entries" in report
    free = re.search(r"([\d ]+) bytes free", inspect(path, image_sandbox, "mdir", "-i", "/work/a.fat", "::").decode())
    assert free and int(free[1].replace(" ", "")) > size + 8 * MIB
