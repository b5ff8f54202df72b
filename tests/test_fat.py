import os
import re
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from kiln.errors import KilnError
from kiln.image import fat
from kiln.sandbox import Mount, Sandbox

pytestmark = pytest.mark.sandbox

MIB = 1 << 20
FILES: Mapping[str, bytes] = {
    "vmlinuz": b"kernel" * 100_000,
    "syslinux/syslinux.cfg": b"DEFAULT linux\n",
    "EFI/BOOT/BOOTX64.EFI": b"MZ" + bytes(5000),
    "EFI/BOOT/Long name [1] it's.txt": b"",
}


def write(
    files: Mapping[str, Path | bytes],
    path: Path,
    sandbox: Sandbox,
    scratch: Path,
    size: int | None = 8 * MIB,
    label: str = "BOOT",
) -> Path:
    fat.write(
        files, path, sandbox=sandbox, scratch=scratch, size=size, label=label, serial=0x1234ABCD, hidden_sectors=2048
    )
    return path


def mtools(path: Path, sandbox: Sandbox, *command: str) -> bytes:
    mount = Mount(source=path.parent, target="/work")
    words = [command[0], "-i", f"/work/{path.name}", *command[1:]]
    return replace(sandbox, mounts=(mount,)).run(words)


def content(path: Path, sandbox: Sandbox, name: str) -> bytes:
    literal = re.sub(r"([\[\]])", r"\\\1", name)  # mcopy takes names inside for patterns
    return mtools(path, sandbox, "mcopy", f"::/{literal}", "-")


def test_all_files_are_there_with_one_time(image_sandbox: Sandbox, tmp_path: Path) -> None:
    path = write(FILES, tmp_path / "a.fat", image_sandbox, tmp_path)
    for name, data in FILES.items():
        assert content(path, image_sandbox, name) == data
    listing = mtools(path, image_sandbox, "mdir", "-/", "-a", "::").decode()
    assert "is BOOT" in listing and "1234-ABCD" in listing
    times = re.findall(r"(\d{4}-\d\d-\d\d +\d+:\d\d)", listing)
    assert len(times) == 4 + 3 + 3 * 2 and set(times) == {"2026-01-01   0:00"}


def test_the_boot_sector_knows_its_partition(image_sandbox: Sandbox, tmp_path: Path) -> None:
    sector = write(FILES, tmp_path / "a.fat", image_sandbox, tmp_path).read_bytes()[:512]
    assert struct.unpack_from("<I", sector, 28) == (2048,)
    assert sector[54:62] == b"FAT16   "


@pytest.mark.parametrize("bootable", [False, True])
def test_the_image_is_the_same_every_time(image_sandbox: Sandbox, tmp_path: Path, bootable: bool) -> None:
    images = []
    for name, mask, step in (("one", 0o022, 1), ("two", 0o077, -1)):
        umask = os.umask(mask)
        try:
            folder = tmp_path / name
            folder.mkdir()
            kernel = folder / f"kernel {name}"
            kernel.write_bytes(FILES["vmlinuz"])
            os.utime(kernel, (step * 100, step * 100))
            files: Mapping[str, Path | bytes] = {**FILES, "vmlinuz": kernel}
            ordered = dict(list(files.items())[::step])
            path = write(ordered, folder / f"{name}.fat", image_sandbox, folder)
            if bootable:
                fat.syslinux(path, sandbox=image_sandbox)
            images.append(path.read_bytes())
        finally:
            os.umask(umask)
    assert images[0] == images[1]


def test_syslinux_is_installed_with_its_menu(image_sandbox: Sandbox, tmp_path: Path) -> None:
    path = write(FILES, tmp_path / "a.fat", image_sandbox, tmp_path)
    fat.syslinux(path, sandbox=image_sandbox)
    assert path.read_bytes()[3:11] == b"SYSLINUX"
    modules = image_sandbox.root / "usr/lib/syslinux/modules/bios"
    for name in ("menu.c32", "libutil.c32"):
        assert content(path, image_sandbox, f"syslinux/{name}") == (modules / name).read_bytes()
    assert content(path, image_sandbox, "vmlinuz") == FILES["vmlinuz"]
    assert content(path, image_sandbox, "syslinux/ldlinux.c32").startswith(b"\x7fELF")
    assert b"SYSLINUX" in content(path, image_sandbox, "syslinux/ldlinux.sys")


