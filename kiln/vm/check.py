"""A boot test: start a machine with a secret, see that the check inside it says it back, and that nothing broke."""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kiln.vm.console import Transcript, record
from kiln.vm.qemu import Boot, Machine, command

# A boot under emulation on a busy machine, in seconds, and how long it may say nothing.
_TIMEOUT = 180.0
_SILENCE = 60.0

# What a kernel or a machine says when it is lost, and what to look at where that is known.
_FAILURES: tuple[tuple[str, str | None], ...] = (
    (
        r"[Ii]nitramfs unpacking failed|compression method .* not configured",
        "check that the kernel can unpack this compression (CONFIG_RD_...) and that the files fit in the memory",
    ),
    (
        r"VFS: Cannot open root device|VFS: Unable to mount root fs",
        "check root= on the kernel command line, and that the kernel has the disk's driver (VIRTIO_PCI, VIRTIO_BLK)"
        " and the file system built in; an initramfs needs an executable /init",
    ),
    (
        r"No working init found|Failed to execute /|Requested init .* failed|init not found",
        "check that the first program is there, executable and built for this machine, and that the kernel can run it"
        " (BINFMT_ELF, BINFMT_SCRIPT) and its interpreter is in the image",
    ),
    (r"/usr/lib/kiln/check: not found", "add the package check to the board: it is what a test runs"),
    (r"Out of memory|deadlocked on memory", "give the machine more memory, or the image fewer files"),
    (r"Attempted to kill init", "the first program ended; the lines before say why"),
    (r"Kernel panic|not syncing|\bOops\b|\bBUG:|Call Trace|general protection fault|\bsegfault at\b", None),
    (r"Segmentation fault|Illegal instruction|can't run '[^']*'", None),
    (r"^qemu-system-\S+: (?!warning:|terminating on signal)", None),
)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """``ok`` or not, and the ``reason``; ``marker_at`` is when the check was done, in seconds from the start."""

    ok: bool
    reason: str
    hint: str | None = None
    marker_at: float | None = None


def boot_and_check(
    machine: Machine,
    boot: Boot,
    *,
    program: Sequence[str],
    kvm: bool,
    log: Path,
    timeout: float = _TIMEOUT,
    silence: float = _SILENCE,
) -> Verdict:
    """Boot an image unchanged, with its own check; the stamped serial log goes to ``log``."""
    nonce = secrets.token_hex(8)
    if boot.kernel:  # a panic ends the machine at once instead of by silence
        boot = replace(boot, cmdline=f"{boot.cmdline} panic=-1".lstrip())
    argv = command(machine, boot, program=program, kvm=kvm, interactive=False, check=nonce)
    return verdict(record(argv, log, timeout=timeout, silence=silence), nonce)


def verdict(transcript: Transcript, nonce: str) -> Verdict:
    """Judge a boot: the check's marker came, QEMU ended by itself with status 0, and nothing broke on the way."""
    marker = re.compile(rf"KILN-CHECK {re.escape(nonce)} (ok$|FAIL (.*))")
    found = [(stamp, said) for stamp, text in transcript.lines if (said := marker.search(text))]
    marker_at = next((stamp for stamp, said in found if said[2] is None), None)
    failed = [said[2] for _, said in found if said[2] is not None]
    spoken = [text.strip() for _, text in transcript.lines if text.strip()]
    last = f"; its last line: {spoken[-1]}" if spoken else ""
    hint = None
    if broken := _broken(transcript):
        reason, hint = broken
    elif failed:
        reason = "the check failed: " + "; ".join(failed)
    elif transcript.ended == "timeout":
        reason = f"it was still running after {transcript.seconds:.0f} s{last}"
    elif transcript.ended == "silent":
        reason = f"it fell silent, and was ended after {transcript.seconds:.0f} s{last}"
    elif transcript.status:
        reason = f"QEMU ended with status {transcript.status}{last}"
    elif marker_at is None:
        reason = f"it ended without the check's word that all is well{last}"
    else:
        return Verdict(ok=True, reason=f"all was well after {marker_at:.1f} s", marker_at=marker_at)
    if not transcript.lines:
        hint = "nothing was printed: check console= on the kernel command line and the kernel's serial driver"
    return Verdict(ok=False, reason=reason, hint=hint, marker_at=marker_at)


def _broken(transcript: Transcript) -> tuple[str, str | None] | None:
    """The first line of the most telling failure, and what to look at."""
    for pattern, hint in _FAILURES:
        for _, text in transcript.lines:
            if re.search(pattern, text):
                return text.strip(), hint
    return None
