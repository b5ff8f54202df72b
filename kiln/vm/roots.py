"""Roots that must be put together first: encrypted, in a logical volume, mirrored, or on another machine."""

import secrets
import uuid
from dataclasses import replace
from pathlib import Path

from kiln.vm.builder import make
from kiln.vm.qemu import Boot
from kiln.vm.road import Request, Road
from kiln.vm.serving import by_machine, by_nbd

# Room for what surrounds a file system (the header of LUKS takes 16 MiB), and for a file system with a key, in bytes.
_ROOM, _SMALL = 24 << 20, 4 << 20
# The smallest disk that btrfs takes has 109 MiB; it spreads what it holds over chunks of some MiB.
_SPREAD = 300 << 20
# The second machine's name for what it serves, and the address of the first on the network between them.
_TARGET = "iqn.2026-01.kiln:root"
_ADDRESS = "ip=10.9.0.2:::255.255.255.0::eth1:none"


def _luks(request: Request) -> Boot:
    return _secret(request, "encrypt /dev/vdb\nput /dev/mapper/inside")


def _luks_lvm(request: Request) -> Boot:
    script = "volume /dev/vdb\nencrypt /dev/mapper/kiln-root\nput /dev/mapper/inside"
    return _secret(request, script, "rd.lvm.lv=kiln/root")


def _secret(request: Request, script: str, *words: str) -> Boot:
    """A boot from an encrypted disk that asks for its passphrase."""
    name, secret = uuid.uuid4(), secrets.token_hex(8)
    (disk,) = make(request, script, _room(request), name=name, secret=secret)
    boot = _boot(request, disk, words=(f"rd.luks.uuid={name}", *words))
    return replace(boot, answers={"Enter passphrase for": secret}, told=f"the passphrase is {secret}")


def _luks_key(request: Request) -> Boot:
    name = uuid.uuid4()
    script = "encrypt /dev/vdb\nput /dev/mapper/inside\nhide /dev/vdc"
    disks = make(request, script, _room(request), _SMALL, name=name, secret=secrets.token_hex(32))
    return _boot(request, *disks, words=(f"rd.luks.uuid={name}", "rd.luks.key=/root.key:LABEL=KEYS"))


def _lvm(request: Request) -> Boot:
    (disk,) = make(request, "volume /dev/vdb\nput /dev/mapper/kiln-root", _room(request))
    return _boot(request, disk, words=("rd.lvm.lv=kiln/root",))


def _raid(request: Request) -> Boot:
    name, disks = _mirrored(request)
    return _boot(request, *disks, words=(f"rd.md.uuid={name}",))


def _degraded(request: Request) -> Boot:
    name, disks = _mirrored(request)
    # dracut waits for the other disk for two thirds of its patience.
    return _boot(request, disks[1], words=(f"rd.md.uuid={name}", "rd.retry=9"))


def _btrfs(request: Request) -> Boot:
    return _boot(request, *make(request, "spread", _SPREAD, _SPREAD), words=())


def _btrfs_degraded(request: Request) -> Boot:
    return _boot(request, make(request, "spread", _SPREAD, _SPREAD)[1], words=("rootflags=degraded",))


def _mirrored(request: Request) -> tuple[uuid.UUID, list[Path]]:
    name, size = uuid.uuid4(), _room(request)
    return name, make(request, "mirror\nput /dev/md0", size, size, name=name)


def _nbd(request: Request) -> Boot:
    words = (f"root=nbd:10.0.2.2:{by_nbd(request)}:ext4", "ip=dhcp", "ro", "rd.overlay")
    cmdline = request.cmdline(*words)
    return Boot(kernel=request.kernel, initrd=request.file("initramfs"), cmdline=cmdline, host=True)


def _nfs(request: Request) -> Boot:
    cable, initrd = by_machine(request, "nfs"), request.file("initramfs")
    cmdline = request.cmdline("root=nfs4:10.9.0.1:/:vers=4.2", _ADDRESS, "rw")
    return Boot(kernel=request.kernel, initrd=initrd, cmdline=cmdline, cable=cable)


def _nfsroot(request: Request) -> Boot:
    words = ("root=/dev/nfs", "nfsroot=10.9.0.1:/,vers=4.2,rsize=1048576,wsize=1048576")
    cable = by_machine(request, "nfs")
    return Boot(kernel=request.kernel, cmdline=request.cmdline(*words, _ADDRESS), cable=cable)


