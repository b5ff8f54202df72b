import pytest

from kiln.vm import check
from kiln.vm.check import Verdict
from kiln.vm.console import Ending, Transcript
from kiln.vm.setup import Setup

NONCE = "7bca34e68f37eda7"
SETUP = Setup(board="shed", arch="x86_64", memory=64, cmdline="console=ttyS0")

BOOT = """\
[    0.000000] Linux version 6.1.176 (kiln@kiln) #1 SMP
[    2.208000] Run /init as init process
"""
GOOD = f"""\
{BOOT}KILN-CHECK {NONCE} info uname=Linux kiln 6.1.176 #1 SMP x86_64 GNU/Linux
KILN-CHECK {NONCE} info root=rootfs
KILN-CHECK {NONCE} ok
[    1.932698] reboot: Power down
"""
FAILED = f"""\
{BOOT}KILN-CHECK {NONCE} FAIL /etc/shadow is not 0600 of root
KILN-CHECK {NONCE} FAIL lo is without its address
KILN-CHECK {NONCE} info root=rootfs
[    1.953940] reboot: Power down
"""
NO_ROOT = """\
[    1.426057] VFS: Cannot open root device "(null)" or unknown-block(0,0): error -6
[    1.426200] Please append a correct "root=" boot option; here are the available partitions:
[    1.426421] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)
[    1.427093] Call Trace:
"""
NO_INIT = """\
[    1.567000] Run /sbin/init as init process
[    1.567400] Kernel panic - not syncing: No working init found.  Try passing init= option to kernel.
"""
INIT_ENDED = """\
[    1.767579] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100
[    1.768000] Call Trace:
"""
UNPACKING = """\
[    0.700000] Initramfs unpacking failed: write error
[    1.426421] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)
"""
NO_CHECK = f"{BOOT}/etc/init.d/rcS: line 38: /usr/lib/kiln/check: not found\n/ # "
OOPS = f"[    1.000000] BUG: kernel NULL pointer dereference, address: 0000000000000008\n{GOOD}"
CRASH = f"[    1.500000] vi[42]: segfault at 8 ip 0000000000401000 sp 00007ffc error 4 in busybox\n{GOOD}"
NO_GETTY = f"can't run '/sbin/getty': No such file or directory\n{GOOD}"
QEMU_ERROR = "qemu-system-x86_64: -device virtio-blk-pci,drive=disk: Failed to get lock\n"
QEMU_WARNING = f"qemu-system-x86_64: warning: TCG doesn't support requested feature\n{GOOD}"


def transcript(text: str, *, status: int | None = 0, ended: Ending = "exit") -> Transcript:
    lines = tuple((index / 10, line) for index, line in enumerate(text.splitlines(), 1))
    return Transcript(lines=lines, status=status, ended=ended, seconds=12.0)


def verdict(found: Transcript, nonce: str) -> Verdict:
    return check.verdict(found, nonce, SETUP)


@pytest.mark.parametrize("text", [GOOD, QEMU_WARNING, GOOD.replace("KILN-CHECK", "# KILN-CHECK")])
def test_a_boot_that_says_its_word(text: str) -> None:
    found = verdict(transcript(text), NONCE)
    assert found.ok
    assert found.marker_at == next(stamp for stamp, line in transcript(text).lines if line.endswith("ok"))


@pytest.mark.parametrize(
    ("text", "reason", "hint"),
    [
        (NO_ROOT, "VFS: Cannot open root device", "root="),
        (NO_INIT, "No working init found", "add the package init"),
        (INIT_ENDED, "Attempted to kill init", "lines before"),
        (UNPACKING, "Initramfs unpacking failed", "64 MiB"),
        (NO_CHECK, "/usr/lib/kiln/check: not found", "packages of configs/shed.toml"),
        (OOPS, "BUG: kernel NULL pointer dereference", "the kernel itself"),
        (CRASH, "vi[42]: segfault", "null pointer in busybox"),
        (NO_GETTY, "can't run '/sbin/getty'", "/sbin/getty was called"),
        (QEMU_ERROR, "Failed to get lock", "another QEMU"),
    ],
)
def test_what_broke_is_named_first(text: str, reason: str, hint: str) -> None:
    found = verdict(transcript(text), NONCE)
    assert not found.ok
    assert reason in found.reason
    assert hint in (found.hint or "")


def test_failed_checks_are_repeated() -> None:
    found = verdict(transcript(FAILED), NONCE)
    assert not found.ok
    assert found.reason == "the check failed: /etc/shadow is not 0600 of root; lo is without its address"


def test_another_boots_word_does_not_count() -> None:
    found = verdict(transcript(GOOD), "0123456789abcdef")
    assert not found.ok
    assert found.marker_at is None
    assert found.reason.endswith("its last line: [    1.932698] reboot: Power down")


def test_a_word_that_is_cut_off_does_not_count() -> None:
    assert not verdict(transcript(f"KILN-CHECK {NONCE} o"), NONCE).ok
    assert not verdict(transcript(f"KILN-CHECK {NONCE} okay?"), NONCE).ok


def test_a_failure_outweighs_the_word() -> None:
    assert not verdict(transcript(f"KILN-CHECK {NONCE} FAIL no vi\nKILN-CHECK {NONCE} ok\n"), NONCE).ok


@pytest.mark.parametrize(
    ("status", "ended", "reason"),
    [
        (1, "exit", "QEMU ended with status 1"),
        (-9, "exit", "QEMU ended with status -9"),
        (None, "timeout", "still running after 12 s"),
        (None, "silent", "fell silent"),
    ],
)
def test_the_word_alone_is_not_enough(status: int | None, ended: Ending, reason: str) -> None:
    found = verdict(transcript(GOOD, status=status, ended=ended), NONCE)
    assert not found.ok
    assert reason in found.reason
    assert found.marker_at == 0.5


def test_nothing_at_all_points_at_the_console() -> None:
    found = verdict(transcript("", status=None, ended="silent"), NONCE)
    assert not found.ok
    assert found.hint
    assert "console=" in found.hint
