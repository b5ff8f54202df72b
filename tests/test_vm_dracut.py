"""What the words of dracut's initramfs in a log mean: most are excerpts of boots, some are from its source."""

from dataclasses import replace

import pytest

from kiln.vm.diagnose import Finding, diagnose, read
from tests.test_vm_diagnose import SHED, only

START = """\
Linux version 6.1.176
Kernel command line: console=ttyS0 root={}
{}Run /init as init process
dracut: dracut-112
"""
DISK = "virtio_blk virtio2: [vda] 81920 512-byte logical blocks (41.9 MB/40.0 MiB)\n"
ABSENT = """\
dracut: waiting for {0}: 5 s, try 6 of 8
dracut Warning: Could not boot.
dracut Warning: "{0}" does not exist
Dropping to debug shell.
"""
MAPPER = """\
/dev/mapper/control: open failed: No such device
Failure to communicate with kernel device-mapper driver.
Check that device-mapper is available in the kernel.
Incompatible libdevmapper 1.02.205 (2025-02-27) and kernel driver (unknown version).
Command failed.
"""
DAMAGED = """\
EXT4-fs (vda): VFS: Can't find ext4 filesystem
mount: /sysroot: wrong fs type, bad option, bad superblock on /dev/vda, missing codepage or helper program, or other error.
dracut Warning: Failed to mount -t auto -o ro /dev/vda /sysroot
dracut Warning: *** Dropping you to a shell; the system will try
Dropping to debug shell.
"""  # noqa: E501
INCOMPLETE = """\
BTRFS error (device vda): devid 1 uuid d9c14f3b-8987-4243-a3ca-c3ed4c14cea2 is missing
BTRFS error (device vda): failed to read the system array: -2
BTRFS error (device vda): open_ctree failed: -22
dracut Warning: Failed to mount -t btrfs -o ro /dev/vda /sysroot
Dropping to debug shell.
"""
UNKNOWN = """\
mount: /sysroot: unknown filesystem type 'xfs'.
dracut Warning: Failed to mount -t xfs -o ro /dev/vda /sysroot
Dropping to debug shell.
"""
DIED = """\
dracut: glaze: pre-pivot
dracut: FATAL: the glaze is gone
dracut: Refusing to continue
dracut Warning: dracut: FATAL: the glaze is gone
Dropping to debug shell.
"""
ENDED = """\
dracut: glaze: initqueue/finished
dracut: glaze: pre-mount
dracut Warning: Signal caught!
Dropping to debug shell.
"""
NO_CHECKER = """\
fsck from util-linux 2.41.5
fsck: error 2 (No such file or directory) while executing fsck.ext4 for /dev/mapper/linear
dracut Warning: fsck_drv_std fsck returned with 8
dracut Warning: *** An error occurred during the file system check.
Dropping to debug shell.
"""
NO_HANDLER = "dracut: FATAL: Don't know how to handle 'root=nfs:10.0.2.2:/srv'\ndracut: Refusing to continue\n"
NOT_FOUND = "/init: /var/lib/dracut/hooks/pre-mount/50-glaze-pre-mount.sh: line 6: fire_the_kiln: not found\n"
LABEL = "/dev/disk/by-label/nosuch"
MODULES = replace(SHED, kconfig={**SHED.kconfig, "CONFIG_BLK_DEV_DM": "m", "CONFIG_XFS_FS": "m"})


