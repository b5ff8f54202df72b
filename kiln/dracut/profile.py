"""Profiles: what dracut is told of a board's initramfs, whole or for one purpose."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kiln import digest
from kiln.board import Board
from kiln.dracut.conf import Statement, parse
from kiln.errors import KilnError

# What each profile but the board's own is for. Each is a shared configuration of that name.
PROFILES = {
    "minimal": "that finds a root on a disk, and nothing else",
    "full": "that finds every kind of root there is a recipe for",
    "debug": "with programs to look around in it",
    "emergency": "that can repair a system",
}
# The one that has nothing of the board's own configurations.
_ALONE = "minimal"
# The one that repairs any board.
_BROAD = "emergency"

# Whose words are files, and whose words call for packages.
_ITEMS = ("install_items", "install_optional_items")
_CALLS = ("add_dracutmodules", "force_add_dracutmodules", "fscks", *_ITEMS)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A profile of a board; the one without a name is what the board's own initramfs is made by."""

    board: Board
    name: str = ""

    @property
    def id(self) -> str:
        return f"initramfs:{self.name}" if self.name else "initramfs"

    @property
    def doc(self) -> str:
        what = PROFILES.get(self.name, "that finds the root file system and goes on there")
        return f"an initramfs made by dracut, {what}"

    @cached_property
    def files(self) -> list[Path]:
        """The configurations, in the order of their reading."""
        more = [self.name] if self.name else []
        return self.board.shared_confs(*more) if self.name == _ALONE else self.board.dracut_confs(*more)

    def is_broad(self, path: Path) -> bool:
        """Whether a configuration takes what there is, and does not name what the board needs."""
        return path.stem == _BROAD

    @property
    def modules(self) -> dict[str, Path]:
        """The folders of the modules that the project brings, by name; the board's own before those that all share."""
        folders = [self.board.root / "board/common/dracut/modules.d", self.board.files / "dracut/modules.d"]
        return {path.name: path for folder in folders for path in sorted(folder.glob("*"))}

    def texts(self) -> dict[str, str]:
        """What the configurations say, by the names by which dracut reads them in their order."""
        return {f"{number:02}-{path.name}": self._read(path) for number, path in enumerate(self.files, 1)}

    def told(self) -> dict[str, Any]:
        """All that a result depends on, as JSON."""
        try:
            modules = {name: digest.of_tree(path).hash for name, path in self.modules.items()}
        except (OSError, ValueError) as error:
            hint = "a module is a folder of readable files and links"
            raise KilnError(f"cannot read a module of dracut: {error}", where=self.id, hint=hint) from error
        for path in (path for folder in self.modules.values() for path in sorted(folder.rglob("*.key"))):
            hint = "put it on a device of its own: rd.luks.key=/FILE:LABEL=NAME on the kernel's command line"
            where = os.path.relpath(path, self.board.root)
            raise KilnError("everyone who has the initramfs could read this key", where=where, hint=hint)
        return {"conf": self.texts(), "modules": modules}

    @property
    def must(self) -> tuple[str, ...]:
        """The kernel modules and paths that have to be in it."""
        return () if self.name == _ALONE else self.board.initramfs_must

    @property
    def items(self) -> list[str]:
        """The programs and files that the configurations name one by one."""
        return [word for one in self._statements if one.key in _ITEMS for word in one.words]

    @property
    def checks(self) -> bool:
        """Whether a configuration names programs that check file systems."""
        return any(one.key == "fscks" for one in self._statements)

    def calls_for(self, names: Iterable[str]) -> bool:
        """Whether a configuration has one of these words where it names modules or programs."""
        return not self._called.isdisjoint(names)

    @cached_property
    def _called(self) -> set[str]:
        return {Path(word).name for one in self._statements if one.key in _CALLS for word in one.words}

    @cached_property
    def _statements(self) -> list[Statement]:
        return [statement for text in self.texts().values() for statement in parse(text)]

    def _read(self, path: Path) -> str:
        try:
            return path.read_text()
        except (OSError, ValueError) as error:
            raise KilnError(f"cannot read it: {error}", where=os.path.relpath(path, self.board.root)) from error
