"""Media that a machine's firmware starts, as targets: disks and their like, each with a boot loader and its menu."""

import os
import re
import uuid
from abc import abstractmethod
from pathlib import Path
from typing import Any

from kiln import digest
from kiln.board import Board
from kiln.errors import KilnError
from kiln.image import disk, esp, ext4, fat, grub, iso, loader, menu, qcow2, uki
from kiln.image.manifest import Layer, Manifest
from kiln.image.media import Artifact, Cpio, Initramfs, OfManifest, Shown, Squashfs
from kiln.image.menu import Menu
from kiln.image.output import Output
from kiln.image.targets import Rootfs
from kiln.kernel import PrebuiltKernel, kernel_image
from kiln.netboot.script import SCRIPT, scripts
from kiln.recipe.package import Package
from kiln.sandbox import Sandbox
from kiln.stage import Stage, Workshop
from kiln.store import Work
from kiln.target import Target
from kiln.tools import Tools

# Where a script that did not come from the network finds the rest: what DHCP calls the next server.
_SERVER = "isset ${net0/ip} || dhcp net0\nset base tftp://${next-server}/\n"

# The initramfs that repairs a system, as media have it.
_EMERGENCY = "emergency.img"

# The boot menu's template, and where syslinux has its menu.
_MENU = "extlinux.conf"
_SYSLINUX = "syslinux"

Kernel = Stage | PrebuiltKernel


class Medium(Artifact):
    """A file that a firmware starts. ``append`` are kernel parameters of a copy that is made for a single boot.

    Its menu can start ``emergency``, the initramfs that repairs a system, where there is one.
    """

    def __init__(
        self,
        kind: str,
        doc: str,
        rootfs: Rootfs,
        kernel: Kernel,
        tools: Tools,
        output: Path,
        /,
        emergency: Artifact | None = None,
        **parts: Target,
    ) -> None:
        more = {"emergency": emergency} if emergency else {}
        super().__init__(kind, doc, rootfs, tools, output, kernel=kernel, **parts, **more)
        self.kernel = kernel
        self._emergency = emergency

    def inputs(self) -> dict[str, Any]:
        return super().inputs() | {"menu": self.template, "cmdline": self.board.cmdline}

    def fill(self, work: Work) -> dict[str, Any]:
        self.make(work.root, work.folder("scratch"), "")
        return {}

    @abstractmethod
    def make(self, folder: Path, scratch: Path, append: str) -> None:
        """Make the file in ``folder``, from sound parts."""

    def copy_with(self, append: str, folder: Path) -> Path:
        """The same file whose kernels get ``append`` as well, in ``folder``."""
        scratch = folder / "scratch"
        scratch.mkdir()
        self.make(folder, scratch, append)
        return folder / self.file.name

    def image(self) -> Path:
        """The kernel's file."""
        return kernel_image(self.kernel.sound())

    def identity(self, kind: str, *parts: Target) -> str:
        """A digest that names what is made from these parts."""
        return digest.of_value([kind, *(part.sound().digest for part in parts)])

    def menu(self, *words: str) -> Menu:
        """The boot menu of kernels that get the board's command line and ``words``."""
        where = os.path.relpath(self.board.file(_MENU), self.board.root)
        return menu.read(
            self.template,
            board=self.board.name,
            cmdline=self.cmdline(*words),
            where=where,
            emergency=self._emergency is not None,
        )

    def emergency(self) -> dict[str, Path]:
        """The initramfs that repairs a system, by the name that it has on the medium."""
        if not self._emergency:
            return {}
        self._emergency.sound()
        return {_EMERGENCY: self._emergency.file}

    def cmdline(self, *words: str) -> str:
        return " ".join(word for word in (self.board.cmdline, *words) if word)

    @property
    def template(self) -> str:
        """The text of the boot menu: the board's own, or else the common one."""
        file = self.board.file(_MENU)
        try:
            return file.read_text()
        except OSError as error:
            raise KilnError(f"cannot read the boot menu: {error.strerror}", where=os.fspath(file)) from error


