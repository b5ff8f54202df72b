"""The output folder of a board: links to its finished files in the store."""

import fcntl
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from kiln.locks import closing, take
from kiln.target import Target

# Holds for all files of an image together.
SUMS = "SHA256SUMS"


@dataclass(frozen=True, kw_only=True)
class Output:
    folder: Path

    @staticmethod
    def of(target: Target, board: str, folder: Path) -> "Output":
        """Where a board's files are shown below ``folder``; local ones apart."""
        return Output(folder=folder / (f"{board}-local" if target.local else board))

    def shows(self, files: Mapping[str, Path]) -> bool:
        """Whether all of ``files`` (by name) are linked."""
        return all(os.path.islink(path) and os.readlink(path) == to for path, to in self._links(files).items())

    def show(self, files: Mapping[str, Path], *, keep: Collection[str] | None = None) -> None:
        """Link ``files`` by name. With ``keep``, links by other names than these go."""
        self.folder.mkdir(parents=True, exist_ok=True)
        folder = os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC)
        with closing(folder):
            take(folder, fcntl.LOCK_EX, f"{self.folder}, which another process writes")
            if SUMS not in files and not self.shows(files) and self._sums_of(files):
                (self.folder / SUMS).unlink(missing_ok=True)  # they are those of other files now
            for path, target in self._links(files).items():
                fresh = path.with_name(f".{path.name}")
                fresh.unlink(missing_ok=True)
                fresh.symlink_to(target)
                fresh.rename(path)
            if keep is not None:
                for path in self.folder.iterdir():
                    if path.is_symlink() and path.name not in files and path.name not in keep:
                        path.unlink()

    def clear(self) -> None:
        for path in self.folder.glob("*"):
            if path.is_symlink():
                path.unlink()

    def _sums_of(self, files: Collection[str]) -> bool:
        """Whether the checksums are those of one of ``files``."""
        try:
            lines = (self.folder / SUMS).read_text().splitlines()
        except OSError:
            return False
        return any(line.split()[-1:] == [name] for line in lines for name in files)

    def _links(self, files: Mapping[str, Path]) -> dict[Path, str]:
        return {self.folder / name: os.path.relpath(path, self.folder) for name, path in files.items()}