def _iscsi(request: Request) -> Boot:
    words = ("root=LABEL=rootfs", f"netroot=iscsi:10.9.0.1::::{_TARGET}", "rd.iscsi.initiator=iqn.2026-01.kiln:client")
    cable = by_machine(request, "iscsi")
    cmdline = request.cmdline(*words, _ADDRESS, "rw")
    return Boot(kernel=request.kernel, initrd=request.file("initramfs"), cmdline=cmdline, cable=cable)


def _overlay(request: Request) -> Boot:
    return _boot(request, request.file("ext4"), words=("ro", "rd.overlay"))


def _emergency(request: Request) -> Boot:
    cmdline = request.cmdline("root=LABEL=rootfs", "rd.break=pre-mount")
    initrd, drive = request.file("initramfs:emergency"), request.file("ext4")
    answers = {"pre-mount:/# ": "exit"}
    return Boot(kernel=request.kernel, initrd=initrd, drives=(drive,), cmdline=cmdline, answers=answers)


def _boot(request: Request, *disks: Path, words: tuple[str, ...]) -> Boot:
    cmdline = request.cmdline("root=LABEL=rootfs", *words)
    initrd = request.file("initramfs")
    return Boot(kernel=request.kernel, initrd=initrd, drives=disks, cmdline=cmdline)


def _room(request: Request) -> int:
    return request.file("ext4").stat().st_size + _ROOM


ROOTS = {
    "luks": Road(
        doc="an encrypted root, by its passphrase", media=("initramfs", "ext4"), boot=_luks, dracut=("crypt",)
    ),
    "luks-key": Road(
        doc="an encrypted root, by a key on another disk",
        media=("initramfs", "ext4"),
        boot=_luks_key,
        dracut=("crypt",),
    ),
    "lvm": Road(doc="a root in a logical volume", media=("initramfs", "ext4"), boot=_lvm, dracut=("lvm",)),
    "luks-lvm": Road(
        doc="an encrypted root in a logical volume",
        media=("initramfs", "ext4"),
        boot=_luks_lvm,
        dracut=("crypt", "lvm"),
    ),
    "raid": Road(doc="a root on two mirrored disks", media=("initramfs", "ext4"), boot=_raid, dracut=("mdraid",)),
    "raid-degraded": Road(
        doc="a root on two mirrored disks, of which one is gone",
        media=("initramfs", "ext4"),
        boot=_degraded,
        dracut=("mdraid",),
    ),
    "btrfs": Road(
        doc="a root on btrfs, mirrored over two disks",
        media=("initramfs", "ext4"),
        boot=_btrfs,
        dracut=("btrfs",),
    ),
    "btrfs-degraded": Road(
        doc="a root on btrfs, mirrored over two disks, of which one is gone",
        media=("initramfs", "ext4"),
        boot=_btrfs_degraded,
        dracut=("btrfs",),
    ),
    "nbd": Road(
        doc="a root on another machine, by NBD, under a layer in memory",
        media=("initramfs", "ext4"),
        boot=_nbd,
        dracut=("nbd", "overlayfs"),
    ),
    "emergency": Road(
        doc="the initramfs that repairs, whose shell is left at once",
        media=("initramfs:emergency", "ext4"),
        boot=_emergency,
    ),
    "nfs": Road(
        doc="a root on another machine, by NFS",
        media=("cpio", "ext4", "initramfs"),
        boot=_nfs,
        dracut=("nfs",),
        packages=("root-server",),
    ),
    "nfsroot": Road(
        doc="a root on another machine, which the kernel finds by itself",
        media=("cpio", "ext4"),
        boot=_nfsroot,
        packages=("root-server",),
    ),
    "iscsi": Road(
        doc="a disk of another machine, by iSCSI",
        media=("cpio", "ext4", "initramfs"),
        boot=_iscsi,
        dracut=("iscsi",),
        packages=("root-server",),
    ),
    "overlay": Road(
        doc="a root that is only read, under a layer in memory",
        media=("initramfs", "ext4"),
        boot=_overlay,
        dracut=("overlayfs",),
    ),
}
