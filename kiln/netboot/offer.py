"""What a board offers to machines that boot over the network, and to QEMU's network card among them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kiln.image import loader
from kiln.kernel import kernel_image
from kiln.netboot.http import HttpServer
from kiln.netboot.script import SCRIPT, scripts
from kiln.netboot.table import Table, lay_out

if TYPE_CHECKING:
    from kiln.graph import Graph

# What a firmware loads first, where its own iPXE is none: a BIOS, a UEFI, and a UEFI with the drivers that it has.
_LOADERS = ("usr/lib/ipxe/undionly.kpxe", "boot/ipxe.efi", "usr/lib/ipxe/snponly.efi")


def contents(graph: "Graph", append: str = "") -> dict[str, Path | bytes]:
    """The kernel, its initramfs and the scripts, by name; ``append`` are further kernel parameters."""
    kernel, initrd = kernel_image(graph.kernel.built()), graph.media["cpio"].file
    found: dict[str, Path | bytes] = {kernel.name: kernel, initrd.name: initrd}
    return found | scripts(graph.board, kernel=kernel.name, initrd=initrd.name, append=append)


def loaders(graph: "Graph") -> dict[str, Path | bytes]:
    """What the firmware of a board's machines loads before it can run a script, by name."""
    if graph.board.arch.name != "x86_64":
        return {}
    for name in ("sandbox", "image"):  # which are not here where the images came from elsewhere
        if not graph.tools[name].entry():
            graph.tools[name].build()
    sandbox = graph.tools.sandbox("image")
    return {os.path.basename(path): loader.find(sandbox, path) for path in _LOADERS}


def folder(graph: "Graph", place: Path, append: str = "") -> Path:
    """Everything in a folder for QEMU's own TFTP; returns the file to boot."""
    lay_out(contents(graph, append), place)
    return place / SCRIPT


@contextmanager
def web(graph: "Graph", append: str = "") -> Iterator[int]:
    """Everything by HTTP on the loopback; gives the port."""
    table = Table(contents(graph, append))
    try:
        with HttpServer(table, "127.0.0.1", 0, lambda _: None).running() as port:
            yield port
    finally:
        table.close()
