"""Roots that must be put together first, or lie on another machine: each is made, booted, and checked from inside."""

import re

import pexpect
import pytest

from kiln.graph import Graph
from kiln.settings import Settings
from kiln.vm.diagnose import diagnose, read
from kiln.vm.roots import ROOTS
from kiln.vm.setup import Setup
from tests.console import ROOT, qemu, tell
from tests.test_boot import doit

BOARD = "qemu-x86_64-dracut"
# What the check finds at / where that is no ext4.
OTHERS = {
    **dict.fromkeys(("overlay", "nbd", "iso", "iso-disk"), "overlay"),
    **dict.fromkeys(("nfs", "nfsroot"), "nfs4?"),
    **dict.fromkeys(("btrfs", "btrfs-degraded"), "btrfs"),
}
FOUND = ("label", "uuid", "uki", "iso", "iso-disk")

pytestmark = pytest.mark.boot


def test_the_board_has_every_kind() -> None:
    assert ROOTS.keys() | set(FOUND) <= set(Graph.load(Settings.read(ROOT), BOARD).roads)


@pytest.mark.parametrize("road", [*FOUND, *ROOTS])
def test_it_leads_to_the_real_root(road: str) -> None:
    said = doit(f"test:{road}", f"BOARD={BOARD}")
    assert f"{BOARD} by {road}: all was well" in said
    log = (ROOT / f"output/{BOARD}/boot/{road}.log").read_text()
    assert re.search(rf"info root={OTHERS.get(road, 'ext4')}$", log, re.MULTILINE)


def test_a_btrfs_waits_for_all_its_disks_and_says_so() -> None:
    child = qemu("BOOT=btrfs-degraded", f"BOARD={BOARD}", "APPEND=rootflags=ro rd.retry=8")
    child.expect(r"waiting for the hook initqueue/finished/50-all-disks-of-the-root: \d+ s")
    child.expect("dracut:/# ")
    (*_, found) = diagnose(read(str(child.before)), Setup())
    assert "one did not come" in found.means
    child.sendline("rm /var/lib/dracut/hooks/initqueue/finished/*; mount -o degraded,ro /dev/vda /sysroot; exit")
    child.expect("kiln:~# ")
    child.sendline("mount | grep ' / '; poweroff")
    child.expect("on / type btrfs .*degraded")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_a_wrong_passphrase_is_told_and_asked_for_again() -> None:
    child = qemu("BOOT=luks", f"BOARD={BOARD}", "APPEND=quiet")
    child.expect(r"the passphrase is (\w+)")
    assert isinstance(child.match, re.Match)
    secret = child.match[1]
    child.expect("Enter passphrase for")
    tell(child, "pottery", "No key available with this passphrase")
    wrong = f"{child.before}{child.after}"
    child.expect("Enter passphrase for")
    tell(child, secret, "kiln:~# ")
    child.sendline("mount | grep ' / '; poweroff")
    child.expect("/dev/mapper/luks-.* on / type ext4")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    (found,) = diagnose(read(wrong), Setup())
    assert "passphrase" in found.means
