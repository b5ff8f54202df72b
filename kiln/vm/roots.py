"""Roots that must be put together first: encrypted, in a logical volume, mirrored, or on another machine.

Such disks are made for each boot anew, by a machine that the board's own initramfs makes a builder of, since they hold
a secret of their own and differ from day to day. They are gone when the boot is.
"""

import os
import secrets
import socket
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from kiln import process
from kiln.errors import KilnError
from kiln.image import cpio
from kiln.image.manifest import Manifest, file_node
from kiln.vm.console import record
from kiln.vm.qemu import Boot, command, find_qemu, free_port, of_tree
from kiln.vm.road import Request, Road

# Room for what surrounds a file system (the header of LUKS takes 16 MiB), and for a file system with a key, in bytes.
_ROOM, _SMALL = 24 << 20, 4 << 20
# What a builder may take under emulation on a busy machine, and how long it may say nothing, in seconds.
_TIMEOUT, _SILENCE = 300.0, 120.0
_MADE = "kiln: made"
# The second machine's name for what it serves, and the address of the first on the network between them.
_TARGET = "iqn.2026-01.kiln:root"
_ADDRESS = "ip=10.9.0.2:::255.255.255.0::eth1:none"

# What a builder runs. The root to be copied is /dev/vda, what is made are /dev/vdb and so on. Stretching a passphrase
# would take emulation a minute, and ours are random.
_BUILDER = """\
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
trap 'poweroff -f' EXIT
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
mkdir -p /run/lock /run/cryptsetup
/usr/lib/systemd/systemd-udevd --daemon
udevadm trigger --settle

encrypt() {{
	modprobe -a dm_crypt algif_skcipher xts
	cryptsetup luksFormat --batch-mode --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 \\
		--uuid {uuid} --key-file /secret "$1"
	cryptsetup open --key-file /secret "$1" inside
}}

volume() {{
	modprobe dm_mod
	lvm pvcreate "$1"
	lvm vgcreate kiln "$1"
	lvm lvcreate --yes --extents 100%FREE --name root kiln
}}

put() {{
	cat /dev/vda >"$1"
	sync
}}

mirror() {{
	modprobe raid1
	mdadm --create /dev/md0 --run --level=1 --raid-devices=2 --metadata=1.2 --homehost=any --name=root \\
		--bitmap=none --assume-clean --uuid={uuid} /dev/vdb /dev/vdc
}}

hide() {{
	mke2fs -q -L KEYS "$1"
	mkdir /keys
	mount -t ext2 "$1" /keys
	cp /secret /keys/root.key
	umount /keys
}}

set -ex
{script}
[ ! -e /dev/mapper/inside ] || cryptsetup close inside
[ ! -e /dev/mapper/kiln-root ] || lvm vgchange --activate n
[ ! -e /dev/md0 ] || mdadm --stop /dev/md0
{{ set +x; }} 2>/dev/null
echo '{made}'
"""


def _luks(request: Request) -> Boot:
    return _secret(request, "encrypt /dev/vdb\nput /dev/mapper/inside")


def _luks_lvm(request: Request) -> Boot:
    script = "volume /dev/vdb\nencrypt /dev/mapper/kiln-root\nput /dev/mapper/inside"
    return _secret(request, script, "rd.lvm.lv=kiln/root")


def _secret(request: Request, script: str, *words: str) -> Boot:
    """A boot from an encrypted disk that asks for its passphrase."""
    name, secret = uuid.uuid4(), secrets.token_hex(8)
    (disk,) = _make(request, script, _room(request), name=name, secret=secret)
    return _boot(request, disk, words=(f"rd.luks.uuid={name}", *words), answers={"Enter passphrase for": secret})


def _luks_key(request: Request) -> Boot:
    name = uuid.uuid4()
    script = "encrypt /dev/vdb\nput /dev/mapper/inside\nhide /dev/vdc"
    disks = _make(request, script, _room(request), _SMALL, name=name, secret=secrets.token_hex(32))
    return _boot(request, *disks, words=(f"rd.luks.uuid={name}", "rd.luks.key=/root.key:LABEL=KEYS"))


def _lvm(request: Request) -> Boot:
    (disk,) = _make(request, "volume /dev/vdb\nput /dev/mapper/kiln-root", _room(request))
    return _boot(request, disk, words=("rd.lvm.lv=kiln/root",))


def _raid(request: Request) -> Boot:
    name, disks = _mirrored(request)
    return _boot(request, *disks, words=(f"rd.md.uuid={name}",))


def _degraded(request: Request) -> Boot:
    name, disks = _mirrored(request)
    # dracut waits for the other disk for two thirds of its patience.
    return _boot(request, disks[1], words=(f"rd.md.uuid={name}", "rd.retry=9"))


def _mirrored(request: Request) -> tuple[uuid.UUID, list[Path]]:
    name, size = uuid.uuid4(), _room(request)
    return name, _make(request, "mirror\nput /dev/md0", size, size, name=name)


def _nbd(request: Request) -> Boot:
    port = free_port()
    tree = request.graph.tools["image"].built().root
    words = ("--persistent", "--shared=4", "--read-only", "--format=raw", "--bind=127.0.0.1", f"--port={port}")
    server = process.start([*of_tree(tree, "qemu-nbd"), *words, os.fspath(request.file("ext4"))])
    request.stack.callback(server.wait)
    request.stack.callback(server.kill)
    while server.poll() is None and not _answers(port):
        time.sleep(0.05)
    cmdline = request.cmdline(f"root=nbd:10.0.2.2:{port}:ext4", "ip=dhcp", "ro", "rd.overlay")
    return Boot(kernel=request.kernel, initrd=request.file("initramfs"), cmdline=cmdline, host=True)