class Disk(Medium):
    """A disk that a BIOS boots: syslinux on a FAT partition, and the root file system beside it."""

    def __init__(
        self, root: OfManifest, rootfs: Rootfs, kernel: Kernel, tools: Tools, output: Path, emergency: Artifact | None
    ) -> None:
        doc = f"a disk that a BIOS boots: syslinux, the kernel and the {root.id} root"
        super().__init__("disk", doc, rootfs, kernel, tools, output, emergency, **{root.id: root})
        self._root = root

    def fill(self, work: Work) -> dict[str, Any]:
        super().fill(work)
        return {"root": disk.partuuid(self._signature, 2)}

    @property
    def _signature(self) -> int:
        return int(self.identity("mbr", self._root, self.kernel)[:8], 16) or 1

    def make(self, folder: Path, scratch: Path, append: str) -> None:
        image, boot = self.image(), scratch / "boot.fat"
        menu = self.menu(f"root=PARTUUID={disk.partuuid(self._signature, 2)} rootwait", append)
        files: dict[str, Path | bytes] = {image.name: image, **self.emergency()}
        files[f"{_SYSLINUX}/syslinux.cfg"] = menu.syslinux(f"/{image.name}", emergency=f"/{_EMERGENCY}").encode()
        start = disk.ALIGNMENT
        fat.write(files, boot, sandbox=self.sandbox, label="BOOT", serial=self._signature, hidden_sectors=start)
        fat.install_syslinux(boot, _SYSLINUX, sandbox=self.sandbox)
        parts = [disk.Partition(content=boot, kind="fat16", bootable=True)]
        parts.append(disk.Partition(content=self._root.file, kind="linux"))
        code = loader.find(self.sandbox, "usr/lib/syslinux/mbr/mbr.bin").read_bytes()
        disk.write_mbr(folder / "disk.img", parts, signature=self._signature, boot_code=code)


class Grub(Medium):
    """A disk that a BIOS boots by GRUB, which finds the kernel in the ext4 root itself."""

    def __init__(self, rootfs: Rootfs, kernel: Kernel, tools: Tools, output: Path, emergency: Artifact | None) -> None:
        doc = "a disk that a BIOS boots: GRUB, and the kernel in the ext4 root"
        super().__init__("grub", doc, rootfs, kernel, tools, output, emergency, rootfs=rootfs)
        self._rootfs = rootfs

    def inputs(self) -> dict[str, Any]:
        return super().inputs() | {"size": self.board.root_size}

    def make(self, folder: Path, scratch: Path, append: str) -> None:
        image, identity = self.image(), self.identity("grub", self._rootfs, self.kernel)
        signature, name = int(identity[:8], 16) or 1, str(uuid.UUID(hex=identity[:32], version=4))
        menu = self.menu(f"root=PARTUUID={disk.partuuid(signature, 1)} rootwait", append)
        files = {image.name: image, **self.emergency()}
        text = menu.grub(f"/boot/{image.name}", emergency=f"/boot/{_EMERGENCY}")
        added: Layer = ("grub", grub.nodes(files, text))
        manifest = Manifest.merge([("rootfs", self._rootfs.settled().nodes), added])
        root, work = scratch / "rootfs.ext4", scratch / "ext4"
        work.mkdir()
        ext4.write(manifest, root, sandbox=self.sandbox, scratch=work, size=self.board.root_size, uuid=name)
        code, core = grub.core(self.sandbox, uuid=name, scratch=scratch)
        parts = [disk.Partition(content=root, kind="linux", bootable=True)]
        disk.write_mbr(folder / "disk-grub.img", parts, signature=signature, boot_code=code, core=core)


class Uefi(Medium):
    """A disk that a UEFI boots: a menu whose kernels are started by their own EFI stub, and the root file system."""

    def __init__(
        self, root: OfManifest, rootfs: Rootfs, kernel: Kernel, tools: Tools, output: Path, emergency: Artifact | None
    ) -> None:
        doc = f"a disk that a UEFI boots: a menu, the kernel by its own EFI stub, and the {root.id} root"
        super().__init__("uefi", doc, rootfs, kernel, tools, output, emergency, **{root.id: root})
        self._root = root

    def make(self, folder: Path, scratch: Path, append: str) -> None:
        guid = uuid.UUID(hex=self.identity("uefi", self._root, self.kernel)[:32], version=4)
        menu = self.menu(f"root=PARTUUID={disk.partition_guid(guid, 2)} rootwait", append)
        files = esp.with_menu(menu, sandbox=self.sandbox, kernel=self.image(), emergency=self.emergency())
        _write_gpt(folder / "disk-uefi.img", files, self._root, guid, scratch=scratch, sandbox=self.sandbox)


class Uki(Medium):
    """A unified kernel image: kernel, small initramfs and command line in a file, and a disk whose UEFI starts it."""

    def __init__(
        self, root: OfManifest, initramfs: Artifact, rootfs: Rootfs, kernel: Kernel, tools: Tools, output: Path
    ) -> None:
        doc = "a unified kernel image, and a disk with it that a UEFI boots"
        super().__init__("uki", doc, rootfs, kernel, tools, output, **{root.id: root}, initramfs=initramfs)
        self._root = root
        self._initramfs = initramfs

    @property
    def file(self) -> Path:
        return self.files()["disk-uki.img"]

    def make(self, folder: Path, scratch: Path, append: str) -> None:
        guid = uuid.UUID(hex=self.identity("uki", self._root, self.kernel)[:32], version=4)
        image, release = folder / "linux.efi", f'ID=kiln\nPRETTY_NAME="{self.board.name}"\n'
        cmdline = self.cmdline(f"root=PARTUUID={disk.partition_guid(guid, 2)}", append)
        self._initramfs.sound()
        uki.write(
            image, sandbox=self.sandbox, scratch=scratch, kernel=self.image(), initrd=self._initramfs.file,
            cmdline=cmdline, release=release,
        )  # fmt: skip
        files = esp.with_uki(image)
        _write_gpt(folder / "disk-uki.img", files, self._root, guid, scratch=scratch, sandbox=self.sandbox)


