"""Architectures: the names that one processor has in the kernel, in GCC, in musl, in OpenSSL and in QEMU."""

from dataclasses import dataclass

from kiln.errors import KilnError, nearest


@dataclass(frozen=True, kw_only=True)
class Arch:
    """``tools`` is the prefix of the tools tree's compiler, ``triple`` names ours, ``image`` is the kernel's file.

    ``cpu`` is what QEMU emulates where nothing else is said: all that costs an emulator no time.
    """

    name: str
    triple: str
    tools: str
    kernel: str
    image: str
    loader: str
    openssl: str
    cpu: str


# fmt: off
_ALL = (
    Arch(name="x86_64", triple="x86_64-linux-musl", tools="x86_64-linux-gnu-", kernel="x86_64",
         image="arch/x86/boot/bzImage", loader="ld-musl-x86_64.so.1", openssl="linux-x86_64",
         cpu="max,-avx,-avx2,-erms"),
    Arch(name="aarch64", triple="aarch64-linux-musl", tools="aarch64-linux-gnu-", kernel="arm64",
         image="arch/arm64/boot/Image", loader="ld-musl-aarch64.so.1", openssl="linux-aarch64", cpu="cortex-a72"),
    Arch(name="riscv64", triple="riscv64-linux-musl", tools="riscv64-linux-gnu-", kernel="riscv",
         image="arch/riscv/boot/Image", loader="ld-musl-riscv64.so.1", openssl="linux64-riscv64", cpu="rv64"),
)
# fmt: on


def find(name: str) -> Arch:
    known = {arch.name: arch for arch in _ALL}
    if name not in known:
        raise KilnError(f"unknown architecture {name!r}", hint=nearest(name, known))
    return known[name]
