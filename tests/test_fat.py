import os
import re
import struct
from pathlib import Path

import pytest

from kiln.errors import KilnError
from kiln.image import fat
from kiln.sandbox import Mount, Sandbox
from kiln.tools import Tools

pytestmark = pytest.mark.sandbox

MIB = 1 << 20
KERNEL = b"kernel" * 100_000
CONFIG = b"DEFAULT linux\n"
LONG = "x" * 200 + ".conf"


def write(path: Path, sandbox: Sandbox) -> Path:
    kernel = path.parent / "on the host"
    kernel.write_bytes(KERNEL)
    files: dict[str, Path | bytes] = {
        "kernel's image": kernel,
        "EFI/BOOT/BOOTX64.EFI": KERNEL,
        "loader/a": b"",
        f"loader/entries/{LONG}": CONFIG,
    }
    fat.write(files, path, sandbox=sandbox, label="BOOT", serial=0x1234ABCD, hidden_sectors=2048)
    return path


def inspect(path: Path, sandbox: Sandbox, *command: str) -> bytes:
    return sandbox.with_mounts([Mount(source=path.parent, target="/work")]).run(command)


def content(path: Path, sandbox: Sandbox, name: str) -> bytes:
    return inspect(path, sandbox, "mcopy", "-i", f"/work/{path.name}", f"::/{name}", "-")


def listing(path: Path, sandbox: Sandbox) -> str:
    return inspect(path, sandbox, "mdir", "-i", f"/work/{path.name}", "-/", "-a", "::").decode()


def free(path: Path, sandbox: Sandbox) -> int:
    found = re.search(r"([\d ]+) bytes free", listing(path, sandbox))
    assert found
    return int(found[1].replace(" ", ""))


def check(path: Path, sandbox: Sandbox) -> str:
    return inspect(path, sandbox, "fsck.vfat", "-n", "-v", f"/work/{path.name}").decode()


def test_all_files_are_there_with_one_time(image_sandbox: Sandbox, tmp_path: Path) -> None:
    path = write(tmp_path / "a.fat", image_sandbox)
    for name in ("kernel's image", "EFI/BOOT/BOOTX64.EFI", "efi/boot/bootx64.efi"):
        assert content(path, image_sandbox, name) == KERNEL
    assert content(path, image_sandbox, "loader/a") == b""
    assert content(path, image_sandbox, f"loader/entries/{LONG}") == CONFIG
    text = listing(path, image_sandbox)
    assert "is BOOT" in text and "1234-ABCD" in text
    times = re.findall(r"(\d{4}-\d\d-\d\d +\d+:\d\d)", text)
    assert len(times) == 4 + 4 + 2 * 4 and set(times) == {"2026-01-01   0:00"}


def test_the_checker_finds_a_fat16_that_knows_its_partition(image_sandbox: Sandbox, tmp_path: Path) -> None:
    path = write(tmp_path / "a.fat", image_sandbox)
    assert "FATs, 16 bit entries" in check(path, image_sandbox)
    assert struct.unpack_from("<I", path.read_bytes(), 28) == (2048,)


def test_syslinux_starts_from_its_folder(image_sandbox: Sandbox, tmp_path: Path) -> None:
    path, config = tmp_path / "a.fat", "syslinux/syslinux.cfg"
    fat.write({config: CONFIG}, path, sandbox=image_sandbox, label="BOOT", serial=1, hidden_sectors=2048)
    fat.install_syslinux(path, "syslinux", sandbox=image_sandbox)
    sector = path.read_bytes()[:512]
    assert (sector[3:11], sector[54:62]) == (b"SYSLINUX", b"FAT16   ")
    assert struct.unpack_from("<I", sector, 28) == (2048,)
    assert content(path, image_sandbox, config) == CONFIG
    assert b"SYSLINUX" in content(path, image_sandbox, "syslinux/ldlinux.sys")
    assert content(path, image_sandbox, "syslinux/ldlinux.c32").startswith(b"\x7fELF")
    modules = image_sandbox.root / "usr/lib/syslinux/modules/bios"
    for name in ("menu.c32", "libutil.c32"):
        assert content(path, image_sandbox, f"syslinux/{name}") == (modules / name).read_bytes()
    assert set(re.findall(r"(\d{4}-\d\d-\d\d)", listing(path, image_sandbox))) == {"2026-01-01"}


def test_tools_without_syslinux_are_named(tools: Tools, image_sandbox: Sandbox, tmp_path: Path) -> None:
    path = write(tmp_path / "a.fat", image_sandbox)
    before = path.read_bytes()
    with pytest.raises(KilnError, match=r"has no usr/bin/syslinux\n.*add syslinux"):
        fat.install_syslinux(path, "loader", sandbox=tools.sandbox("sandbox"))
    assert path.read_bytes() == before


