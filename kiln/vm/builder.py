"""Disks that need a kernel to be made: a machine makes them that the board's own initramfs turns into a builder.

So nobody needs root or a loop device. What it makes has a secret of its own and differs from day to day: it is for one
boot, and goes with it.
"""

import os
import uuid
from pathlib import Path

from kiln.errors import KilnError
from kiln.image import cpio
from kiln.image.manifest import Manifest, file_node
from kiln.vm.console import record
from kiln.vm.qemu import Boot, command, find_qemu
from kiln.vm.road import Request

# What a builder may take under emulation on a busy machine, and how long it may say nothing, in seconds.
_TIMEOUT, _SILENCE = 300.0, 120.0
_MADE = "kiln: made"

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

spread() {{
	modprobe btrfs
	mkdir /old /new
	mount -t ext4 -o ro /dev/vda /old
	# One program has all of btrfs; BusyBox's cp would leave capabilities behind.
	ln -s /usr/sbin/btrfs /mkfs.btrfs
	/mkfs.btrfs -q -L rootfs -d single -m single --rootdir /old /dev/vdb
	mount -t btrfs /dev/vdb /new
	# Devices it makes without their numbers.
	cp -af /old/dev/. /new/dev
	btrfs -q device add /dev/vdc /new
	btrfs -q balance start -dconvert=raid1 -mconvert=raid1 /new
	umount /new /old
}}

hide() {{
	mke2fs -q -L KEYS "$1"
	mkdir /keys
	mount -t ext2 "$1" /keys
	install -m 400 /secret /keys/root.key
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


def make(request: Request, script: str, *sizes: int, name: uuid.UUID | None = None, secret: str = "") -> list[Path]:
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
