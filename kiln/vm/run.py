"""A boot test: start a machine with a secret, and see that the check inside it says the secret back."""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kiln.vm.check import Verdict, verdict
from kiln.vm.console import record
from kiln.vm.qemu import Boot, Machine, command


def test_boot(
    machine: Machine, boot: Boot, *, program: Sequence[str], kvm: bool, log: Path, timeout: float, silence: float
) -> Verdict:
    """Boot an image unchanged, with its own check; the stamped serial log goes to ``log``. Times are in seconds."""
    nonce = secrets.token_hex(8)
    if boot.kernel:  # a panic ends the machine at once instead of by silence
        boot = replace(boot, cmdline=f"{boot.cmdline} panic=-1".lstrip())
    argv = command(machine, boot, program=program, kvm=kvm, interactive=False, fw_cfg={"check": nonce})
    return verdict(record(argv, log, timeout=timeout, silence=silence), nonce)