@pytest.mark.parametrize(
    ("text", "means", "then"),
    [
        (
            START.format("LABEL=nosuch", DISK) + ABSENT.format(LABEL),
            "root=LABEL=nosuch names nothing; the kernel found: vda",
            f"`ln -s /dev/NAME {LABEL}; exit` goes on",
        ),
        (ABSENT.format(LABEL), "root=LABEL=nosuch names nothing", "correct root="),
        (
            START.format("/dev/vda", "") + ABSENT.format("/dev/vda"),
            "the kernel has no driver for it: CONFIG_VIRTIO_BLK=m",
            "CONFIG_VIRTIO_BLK=y",
        ),
        (ABSENT.format("/dev/mapper/pot"), "the device mapper did not make it", '"luks", "lvm"] in configs/shed.toml'),
        (MAPPER + ABSENT.format("/dev/mapper/pot"), "CONFIG_BLK_DEV_DM is not set", "CONFIG_BLK_DEV_DM=y"),
        (DAMAGED, "/dev/vda is there, and its file system cannot be mounted", "`e2fsck -y /dev/vda`"),
        (INCOMPLETE, "the btrfs of /dev/vda lies on several disks, and one of them is missing", "rootflags=degraded"),
        (NO_CHECKER, "/dev/mapper/linear was to be checked, and the initramfs has no fsck.ext4", "rd.skipfsck"),
        (UNKNOWN, "the kernel does not know xfs, as which /dev/vda is to be mounted: CONFIG_XFS_FS", "CONFIG_XFS_FS=y"),
        (DIED, "a hook gave up: the glaze is gone; the last one that spoke is glaze: pre-pivot", "rd.break=STAGE"),
        (ENDED, "a hook says `exit`, or has a mistake that ends a shell; the last one that spoke is glaze", "`return`"),
        ("dracut: FATAL: No or empty root= argument\n", "has no root=", "root=LABEL=rootfs"),
        (NO_HANDLER, "no module of this initramfs knows what root=nfs:10.0.2.2:/srv is", "add the module for it"),
        (NOT_FOUND, "glaze-pre-mount.sh of the stage pre-mount calls fire_the_kiln", "inst_multiple fire_the_kiln"),
        (
            "dracut: waiting for the hook initqueue/finished/50-a: 5 s, try 5 of 9\ndracut Warning: Could not boot.\n",
            "dracut waited for the hook initqueue/finished/50-a, and gave up",
            "remove the hook",
        ),
        (
            "dracut Warning: Could not boot.\n"
            f"dracut Warning: A disk of the btrfs on {LABEL} is missing: rootflags=degraded does without\n",
            f"the btrfs on {LABEL} lies on several disks, of which one did not come",
            "rootflags=degraded",
        ),
        (
            f"dracut: waiting for {LABEL}: 5 s, try 5 of 360\n",
            f"the boot was still waiting for {LABEL} when the log ended",
            "rd.retry=",
        ),
        (
            f"No key available with this passphrase.\nWrong password\n{ABSENT.format('/dev/mapper/luks-1')}",
            "no key of the encrypted disk fits",
            "`cryptsetup open DEVICE NAME`",
        ),
        ("dracut Warning: Can't mount root filesystem\n", "nothing could mount it", "the lines before"),
        (
            "Cannot find init!\nPlease check to make sure you passed a valid root filesystem!\n",
            "no /sbin/init",
            "root=",
        ),
        ("Dropping to debug shell.\n", "could not start the system", "the lines before"),
        # As systemd in the initramfs of a distribution says it.
        (
            "dracut-initqueue[310]: Warning: dracut-initqueue: timeout, still waiting for following initqueue hooks:\n"
            "dracut-initqueue[310]: Warning: /dev/disk/by-uuid/0123 does not exist\n"
            "Entering emergency mode. Exit the shell to continue.\n",
            "root=UUID=0123 names nothing",
            "correct root=",
        ),
    ],
)
def test_each_failure_is_explained(text: str, means: str, then: str) -> None:
    found = only(text)
    assert means in found.means
    assert then in found.then


@pytest.mark.parametrize(
    ("text", "means", "then"),
    [
        (MAPPER, "dm_mod, is not loaded", "`modprobe dm_mod`"),
        (UNKNOWN, "its module is not in the initramfs", 'add_drivers+=" xfs " in a file of board/shed/dracut.conf.d/'),
    ],
)
def test_a_driver_that_is_a_module(text: str, means: str, then: str) -> None:
    found = only(text, MODULES)
    assert means in found.means
    assert then in found.then


def findings(text: str) -> list[Finding]:
    return diagnose(read(text), SHED)


@pytest.mark.parametrize(
    "text",
    [
        f"dracut: waiting for {LABEL}: 5 s, try 5 of 360\n",
        "No key available with this passphrase.\n",
    ],
)
def test_what_came_right_in_the_end_is_not_told(text: str) -> None:
    assert findings(f"{text}dracut: Mounted root filesystem /dev/vda\ndracut: Switching root\n") == []


def test_a_shell_that_was_asked_for_is_no_failure() -> None:
    (found,) = findings("dracut Warning: Break before pre-mount\nDropping to debug shell.\n")
    assert (found.level, found.means) == (
        "note",
        "rd.break= asked for a shell before the stage pre-mount; `exit` goes on",
    )
