"""The machine: which QEMU runs a board, and the exact command line that does."""

import os
import platform
import re
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kiln import process
from kiln.errors import KilnError, nearest

if TYPE_CHECKING:
    from kiln.graph import Graph

# What QEMU calls the virtual devices of a bus.
_BUSES = {"pci": "pci", "mmio": "device"}
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
# QEMU drops translated code once the cache is full, in MiB. In a large one, code of programs that ended stays by the
# copy, one for each address at which they ran; the kernel then takes seconds to clear the pages that held them, and
# longer still by single bytes (erms).
_TCG = "tcg,tb-size=48"
# The guest's clock follows from the instructions that it has run, two nanoseconds each, however busy this machine is.
_ICOUNT = ("-icount", "shift=1,sleep=off")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What QEMU emulates, with ``memory`` in MiB. ``cpu`` is for TCG, where vector units cost time.

    ``bus`` is what the virtual devices are on. ``forward`` are ports of this machine's loopback and those of the
    guest that they lead to, such as "2222:22". Raises KilnError for a bus or port that is none.
    """

    arch: str = "x86_64"
    machine: str = "q35"
    cpu: str = "max,-avx,-avx2,-erms"
    memory: int = 256
    cpus: int = 1
    bus: str = "pci"
    forward: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()

    def disk(self, name: str, file: Path, *, first: bool = False, keep: bool = True) -> list[str]:
        """The words that give it a disk. With ``keep``, what it writes stays in ``file``; ``first`` is booted from."""
        form = "qcow2" if file.suffix == ".qcow2" else "raw"
        # fmt: off
        return [
            "-drive", f"if=none,id={name},format={form},{'' if keep else 'snapshot=on,'}file={_option(file)}",
            "-device", f"virtio-blk-{_BUSES[self.bus]},drive={name}" + ",bootindex=0" * first,
        ]
        # fmt: on

    def __post_init__(self) -> None:
        if self.bus not in _BUSES:
            raise KilnError(f"there is no bus {self.bus!r}", hint=nearest(self.bus, _BUSES))
        for pair in self.forward:
            if not re.fullmatch(r"\d{1,5}:\d{1,5}", pair) or not all(0 < int(port) < 65536 for port in pair.split(":")):
                raise KilnError(f"{pair!r} is no pair of ports", hint='such as forward = ["2222:22"]')


@dataclass(frozen=True, kw_only=True)
class Boot:
    """What the machine boots: a kernel, a disk, a CD, the network, or a kernel with disks.

    ``cmdline`` is the kernel's, ``uefi`` a firmware instead of the machine's own. What DHCP tells the guest to boot is
    ``bootfile``, by TFTP from the folder ``tftp`` or by HTTP from http://10.0.2.100, which is the port ``web`` of this
    machine's loopback. ``rom`` is the network card's firmware; all firmware then speaks on the serial line. Where the
    console asks one of ``answers``, that is what a test says; ``told`` is what a person must know. ``host`` lets even a
    test reach this machine, as 10.0.2.2. ``cable`` joins a second network card to that of another machine, of which the
    one that ``serves`` starts first.
    """

    kernel: Path | None = None
    initrd: Path | None = None
    drives: tuple[Path, ...] = ()
    cdrom: Path | None = None
    cmdline: str = ""
    uefi: "Uefi | None" = None
    bootfile: str = ""
    tftp: Path | None = None
    rom: Path | None = None
    web: int | None = None
    answers: Mapping[str, str] = field(default_factory=dict)
    told: str = ""
    host: bool = False
    cable: Path | None = None
    serves: bool = False


@dataclass(frozen=True, kw_only=True)
class Uefi:
    """A UEFI firmware: its ``code``, and ``variables`` as they are when it is new."""

    code: Path
    variables: Path


def command(
    machine: Machine,
    boot: Boot,
    *,
    program: Sequence[str],
    kvm: bool,
    interactive: bool,
    check: str = "",
    tap: str = "",
) -> list[str]:
    """The command line that boots ``boot``; no image is ever written to.

    ``tap`` is an interface of this machine that the guest is connected to, instead of QEMU's own user network.
    The guest sees ``check`` as ``kiln.check=`` on the kernel's command line, or, where its own boot loader says that
    line, as ``/sys/firmware/qemu_fw_cfg/by_name/opt/kiln/check``.
    """
    kind = _BUSES[machine.bus]
    ports = "".join(f",hostfwd=tcp:127.0.0.1:{pair.replace(':', '-:')}" for pair in machine.forward)
    user = f"user,id=net{ports if interactive else '' if boot.host else ',restrict=on'}"
    if boot.bootfile:
        user += f",bootfile={_option(boot.bootfile)}"
    if boot.tftp:
        user += f",tftp={_option(boot.tftp)}"
    if boot.web:
        user += f",guestfwd=tcp:10.0.2.100:80-tcp:127.0.0.1:{boot.web}"
    rom = f",romfile={_option(boot.rom or '')}" if kind == "pci" else ""
    if boot.rom:
        rom += ",disable-legacy=on"  # the only kind of card that it is for
        # What it says would be for a screen.
        machine = replace(machine, machine=f"{machine.machine},graphics=off")
    # A UEFI firmware would look for a network first.
    first = ",bootindex=0" if boot.uefi else ""
    # fmt: off
    words = [
        *_machine(machine, program, kvm),
        "-device", f"virtio-rng-{kind}",
        "-netdev", f"tap,id=net,ifname={tap},script=no,downscript=no" if tap else user,
        "-device", f"virtio-net-{kind},netdev=net" + rom + ",bootindex=0" * bool(boot.bootfile),
    ]
    if interactive:
        words += ["-serial", "mon:stdio"]
    else:
        words += ["-no-reboot", "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]
    if boot.cable:
        side, mac = ("on", "01") if boot.serves else ("off", "02")
        words += ["-netdev", f"stream,id=cable,server={side},addr.type=unix,addr.path={_option(boot.cable)}"]
        words += ["-device", f"virtio-net-{kind},netdev=cable,mac=52:54:00:10:09:{mac}{rom}"]
    if boot.kernel:
        cmdline = f"{boot.cmdline} kiln.check={check}" if check else boot.cmdline
        words += ["-kernel", os.fspath(boot.kernel), "-append", cmdline.lstrip()]
    if boot.initrd:
        words += ["-initrd", os.fspath(boot.initrd)]
    for number, drive in enumerate(boot.drives):
        words += machine.disk(f"disk{number}", drive, first=bool(boot.uefi) and number == 0, keep=False)
    if boot.cdrom:
        words += ["-drive", f"if=none,id=cd,media=cdrom,readonly=on,file={_option(boot.cdrom)}"]
        words += ["-device", "ide-cd,drive=cd" + first]
    if boot.uefi:
        words += ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={_option(boot.uefi.code)}"]
        words += ["-drive", f"if=pflash,unit=1,format=raw,snapshot=on,file={_option(boot.uefi.variables)}"]
    # fmt: on
    for device in machine.devices:
        words += ["-device", device]
    if check and not boot.kernel:
        words += ["-fw_cfg", f"name=opt/kiln/check,string={check}"]
    return words


def find_tap(net: str) -> str:
    """The interface that ``net`` names as tap:NAME; none for "user". Raises KilnError for what is neither."""
    kind, _, name = net.partition(":")
    if net == "user":
        return ""
    if kind != "tap" or not name:
        raise KilnError(f"there is no network {net!r}", where="NET", hint="NET=user, or NET=tap:NAME")
    if not Path("/sys/class/net", name).is_dir():
        hint = f"as root, once: ip tuntap add {name} mode tap user {os.environ.get('USER', 'NAME')}"
        raise KilnError(f"this machine has no interface {name!r}", where="NET", hint=hint)
    return name


def with_free_ports(machine: Machine) -> Machine:
    """The machine with another port of the host in place of each forwarded one that somebody has already."""
    pairs = (pair.split(":") for pair in machine.forward)
    return replace(machine, forward=tuple(f"{free_port(int(host))}:{guest}" for host, guest in pairs))


def own_program(arch: str) -> str | None:
    """The QEMU that is installed on this machine."""
    return shutil.which(f"qemu-system-{arch}")


def find_program(arch: str, tree: Path | None) -> tuple[str, ...]:
    """How QEMU for ``arch`` is started: the machine's own, or the one in ``tree`` through that tree's loader.

    Raises KilnError where there is neither.
    """
    name = f"qemu-system-{arch}"
    own = own_program(arch)
    if own:
        return (own,)
    if tree is None or not (tree / "usr/bin" / name).exists():
        where = "the machine tools tree is not here yet" if tree is None else f"the machine tools in {tree} lack it"
        raise KilnError(f"this machine has no {name}, and {where}", hint=f"install a package that brings {name}")
    return (*of_tree(tree, name), "-L", f"{tree}/usr/share/qemu", "-L", f"{tree}/usr/share/seabios")


def of_tree(tree: Path, name: str) -> tuple[str, ...]:
    """How a program of QEMU's in a tools tree is started: by that tree's loader."""
    libraries = tree / _LIBRARIES
    # QEMU finds its modules relative to its own program, which here is the loader.
    # fmt: off
    return (
        "env", f"QEMU_MODULE_DIR={libraries}/qemu",
        f"{libraries}/ld-linux-x86-64.so.2", "--inhibit-cache", "--library-path", os.fspath(libraries),
        f"{tree}/usr/bin/{name}",
    )
    # fmt: on


def find_qemu(graph: "Graph") -> tuple[Sequence[str], bool]:
    """How the board's QEMU is started here, and whether with KVM."""
    entry = graph.tools[graph.vm].entry()
    found = find_program(graph.board.arch.name, entry.root if entry else None)
    accel = graph.settings.accel
    if accel == "icount":
        return (*found, *_ICOUNT), False
    return found, accel == "kvm" if accel else kvm_works(graph.board.machine, found)


