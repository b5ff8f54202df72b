"""GRUB for a PC's BIOS, on a disk whose ext4 root has the kernel and the menu: no grub-install, no root."""

from collections.abc import Mapping
from itertools import starmap
from pathlib import Path

from kiln import digest
from kiln.image import loader
from kiln.image.manifest import Node, file_node
from kiln.sandbox import Mount, Sandbox

_FOLDER = "usr/lib/grub/i386-pc"
_BOOT_CODE = 440
# What finds and shows the menu, and what a menu may ask for.
_MODULES = (
    "biosdisk", "part_msdos", "part_gpt", "ext2", "search", "search_fs_uuid", "normal", "configfile", "linux",
    "serial", "terminal", "echo", "test", "ls", "cat", "reboot", "halt",
)  # fmt: skip
_PACKAGE = "grub"


def core(sandbox: Sandbox, *, uuid: str, scratch: Path) -> tuple[bytes, bytes]:
    """The code of a disk's first sector, and the core image that it loads from the second sector on.

    ``uuid`` is that of the file system with the menu, ``scratch`` an empty folder. Raises KilnError where the tools
    tree has no GRUB.
    """
    boot = loader.find(sandbox, f"{_FOLDER}/boot.img").read_bytes()
    early = f"search --no-floppy --fs-uuid --set=root {uuid}\nset prefix=($root)/boot/grub\n"
    (scratch / "early.cfg").write_text(early)
    words = ["grub-mkimage", "-O", "i386-pc", "-d", f"/{_FOLDER}", "-p", "/boot/grub", "-c", "/work/early.cfg"]
    sandbox.with_mounts([Mount(source=scratch, target="/work", writable=True)]).run(
        [*words, "-o", "/work/core.img", *_MODULES]
    )
    return boot[:_BOOT_CODE], (scratch / "core.img").read_bytes()


def nodes(files: Mapping[str, Path], menu: str) -> list[Node]:
    """What the root file system has for GRUB: ``files`` by their names in boot/, and the menu."""
    return [*starmap(_node, files.items()), file_node("boot/grub/grub.cfg", menu.encode(), package=_PACKAGE)]


def _node(name: str, file: Path) -> Node:
    found, path = digest.of_file(file), f"boot/{name}"
    return Node(path=path, kind="file", mode=0o644, package=_PACKAGE, content=file, digest=found.hash, size=found.size)