def _nfs(request: Request) -> Boot:
    cable, initrd = _server(request, "nfs"), request.file("initramfs")
    cmdline = request.cmdline("root=nfs4:10.9.0.1:/:vers=4.2", _ADDRESS, "rw")
    return Boot(kernel=request.kernel, initrd=initrd, cmdline=cmdline, cable=cable)


def _nfsroot(request: Request) -> Boot:
    words = ("root=/dev/nfs", "nfsroot=10.9.0.1:/,vers=4.2,rsize=1048576,wsize=1048576")
    cable = _server(request, "nfs")
    return Boot(kernel=request.kernel, cmdline=request.cmdline(*words, _ADDRESS), cable=cable)


def _iscsi(request: Request) -> Boot:
    words = ("root=LABEL=rootfs", f"netroot=iscsi:10.9.0.1::::{_TARGET}", "rd.iscsi.initiator=iqn.2026-01.kiln:client")
    cable = _server(request, "iscsi")
    cmdline = request.cmdline(*words, _ADDRESS, "rw")
    return Boot(kernel=request.kernel, initrd=request.file("initramfs"), cmdline=cmdline, cable=cable)


def _server(request: Request, how: str) -> Path:
    """The network of a second machine, which runs the same board in memory, and serves its root to others."""
    cable, log = request.scratch / "cable", request.graph.image.output / "boot/server" / f"{request.road}.log"
    boot = Boot(
        kernel=request.kernel,
        initrd=request.file("cpio"),
        drives=(request.file("ext4"),),
        cmdline=f"{request.graph.board.cmdline} quiet ip=10.9.0.1:::255.255.255.0::eth1:none kiln.serve={how}",
        cable=cable,
        serves=True,
    )
    program, kvm = find_qemu(request.graph)
    argv = command(request.graph.board.machine, boot, program=program, kvm=kvm, interactive=False)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        server = process.start(argv, stdout=file, stderr=file)
    request.stack.callback(server.wait)
    request.stack.callback(server.kill)
    deadline = time.monotonic() + _TIMEOUT
    while f"root-server: {how} is ready" not in (said := log.read_text(errors="replace")):
        if server.poll() is not None or time.monotonic() > deadline:
            last = said.strip().splitlines()[-1:] or ["nothing"]
            hint = f"log      {os.path.relpath(log, request.graph.settings.root)}"
            raise KilnError(f"the machine that serves the root said last: {last[0]}", where=request.road, hint=hint)
        time.sleep(0.1)
    return cable


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def _overlay(request: Request) -> Boot:
    return _boot(request, request.file("ext4"), words=("ro", "rd.overlay"))


def _emergency(request: Request) -> Boot:
    cmdline = request.cmdline("root=LABEL=rootfs", "rd.break=pre-mount")
    initrd, drive = request.file("initramfs:emergency"), request.file("ext4")
    answers = {"pre-mount:/# ": "exit"}
    return Boot(kernel=request.kernel, initrd=initrd, drives=(drive,), cmdline=cmdline, answers=answers)


def _boot(request: Request, *disks: Path, words: tuple[str, ...], answers: Mapping[str, str] = {}) -> Boot:
    cmdline = request.cmdline("root=LABEL=rootfs", *words)
    initrd = request.file("initramfs")
    return Boot(kernel=request.kernel, initrd=initrd, drives=disks, cmdline=cmdline, answers=answers)


def _room(request: Request) -> int:
    return request.file("ext4").stat().st_size + _ROOM


def _make(request: Request, script: str, *sizes: int, name: uuid.UUID | None = None, secret: str = "") -> list[Path]:
    """Disks of these sizes, in bytes, as a builder leaves them that runs ``script``. Raises KilnError where it fails.

    ``name`` is the UUID of what it encrypts, and ``secret`` what opens that.
    """
    text = _BUILDER.format(script=script, uuid=name, made=_MADE).encode()
    own = [
        file_node("builder", text, package="board", mode=0o755),
        file_node("secret", secret.encode(), package="board"),
    ]
    segment, initrd = request.scratch / "builder.cpio", request.scratch / "builder"
    cpio.write(Manifest.merge([("board", own)]), segment)
    initrd.write_bytes(segment.read_bytes() + request.file("initramfs").read_bytes())
    graph, root = request.graph, request.file("ext4")
    cmdline = f"{graph.board.cmdline} quiet panic=-1 rdinit=/builder"
    boot = Boot(kernel=request.kernel, initrd=initrd, drives=(root,), cmdline=cmdline)
    program, kvm = find_qemu(graph)
    argv = command(graph.board.machine, boot, program=program, kvm=kvm, interactive=False)
    disks = []
    for number, size in enumerate(sizes):
        disk = request.scratch / f"disk{number}.img"
        disk.touch()
        os.truncate(disk, size)
        argv += graph.board.machine.disk(f"made{number}", disk)
        disks.append(disk)
    log = graph.image.output / "boot/builder" / f"{request.road}.log"
    said = record(argv, log, timeout=_TIMEOUT, silence=_SILENCE)
    lines = [line for _, line in said.lines if line.strip()]
    if _MADE not in lines:
        last = "".join(f"\n    {line}" for line in lines[-8:])
        hint = f"log      {os.path.relpath(log, graph.settings.root)}"
        raise KilnError(f"the builder could not make the disks{last}", hint=hint)
    return disks


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
