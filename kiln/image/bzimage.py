"""What the header of an x86 kernel says of it: its release, and whether UEFI firmware can start it."""

import os
from pathlib import Path

from kiln.errors import KilnError

# Of Documentation/x86/boot.rst: places in the file, from 0x1f1 on the setup header.
_MAGIC, _VERSION, _FLAGS = 0x202, 0x20E, 0x236
_EFI_64 = 1 << 3
_HEADER = 0x268


def require_efi_stub(kernel: Path) -> None:
    """Raise KilnError where a kernel is none for x86_64 that UEFI firmware can start."""
    header = _header(kernel)
    if not (header.startswith(b"MZ") and int.from_bytes(header[_FLAGS : _FLAGS + 2], "little") & _EFI_64):
        hint = (
            'add "pc" to linux in [kconfig] of the board, or write CONFIG_EFI=y and CONFIG_EFI_STUB=y into a fragment'
        )
        raise KilnError(
            "UEFI firmware cannot start this kernel: it has no EFI stub", where=os.fspath(kernel), hint=hint
        )


def release(kernel: Path) -> str:
    """What ``uname -r`` says under this kernel."""
    place = int.from_bytes(_header(kernel)[_VERSION : _VERSION + 2], "little") + 0x200
    with kernel.open("rb") as file:
        file.seek(place)
        return file.read(128).split(b"\0")[0].split(b" ")[0].decode("ascii", errors="replace")


def _header(kernel: Path) -> bytes:
    with kernel.open("rb") as file:
        header = file.read(_HEADER)
    if header[_MAGIC : _MAGIC + 4] != b"HdrS":
        hint = "this medium is for boards whose arch is x86_64"
        raise KilnError("is no kernel in the format of PCs (bzImage)", where=os.fspath(kernel), hint=hint)
    return header
