"""The iPXE scripts that a board boots from the network by."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from kiln.board import Board
from kiln.errors import KilnError, nearest

# Where a machine finds the script that all others are found from.
SCRIPT = "boot.ipxe"

_OWN = re.compile(r"[0-9a-f]{2}(-[0-9a-f]{2}){5}\.ipxe")
_FIRST_LINE = "#!ipxe"


def scripts(board: Board, *, kernel: str, initrd: str, append: str = "") -> dict[str, bytes]:
    """The board's scripts by name: ``boot.ipxe``, and those of single machines below ``mac/``.

    ``kernel`` and ``initrd`` are names beside the script. Raises KilnError for a script, a file's name or a kernel
    parameter that iPXE would not understand.
    """
    common = board.root / "board/common"
    words = {
        "@BOARD@": board.name,
        "@KERNEL@": kernel,
        "@INITRD@": initrd,
        "@CMDLINE@": _cmdline(board.cmdline, append),
    }
    found = {SCRIPT: _render(board.file(SCRIPT), words)}
    for folder in (common / "netboot", board.files / "netboot"):
        for path in sorted(folder.glob("*")):
            if not _OWN.fullmatch(path.name):
                hint = "name it for the machine's address in lower case, such as 52-54-00-12-34-56.ipxe"
                raise KilnError(f"{path.name!r} names no machine", where=os.fspath(path), hint=hint)
            found[f"mac/{path.name}"] = _render(path, words)
    return found


def has_script(board: Board) -> bool:
    """Whether there is anything that the board boots from the network by."""
    return board.file(SCRIPT).exists()


def _cmdline(*parts: str) -> str:
    """Kernel parameters in one line of a script."""
    words = " ".join(parts).split()
    for word in words:
        if word.startswith("#") or word in ("||", "&&", ";") or "${" in word or word.endswith("\\"):
            raise KilnError(f"iPXE cannot hand {word} to a kernel", where="cmdline", hint="do without this parameter")
    return " ".join(words)


def _render(path: Path, words: Mapping[str, str]) -> bytes:
    try:
        text = path.read_text()
    except (OSError, ValueError) as error:
        raise KilnError(f"cannot read the script: {error}", where=os.fspath(path)) from error
    if text.partition("\n")[0].rstrip() != _FIRST_LINE:
        raise KilnError(f"an iPXE script begins with the line {_FIRST_LINE}", where=f"{path}:1")
    for number, line in enumerate(text.splitlines(), 1):
        for word in re.findall(r"@[A-Z]+@", line):
            if word not in words:
                raise KilnError(
                    f"there is nothing to put for {word}", where=f"{path}:{number}", hint=nearest(word, words)
                )
    return re.sub(r"@[A-Z]+@", lambda match: words[match[0]], text).encode()
