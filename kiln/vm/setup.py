"""What was booted: a board's kernel, files and machine, in the terms that a diagnosis asks for."""

import bisect
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kiln import kconfig
from kiln.image.manifest import Node

if TYPE_CHECKING:
    from kiln.graph import Graph

# e_machine of an ELF header.
_MACHINES = {3: "i386", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
_PT_INTERP = 3
# As many as the kernel follows.
_LINKS = 40


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A board as it was configured and built; what is not known is empty. ``memory`` is in MiB.

    ``kconfig`` holds the kernel's symbols, ``shared`` those of the shared fragments that the board did not choose,
    ``nodes`` the files of the image by path. ``symbols`` is the kernel's System.map.
    """

    board: str = "BOARD"
    arch: str = ""
    cmdline: str = ""
    memory: int = 0
    kconfig: Mapping[str, str] = field(default_factory=dict)
    shared: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    nodes: Mapping[str, Node] = field(default_factory=dict)
    symbols: Path | None = None

    @staticmethod
    def of(graph: "Graph") -> "Setup":
        """The board of a graph. Nothing is built: what is not there is not known."""
        board = graph.board
        kernel = graph.kernel.entry()
        config, symbols = (kernel.root / "boot" / name if kernel else None for name in ("config", "System.map"))
        chosen = board.kconfig.get("linux", ())
        fragments = [path for path in (board.root / "board/common/linux").glob("*.config") if path.stem not in chosen]
        return Setup(
            board=board.name,
            arch=board.arch.name,
            cmdline=board.cmdline,
            memory=board.machine.memory,
            kconfig=kconfig.parse(config.read_text()) if config and config.exists() else {},
            shared={path.stem: kconfig.parse(path.read_text()) for path in sorted(fragments)},
            nodes=_nodes(graph),
            symbols=symbols if symbols and symbols.exists() else None,
        )

    @property
    def file(self) -> str:
        """Where the board is described."""
        return f"configs/{self.board}.toml"

    @property
    def unpacked(self) -> int:
        """What the files of the image take in memory, in MiB."""
        return sum(-(-node.size // 4096) * 4096 for node in self.nodes.values()) >> 20

    def missing(self, *symbols: str) -> list[str]:
        """Those of ``symbols`` that this kernel was not built with."""
        return [name for name in symbols if self.kconfig and self.kconfig.get(name, "n") != "y"]

    def state(self, symbols: list[str]) -> str:
        """How symbols that are missing were configured."""
        return ", ".join(map(self._state, symbols))

    def _state(self, symbol: str) -> str:
        if self.kconfig.get(symbol) != "m":
            return f"{symbol} is not set"
        modules = any(path.startswith(("lib/modules/", "usr/lib/modules/")) for path in self.nodes)
        return f"{symbol}=m" + (", and modules come too late here" if modules else ", and the image has no modules")

    def enable(self, symbols: list[str]) -> str:
        """How the board's kernel gets ``symbols``."""
        for name, brings in self.shared.items():
            if all(brings.get(symbol) == "y" for symbol in symbols):
                return f"add {name!r} to linux in [kconfig] of {self.file}"
        lines = " and ".join(f"{symbol}=y" for symbol in symbols)
        return f"write {lines} into a fragment, such as board/{self.board}/linux/more.config"

    def find(self, path: str) -> Node | None:
        """The file that ``path`` leads to in the image, through all links; None where there is none."""
        rest, here = path.strip("/").split("/"), ""
        node: Node | None = None
        for _ in range(_LINKS):
            while rest:
                name = rest.pop(0)
                if name in ("", "."):
                    continue
                here = os.path.dirname(here) if name == ".." else f"{here}/{name}".strip("/")
                node = self.nodes.get(here)
                if node and node.kind == "symlink":
                    break
            if not node or node.kind != "symlink":
                return node
            rest = node.target.strip("/").split("/") + rest
            here = "" if node.target.startswith("/") else os.path.dirname(here)
        return None

    def obstacle(self, path: str) -> str | None:
        """Why the kernel cannot run ``path`` of the image; None where nothing is known to be wrong with it."""
        if not self.nodes:
            return None
        node = self.find(path)
        if not node or node.kind != "file":
            return f"{path} is {'a folder' if node and node.kind == 'dir' else 'not'} in the image"
        if not node.mode & 0o111:
            return f"{path} is not executable: it has mode {node.mode:04o}, from {node.package}"
        data = node.content if isinstance(node.content, bytes) else _head(node.content)
        return self._wrong(path, data) if data is not None else None

    def _wrong(self, path: str, data: bytes) -> str | None:
        if data.startswith(b"\x7fELF"):
            machine = int.from_bytes(data[18:20], "little")
            if self.arch and _MACHINES.get(machine) != self.arch:
                return f"{path} is a program for {_MACHINES.get(machine, f'machine {machine}')}, not for {self.arch}"
            loader = _loader(data)
            absent = loader and not self.find(loader)
            return f"{path} is linked dynamically, and its loader {loader} is not in the image" if absent else None
        if not data.startswith(b"#!"):
            return f"{path} is neither a program nor a script that begins with #!"
        line = data[2:].split(b"\n")[0].decode(errors="replace").strip(" \t")
        interpreter = line.split()[0] if line.split() else ""
        if line.endswith("\r"):
            return f"the first line of {path} ends with a carriage return, which counts as part of {interpreter}"
        found = self.find(interpreter) if interpreter else None
        return None if found else f"{path} is a script for {interpreter or 'nothing'}, which is not in the image"

    def function(self, address: int) -> str | None:
        """The function of the kernel at an address."""
        if not self.symbols or not self.symbols.exists():
            return None
        rows = [line.split() for line in self.symbols.read_text().splitlines()]
        known = [(int(row[0], 16), row[2]) for row in rows if row[1] in "tTwW"]
        place = bisect.bisect(known, (address, "~")) - 1
        return known[place][1] if place >= 0 else None


def _nodes(graph: "Graph") -> dict[str, Node]:
    """The files of the board's image as last built."""
    entry = graph.named("rootfs")[0].entry()
    rows = json.loads((entry.root / "manifest.json").read_text()) if entry else []
    return {row["path"]: _node(graph, row) for row in rows}


def _node(graph: "Graph", row: Mapping[str, Any]) -> Node:
    kind, package = row["type"], row["package"]
    content = None
    if kind == "file" and package in graph.recipes:
        built = graph.result(package).entry()
        content = built.root / row["path"] if built else None
    elif kind == "file" and package.startswith("overlay:"):
        content = graph.board.root / "board" / package.removeprefix("overlay:") / "overlay" / row["path"]
    return Node(
        path=row["path"],
        kind=kind,
        mode=int(row["mode"], 8),
        package=package,
        content=content,
        size=row.get("size", 0),
        target=row.get("target", ""),
    )


def _head(path: Path | None) -> bytes | None:
    """The first bytes of a file: enough for its headers and the name of its loader."""
    if not path or not path.is_file():
        return None
    with path.open("rb") as file:
        return file.read(4096)


def _loader(data: bytes) -> str | None:
    """The loader that a 64-bit little-endian program asks for."""
    start, size, count = (int.from_bytes(data[a:b], "little") for a, b in ((32, 40), (54, 56), (56, 58)))
    for header in (data[start + size * number :] for number in range(count)):
        if int.from_bytes(header[:4], "little") == _PT_INTERP:
            place = int.from_bytes(header[8:16], "little")
            found = re.match(rb"[^\0]+", data[place:])
            return found[0].decode(errors="replace") if found else None
    return None
