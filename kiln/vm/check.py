"""The verdict: whether a machine booted and found itself whole."""

import re
from dataclasses import dataclass

from kiln.vm.console import Transcript

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
    (
        r"/usr/lib/kiln/check: not found",
        "add the package check to the board: it is what a test runs",
    ),
    (
        r"Out of memory|deadlocked on memory",
        "give the machine more memory, or the image fewer files",
    ),
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


def verdict(transcript: Transcript, nonce: str) -> Verdict:
    """Judge a boot: the check's marker came, QEMU ended by itself with status 0, and nothing broke on the way."""
    marker = re.compile(rf"KILN-CHECK {re.escape(nonce)} (ok$|FAIL (.*))")
    marker_at = None
    failed = []
    for stamp, text in transcript.lines:
        if found := marker.search(text):
            if found[2] is None:
                marker_at = stamp
            else:
                failed.append(found[2])
    broken = _broken(transcript)
    hint: str | None = None
    if broken:
        reason, hint = broken
    elif failed:
        reason = "the check failed: " + "; ".join(failed)
    elif transcript.ended == "timeout":
        reason = f"it was still running after {transcript.seconds:.0f} s{_last_words(transcript)}"
    elif transcript.ended == "silent":
        reason = f"it fell silent, and was ended after {transcript.seconds:.0f} s{_last_words(transcript)}"
    elif transcript.status:
        reason = f"QEMU ended with status {transcript.status}{_last_words(transcript)}"
    elif marker_at is None:
        reason = f"it ended without the check's word that all is well{_last_words(transcript)}"
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


def _last_words(transcript: Transcript) -> str:
    spoken = [text.strip() for _, text in transcript.lines if text.strip()]
    return f"; its last line: {spoken[-1]}" if spoken else ""