def test_the_image_is_the_same_every_time(image_sandbox: Sandbox, tmp_path: Path) -> None:
    images = []
    for name, mask in (("one", 0o022), ("two", 0o077)):
        umask = os.umask(mask)
        try:
            (tmp_path / name).mkdir()
            path = write(tmp_path / name / f"{name}.fat", image_sandbox)
            fat.install_syslinux(path, "loader", sandbox=image_sandbox)
            images.append(path.read_bytes())
        finally:
            os.umask(umask)
    assert images[0] == images[1]


def test_an_older_image_leaves_nothing(image_sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "a.fat").write_bytes(b"old" * 20 * MIB)
    assert b"oldold" not in write(tmp_path / "a.fat", image_sandbox).read_bytes()


@pytest.mark.parametrize("size", [0, 3 * MIB, 10 * MIB - 1, 10 * MIB, 30 * MIB, 200 * MIB])
def test_all_files_have_room_for_as_much_again(image_sandbox: Sandbox, tmp_path: Path, size: int) -> None:
    path, big = tmp_path / "a.fat", tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(size)
    fat.write({"big": big}, path, sandbox=image_sandbox, label="BOOT", serial=1)
    assert "FATs, 16 bit entries" in check(path, image_sandbox)
    assert free(path, image_sandbox) > size + 8 * MIB
    assert path.stat().st_size <= 2 * size + 13 * MIB + 2 * 65536 + MIB


def test_many_small_files_have_room(image_sandbox: Sandbox, tmp_path: Path) -> None:
    files: dict[str, Path | bytes] = {f"d{n % 3}/{n:0200}": b"1" for n in range(60)}
    fat.write(files, tmp_path / "a.fat", sandbox=image_sandbox, label="BOOT", serial=1)
    assert free(tmp_path / "a.fat", image_sandbox) > 8 * MIB


@pytest.mark.parametrize("size", [0, 3 * MIB, 30 * MIB, 100 * MIB + 1])
def test_what_nobody_writes_to_is_small(image_sandbox: Sandbox, tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.fat"
    fat.write({"a/b": bytes(size)}, path, sandbox=image_sandbox, label="BOOT", serial=1, room=False)
    assert "FATs, 16 bit entries" in check(path, image_sandbox)
    assert path.stat().st_size <= size + 6 * MIB


@pytest.mark.parametrize("room", [True, False])
def test_too_much_is_said_to_the_mebibyte(image_sandbox: Sandbox, tmp_path: Path, room: bool) -> None:
    path, big, told = tmp_path / "a.fat", tmp_path / "big", re.compile(r"a\.fat: its files are (\d+) MiB too big")
    with big.open("wb") as file:
        file.truncate(2100 * MIB)
    with pytest.raises(KilnError, match=told) as caught:
        fat.write({"big": big}, path, sandbox=image_sandbox, label="BOOT", serial=1, room=room)
    excess = told.search(str(caught.value))
    assert excess and not path.exists()
    os.truncate(big, (2101 - int(excess[1])) * MIB)
    with pytest.raises(KilnError, match="are 1 MiB too big"):
        fat.write({"big": big}, path, sandbox=image_sandbox, label="BOOT", serial=1, room=room)
    os.truncate(big, (2100 - int(excess[1])) * MIB)
    fat.write({"big": big}, path, sandbox=image_sandbox, label="BOOT", serial=1, room=room)
    assert "FATs, 16 bit entries" in check(path, image_sandbox)


@pytest.mark.parametrize("name", ["a:b", "a/b?", "a./b", "a ", "über", "a*", "a//b", "../a", "/a", "a\nb", "x" * 256])
def test_names_that_fat_cannot_hold_are_refused(image_sandbox: Sandbox, tmp_path: Path, name: str) -> None:
    with pytest.raises(KilnError, match="cannot hold the name"):
        fat.write({name: b""}, tmp_path / "a.fat", sandbox=image_sandbox, label="BOOT", serial=1)


@pytest.mark.parametrize("names", [("a", "A"), ("EFI/a", "efi/b"), ("EFI", "EFI/a")])
def test_names_that_are_one_to_fat_are_refused(image_sandbox: Sandbox, tmp_path: Path, names: tuple[str, str]) -> None:
    with pytest.raises(KilnError, match="are one name to FAT"):
        fat.write(dict.fromkeys(names, b""), tmp_path / "a.fat", sandbox=image_sandbox, label="BOOT", serial=1)
