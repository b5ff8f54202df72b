"""Boot menus under the hands of a person, on the serial console, by each boot loader."""

import os
import sys
from pathlib import Path

import pexpect
import pytest

ROOT = Path(__file__).parent.parent
DOWN = "\x1b[B"
TITLE = "A root shell before services start"

pytestmark = pytest.mark.boot


@pytest.mark.parametrize("road", ["disk", "grub", "uefi"])
def test_another_entry_can_be_chosen(road: str) -> None:
    child = pexpect.spawn(
        sys.executable,
        ["-m", "doit", "qemu", f"BOOT={road}"],
        cwd=os.fspath(ROOT),
        encoding="utf-8",
        codec_errors="replace",
        timeout=180,
    )
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