def find_uefi(tree: Path) -> Uefi:
    """The firmware that a machine's tools tree brings for PCs. Raises KilnError where it has none."""
    folder = tree / "usr/share/OVMF"
    uefi = Uefi(code=folder / "OVMF_CODE_4M.fd", variables=folder / "OVMF_VARS_4M.fd")
    for path in (uefi.code, uefi.variables):
        if not path.exists():
            raise KilnError(
                "there is no UEFI firmware", where=os.fspath(path), hint="`doit tools:lock` pins the tools anew"
            )
    return uefi


def kvm_works(machine: Machine, program: Sequence[str]) -> bool:
    """Whether this QEMU can make the machine with KVM: a /dev/kvm that opens may still refuse, as nested ones do."""
    if machine.arch != platform.machine() or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    try:
        process.run([*_machine(machine, program, True), "-S", "-monitor", "stdio"], input=b"quit\n")
    except process.CommandFailed:
        return False
    return True


def free_port(wanted: int = 0) -> int:
    """A port of the loopback that nobody has: ``wanted``, if it is one."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            number: int = probe.getsockname()[1]
            return number
    raise KilnError("no port of the loopback is free", where="qemu.forward")


def _option(path: Path | str) -> str:
    """A path as the value of an option, which QEMU splits at commas."""
    return os.fspath(path).replace(",", ",,")


def _machine(machine: Machine, program: Sequence[str], kvm: bool) -> list[str]:
    # fmt: off
    return [
        *program, "-nodefaults", "-no-user-config", "-display", "none", "-machine", machine.machine,
        "-accel", "kvm" if kvm else _TCG, "-cpu", "max" if kvm else machine.cpu,
        "-smp", str(machine.cpus), "-m", str(machine.memory),
    ]
    # fmt: on
