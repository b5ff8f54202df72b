"""A file with the header of a PC's kernel, for the tests of what boots one."""

from pathlib import Path

RELEASE = "6.1.99-test"


def bzimage(path: Path, *, efi: bool = True, size: int = 300_000) -> Path:
    data = bytearray(b"code" * (size // 4))
    data[:2] = b"MZ" if efi else b"\xea\x05"
    data[0x202:0x206] = b"HdrS"
    data[0x20E:0x210] = (0x3000 - 0x200).to_bytes(2, "little")
    data[0x236:0x238] = (0b1001 if efi else 0b0001).to_bytes(2, "little")
    banner = f"{RELEASE} (kiln@kiln) #1 SMP\0".encode()
    data[0x3000 : 0x3000 + len(banner)] = banner
    path.write_bytes(data)
    return path
