"""Roads: the ways by which a board's images boot, each with what it needs and what the machine is given."""

from collections.abc import Callable

from kiln.image.boot import Disk
from kiln.netboot import offer
from kiln.netboot.script import SCRIPT
from kiln.vm.qemu import Boot
from kiln.vm.road import Request, Road
from kiln.vm.roots import ROOTS


def _root(medium: str, *words: str) -> Callable[[Request], Boot]:
    """The kernel, and a root file system that it finds by itself."""
    return lambda request: Boot(
        kernel=request.kernel, drives=(request.file(medium),), cmdline=request.cmdline(*words, "rootwait")
    )


def _found(word: str) -> Callable[[Request], Boot]:
    """The kernel, and an initramfs that finds the root file system by ``word``."""

    def boot(request: Request) -> Boot:
        uuid = request.graph.media["ext4"].built().notes["uuid"]
        cmdline = request.cmdline(f"root={word.format(uuid=uuid)}")
        initrd, drive = request.file("initramfs"), request.file("ext4")
        return Boot(kernel=request.kernel, initrd=initrd, drives=(drive,), cmdline=cmdline)

    return boot


def _partuuid(request: Request) -> Boot:
    disk = request.graph.media["disk"]
    assert isinstance(disk, Disk)
    cmdline = request.cmdline(f"root=PARTUUID={disk.built().notes['root']}", "rootwait")
    return Boot(kernel=request.kernel, drives=(disk.file,), cmdline=cmdline)


def _tftp(request: Request) -> Boot:
    script = offer.folder(request.graph, request.scratch / "tftp", request.append)
    return Boot(tftp=script.parent, bootfile=script.name, rom=request.rom)


def _http(request: Request) -> Boot:
    port = request.stack.enter_context(offer.web(request.graph, request.append))
    return Boot(web=port, bootfile=f"http://10.0.2.100/{SCRIPT}", rom=request.rom)


def _ipxe_iso(request: Request) -> Boot:
    script = offer.folder(request.graph, request.scratch / "tftp")
    return Boot(cdrom=request.started("ipxe-iso"), tftp=script.parent)


ROADS: dict[str, Road] = {
    "cpio": Road(
        doc="the kernel, with the root file system as its initramfs",
        media=("cpio",),
        boot=lambda request: Boot(kernel=request.kernel, initrd=request.file("cpio"), cmdline=request.cmdline()),
    ),
    "ext4": Road(doc="the kernel, with the ext4 root", media=("ext4",), boot=_root("ext4", "root=/dev/vda")),
    "disk": Road(
        doc="the disk, by its BIOS", media=("disk",), boot=lambda request: Boot(drives=(request.started("disk"),))
    ),
    "squashfs": Road(
        doc="the kernel, with the squashfs root", media=("squashfs",), boot=_root("squashfs", "root=/dev/vda")
    ),
    "erofs": Road(doc="the kernel, with the EROFS root", media=("erofs",), boot=_root("erofs", "root=/dev/vda")),
    "partuuid": Road(doc="the kernel, which finds its root by PARTUUID", media=("disk",), boot=_partuuid),
    "uuid": Road(
        doc="an initramfs that finds the root by UUID", media=("initramfs", "ext4"), boot=_found("UUID={uuid}")
    ),
    "label": Road(
        doc="an initramfs that finds the root by LABEL", media=("initramfs", "ext4"), boot=_found("LABEL=rootfs")
    ),
    "embedded": Road(
        doc="the kernel with the root file system inside",
        media=("embedded",),
        boot=lambda request: Boot(kernel=request.file("embedded"), cmdline=request.cmdline()),
    ),
    "grub": Road(
        doc="the disk with GRUB", media=("grub",), boot=lambda request: Boot(drives=(request.started("grub"),))
    ),
    "uefi": Road(
        doc="the disk, by UEFI: a menu, and the kernel's own EFI stub",
        media=("uefi",),
        boot=lambda request: Boot(drives=(request.started("uefi"),), uefi=request.uefi),
        firmware=True,
    ),
    "uki": Road(
        doc="the disk with a unified kernel image, by UEFI",
        media=("uki",),
        boot=lambda request: Boot(drives=(request.started("uki"),), uefi=request.uefi),
        firmware=True,
    ),
    "iso": Road(doc="the live CD, by BIOS", media=("iso",), boot=lambda request: Boot(cdrom=request.started("iso"))),
    "iso-disk": Road(
        doc="the same on a stick, by BIOS", media=("iso",), boot=lambda request: Boot(drives=(request.started("iso"),))
    ),
    "iso-uefi": Road(
        doc="the live CD, by UEFI",
        media=("iso",),
        boot=lambda request: Boot(cdrom=request.started("iso"), uefi=request.uefi),
        firmware=True,
    ),
    "iso-uefi-disk": Road(
        doc="the same on a stick, by UEFI",
        media=("iso",),
        boot=lambda request: Boot(drives=(request.started("iso"),), uefi=request.uefi),
        firmware=True,
    ),
    "tftp": Road(doc="over the network, by TFTP", media=("cpio",), boot=_tftp, firmware=True, pc=True),
    "http": Road(doc="over the network, by HTTP", media=("cpio",), boot=_http, firmware=True, pc=True),
    "ipxe-iso": Road(
        doc="over the network, by iPXE on a CD", media=("ipxe-iso", "cpio"), boot=_ipxe_iso, firmware=True
    ),
    "qcow2": Road(
        doc="the disk in QEMU's format",
        media=("qcow2",),
        boot=lambda request: Boot(drives=(request.started("disk") if request.append else request.file("qcow2"),)),
    ),
    **ROOTS,
}
