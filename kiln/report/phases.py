"""The phases of a boot, read from the log of its serial line: when each began, and where the time went."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from kiln.errors import KilnError
from kiln.vm.diagnose import Lines

Name = Literal["firmware", "loader", "kernel", "initramfs", "userspace"]

_LOADER = re.compile(
    r"(?:SYSLINUX|ISOLINUX|EXTLINUX|PXELINUX) \d|(?:GNU |Welcome to )?GRUB|systemd-boot|iPXE (?:\d|initialising)|"
    r"BdsDxe: starting "
)
_UEFI_STARTS = re.compile(r"BdsDxe: starting ")
_KERNEL = re.compile(r"EFI stub: |Booting Linux on |Linux version \d")
_FIRST_PROGRAM = re.compile(r"Run /\S+ as init process")
_FREED = re.compile(r"Freeing unused kernel ")
_INITRAMFS = re.compile(r"(?:initramfs|dracut[\w-]*(?:\[\d+\])?): ")
_HANDED_OVER = re.compile(r"initramfs: starts |dracut: Switching root")
_CHECKED = re.compile(r"KILN-CHECK \w+ ok$")
# What a boot comes to that nobody checks: a login, or a shell's prompt.
_PROMPT = re.compile(r" login: ?$|(?:^|\s)[\w.-]+:[~/]\S*# ")
_UPTIME = re.compile(r".*KILN-CHECK \w+ info uptime=(\d+\.\d+)$")
_UNPACKING = re.compile(r"Trying to unpack rootfs image as initramfs|Unpacking initramfs")
_UNPACKED = re.compile(r"Freeing initrd memory")
_INITCALL = re.compile(r"initcall (\w+)\S* (?:\[\w+\] )?returned -?\d+ after (\d+) usecs")
# What the kernel puts before its lines where it is asked to: its own time, and what was running.
_KERNEL_STAMP = re.compile(r"^\[\s*\d+\.\d{6}\](?:\[\s*[TC]\d+\])? ?")


@dataclass(frozen=True, kw_only=True)
class Phase:
    """From ``start`` to ``end``, in seconds since the machine was switched on."""

    name: Name
    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass(frozen=True, kw_only=True)
class Part:
    """Something within a phase that took ``seconds``."""

    name: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A time without a word, between the lines ``before`` and ``after``."""

    start: float
    seconds: float
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class Course:
    """How a boot went. ``quiet`` where the log does not tell the kernel from what followed, which then counts to it.

    ``ready`` says that the boot came to its end: the check's word, or a login. ``gaps`` and ``initcalls`` have the
    longest first; ``unpacking`` is that of the initramfs, in seconds.
    """

    phases: tuple[Phase, ...]
    ready: bool
    quiet: bool
    last: str
    unpacking: float | None
    initcalls: tuple[Part, ...]
    gaps: tuple[Gap, ...]

    @property
    def end(self) -> float:
        return self.phases[-1].end

    def seconds(self, name: Name) -> float | None:
        """How long a phase took; None where there was none, or the log does not tell."""
        return next((phase.seconds for phase in self.phases if phase.name == name), None)


def course(log: Lines, symbols: Mapping[str, str] = {}) -> Course:
    """The phases that a log shows, to where it ends. Raises KilnError where its lines have no times.

    ``symbols`` names the functions of a kernel that prints their addresses, such as 0xffffffff81000000.
    """
    lines = _clocked(log)
    # In the log of a boot test, where each line has its time, the check's word alone counts.
    sign = _CHECKED if all(stamp is not None for stamp, _ in log) else _PROMPT
    done = next((index for index, (_, text) in enumerate(lines) if sign.search(text)), None)
    lines = lines if done is None else lines[: done + 1]
    started = _times(lines)
    end = lines[-1][0]
    borders = [*(time for _, time in started), end]
    phases = [
        Phase(name=name, start=start, end=after)
        for (name, start), after in zip(started, borders[1:], strict=True)
        if after > start or name == started[-1][0]
    ]
    spoken = [text for _, text in lines if text.strip()]
    return Course(
        phases=tuple(phases),
        ready=done is not None,
        quiet=done is not None and started[-1][0] in ("firmware", "loader", "kernel"),
        last=spoken[-1].strip() if spoken else "",
        unpacking=_unpacking(lines),
        initcalls=tuple(sorted(_initcalls(lines, symbols), key=lambda part: -part.seconds)),
        gaps=tuple(sorted(_gaps(lines), key=lambda gap: -gap.seconds)),
    )


def _clocked(log: Lines) -> list[tuple[float, str]]:
    """The lines with the host's times, which do not hang on what the guest takes for a second."""
    if all(stamp is None for stamp, _ in log):
        raise KilnError("its lines have no times", hint="`doit test` keeps logs that have them")
    lines: list[tuple[float, str]] = []
    for stamp, text in log:
        before = lines[-1][0] if lines else 0.0
        lines.append((before if stamp is None else max(before, stamp), _KERNEL_STAMP.sub("", text, count=1)))
    return lines


def _times(lines: Sequence[tuple[float, str]]) -> list[tuple[Name, float]]:
    """The phases in their order, each with the time of its start."""
    kernel = _first(lines, _KERNEL)
    before = [(time, text) for time, text in lines if kernel is None or time <= kernel]
    # A firmware may try several things before one starts.
    tried = [time for time, text in before if _UEFI_STARTS.match(text)]
    loader = tried[-1] if tried else _first(before, _LOADER)
    if kernel is None:  # it was quiet, but the check knows how long ago it started
        uptimes = (time - float(found[1]) for time, text in lines if (found := _UPTIME.match(text)))
        # Under emulation, the clock of a guest can be far off.
        kernel = next((time for time in uptimes if time > (loader or 0.0)), None)
    starts: list[tuple[Name, float | None]] = [("firmware", 0.0), ("loader", loader)]
    if kernel is not None:
        first = _first(lines, _FIRST_PROGRAM)
        first = max((time for time, text in lines if _FREED.match(text)), default=None) if first is None else first
        early, over = _first(lines, _INITRAMFS), _first(lines, _HANDED_OVER)
        starts.append(("kernel", kernel))
        if early is None and over is None:
            starts.append(("userspace", first))
        else:
            starts += [("initramfs", early if first is None else first), ("userspace", over)]
    return [(name, time) for name, time in starts if time is not None]


def _first(lines: Sequence[tuple[float, str]], sign: re.Pattern[str]) -> float | None:
    return next((time for time, text in lines if sign.match(text)), None)


def _unpacking(lines: Sequence[tuple[float, str]]) -> float | None:
    start, end = _first(lines, _UNPACKING), _first(lines, _UNPACKED)
    return end - start if start is not None and end is not None else None


def _initcalls(lines: Sequence[tuple[float, str]], symbols: Mapping[str, str]) -> Iterator[Part]:
    for _, text in lines:
        if found := _INITCALL.match(text):
            yield Part(name=symbols.get(found[1], found[1]), seconds=int(found[2]) / 1e6)


def _gaps(lines: Sequence[tuple[float, str]]) -> Iterator[Gap]:
    spoken = [(0.0, ""), *((time, text.strip()) for time, text in lines if text.strip())]
    for (start, before), (end, after) in pairwise(spoken):
        yield Gap(start=start, seconds=end - start, before=before, after=after)
