"""A boot test: start a machine with a secret, see that the check inside it says it back, and that nothing broke."""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kiln.vm.console import Transcript, record
from kiln.vm.diagnose import diagnose
from kiln.vm.qemu import Boot, Machine, command
from kiln.vm.setup import Setup

# A boot under emulation on a busy machine, in seconds, and how long it may say nothing.
_TIMEOUT = 180.0
_SILENCE = 60.0


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
    setup: Setup | None = None,
) -> Verdict:
    """Boot an image unchanged, with its own check; the stamped serial log goes to ``log``.

    ``setup`` is the board's, where more is known of it than its machine.
    """
    nonce = secrets.token_hex(8)
    if boot.kernel:  # a panic ends the machine at once instead of by silence
        boot = replace(boot, cmdline=f"{boot.cmdline} panic=-1".lstrip())
    argv = command(machine, boot, program=program, kvm=kvm, interactive=False, check=nonce)
    setup = replace(setup or Setup(arch=machine.arch, memory=machine.memory), cmdline=boot.cmdline)
    return verdict(record(argv, log, timeout=timeout, silence=silence, answers=boot.answers), nonce, setup)


def verdict(transcript: Transcript, nonce: str, setup: Setup) -> Verdict:
    """Judge a boot: the check's marker came, QEMU ended by itself with status 0, and nothing broke on the way."""
    marker = re.compile(rf"KILN-CHECK {re.escape(nonce)} (ok$|FAIL (.*))")
    found = [(stamp, said) for stamp, text in transcript.lines if (said := marker.search(text))]
    marker_at = next((stamp for stamp, said in found if said[2] is None), None)
    failed = [said[2] for _, said in found if said[2] is not None]
    spoken = [text.strip() for _, text in transcript.lines if text.strip()]
    last = f"; its last line: {spoken[-1]}" if spoken else ""
    findings = diagnose(transcript.lines, setup)
    broken = next((finding for finding in findings if finding.level == "failure"), None)
    stopped = transcript.ended != "exit" and broken and (not spoken or broken.line == spoken[-1])
    if broken and spoken and not stopped:
        reason = broken.line
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
    told = broken or next((finding for finding in findings if finding.level == "flaw"), None)
    hint = f"{told.means}\n  {told.then}" if told else None
    return Verdict(ok=False, reason=reason, hint=hint, marker_at=marker_at)
