"""The boot loaders' own files, which the image tools bring."""

import os
from pathlib import Path

from kiln.errors import KilnError
from kiln.sandbox import Sandbox

# Which Debian package brings what lies below a folder.
_PACKAGES = {
    "boot/ipxe": "ipxe",
    "usr/lib/ISOLINUX/": "isolinux",
    "usr/lib/grub/i386-pc/": "grub-pc-bin",
    "usr/bin/syslinux": "syslinux",
    "usr/lib/syslinux/": "syslinux-common",
    "usr/lib/systemd/boot/efi/": "systemd-boot-efi",
}


def find(sandbox: Sandbox, path: str) -> Path:
    """A loader's file by its ``path`` in the tools tree. Raises KilnError where the tree lacks it."""
    place = sandbox.root / path
    if not place.is_file():
        package = next(package for start, package in _PACKAGES.items() if path.startswith(start))
        hint = f"add {package} to the set `image` of kiln/tools.toml, then run `doit tools:lock`"
        raise KilnError(f"the tools tree has no {path}", where=os.fspath(sandbox.root), hint=hint)
    return place
