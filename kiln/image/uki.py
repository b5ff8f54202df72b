"""Unified kernel images: systemd's stub, a kernel, its initramfs and its parameters in one file that UEFI starts."""

import os
import re
import struct
from pathlib import Path

from kiln.errors import KilnError
from kiln.image import bzimage, loader
from kiln.sandbox import Mount, Sandbox
from kiln.trees import EPOCH

_STUB = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
_PAGE = 4096
# Places in a PE file: that of its header, and from there the time stamp and the checksum.
_HEADER, _TIME, _CHECKSUM = 0x3C, 8, 88


def write(
    path: Path, *, sandbox: Sandbox, scratch: Path, kernel: Path, initrd: Path | None, cmdline: str, release: str
) -> None:
    """Write a unified kernel image; ``release`` is the text of an os-release file, ``scratch`` an empty folder.

    Raises KilnError for a kernel without an EFI stub or not for x86_64, and where the tools tree has no stub.
    """
    stub = loader.find(sandbox, _STUB)
    bzimage.require_efi_stub(kernel)
    texts = {".osrel": release, ".cmdline": cmdline, ".uname": bzimage.release(kernel)}
    sections = {name: scratch / name[1:] for name in texts}
    for name, text in texts.items():
        sections[name].write_text(text)
    sections |= {".initrd": initrd} if initrd else {}
    sections[".linux"] = kernel
    mounts = [Mount(source=path.parent, target="/dest", writable=True)]
    words = ["objcopy"]
    place = _aligned(_end(stub, sandbox))
    for name, file in sections.items():
        mounts.append(Mount(source=file, target=f"/tmp/{name[1:]}"))
        words += ["--add-section", f"{name}=/tmp/{name[1:]}", "--change-section-vma", f"{name}={place:#x}"]
        place = _aligned(place + file.stat().st_size)
    sandbox.with_mounts(mounts).run([*words, f"/{_STUB}", f"/dest/{path.name}"])
    data = bytearray(path.read_bytes())
    stamp(data, EPOCH)
    path.write_bytes(data)


def _end(stub: Path, sandbox: Sandbox) -> int:
    """Where the stub's last section ends in memory."""
    listing = sandbox.run(["objdump", "-h", f"/{_STUB}"]).decode()
    rows = re.findall(r"(?m)^ +\d+ \S+ +([0-9a-f]{8}) +([0-9a-f]+)", listing)
    if not rows:
        raise KilnError("objdump finds no sections in the stub", where=os.fspath(stub))
    return max(int(size, 16) + int(address, 16) for size, address in rows)


def _aligned(place: int) -> int:
    return -(-place // _PAGE) * _PAGE


def stamp(data: bytearray, time: int) -> None:
    """Give a PE file ``time`` (seconds since 1970) in place of that of its making, and the checksum that follows."""
    (header,) = struct.unpack_from("<I", data, _HEADER)
    struct.pack_into("<I", data, header + _TIME, time)
    struct.pack_into("<I", data, header + _CHECKSUM, 0)
    words = struct.unpack(f"<{-(-len(data) // 2)}H", bytes(data) + bytes(len(data) % 2))
    # A sum of ones' complement: what overflows 16 bits is added again.
    total = sum(words) % 0xFFFF
    struct.pack_into("<I", data, header + _CHECKSUM, total + len(data))
