import re
from dataclasses import replace
from pathlib import Path

import pytest

from kiln.errors import KilnError
from kiln.image import esp, fat, menu
from kiln.image.menu import Menu
from kiln.sandbox import Mount, Sandbox
from tests.bzimage import bzimage

pytestmark = pytest.mark.sandbox


@pytest.fixture
def entries() -> Menu:
    text = "LABEL one\nLINUX @KERNEL@\nAPPEND @CMDLINE@\n"
    return menu.read(text, board="pot", cmdline="root=LABEL=x", where="extlinux.conf")


def test_the_menu_names_files_that_are_there(
    entries: Menu, image_sandbox: Sandbox, checkers: Sandbox, tmp_path: Path
) -> None:
    kernel, initrd = bzimage(tmp_path / "bzImage"), tmp_path / "initramfs.cpio.zst"
    initrd.write_bytes(b"initramfs")
    files = esp.with_menu(entries, sandbox=image_sandbox, kernel=kernel, initrd=initrd)
    fat.write(files, tmp_path / "esp.fat", sandbox=image_sandbox, label="EFI", serial=1)
    inside = checkers.with_mounts([Mount(source=tmp_path / "esp.fat", target="/tmp/esp")])
    listing = inside.run(["mdir", "-i", "/tmp/esp", "-/", "-b", "::"]).decode().split()
    assert sorted(name for name in listing if not name.endswith("/")) == [
        "::/EFI/BOOT/BOOTX64.EFI",
        "::/bzImage",
        "::/initramfs.cpio.zst",
        "::/loader/entries/01-one.conf",
        "::/loader/loader.conf",
    ]
    entry = inside.run(["mtype", "-i", "/tmp/esp", "::/loader/entries/01-one.conf"]).decode()
    named = dict(re.findall(r"(?m)^(\S+) (.*)$", entry))
    assert named["options"] == "root=LABEL=x"
    for key, file in (("linux", kernel), ("initrd", initrd)):
        assert inside.run(["mtype", "-i", "/tmp/esp", f"::{named[key]}"]) == file.read_bytes()
    loader = inside.run(["mtype", "-i", "/tmp/esp", "::/EFI/BOOT/BOOTX64.EFI"])
    said = checkers.run(["file", "-"], input=loader).decode()
    assert "EFI application" in said and "x86-64" in said and b"systemd-boot" in loader


def test_without_an_initramfs_none_is_named(entries: Menu, image_sandbox: Sandbox, tmp_path: Path) -> None:
    files = esp.with_menu(entries, sandbox=image_sandbox, kernel=bzimage(tmp_path / "vmlinuz"), initrd=None)
    assert set(files) == {
        "EFI/BOOT/BOOTX64.EFI", "vmlinuz", "loader/entries/01-one.conf", "loader/loader.conf",
    }  # fmt: skip
    assert files["loader/entries/01-one.conf"] == b"title one\nsort-key 01\nlinux /vmlinuz\noptions root=LABEL=x\n"


def test_a_unified_image_needs_no_menu(tmp_path: Path) -> None:
    assert esp.with_uki(tmp_path / "uki.efi") == {"EFI/BOOT/BOOTX64.EFI": tmp_path / "uki.efi"}


def test_a_kernel_without_its_stub_is_refused(entries: Menu, image_sandbox: Sandbox, tmp_path: Path) -> None:
    kernel = bzimage(tmp_path / "bzImage", efi=False)
    with pytest.raises(KilnError, match="no EFI stub"):
        esp.with_menu(entries, sandbox=image_sandbox, kernel=kernel, initrd=None)


def test_a_tree_without_systemd_boot_is_told(entries: Menu, image_sandbox: Sandbox, tmp_path: Path) -> None:
    kernel = bzimage(tmp_path / "bzImage")
    with pytest.raises(KilnError, match=r"has no usr/lib/systemd/boot/efi/systemd-bootx64\.efi") as error:
        esp.with_menu(entries, sandbox=replace(image_sandbox, root=tmp_path), kernel=kernel, initrd=None)
    assert error.value.hint and "systemd-boot-efi" in error.value.hint
