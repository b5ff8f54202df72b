"""Hybrid ISO images, by xorriso: CDs and disks alike, for BIOS and UEFI, the same bytes each time."""

import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from kiln.errors import KilnError
from kiln.image import esp, fat, loader
from kiln.image.menu import Menu
from kiln.sandbox import Mount, Sandbox
from kiln.trees import EPOCH

# Where the live system lies, by the names that dracut gave them.
SQUASHFS = "LiveOS/squashfs.img"

_KERNEL, _INITRD = "boot/linux", "boot/initramfs"
_UEFI = "boot/uefi.img"
_LABEL = re.compile(r"[A-Z0-9_]{1,32}")
_ISOLINUX = {
    "isolinux/isolinux.bin": "usr/lib/ISOLINUX/isolinux.bin",
    **{
        f"isolinux/{name}": f"usr/lib/syslinux/modules/bios/{name}"
        for name in ("ldlinux.c32", "libutil.c32", "menu.c32")
    },
}
_MBR = "usr/lib/ISOLINUX/isohdpfx.bin"


def write(
    path: Path,
    *,
    sandbox: Sandbox,
    scratch: Path,
    label: str,
    guid: uuid.UUID,
    menu: Menu,
    kernel: Path,
    initrd: Path,
    squashfs: Path,
    emergency: Mapping[str, Path] = {},
) -> None:
    """Write a live system: ``squashfs`` is its root, which ``initrd`` finds by ``label``; ``guid`` is its identity.

    ``emergency`` is the initramfs that repairs a system, by its name, if any. ``scratch`` is an empty folder. Raises
    KilnError for a label that is not up to 32 of A-Z, 0-9 and _, for a kernel without an EFI stub, and where the tools
    tree lacks a loader.
    """
    rescue = {f"boot/{name}": file for name, file in emergency.items()}
    files = {_KERNEL: kernel, _INITRD: initrd, SQUASHFS: squashfs, **rescue}
    config = menu.syslinux(f"/{_KERNEL}", f"/{_INITRD}", "".join(f"/{name}" for name in rescue))
    system = esp.with_menu(menu, sandbox=sandbox, kernel=kernel, initrd=initrd, emergency=emergency)
    _write(path, files, config, system, sandbox=sandbox, scratch=scratch, label=label, guid=guid)


def write_ipxe(path: Path, *, sandbox: Sandbox, scratch: Path, guid: uuid.UUID, script: str) -> None:
    """Write a medium that starts iPXE, which runs ``script`` on a machine with a BIOS.

    Debian's iPXE for UEFI cannot be handed a script: there it asks DHCP, and takes the boot file that this names.
    Raises KilnError for a script that does not begin with #!ipxe, and where the tools tree lacks a loader.
    """
    if not script.startswith("#!ipxe\n"):
        raise KilnError("the first line of a script for iPXE is #!ipxe", where=path.name)
    place = scratch / "boot.ipxe"
    place.write_text(script)
    # Menus do not matter here: isolinux starts what is named, and iPXE takes a script for its initrd.
    config = "DEFAULT ipxe\nLABEL ipxe\n  KERNEL /boot/ipxe.krn\n  INITRD /boot/boot.ipxe\n"
    files = {"boot/ipxe.krn": loader.find(sandbox, "boot/ipxe.lkrn"), "boot/boot.ipxe": place}
    system: dict[str, Path | bytes] = {esp.DEFAULT: loader.find(sandbox, "boot/ipxe.efi")}
    _write(path, files, config, system, sandbox=sandbox, scratch=scratch, label="IPXE", guid=guid)


def _write(
    path: Path,
    files: Mapping[str, Path],
    config: str,
    system: Mapping[str, Path | bytes],
    *,
    sandbox: Sandbox,
    scratch: Path,
    label: str,
    guid: uuid.UUID,
) -> None:
    """Write ``files``, isolinux with its ``config``, and an EFI system partition with the files of ``system``."""
    if not _LABEL.fullmatch(label):
        raise KilnError(f"{label!r} is no label of an ISO", where=path.name, hint="up to 32 of A-Z, 0-9 and _")
    loader.find(sandbox, _MBR)
    tree = {name: loader.find(sandbox, source) for name, source in _ISOLINUX.items()}
    fat.write(system, scratch / "uefi.img", sandbox=sandbox, label="UEFI", serial=guid.fields[0], room=False)
    (scratch / "isolinux.cfg").write_text(config)
    tree |= {_UEFI: scratch / "uefi.img", "isolinux/isolinux.cfg": scratch / "isolinux.cfg", **files}
    mounts = [Mount(source=source, target=f"/tmp/tree/{name}") for name, source in sorted(tree.items())]
    mounts.append(Mount(source=path.parent, target="/dest", writable=True))
    date = datetime.fromtimestamp(EPOCH, UTC).strftime("%Y%m%d%H%M%S00")
    path.unlink(missing_ok=True)
    # fmt: off
    sandbox.with_mounts(mounts).with_env({"SOURCE_DATE_EPOCH": str(EPOCH)}).run([
        "xorriso", "-no_rc", "-as", "mkisofs", "-quiet", "-V", label, "-r", "-J",
        f"--modification-date={date}", "--set_all_file_dates", date, "--gpt_disk_guid", str(guid),
        "-isohybrid-mbr", f"/{_MBR}", "-c", "isolinux/boot.cat",
        "-b", "isolinux/isolinux.bin", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table",
        "-eltorito-alt-boot", "-e", _UEFI, "-no-emul-boot", "-isohybrid-gpt-basdat",
        "-o", f"/dest/{path.name}", "/tmp/tree",
    ])
    # fmt: on