@pytest.mark.parametrize("files", [{"a": 20 * MIB}, {"a": 100}, {f"d/{n}-{'x' * 90}": 600 for n in range(900)}])
def test_a_size_of_its_own_has_room_for_syslinux(image_sandbox: Sandbox, tmp_path: Path, files: dict[str, int]) -> None:
    contents = {name: bytes(size) for name, size in files.items()} | {"syslinux/syslinux.cfg": b""}
    path = write(contents, tmp_path / "a.fat", image_sandbox, tmp_path, None)
    fat.syslinux(path, sandbox=image_sandbox)
    assert path.stat().st_size < sum(files.values()) + 10 * MIB


@pytest.mark.parametrize("kernel", [5 * MIB, 35 * MIB])
def test_the_least_size_that_an_error_tells_is_enough(image_sandbox: Sandbox, tmp_path: Path, kernel: int) -> None:
    files = {"vmlinuz": bytes(kernel)}
    with pytest.raises(KilnError, match=r"a.fat: 4194304 bytes are too few .*: \d+ are missing") as caught:
        write(files, tmp_path / "a.fat", image_sandbox, tmp_path, 4 * MIB)
    told = re.search(r"set its size to (\d+) MiB", str(caught.value))
    assert told
    path = write(files, tmp_path / "a.fat", image_sandbox, tmp_path, int(told[1]) * MIB)
    assert content(path, image_sandbox, "vmlinuz") == files["vmlinuz"]
    with pytest.raises(KilnError, match="are missing"):
        write(files, tmp_path / "a.fat", image_sandbox, tmp_path, (int(told[1]) - 1) * MIB)


@pytest.mark.parametrize("size", [3 * MIB, 31 * MIB, 32 * MIB, 64 * MIB, 511 * MIB, 2047 * MIB, 5 * MIB + 512 * 7])
def test_every_size_becomes_a_sound_fat16(image_sandbox: Sandbox, tmp_path: Path, size: int) -> None:
    path = write(FILES, tmp_path / "a.fat", image_sandbox, tmp_path, size)
    assert path.stat().st_size == size
    mount = Mount(source=tmp_path, target="/work")
    report = replace(image_sandbox, mounts=(mount,)).run(["fsck.vfat", "-n", "-v", "/work/a.fat"]).decode()
    assert "FATs, 16 bit entries" in report
    assert content(path, image_sandbox, "vmlinuz") == FILES["vmlinuz"]


@pytest.mark.parametrize("size", [2 * MIB, 3000 * MIB, 4 * MIB + 1])
def test_other_sizes_are_refused(image_sandbox: Sandbox, tmp_path: Path, size: int) -> None:
    with pytest.raises(KilnError, match="no size for FAT16"):
        write({"a": b""}, tmp_path / "a.fat", image_sandbox, tmp_path, size)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a:b"], "cannot hold"),
        (["line\nbreak"], "cannot hold"),
        (["/rooted"], "cannot hold"),
        (["up/../a"], "cannot hold"),
        (["ends "], "cannot hold"),
        (["ümlaut"], "cannot hold"),
        (["x" * 256], "cannot hold"),
        (["Kernel", "kernel"], "ignores case"),
        (["efi/a", "EFI/b"], "ignores case"),
        (["boot", "boot/kernel"], "ignores case"),
    ],
)
def test_names_that_cannot_be_are_refused(
    image_sandbox: Sandbox, tmp_path: Path, names: list[str], message: str
) -> None:
    with pytest.raises(KilnError, match=message):
        write(dict.fromkeys(names, b""), tmp_path / "a.fat", image_sandbox, tmp_path)


@pytest.mark.parametrize("label", ["boot", "", "A" * 12])
def test_labels_that_cannot_be_are_refused(image_sandbox: Sandbox, tmp_path: Path, label: str) -> None:
    with pytest.raises(KilnError, match="no FAT label"):
        write({}, tmp_path / "a.fat", image_sandbox, tmp_path, label=label)
