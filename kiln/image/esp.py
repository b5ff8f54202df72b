"""What an EFI system partition holds: a menu of systemd-boot, or one unified kernel image, for x86_64."""

from collections.abc import Mapping
from pathlib import Path

from kiln.image import bzimage, loader
from kiln.image.menu import Menu
from kiln.sandbox import Sandbox

# What firmware starts from a disk that it has no boot entry for.
DEFAULT = "EFI/BOOT/BOOTX64.EFI"

_LOADER = "usr/lib/systemd/boot/efi/systemd-bootx64.efi"


def with_menu(
    menu: Menu, *, sandbox: Sandbox, kernel: Path, initrd: Path | None = None, emergency: Mapping[str, Path] = {}
) -> dict[str, Path | bytes]:
    """systemd-boot and its menu; the kernel is started by its own EFI stub. ``emergency`` is an initramfs by its name.

    Raises KilnError for a kernel that has none, and where the tools tree has no systemd-boot.
    """
    bzimage.require_efi_stub(kernel)
    files: dict[str, Path | bytes] = {DEFAULT: loader.find(sandbox, _LOADER), kernel.name: kernel}
    files |= {initrd.name: initrd} if initrd else {}
    files |= emergency
    return files | menu.systemd_boot(
        f"/{kernel.name}", f"/{initrd.name}" if initrd else "", "".join(f"/{name}" for name in emergency)
    )


def with_uki(image: Path) -> dict[str, Path | bytes]:
    """A unified kernel image, which needs no loader."""
    return {DEFAULT: image}