class Iso(Medium):
    """A live system, on a CD or a stick, for BIOS and UEFI: what it writes stays in memory."""

    def __init__(
        self,
        root: Squashfs,
        initramfs: Artifact,
        rootfs: Rootfs,
        kernel: Kernel,
        tools: Tools,
        output: Path,
        emergency: Artifact | None,
    ) -> None:
        doc = "a live system for CDs and sticks, BIOS and UEFI"
        super().__init__("iso", doc, rootfs, kernel, tools, output, emergency, squashfs=root, initramfs=initramfs)
        self._root = root
        self._initramfs = initramfs

    def make(self, folder: Path, scratch: Path, append: str) -> None:
        label = re.sub(r"[^A-Z0-9]", "_", self.board.name.upper())[:32]
        guid = uuid.UUID(hex=self.identity("iso", self._root, self._initramfs, self.kernel)[:32], version=4)
        # Ours finds a live image by its name alone, and keeps what is written in memory.
        words = () if isinstance(self._initramfs, Initramfs) else ("rd.live.image", "rd.overlay")
        iso.write(
            folder / "live.iso", sandbox=self.sandbox, scratch=scratch, label=label, guid=guid,
            menu=self.menu(f"root=live:LABEL={label}", *words, append), kernel=self.image(),
            initrd=self._initramfs.file, squashfs=self._root.file, emergency=self.emergency(),
        )  # fmt: skip


class IpxeIso(Medium):
    """A CD or stick with iPXE and the board's script, for machines whose firmware boots from no network."""

    def __init__(self, cpio: Cpio, rootfs: Rootfs, kernel: Kernel, tools: Tools, output: Path) -> None:
        doc = "a CD or stick that boots the board over the network"
        super().__init__("ipxe-iso", doc, rootfs, kernel, tools, output)
        self._initrd = cpio.name_of_file

    def inputs(self) -> dict[str, Any]:
        return super().inputs() | {"script": self._script("KERNEL")}

    def make(self, folder: Path, scratch: Path, append: str) -> None:
        script = self._script(self.image().name, append)
        guid = uuid.UUID(hex=digest.of_value(["ipxe", script])[:32], version=4)
        iso.write_ipxe(folder / "ipxe.iso", sandbox=self.sandbox, scratch=scratch, guid=guid, script=script)

    def _script(self, kernel: str, append: str = "") -> str:
        text = scripts(self.board, kernel=kernel, initrd=self._initrd, append=append)[SCRIPT].decode()
        first, _, rest = text.partition("\n")
        return f"{first}\n{_SERVER}{rest}"


def _write_gpt(
    path: Path, files: dict[str, Path | bytes], root: OfManifest, guid: uuid.UUID, *, scratch: Path, sandbox: Sandbox
) -> None:
    """A disk with an EFI system partition that holds ``files``, and the root file system."""
    system = scratch / "esp.fat"
    fat.write(files, system, sandbox=sandbox, label="ESP", serial=guid.fields[0], hidden_sectors=disk.ALIGNMENT)
    parts = [disk.Partition(content=system, kind="efi", name="esp")]
    parts.append(disk.Partition(content=root.file, kind="linux", name="root"))
    disk.write_gpt(path, parts, guid=guid)


class Embedded(Stage, Shown):
    """The kernel, built with the root file system inside it as its initramfs."""

    def __init__(
        self, package: Package, version: str, workshop: Workshop, output: Path, board: Board, **more: Any
    ) -> None:
        super().__init__(package, version, "embedded", workshop, **more)
        self.id = "embedded"
        self.doc = "the kernel with the root file system inside it, as one file"
        self.output = Output.of(self, board.name, output)

    def files(self) -> dict[str, Path]:
        image = kernel_image(self.built())
        return {f"{image.name}.embedded": image}


class Qcow2(Artifact):
    """The disk in the format of virtual machines."""

    def __init__(self, source: Disk, rootfs: Rootfs, tools: Tools, output: Path) -> None:
        super().__init__("qcow2", "the disk, compressed, in QEMU's format", rootfs, tools, output, disk=source)
        self._disk = source

    def fill(self, work: Work) -> dict[str, Any]:
        disk = self._disk.sound().root / "disk.img"
        qcow2.write(disk, work.root / "disk.qcow2", sandbox=self.sandbox)
        return {}
