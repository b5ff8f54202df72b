"""The machine: which QEMU runs a board, and the exact command line that does."""

import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kiln import process
from kiln.errors import KilnError


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What QEMU emulates, with ``memory`` in MiB. ``cpu`` is for TCG, where emulating vector units costs time."""

    arch: str = "x86_64"
    machine: str = "q35"
    cpu: str = "max,-avx,-avx2"
    memory: int = 256
    cpus: int = 1
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Boot:
    """What the machine boots: a kernel, a raw disk, or a kernel with a disk. ``cmdline`` is the kernel's."""

    kernel: Path | None = None
    initrd: Path | None = None
    drive: Path | None = None
    cmdline: str = ""


def command(
    machine: Machine, boot: Boot, *, program: Sequence[str], kvm: bool, interactive: bool, check: str = ""
) -> list[str]:
    """The command line that boots ``boot``; no image is ever written to.

    ``check`` is seen by the guest as ``/sys/firmware/qemu_fw_cfg/by_name/opt/kiln/check``.
    """
    # fmt: off
    words = [
        *_machine(machine, program, kvm),
        "-device", "virtio-rng-pci",
        "-netdev", "user,id=net" if interactive else "user,id=net,restrict=on",
        "-device", "virtio-net-pci,netdev=net,romfile=",
    ]
    if interactive:
        words += ["-serial", "mon:stdio"]
    else:
        words += ["-no-reboot", "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]
    if boot.kernel:
        words += ["-kernel", os.fspath(boot.kernel), "-append", boot.cmdline]
    if boot.initrd:
        words += ["-initrd", os.fspath(boot.initrd)]
    if boot.drive:
        words += [
            # QEMU splits options at commas.
            "-drive", f"if=none,id=disk,format=raw,snapshot=on,file={os.fspath(boot.drive).replace(',', ',,')}",
            "-device", "virtio-blk-pci,drive=disk",
        ]
    # fmt: on
    for device in machine.devices:
        words += ["-device", device]
    if check:
        words += ["-fw_cfg", f"name=opt/kiln/check,string={check}"]
    return words


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
    libraries = tree / "usr/lib/x86_64-linux-gnu"
    # QEMU finds its modules and its firmware relative to its own program, which here is the loader.
    # fmt: off
    return (
        "env", f"QEMU_MODULE_DIR={libraries}/qemu",
        f"{libraries}/ld-linux-x86-64.so.2", "--inhibit-cache", "--library-path", os.fspath(libraries),
        f"{tree}/usr/bin/{name}", "-L", f"{tree}/usr/share/qemu", "-L", f"{tree}/usr/share/seabios",
    )
    # fmt: on


def kvm_works(machine: Machine, program: Sequence[str]) -> bool:
    """Whether this QEMU can make the machine with KVM: a /dev/kvm that opens may still refuse, as nested ones do."""
    if machine.arch != platform.machine() or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    try:
        process.run([*_machine(machine, program, True), "-S", "-monitor", "stdio"], input=b"quit\n")
    except process.CommandFailed:
        return False
    return True


def _machine(machine: Machine, program: Sequence[str], kvm: bool) -> list[str]:
    # fmt: off
    return [
        *program, "-nodefaults", "-no-user-config", "-display", "none", "-machine", machine.machine,
        "-accel", "kvm" if kvm else "tcg", "-cpu", "max" if kvm else machine.cpu,
        "-smp", str(machine.cpus), "-m", str(machine.memory),
    ]
    # fmt: on
