"""What lies behind the signs of failure in a boot's log, where the board's configuration must be asked."""

import errno
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from kiln.vm.setup import Setup

# What it means, and what to do next.
Account = tuple[str, str]

# The first serial port of QEMU's machines, and the symbols without which the kernel has no console there.
_8250 = ("CONFIG_SERIAL_8250", "CONFIG_SERIAL_8250_CONSOLE")
_CONSOLES = {
    "x86_64": ("ttyS0", _8250),
    "aarch64": ("ttyAMA0", ("CONFIG_SERIAL_AMBA_PL011", "CONFIG_SERIAL_AMBA_PL011_CONSOLE")),
    "riscv64": ("ttyS0", (*_8250, "CONFIG_SERIAL_OF_PLATFORM")),
}
DISKS = {
    "vd": ("CONFIG_BLK_DEV", "CONFIG_VIRTIO_BLK"),
    "sd": ("CONFIG_BLK_DEV_SD",),
    "nvme": ("CONFIG_BLK_DEV_NVME",),
    "mmcblk": ("CONFIG_MMC_BLOCK",),
    "ram": ("CONFIG_BLK_DEV_RAM",),
}
FILE_SYSTEMS = {name: f"CONFIG_{name.upper()}_FS" for name in ("ext4", "erofs", "btrfs", "xfs", "f2fs", "iso9660")}
FILE_SYSTEMS["squashfs"] = "CONFIG_SQUASHFS"
_STATUSES = {
    0: "it ended as if its work were done, which the first program must never do",
    126: "a shell says 126 of a program that it found but could not run",
    127: "a shell says 127 of a program that it did not find",
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A line of a log that a sign was found in, with all of the log round it."""

    setup: Setup
    lines: Sequence[str]
    index: int
    match: re.Match[str]

    def __getitem__(self, group: int) -> str:
        return self.match[group] or ""

    def has(self, pattern: str) -> bool:
        return any(re.search(pattern, line) for line in self.lines)

    @property
    def is_last(self) -> bool:
        return not any(line.strip() for line in self.lines[self.index + 1 :])

    @cached_property
    def words(self) -> dict[str, str]:
        """The kernel's parameters: as it printed them, or else as the board has them."""
        said = [line for line in self.lines if re.search("ommand line: ", line)]
        text = said[0].partition("ommand line: ")[2] if said else self.setup.cmdline
        return {name: value for name, _, value in (word.partition("=") for word in text.split())}

    @property
    def memory(self) -> str:
        """What the kernel had, or else what the board has."""
        said = re.search(r"^Memory: \d+K/(\d+)K", "\n".join(self.lines), re.MULTILINE)
        # The kernel does not count what the firmware keeps for itself.
        return f"{-(-int(said[1]) // 4096) * 4 if said else self.setup.memory} MiB"

    @property
    def initramfs(self) -> bool:
        return self.has(r"Unpacking initramfs|unpack rootfs image as initramfs")

    @property
    def disks(self) -> dict[str, str]:
        """The disks and partitions that the kernel told of by name, with their PARTUUIDs."""
        found: dict[str, str] = {}
        for line in self.lines:
            if row := re.match(r"\s*[0-9a-f]{4,}\s+\d+\s+(\w+)\s*([0-9a-f-]*)\s*$", line):
                found[row[1]] = row[2]
            elif row := re.match(r"\s*((?:vd|sd|nvme|mmcblk)\w+):((?: \w+)*)\s*$", line):
                found |= {name: found.get(name, "") for name in (row[1], *row[2].split())}
            elif row := re.search(r" \[((?:vd|sd)[a-z]+)\] \d+ \d+-byte logical blocks", line):
                found.setdefault(row[1], "")
        return found


def silence(setup: Setup) -> Account:
    """Why a machine may say nothing on its serial line."""
    port, symbols = _CONSOLES.get(setup.arch, _CONSOLES["x86_64"])
    consoles = re.findall(r"\bconsole=(\w+)", setup.cmdline)
    if lacking := setup.missing("CONFIG_TTY", "CONFIG_PRINTK", *symbols):
        return f"the kernel cannot print on {port}: {setup.state(lacking)}", setup.enable(lacking)
    if consoles and port not in consoles and "hvc0" not in consoles:
        means = f"the kernel prints on {', '.join(consoles)}, and the serial port of this machine is {port}"
        return means, f"write console={port} into the cmdline of {setup.file}"
    means = "nothing was printed: the kernel did not start, or its console= is not the serial port of this machine"
    return means, f"check that console={port} is on the kernel's command line; earlycon shows what comes before it"


def silent_after(case: Case) -> Account | None:
    if not case.is_last:
        return None
    means, then = silence(case.setup)
    return f"the kernel was started, and then said nothing; {means}", then


def unpacking(case: Case) -> Account:
    setup, why = case.setup, case[1]
    if method := re.search(r"compression method (\w+) not configured", why):
        symbol = f"CONFIG_RD_{method[1].upper()}"
        return f"the kernel cannot unpack {method[1]}: {setup.state([symbol])}", setup.enable([symbol])
    if "write error" in why:
        size = f", and the files of the image take {setup.unpacked} MiB" if setup.nodes else ""
        limit = "at most half of the memory is for them" if "root" not in case.words else "they share the memory"
        return (
            f"the memory was too small for the files of the initramfs: the machine has {case.memory}{size}; {limit}",
            f"raise memory in [qemu] of {setup.file}, or leave packages out",
        )
    return (
        f"the initramfs is damaged or cut short ({why})",
        "`doit verify` finds damage in the store; a loader that loads only a part of the file does the same",
    )


def no_root(case: Case) -> Account:
    setup, root = case.setup, case.words.get("root", "")
    if case.initramfs and not root:
        return _no_first(case)
    if not root:
        return "there was neither an initramfs nor root=", "boot an initramfs, or name the root: root=/dev/vda"
    if root.startswith(("UUID=", "LABEL=")):
        then = "write root=PARTUUID=... or the name of the device"
        return f"the kernel itself does not know {root.partition('=')[0]}=, which only an initramfs can look up", then
    disks, name = case.disks, root.removeprefix("/dev/")
    if not disks:
        kind = next((kind for kind in DISKS if name.startswith(kind)), "vd")
        if lacking := setup.missing(*DISKS[kind]):
            return f"the kernel has no driver for {root}: {setup.state(lacking)}", setup.enable(lacking)
        means = f"the kernel has the driver for {root}, and found no disk at all"
        return means, "give the machine the disk, or the kernel the bus that it is on; slow disks need rootwait"
    partuuid = root.removeprefix("PARTUUID=")
    if name not in disks and partuuid not in disks.values():
        known = ", ".join(f"{disk} (PARTUUID={uuid})" if uuid else disk for disk, uuid in disks.items())
        late = "" if "rootwait" in case.words else "; a disk that is found later needs rootwait as well"
        return f"root={root} names nothing; the kernel found: {known}", f"correct root={late}"
    return _no_file_system(case, root)


def _no_first(case: Case) -> Account:
    setup, first = case.setup, case.words.get("rdinit", "/init")
    if setup.nodes and "rdinit" not in case.words and setup.find(first):
        return (
            f"the initramfs has no {first}, though the image of the board has: this was another initramfs",
            "`doit image` makes it; `doit test:cpio` boots it",
        )
    then = "correct rdinit=" if "rdinit" in case.words else f"add the package init, or lay a {first} over the image"
    return f"the initramfs has no {first}, so the kernel looked for a root file system on a disk", then


def _no_file_system(case: Case, root: str) -> Account:
    setup, start = case.setup, next((i for i, line in enumerate(case.lines) if "tried:" in line), len(case.lines))
    tried = []
    for line in case.lines[start + 1 :]:
        if "panic" in line:
            break
        tried += line.split()
    asked = case.words.get("rootfstype", "")
    wanted = [FILE_SYSTEMS[asked]] if asked in FILE_SYSTEMS else list(FILE_SYSTEMS.values())
    lacking = setup.missing(*wanted)
    means = f"{root} is there, and holds none of the file systems that this kernel knows ({', '.join(tried)})"
    if asked and lacking:
        return f"{means}: {setup.state(lacking)}", setup.enable(lacking)
    unknown = f"; not built in are: {', '.join(lacking)}" if lacking else ""
    return means + unknown, f"{_choose(case, root)}, or add its file system to the kernel"


def _choose(case: Case, root: str) -> str:
    """What to do about a root that is the wrong one."""
    others = [disk for disk in case.disks if disk != root.removeprefix("/dev/")]
    return f"correct root= (there are also {', '.join(others)})" if others else "check what is on it"


def waiting(case: Case) -> Account | None:
    return None if case.has(r"^VFS: Mounted root|as init process") else no_root(case)


def not_run(case: Case) -> Account:
    """A first program that the kernel could not start, with its error number."""
    path, number, setup = case[1], int(case[2]), case.setup
    generic = {
        errno.ENOENT: "it is not there, or what it needs to run is not: the loader of a program, the shell of a script",
        errno.ENOEXEC: "it is built for another processor, or is a script without #! in its first line",
        errno.EACCES: "it is not executable, or on a file system that is mounted noexec",
    }.get(number, f"error {number}")
    if number == errno.ENOEXEC:
        lacking = setup.missing("CONFIG_BINFMT_ELF", "CONFIG_BINFMT_SCRIPT")
        if lacking:
            return f"the kernel cannot run it: {setup.state(lacking)}", setup.enable(lacking)
    obstacle = setup.obstacle(path)
    node = setup.find(path)
    if node and not obstacle:
        generic += "; in the image of the board nothing is wrong with it, so this was another image"
    source = f"correct it in {node.package}" if node else "add what brings it"
    then = f"{source}, or name another one with {'rdinit=' if case.initramfs else 'init='}"
    return f"the kernel could not start {path}: {obstacle or generic}", then


def no_init(case: Case) -> Account:
    mounted = [row[1] for line in case.lines if (row := re.match(r"VFS: Mounted root \((\w+) filesystem\)", line))]
    if mounted and case.setup.nodes and not case.setup.obstacle("/sbin/init"):
        root = case.words.get("root", "the root")
        return f"{root} ({mounted[0]}) is not the image's root: that has a /sbin/init", _choose(case, root)
    found = [case.setup.obstacle(path) or f"{path} is there" for path in ("/sbin/init", "/bin/sh")]
    more = f" ({'; '.join(found)})" if case.setup.nodes else ""
    then = "add the package init and busybox, or name a program with init= (rdinit= for an initramfs)"
    return f"none of the programs that the kernel tries as the first one could be run{more}", then


def ended(case: Case) -> Account:
    code = int(case[1], 16)
    first = next((line.split()[1] for line in reversed(case.lines[: case.index]) if line.startswith("Run /")), "init")
    before = [line.strip() for line in case.lines[: case.index] if line.strip()]
    words = f"; its last words: {before[-1]}" if before and not before[-1].startswith("Run /") else ""
    if number := code & 0x7F:
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        then = "its crash is to be found in the program itself, or in libraries built for something else"
        return f"the first program, {first}, was ended by {name}{words}", then
    status = code >> 8 & 0xFF
    how = _STATUSES.get(status, "it failed")
    return f"the first program, {first}, ended with status {status}: {how}{words}", "the lines before say why"


def oops(case: Case) -> Account:
    place = None
    for line in case.lines[case.index : case.index + 40]:
        place = place or re.search(r"\b(?:RIP: \w+:|pc : |epc : )(?:0x)?([\w.]+)", line)
    if not place:
        return (
            "the kernel itself made a mistake",
            "the trace below it says where; CONFIG_KALLSYMS=y names the functions",
        )
    name = place[1]
    if re.fullmatch(r"[0-9a-f]{16}", name):
        name = case.setup.function(int(name, 16)) or f"{name} (CONFIG_KALLSYMS=y would name it)"
    return f"the kernel itself made a mistake, in {name}", "look for that function in the changes since it last worked"


def segfault(case: Case) -> Account:
    where = f" in {case[3]}" if case[3] else ""
    what = "used a null pointer" if int(case[2] or "1000", 16) < 4096 else "touched memory that is not its own"
    return f"{case[1]} {what}{where}", f"run it by hand: `doit qemu BOARD={case.setup.board}`"


def init_ignored(case: Case) -> Account | None:
    asked = case.words.get("init")
    if not asked or not case.initramfs or case[1] == asked:
        return None
    return (
        f"init={asked} is for a root on a disk: an initramfs starts {case[1]}, and init= only if that hands over to it",
        f"write rdinit={asked} to start another program of the initramfs",
    )


def silent_first(case: Case) -> Account | None:
    if not case.is_last:
        return None
    if not case.has("crng init done"):
        lacking = case.setup.missing("CONFIG_HW_RANDOM", "CONFIG_HW_RANDOM_VIRTIO")
        then = case.setup.enable(lacking) if lacking else "give the machine a virtio-rng device"
        return f"{case[1]} says nothing; there are no random numbers yet (crng), which it may wait for", then
    return f"{case[1]} was started and says nothing", "its /dev/console is the last console= of the command line"


def urandom(case: Case) -> Account | None:
    late = "random numbers were there later, so this is harmless"
    return (late, "") if case.has("crng init done") else None


def no_devices(case: Case) -> Account:
    if lacking := case.setup.missing("CONFIG_NET", "CONFIG_NETDEVICES", "CONFIG_NET_CORE", "CONFIG_VIRTIO_NET"):
        return f"ip= found no network card: {case.setup.state(lacking)}", case.setup.enable(lacking)
    return "ip= found no network card, though the kernel has virtio's driver", "give the machine a virtio network card"


def missing_program(case: Case) -> Account | None:
    if any("Attempted to kill init" in line for line in case.lines[case.index : case.index + 2]):
        return None  # these were its last words, and are told as such
    why = case.setup.obstacle(case[1]) if case[1].startswith("/") else None
    means = f"{case[1]} was called and could not be run" + (f": {why}" if why else "")
    return means, "add the package that brings it (or the interpreter that it is a script for), or drop the call"
