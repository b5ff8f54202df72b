"""Disks as people use them: their menus on the serial console, by each boot loader, and those that are only read."""

import os
from pathlib import Path

import pexpect
import pytest

from tests.console import qemu
from tests.test_boot import BOARD, OWN, copy_to, doit

DOWN = "\x1b[B"
TITLE = "A root shell before services start"

pytestmark = pytest.mark.boot


@pytest.mark.parametrize("road", ["disk", "grub", "uefi"])
def test_another_entry_can_be_chosen(road: str) -> None:
    child = qemu(f"BOOT={road}")
    child.expect(TITLE)
    for key in (DOWN, DOWN, "\r"):
        child.send(key)
        # The menu draws an entry anew when it is chosen, and the kernel starts after it.
        child.expect("Linux with every message" if key == DOWN else "A root shell before network")
    child.expect("# ")
    child.sendline("cat /proc/cmdline; exit")
    child.expect("root=PARTUUID=.* kiln.rescue")
    child.expect("kiln:~# ")
    child.sendline("poweroff")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


@pytest.mark.parametrize("road", ["disk", "grub", "uefi"])
def test_the_last_entry_is_for_emergencies_where_dracut_makes_the_initramfs(road: str) -> None:
    child = qemu(f"BOOT={road}", "BOARD=qemu-x86_64-dracut")
    child.expect("A shell with tools that repair")
    for title in ("Linux with every message", "A root shell before", "A shell with tools"):
        child.send(DOWN)
        child.expect(title)
    child.send("\r")
    child.expect("pre-mount:/# ")
    child.sendline("blkid -t LABEL=rootfs; e2fsck -V; exit")
    child.expect("LABEL=.rootfs.*e2fsck 1.47")
    child.expect("kiln:~# ")
    child.sendline("poweroff")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_a_disk_whose_root_nothing_can_change(tmp_path: Path) -> None:
    copy = copy_to(tmp_path / "project", lambda name: True)
    board = copy / "configs" / f"{BOARD}.toml"
    board.write_text('disk_root = "squashfs"\n' + board.read_text())
    roads = ("disk", "partuuid", "uefi", "uki")
    out = doit("-c", *(f"test:{road}" for road in roads), root=copy, env=OWN | {"PYTHONPATH": os.fspath(copy)})
    for road in roads:
        assert f"{BOARD} by {road}: all was well" in out
    log = (copy / "output" / BOARD / "boot/partuuid.log").read_text()
    assert "VFS: Mounted root (squashfs filesystem) readonly" in log
