"""A road: a way by which a board's images boot."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kiln.image.boot import Medium
from kiln.kernel import kernel_image
from kiln.vm.qemu import Boot, Uefi, find_uefi

if TYPE_CHECKING:
    from kiln.graph import Graph


@dataclass(frozen=True, kw_only=True)
class Request:
    """A boot by ``road`` that is asked for: ``append`` are further kernel parameters, ``scratch`` is an empty folder.

    ``stack`` is closed when the machine has ended.
    """

    graph: "Graph"
    road: str
    append: str
    scratch: Path
    stack: ExitStack

    @property
    def rom(self) -> Path:
        """The firmware of QEMU's network card."""
        return self.graph.tools[self.graph.vm].built().root / "usr/lib/ipxe/qemu/efi-virtio.rom"

    @property
    def kernel(self) -> Path:
        return kernel_image(self.graph.kernel.built())

    @property
    def uefi(self) -> Uefi:
        return find_uefi(self.graph.tools[self.graph.vm].built().root)

    def file(self, medium: str) -> Path:
        """The finished file of a medium."""
        return self.graph.media[medium].file

    def started(self, medium: str) -> Path:
        """The file of a medium that a firmware starts, whose kernels get ``append``."""
        target = self.graph.media[medium]
        assert isinstance(target, Medium)
        return target.copy_with(self.append, self.scratch) if self.append else target.file

    def cmdline(self, *words: str) -> str:
        return " ".join(word for word in (self.graph.board.cmdline, *words, self.append) if word)


@dataclass(frozen=True, kw_only=True)
class Road:
    """``media`` must have been made; ``firmware`` says that files come from the machine's tools tree.

    ``pc`` is for what only a PC has, such as the iPXE of QEMU's network card. ``dracut`` names the modules of dracut
    that the board's configurations must ask for, ``packages`` what its image must have.
    """

    doc: str
    media: tuple[str, ...]
    boot: Callable[[Request], Boot]
    firmware: bool = False
    pc: bool = False
    dracut: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
