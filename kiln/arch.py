"""Architectures: the names that one processor has in the kernel, in GCC, in musl and in QEMU."""

from dataclasses import dataclass

from kiln.errors import KilnError, nearest


@dataclass(frozen=True, kw_only=True)
class Arch:
    """``tools`` is the prefix of the tools tree's compiler, ``triple`` names ours, ``image`` is the kernel's file."""

    name: str
    triple: str
    tools: str
    kernel: str
    image: str
    loader: str


# fmt: off
_ALL = (
    Arch(name="x86_64", triple="x86_64-linux-musl", tools="x86_64-linux-gnu-", kernel="x86_64",
         image="arch/x86/boot/bzImage", loader="ld-musl-x86_64.so.1"),
)
# fmt: on


def find(name: str) -> Arch:
    known = {arch.name: arch for arch in _ALL}
    if name not in known:
        raise KilnError(f"unknown architecture {name!r}", hint=nearest(name, known))
    return known[name]
