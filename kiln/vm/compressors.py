"""What the compressors of an initramfs cost: the time to pack and to unpack, and the size, each on the real machine."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from kiln.errors import KilnError
from kiln.image.media import COMPRESSORS, compress
from kiln.report.phases import course
from kiln.report.size import human
from kiln.sandbox import Sandbox
from kiln.vm.check import boot_and_check
from kiln.vm.diagnose import read
from kiln.vm.qemu import Boot, Machine
from kiln.vm.setup import Setup

# The kernel says when it unpacks, and does nothing else meanwhile.
_WORDS = "loglevel=7 initramfs_async=0"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """``size`` in bytes, times in seconds, one of each boot; ``problem`` says why there were none."""

    name: str
    size: int = 0
    packing: float = 0.0
    unpacking: list[float] = field(default_factory=list)
    ready: list[float] = field(default_factory=list)
    problem: str = ""


def measure(
    plain: Path,
    boot: Boot,
    *,
    machine: Machine,
    program: Sequence[str],
    kvm: bool,
    setup: Setup,
    sandbox: Sandbox,
    runs: int,
    step: Callable[[str], None],
) -> list[Trial]:
    """Boot a kernel with an archive packed by each compressor, ``runs`` times; scratch files lie beside ``plain``.

    ``step`` is told of each boot. The compressors take turns, so that a busy machine slows them all alike.
    """
    trials, packed = [], {}
    for name in COMPRESSORS:
        lacking = setup.missing(f"CONFIG_RD_{name.upper()}") if name != "none" else []
        if lacking:
            trials.append(Trial(name=name, problem=f"the kernel cannot unpack it: {setup.state(lacking)}"))
            continue
        folder = plain.parent / name
        folder.mkdir()
        started = time.monotonic()
        packed[name] = compress(plain, folder, name, sandbox)
        packing = time.monotonic() - started
        trials.append(Trial(name=name, size=packed[name].stat().st_size, packing=packing))
    for number in range(runs):
        for trial in trials:
            if trial.problem:
                continue
            step(f"{trial.name} {number + 1}/{runs}")
            log = plain.parent / f"{trial.name}.log"
            one = replace(boot, initrd=packed[trial.name], cmdline=f"{boot.cmdline} {_WORDS}".lstrip())
            found = boot_and_check(machine, one, program=program, kvm=kvm, log=log, setup=setup)
            if not found.ok:
                message = f"the initramfs packed by {trial.name} did not boot: {found.reason}"
                raise KilnError(message, hint=found.hint)
            seen = course(read(log.read_text(errors="replace")))
            trial.unpacking.append(seen.unpacking or 0.0)
            trial.ready.append(seen.end)
    return trials


def render(trials: Sequence[Trial]) -> Iterator[str]:
    """A table: times are the median of all boots, and how far they were apart."""
    yield f"{'':<6}{'size':>10}{'pack':>9}{'unpack':>17}{'to the check':>17}"
    for trial in trials:
        if trial.problem:
            yield f"{trial.name:<6}  {trial.problem}"
            continue
        cells = f"{human(trial.size):>10}{trial.packing:>7.2f} s{_median(trial.unpacking)}{_median(trial.ready)}"
        yield f"{trial.name:<6}{cells}"


def _median(times: Sequence[float]) -> str:
    return f"{statistics.median(times):>9.2f} ±{(max(times) - min(times)) / 2:.2f} s"
